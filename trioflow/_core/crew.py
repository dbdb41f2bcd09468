"""Tasks that run side by side, and beside a block: a run of stages is one crew, an operator may open another.

Rule 1: the first failure cancels the rest. One failure is raised as it is, the same object; two or more as a group (R11).
Rule 2: a failure is never lost to a cancellation (R17).
Rule 3: no task outlives its block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import ClassVar, Self

import trio

from trioflow._core.errors import cancelled_in, combined, failure_in


class Crew:
    """Tasks beside a block. Made by `open_crew`; a subclass decides what is a failure and what it ends."""

    members: ClassVar[str] = "tasks of one stage"

    def __init__(self) -> None:
        self.failures: list[BaseException] = []  # of tasks, in the order in which they failed

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run `function(*args)` as a task of its own."""
        self._nursery.start_soon(self._guard, function, *args)

    def cancel(self) -> None:
        """Cancel all tasks, and the block."""
        self._nursery.cancel_scope.cancel()

    async def _guard(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await function(*args)
        except BaseException as exc:
            # Caught here, not above the nursery: there a group would not be the same object any more.
            if (failure := self.failure_in(exc)) is None:
                raise
            self.failures.append(failure)
            self.cancel()

    # Trio's own context manager, by hand: a generator around it costs 4 µs a run.
    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.block_ended(raised)
        # The nursery gets a cancellation, as its own one ends there, but no failure: `settle` raises that.
        cancelled = None if raised is None else cancelled_in(raised)
        caught: BaseException | None = None
        try:
            is_over = await self._manager.__aexit__(type(cancelled) if cancelled else None, cancelled, traceback)
            caught = None if is_over else cancelled
        except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: `settle` raises it
            caught = exc
        self.settle(raised, caught)
        return True

    def block_ended(self, raised: BaseException | None) -> None:
        """Do what the end of the block asks for; `raised` is what it has raised."""
        if raised is not None:
            self.cancel()

    def ended(self) -> None:
        """Do what is to be done when all tasks have ended."""

    def failure_in(self, exc: BaseException) -> BaseException | None:
        """Return the part of `exc` that is a new failure, if any."""
        return None if any(exc is known for known in self.failures) else failure_in(exc)

    def unhandled(self, raised: BaseException | None) -> Sequence[BaseException]:
        """Return the failures of tasks that are still to be raised; the block has raised `raised`."""
        return self.failures

    def settle(self, raised: BaseException | None, caught: BaseException | None) -> None:
        """Raise what is left to raise when all tasks have ended: failures, else a cancellation.

        The block has raised `raised`, the nursery `caught`.
        """
        self.ended()
        if raised is None and caught is None and not self.failures:
            return
        exceptions = [] if raised is None else [raised]
        if caught is not None:  # the nursery's own group says nothing: look at what it holds
            exceptions += caught.exceptions if isinstance(caught, BaseExceptionGroup) else [caught]
        failures = [failure for exc in exceptions if (failure := self.failure_in(exc)) is not None]
        if failures := [*failures, *self.unhandled(raised)]:
            failure = combined(failures, self.members)
            context = failure.__context__
            try:
                raise failure
            finally:
                object.__setattr__(
                    failure, "__context__", context
                )  # not what is being handled around the block: that may be a Cancelled
        if caught is not None and (cancelled := cancelled_in(caught)) is not None:
            raise cancelled


def open_crew() -> Crew:
    """Run tasks beside an `async with` block, which is left when all of them have ended."""
    return Crew()
