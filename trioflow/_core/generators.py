"""Generators as stages: items one at a time inside, batches on both channels.

Rule 1: a generator's source takes all that is ready and gives it item by item; nothing is taken before it is asked.
Rule 2: what a generator yields without suspending is gathered, at most what its reader has room for, and is handed on
    the moment it suspends, without waiting: between the trap that was sprung and Trio no other trap may come.
    With both, three such stages in a row pass eight times as many items a second as with a `send` for each.
Rule 3: after a failure elsewhere nothing more is given, taken or handed on (R12).
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel

T = TypeVar("T")

_BYTES_TYPES: Final = (bytes, bytearray, memoryview)


class _Ahead(ReceiveChannel[T]):
    """A stage's own reading end: it takes a batch at a time, and gives item by item."""

    __slots__ = ("_items", "_reader", "_taken")

    def __init__(self, source: ReceiveChannel[T]) -> None:
        super().__init__(source._buffer)
        if source._partner is not None:
            self._pair(source._partner)
        source._partner = None
        source.close()
        self._taken: Iterator[T] = iter(())  # of the buffer's `ahead`, which a failure empties: it then ends
        self._items: AsyncGenerator[T, None] = self._each()
        self._reader: trio.lowlevel.Task | None = None

    def __aiter__(self) -> AsyncIterator[T]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        # A generator costs a third of __anext__, but serves one task at a time: others, as in a nursery, get ourselves.
        task = trio.lowlevel.current_task()
        if self._reader is None:
            self._reader = task
        return self._items if self._reader is task else self

    async def _each(self) -> AsyncGenerator[T, None]:
        while True:
            taken = self._taken
            for item in taken:  # nothing is looked at between two items: that halves what an item costs
                yield item
            if self._taken is not taken:  # `receive` has taken a batch while the loop was left
                continue
            try:
                await self._refill()
            except trio.EndOfChannel:
                return

    async def _refill(self) -> None:
        items = await super().receive_many()
        items[:0] = self._taken  # another task has received meanwhile
        self._buffer.ahead = items
        self._taken = iter(items)

    def receive_nowait(self) -> T:
        for item in self._taken:
            return item
        return super().receive_nowait()

    async def receive(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            for item in self._taken:
                return item
            await self._refill()

    async def receive_many(self, limit: int | None = None) -> list[T]:
        await trio.lowlevel.checkpoint_if_cancelled()
        return list(islice(self._taken, limit)) or await super().receive_many(limit)

    def close(self) -> None:
        self._buffer.ahead.clear()
        super().close()

    async def aclose(self) -> None:
        self.close()
        await self._items.aclose()


class _Gathering(Generic[T]):
    """Sends what a generator yields, in batches."""

    def __init__(self, items: AsyncIterator[T], output: SendChannel[T]) -> None:
        self._items = items
        self._output = output
        self._gathered: list[T] = []
        self._most = 1  # how many to gather; less by what bytes-like items among them weigh beyond 1 each
        self._light: set[type] = set()  # the types seen that always weigh 1
        self._is_light = True  # all that was gathered is of these types

    async def run(self) -> None:
        gathered, light, output = self._gathered, self._light, self._output
        try:
            async for item in self._items:
                gathered.append(item)
                if type(item) not in light:
                    self._weigh(item)
                if len(gathered) >= self._most:
                    if self._is_light:
                        await output._send_light(self._taken(), 0)
                    else:
                        await output.send_many(self._taken())
                    self._look()
        except Exception:
            self.hand_on()  # where a failure is recovered from, what was given before it counts
            raise
        if gathered:
            await output.send_many(self._taken())

    def _weigh(self, item: T) -> None:
        if isinstance(item, _BYTES_TYPES):
            self._most -= weight_of(item) - 1
            self._is_light = False
        elif len(self._light) < DEFAULT_CAPACITY:
            self._light.add(type(item))

    def _look(self) -> None:
        """See how much may be gathered: as much as can be handed on without waiting, or one item, to wait with."""
        self._most = int(min(max(self._output.room(), 1), DEFAULT_CAPACITY))
        self._is_light = True

    def _taken(self) -> list[T]:
        batch = self._gathered.copy()
        self._gathered.clear()
        return batch

    def hand_on(self) -> None:
        if self._gathered:
            # Whoever has hung up or failed has also cancelled this task: the trap that follows will tell it so.
            with contextlib.suppress(trio.BrokenResourceError):
                self._output.send_many_nowait(self._taken())
                self._look()


@types.coroutine
def _watching(work: Coroutine[Any, Any, None], on_suspend: Callable[[], None]) -> Generator[Any, Any, None]:
    """Await `work`, and call `on_suspend` each time it suspends, before Trio sees the trap."""
    answer: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            trap = work.send(answer) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
        on_suspend()
        thrown = None
        try:
            answer = yield trap
        except BaseException as exc:  # noqa: BLE001 - it is thrown into `work`
            thrown = exc


async def generate(
    function: Callable[..., AsyncGenerator[Any, None]], args: tuple[Any, ...], kwargs: dict[str, Any], *ends: Any
) -> None:
    """Run an async generator function as a stage between the channels `ends`; a source has one, a transform two."""
    *sources, output = ends
    async with contextlib.AsyncExitStack() as stack:
        ahead = [await stack.enter_async_context(aclosing(_Ahead(source))) for source in sources]
        items = await stack.enter_async_context(aclosing(function(*ahead, *args, **kwargs)))
        gathering = _Gathering(items, output)
        await _watching(gathering.run(), gathering.hand_on)
