"""Tasks that run concurrently beside a block. A run of stages is one crew; an operator may open another.

Rule 1: the first failure cancels the rest. A single failure is raised as the same object, several as a group (R11).
Rule 2: a cancellation never hides a failure (R17).
Rule 3: no task outlives its block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import ClassVar, Self

import trio

from trioflow._core.errors import cancelled_in, combined, failure_in, sole


class Crew:
    """Tasks beside an `async with` block, which ends when all of them have ended.

    A subclass may decide what counts as a failure, and what a failure ends.
    """

    members: ClassVar[str] = "tasks of one stage"

    def __init__(self) -> None:
        self.was_cancelled = False  # whether a task has noted that it was cancelled, instead of raising it
        self.failures: list[BaseException] = []  # of tasks, in the order in which they occurred

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run `function(*args)` as a task of its own."""
        self._nursery.start_soon(self._guard, function, *args)

    def cancel(self) -> None:
        """Cancel all tasks, and the block."""
        self._nursery.cancel_scope.cancel()

    async def _guard(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await function(*args)
        except BaseException as exc:  # noqa: BLE001 - raised by `__aexit__`
            # Caught here and not around the nursery, which would wrap it in a group: R11 asks for the same object.
            if (failure := self.failure_in(exc)) is not None:
                self.failures.append(failure)
                self.cancel()
            else:
                self.was_cancelled = True  # if several tasks raised it, Trio would make a group of them

    # Trio's context manager is entered by hand, as a generator around it costs 4 µs a run.
    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.block_ended(raised)
        # Cancellations are passed to the nursery, as it ends those of its own scope. Failures are not: `settle` raises them.
        cancelled = None if raised is None else cancelled_in(raised)
        caught: BaseException | None = None
        try:
            is_over = await self._manager.__aexit__(type(cancelled) if cancelled else None, cancelled, traceback)
            caught = None if is_over else cancelled
        except BaseException as exc:  # noqa: BLE001 - `settle` raises it
            caught = exc
        try:
            if raised is not None or caught is not None or self.failures:
                self.settle(raised, caught)
            if self.was_cancelled:
                await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            del raised, caught, cancelled  # their tracebacks refer to this frame: a reference cycle
        return True

    def block_ended(self, raised: BaseException | None) -> None:
        """React to the end of the block: cancel the tasks if it ended with the exception `raised`."""
        if raised is not None:
            self.cancel()

    def failure_in(self, exc: BaseException) -> BaseException | None:
        """Return the part of `exc` that is a new failure, if any."""
        return None if any(exc is known for known in self.failures) else failure_in(exc)

    def unhandled(self, raised: BaseException | None) -> Sequence[BaseException]:
        """Return the failures of tasks that must still be raised, given that the block has raised `raised`."""
        return self.failures

    def settle(self, raised: BaseException | None, caught: BaseException | None) -> None:
        """Raise what remains after all tasks have ended: the failures, or else a cancellation.

        `raised` is what the block has raised, `caught` what the nursery has.
        """
        exceptions = [] if raised is None else [raised]
        if caught is not None:  # the nursery's group is only a wrapper, so look inside
            exceptions += caught.exceptions if isinstance(caught, BaseExceptionGroup) else [caught]
        failures = [failure for exc in exceptions if (failure := self.failure_in(exc)) is not None]
        if failures := [*failures, *self.unhandled(raised)]:
            failure = combined(failures, self.members)
            context = failure.__context__
            try:
                raise failure
            finally:
                # Restored, as `raise` sets it to any exception that is being handled around the block, perhaps a Cancelled.
                object.__setattr__(failure, "__context__", context)
        if caught is not None and (cancelled := cancelled_in(caught)) is not None:
            try:
                raise sole(cancelled)
            finally:
                del cancelled, raised, caught, exceptions  # as in `__aexit__`
