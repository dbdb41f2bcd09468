"""Async generators as stages: items one at a time inside, batches on both channels.

    source channel               the user's generator function                  output channel
          |                                                                           ^
       popleft                                                                        |
          v                                                                     send_many_nowait
     _StageReader ----item----> async for ... yield ----item----> _BatchWriter.run    |
                                                                      |     |         |
                                                               trap   |     +---- flush_nowait
                                                                      v               ^
                          Trio <-------------- trap ------------ _before_each_trap ---+ first,
                                                                                        and the source's sender is woken

All of this is one task. As long as nothing in it has to wait, items are gathered. When something does, be it the source,
a `trio.sleep` in the generator or a full output, its await yields a trap: an object that travels up the awaits to Trio's
scheduler. `_before_each_trap` stands in that way, and sends what is gathered before it lets the trap pass. So a batch
never waits for company: readers have it before this task sleeps. Three such stages in a row pass eight times as many
items a second as with a `send` for each.

Rule 1: an item stays in the source's channel, and counts there, until the generator is given it (R5).
Rule 2: no more is gathered than the reader has room for, and it is sent without waiting.
Rule 3: after a failure elsewhere nothing more is yielded, taken or sent (R12).
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing
from opcode import opmap
from typing import Any, Final, Generic, TypeVar, cast

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel

T = TypeVar("T")

_BEGIN_LOOP: Final = opmap["GET_AITER"]  # what `async for` does first, in the frame that it stands in
_BYTES_TYPES: Final = (bytes, bytearray, memoryview)


class _StageReader(ReceiveChannel[T]):
    """A stage's own reading end, which its own task iterates over at a third of the cost."""

    __slots__ = ("_each", "_task")

    def __init__(self, source: ReceiveChannel[T]) -> None:
        super().__init__(source._buffer)
        if source._partner is not None:
            self._pair(source._partner)
        source._partner = None
        source.close()
        self._each = self._iterate()
        self._task = trio.lowlevel.current_task()

    def __aiter__(self) -> AsyncIterator[T]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        # A generator serves one task at a time, and only this one's traps are seen: others, as in a nursery, get the channel.
        # So does who calls `aiter`: an `anext` that is cancelled would end a generator, and the next one take that for the
        # end of the items (R8). In a loop nothing can come after it: the loop has ended, too.
        frame = sys._getframe(1)
        is_loop = frame.f_code.co_code[frame.f_lasti] == _BEGIN_LOOP
        if not is_loop or trio.lowlevel.current_task() is not self._task:
            return self
        if (
            cast("types.AsyncGeneratorType[T, None]", self._each).ag_frame is None
        ):  # a loop that was cancelled has ended it, and the next one goes on
            self._each = self._iterate()
        return self._each

    async def _iterate(self) -> AsyncGenerator[T, None]:
        buffer = self._buffer
        items = buffer.items
        while True:
            # No more than this is done between two items: that halves what an item costs. A look at an attribute takes 3 %.
            try:
                while not buffer.excess:
                    yield items.popleft()
            except IndexError:
                buffer.wake_sender()  # `before_trap` does not where the user has handed this loop to another task
            try:
                item = await self.receive()
            except trio.EndOfChannel:
                return
            items = buffer.items  # before the yield: `close` puts others there
            yield item

    def close(self) -> None:
        if not self._closed and self._buffer.receivers > 1:  # what is held is for its clones, and not for its loop
            held = self._buffer.items
            self._buffer.items = held.copy()
            held.clear()
        super().close()

    async def aclose(self) -> None:
        self.close()
        await self._each.aclose()


class _BatchWriter(Generic[T]):
    """Sends what a generator yields, in batches."""

    def __init__(self, items: AsyncIterator[T], output: SendChannel[T]) -> None:
        self._items = items
        self._output = output
        self._gathered: list[T] = []
        self._most = 1.0  # how many to gather; less what bytes-like items among them weigh beyond 1 each
        self._light: set[type] = set()  # the types seen that always weigh 1
        self._is_light = True  # all that was gathered is of these types

    async def run(self) -> None:
        gathered, light, output = self._gathered, self._light, self._output
        usual: type | None = None  # what the items are, mostly: quicker to compare than to look up
        try:
            async for item in self._items:
                gathered.append(item)
                if type(item) is not usual and type(item) not in light:
                    usual = self._weigh(item)
                if len(gathered) >= self._most:
                    room = output.room()
                    if not self._is_light:
                        await output.send_many(self._take_batch())
                        self._measure_room()
                    elif room > len(gathered):  # the reader has taken items since that was measured
                        self._most = min(room, DEFAULT_CAPACITY)
                    elif room:
                        await output._send_light(self._take_batch(), 0)
                        self._measure_room()
                    else:
                        in_hand = self._take_batch()  # one item: it is sent with those that find room after it
                        self._most = await output._room_for_batch()
                        gathered += in_hand
        except Exception:
            self.flush_nowait()  # where a failure is recovered from, what was yielded before it counts
            raise
        if gathered:
            await output.send_many(self._take_batch())

    def _weigh(self, item: T) -> type | None:
        """Count what `item` weighs beyond 1; return its type if that always weighs 1."""
        if isinstance(item, _BYTES_TYPES):
            self._most -= weight_of(item) - 1
            self._is_light = False
            return None
        if len(self._light) < DEFAULT_CAPACITY:
            self._light.add(type(item))
        return type(item)

    def _measure_room(self) -> None:
        """Measure how much may be gathered: what can be sent without waiting, or one item, with which to wait."""
        self._most = min(max(self._output.room(), 1), DEFAULT_CAPACITY)
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
    readers = [_StageReader(source) for source in sources]
    async with (
        aclosing(readers[0]) if readers else contextlib.nullcontext(),
        aclosing(function(*readers, *args, **kwargs)) as items,
    ):
        writer = _BatchWriter(items, output)

        def before_trap() -> None:
            for reader in readers:
                reader._buffer.wake_sender()
            writer.flush_nowait()

        await _before_each_trap(writer.run(), before_trap)
