"""Tasks and readables inside a stage: what operators are made of that run more than one thing at a time.

Rule 1: the first failure cancels the rest. One is raised as it is, the same object; two or more as a group (R11).
Rule 2: an inner run that fails ends the block that reads it at once, wherever that sleeps.
Rule 3: nothing outlives its block.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import trio

from trioflow._core.adapters import forward
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import open_readable
from trioflow._core.errors import combined, failure_in
from trioflow._core.streams import Readable, wanted


class Crew:
    """Tasks side by side. Made by `open_crew`."""

    def __init__(self, nursery: trio.Nursery, failures: list[BaseException]) -> None:
        self._nursery = nursery
        self.failures = failures

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run `function(*args)` as a task of its own."""
        self._nursery.start_soon(self.guard, function, *args)

    def cancel(self) -> None:
        """End all tasks, and the block."""
        self._nursery.cancel_scope.cancel()

    async def guard(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await function(*args)
        except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: it is raised when all have ended
            self.note(exc)

    def note(self, exc: BaseException) -> None:
        """Record a failure and end the rest; a cancellation is raised on."""
        failure = failure_in(exc)
        if failure is None:
            raise exc
        self.failures.append(failure)
        self.cancel()


@asynccontextmanager
async def open_crew() -> AsyncGenerator[Crew, None]:
    """Run tasks beside a block; it is left when all have ended."""
    failures: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            crew = Crew(nursery, failures)
            try:
                yield crew
            except BaseException as exc:  # noqa: BLE001 - as in `guard`
                crew.note(exc)
    except BaseException as exc:
        if failure := failure_in(exc):
            failures.append(failure)
        if not failures:
            raise
    if failures:  # which a cancellation does not make forgotten (R17)
        _raise(combined(failures, "tasks of one stage"))


def _raise(failure: BaseException) -> NoReturn:
    context = failure.__context__
    try:
        raise failure
    finally:
        failure.__context__ = context  # not what the block happens to be handling: that may be a Cancelled


@asynccontextmanager
async def open_all(
    readables: Iterable[Readable[Any]], output: SendChannel[Any]
) -> AsyncGenerator[list[ReceiveChannel[Any]], None]:
    """Run `readables` beside a block that reads them for `output`, each with channels of that one's capacity."""
    capacity = output.statistics().capacity
    with trio.CancelScope() as scope:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(open_readable(readable._stages, capacity, scope.cancel))
                for readable in readables
            ]


async def pour(readable: Readable[Any], output: SendChannel[Any]) -> None:
    """Run `readable` and send all it gives to `output`."""
    async with open_all([readable], output) as [receive]:
        await forward(receive, output)


def check_readables(name: str, readables: tuple[Any, ...]) -> None:
    """Raise if one of `readables` is none."""
    for readable in readables:
        if not isinstance(readable, Readable):
            raise wanted(f"{name} wants Readables", readable)
