"""Async generators as stages: items one at a time inside, batches on both channels.

    source channel               the user's generator function                  output channel
          |                                                                           ^
     receive_many                                                                     |
          v                                                                     send_many_nowait
     _BatchReader ----item----> async for ... yield ----item----> _BatchWriter.run    |
                                                                      |     |         |
                                                               trap   |     +---- flush_nowait
                                                                      v               ^
                          Trio <-------------- trap ------------ _before_each_trap ---+ first

All of this is one task. As long as nothing in it has to wait, items are gathered. When something does, be it the source,
a `trio.sleep` in the generator or a full output, its await yields a trap: an object that travels up the awaits to Trio's
scheduler. `_before_each_trap` stands in that way, and sends what is gathered before it lets the trap pass. So a batch
never waits for company: readers have it before this task sleeps. Three such stages in a row pass eight times as many
items a second as with a `send` for each.

Rule 1: a generator's source takes all that is ready and yields it item by item; nothing is taken before it is asked.
Rule 2: no more is gathered than the reader has room for, and it is sent without waiting.
Rule 3: after a failure elsewhere nothing more is yielded, taken or sent (R12).
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


class _BatchReader(ReceiveChannel[T]):
    """A stage's own reading end: it takes a batch at a time, and yields item by item."""

    __slots__ = ("_items", "_reader", "_taken")

    def __init__(self, source: ReceiveChannel[T]) -> None:
        super().__init__(source._buffer)
        if source._partner is not None:
            self._pair(source._partner)
        source._partner = None
        source.close()
        self._taken: Iterator[T] = iter(())  # over the buffer's `prefetched`, which a failure empties: then it ends
        self._items: AsyncGenerator[T, None] = self._each()
        self._reader: trio.lowlevel.Task | None = None

    def __aiter__(self) -> AsyncIterator[T]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        # A generator costs a third of __anext__, but serves one task at a time: others, as in a nursery, get the channel.
        task = trio.lowlevel.current_task()
        if self._reader is None:
            self._reader = task
        return self._items if self._reader is task else self

    async def _each(self) -> AsyncGenerator[T, None]:
        while True:
            taken = self._taken
            for item in taken:  # no state is checked between two items: that halves what an item costs
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
        self._buffer.prefetched = items
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
        self._buffer.prefetched.clear()
        super().close()

    async def aclose(self) -> None:
        self.close()
        await self._items.aclose()


class _BatchWriter(Generic[T]):
    """Sends what a generator yields, in batches."""

    def __init__(self, items: AsyncIterator[T], output: SendChannel[T]) -> None:
        self._items = items
        self._output = output
        self._gathered: list[T] = []
        self._most = 1  # how many to gather; less what bytes-like items among them weigh beyond 1 each
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
                        await output._send_light(self._take_batch(), 0)
                    else:
                        await output.send_many(self._take_batch())
                    self._measure_room()
        except Exception:
            self.flush_nowait()  # where a failure is recovered from, what was yielded before it counts
            raise
        if gathered:
            await output.send_many(self._take_batch())

    def _weigh(self, item: T) -> None:
        if isinstance(item, _BYTES_TYPES):
            self._most -= weight_of(item) - 1
            self._is_light = False
        elif len(self._light) < DEFAULT_CAPACITY:
            self._light.add(type(item))

    def _measure_room(self) -> None:
        """Measure how much may be gathered: what can be sent without waiting, or one item, with which to wait."""
        self._most = int(min(max(self._output.room(), 1), DEFAULT_CAPACITY))
        self._is_light = True

    def _take_batch(self) -> list[T]:
        batch = self._gathered.copy()
        self._gathered.clear()
        return batch

    def flush_nowait(self) -> None:
        """Send what is gathered. There is room: no more was gathered than the reader could take."""
        if self._gathered:
            # A reader that has left, or a stage that has failed, has also cancelled this task: its trap will raise that.
            with contextlib.suppress(trio.BrokenResourceError):
                self._output.send_many_nowait(self._take_batch())
                self._measure_room()


# This drives a coroutine by hand, between `work` and Trio. What must hold when you change it:
#
# - `work` yields a trap when it has arranged how this task is to be woken: by then it stands in some waiting line. Trio
#   must get that very trap next. If anything else were awaited in between, Trio would see that one's trap first, and wake
#   the task there for what it waits for here. So `before_trap` is a plain function: it may wake other tasks, never this
#   one, and may not await.
# - What Trio sends back belongs to that trap. It goes to `work` as it is: it is an outcome, and raises where it is
#   unwrapped, in `work`. That is how a cancellation comes; nothing is to be done for it here.
# - The first `send` starts `work`; there is no answer yet, so it sends None.
# - What is thrown in here (by Trio for what is no trap, or a GeneratorExit when this is closed) is thrown into `work` at
#   the place where it waits. Its `finally` blocks run there and may yield more traps, so the loop goes on.
@types.coroutine
def _before_each_trap(work: Coroutine[Any, Any, None], before_trap: Callable[[], None]) -> Generator[Any, Any, None]:
    """Await `work`, and call `before_trap` each time that it suspends, before Trio sees the trap."""
    answer: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            trap = work.send(answer) if thrown is None else work.throw(thrown)
        except StopIteration:  # it has returned; what else it raises is the caller's
            return
        before_trap()
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
        ahead = [await stack.enter_async_context(aclosing(_BatchReader(source))) for source in sources]
        items = await stack.enter_async_context(aclosing(function(*ahead, *args, **kwargs)))
        writer = _BatchWriter(items, output)
        await _before_each_trap(writer.run(), writer.flush_nowait)
