"""The two ends of a bounded channel: users see single items, stages move them in batches.

Rule 1: a cancelled `send` has not sent, and a cancelled `receive` has not taken: between deciding and doing it, nothing
    is awaited.
Rule 2: every call is a cancellation point. When a task lets others run, `channel_end` says (R17).
Rule 3: calls at one end are served in order: a new one waits until those before it are done, unless there is enough for all.
Rule 4: the end of the channel arrives after the items (R8); a failure overtakes them (R12).
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import trio

from trioflow._core.batches import Batches, end_of_loop
from trioflow._core.buffer import Buffer, Overflow, light_size, weight_of
from trioflow._core.channel_end import End
from trioflow._core.errors import HangUp

T = TypeVar("T")
SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)


class SendChannel(End, trio.abc.SendChannel[SendT]):
    """The sending end of a channel. Made by `open_channel` and by `Writable.open`."""

    __slots__ = ()
    _note_closed = Buffer.sender_closed

    def __init__(self, buffer: Buffer[Any]) -> None:
        End.__init__(self, buffer)  # not `super()`, which takes 1 % of a run of ten stages
        buffer.senders += 1

    async def send(self, value: SendT) -> None:
        """Send one item, waiting while the channel is full. If it is cancelled, the item was not sent.

        Raises:
            trio.BrokenResourceError: the last receiver has closed.
            trio.ClosedResourceError: this end is closed, or was closed during the call.
            BufferError: the channel is full and was opened with `overflow="fail"`.
        """
        await self._checkpoint()
        if not self._try_send(value):
            await self._wait_in_line(weight_of(value), lambda is_next: self._try_send(value, is_next))

    def send_nowait(self, value: SendT) -> None:
        """Send one item without waiting. Raises as `send` does, and `trio.WouldBlock` if there is no room."""
        if not self._try_send(value):
            raise trio.WouldBlock

    def _try_send(self, value: SendT, is_next: bool = False) -> bool:  # noqa: FBT001, FBT002 - called by `Buffer.wait_in`
        buffer = self._buffer
        if self._closed or buffer.failure is not None or not buffer.receivers:
            self._check()
        weight = weight_of(value)
        if buffer.fits(weight) and (is_next or not buffer.sending or weight <= buffer.room()):
            buffer.put(value, weight)
        elif buffer.overflow == "wait":
            return False
        elif buffer.make_room(weight):
            buffer.put(value, weight)
        return True

    async def send_many(self, values: Iterable[SendT]) -> None:
        """Send all of `values` in order, waiting for room as needed. If it is cancelled or fails, some may have been sent.

        It does the same as a `send` for each, at a tenth of the cost, as items cross in batches. Raises as `send` does.
        """
        items = values if isinstance(values, list) else list(values)
        await self._send_all(items, light_size(items))

    async def _send_all(self, items: Sequence[SendT], size: int | None) -> None:
        """Do what `send_many` does; `size` is what `light_size` returns for `items`."""
        buffer = self._buffer
        if size is None or buffer.overflow != "wait":
            for item in items:
                await self.send(item)
            return
        start = 0

        def put(is_next: bool) -> bool:  # noqa: FBT001 - called by `Buffer.wait_in`
            nonlocal start
            self._check()
            # Again if the reader has taken them in place: then nobody would wake this task.
            while count := len(items) - start:
                room = buffer.capacity - buffer.used if is_next else buffer.room()
                if room < count:
                    count = int(room)
                    if count <= 0:
                        return False
                if count == len(items):
                    buffer.put_light(items, size)
                else:
                    part = items[start : start + count]
                    buffer.put_light(part, (light_size(part) or 0) if size else 0)
                self._moved += count
                start += count
            return True

        await self._checkpoint(0)
        if not put(False):
            await self._wait_in_line(1, put)

    def send_many_nowait(self, values: Iterable[SendT]) -> None:
        """Send all of `values` without waiting, or none. Raises as `send_nowait` does if there is no room for all."""
        items = values if isinstance(values, list) else list(values)
        if self._try_send_many(items, light_size(items)):
            return
        buffer = self._buffer
        weights = [weight_of(item) for item in items]
        if sum(weights) > buffer.room() and not (len(items) == 1 and buffer.empty and not buffer.sending):
            raise trio.WouldBlock
        for item, weight in zip(items, weights, strict=True):
            buffer.put(item, weight)

    def _try_send_many(self, items: list[SendT], size: int | None) -> bool:
        """Send `items`, whose `light_size` is `size`, if there is room for all and none is heavy; return whether it did."""
        buffer = self._buffer
        self._check()
        if size is None or len(items) > buffer.room():
            return False
        buffer.put_light(items, size)
        return True

    def _put_light(self, items: Sequence[SendT]) -> None:
        """Put `items`, which fit and are neither heavy nor bytes, unless nobody will receive them."""
        buffer = self._buffer
        if buffer.failure is None and buffer.receivers:
            buffer.put_light(items, 0)

    def _wait_in_line(self, need: int, attempt: Callable[[bool], bool]) -> Any:
        # Returns a coroutine instead of being one, as do `_checkpoint` and `_wait`: each resume passes one less.
        return self._buffer.wait_in(self._buffer.sending, need, attempt, self._has_yielded)

    def _check(self) -> None:
        buffer = self._buffer
        if self._closed:
            raise trio.ClosedResourceError("this send channel is closed")
        if buffer.failure is not None:
            buffer.check()
        if not buffer.receivers:
            raise HangUp(buffer, "the last reader of this channel has closed")

    def __del__(self) -> None:
        if not self._closed and sys.flags.dev_mode:
            lost = f"{self!r} was never closed, so its readers never see the end"
            warnings.warn(lost, ResourceWarning, stacklevel=2, source=self)

    def room(self) -> float:
        """Return the weight that can be sent now without waiting."""
        return self._buffer.room()

    async def wait_for_room(self) -> None:
        """Wait until an item of weight 1 can be sent; another sender may still be quicker. Raises as `send` does."""
        await self._wait_until(lambda is_next: is_next and self._buffer.fits(1), 1)

    def _room_for_batch(self) -> Any:
        """Wait until half of a full channel is free.

        Until then the reader still has the other half to take. The next items then reach it as one large batch.
        """
        half = max(self._buffer.stride // 2, 1)
        return self._wait_until(lambda is_next: is_next and self._buffer.fits(half), half)

    async def _send_batch(self, values: list[SendT]) -> bool:
        """Send as `send_many` does; if the channel is full, wait until half of it is free. Return whether each item weighs 1."""
        if self._buffer.overflow == "wait" and not self._buffer.room():
            await self._room_for_batch()
        size = light_size(values)
        await self._send_all(values, size)
        return size is not None

    async def _wait_empty(self) -> None:
        """Wait until readers have taken everything that was sent, so that the next item is chosen when one is needed."""
        await self._wait_until(lambda _: self._buffer.empty, int(min(self._buffer.capacity, sys.maxsize)))

    def _wait_until(self, is_so: Callable[[bool], bool], need: int) -> Any:
        def attempt(is_next: bool) -> bool:  # noqa: FBT001 - called by `Buffer.wait_in`
            self._check()
            return is_so(is_next)

        return self._checkpoint(0) if attempt(not self._buffer.sending) else self._wait_in_line(need, attempt)

    def clone(self) -> SendChannel[SendT]:
        """Return another sending end of the same channel. Readers see the end when the last one closes."""
        if self._closed:
            raise trio.ClosedResourceError("this send channel is closed")
        return SendChannel(self._buffer)

    def abort(self, cause: BaseException | None = None) -> None:
        """Discard the items in the channel, and make every call at both ends raise `trio.BrokenResourceError` from `cause`.

        Use it when the sender has failed, so that readers do not take partial data for complete.
        """
        failure = HangUp(self._buffer, "the sender has failed")
        failure.__cause__ = cause
        self._buffer.abort(failure)

    def _abort_with(self, failure: BaseException | None, reason: str) -> None:
        self._buffer.abort(failure or HangUp(self._buffer, reason))  # as `abort`, but readers get `failure` itself

    @property
    def _run_capacity(self) -> float:
        return self._buffer.run_capacity  # for the channels of what a stage runs inside it

    @property
    def _is_empty(self) -> bool:
        return self._buffer.empty

    @property
    def _reader_has_left(self) -> bool:
        """Whether no reader is left, though nothing has failed."""
        return not self._buffer.receivers and self._buffer.failure is None

    @property
    def _is_untouched(self) -> bool:
        """Whether no run reads it, and nothing has been received so far."""
        return self._buffer.count == len(self._buffer.items) and not self._buffer.on_abort

    def _on_hang_up(self, function: Callable[[], None]) -> None:
        self._buffer.on_hang_up = function  # called when the last reader leaves before the end

    def _on_wanted(self, function: Callable[[], None] | None) -> None:
        self._buffer.on_wanted = function  # called whenever a reader begins to wait for the next item

    def _expect(self, size: int) -> None:
        self._buffer.expected = size  # how many bytes will be sent in all


class ReceiveChannel(End, trio.abc.ReceiveChannel[ReceiveT]):
    """The receiving end of a channel. Made by `open_channel` and by `Readable.open`."""

    __slots__ = ()
    _note_closed = Buffer.receiver_closed
    _most: ClassVar[float] = math.inf  # items in a batch; 1 for `OneByOne`

    def __init__(self, buffer: Buffer[Any]) -> None:
        End.__init__(self, buffer)
        buffer.receivers += 1

    async def receive(self) -> ReceiveT:
        """Return the next item, waiting until there is one. If it is cancelled, no item was taken.

        Raises:
            trio.EndOfChannel: all senders have closed and everything was received.
            trio.ClosedResourceError: this end is closed, or was closed during the call.
        """
        if self._buffer.items or not self._must_wait:  # otherwise it waits below, which is a checkpoint already
            await self._checkpoint()
        if not (self._ready() or self._has_enough_for_all):
            await self._wait()
        item: ReceiveT = self._buffer.take()
        return item

    def receive_nowait(self) -> ReceiveT:
        """Return the next item without waiting. Raises as `receive` does, and `trio.WouldBlock` if the channel is empty."""
        if not (self._ready() or self._has_enough_for_all):
            raise trio.WouldBlock
        item: ReceiveT = self._buffer.take()
        return item

    async def receive_many(self, limit: int | None = None) -> list[ReceiveT]:
        """Return all items that are there, at most `limit`, waiting only if there are none.

        The list is never empty: at the end it raises as `receive` does. If it is cancelled, no item was taken.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"receive_many: limit must be at least 1, got {limit}")
        return await self._receive_batch(limit or math.inf)

    async def _receive_for(self, output: SendChannel[Any] | None, most: float = math.inf) -> list[ReceiveT]:
        """Take at most `most` items, and no more than `output` has room for, but at least one, which may wait there (R5)."""
        if output is None or output._buffer.overflow != "wait":
            return await self._receive_batch(most)
        return await self._receive_batch(most, max(output.room(), 1))

    def _batches_for(self, output: SendChannel[Any]) -> Batches[list[ReceiveT]]:
        return Batches(partial(self._receive_for, output), self._buffer)

    async def _receive_batch(self, most: float, room: float = math.inf) -> list[ReceiveT]:
        if self._buffer.items or not self._must_wait:
            await self._checkpoint(0)
        if not self._ready():
            await self._wait()
        items = self._buffer.take_many(min(most, self._most), room)
        self._moved += len(items)
        return items

    def receive_many_nowait(self) -> list[ReceiveT]:
        """Return all items that are there without waiting. Raises as `receive_many` does, and `trio.WouldBlock` if none are."""
        if not self._ready():
            raise trio.WouldBlock
        return self._buffer.take_many(self._most)

    @property
    def _overflow(self) -> Overflow:
        return self._buffer.overflow

    @property
    def _expected(self) -> int | None:
        return self._buffer.expected

    def batches(self) -> Batches[list[ReceiveT]]:
        """Return an async iterator over lists of all items that are ready, as `receive_many` returns them."""
        return Batches(partial(self._receive_batch, math.inf), self._buffer)

    def _wait(self, attempt: Callable[[bool], bool] | None = None, in_place: Callable[[], bool] | None = None) -> Any:
        buffer = self._buffer
        if buffer.on_wanted is not None and not buffer.items:
            buffer.on_wanted()
        return buffer.wait_in(buffer.receiving, 1, attempt or self._ready, self._has_yielded, in_place)

    async def __anext__(self) -> ReceiveT:
        # As `receive`, without the await of it, which would take another eighth of the time.
        try:
            if self._buffer.items or not self._must_wait:
                await self._checkpoint()
            if not (self._ready() or self._has_enough_for_all):
                await self._wait()
            item: ReceiveT = self._buffer.take()
            return item
        except (trio.EndOfChannel, StopAsyncIteration) as exc:
            end_of_loop(self._buffer, exc)

    @property
    def _must_wait(self) -> bool:
        """Whether a `receive` has to wait now, and so lets other tasks run."""
        buffer = self._buffer
        return not buffer.items and not self._closed and buffer.senders > 0 and buffer.failure is None

    @property
    def _has_enough_for_all(self) -> bool:
        """Whether there is an item for this end even if each task that waits takes one."""
        return len(self._buffer.items) > len(self._buffer.receiving)

    def _ready(self, is_next: bool = False) -> bool:  # noqa: FBT001, FBT002 - called by `Buffer.wait_in`
        buffer = self._buffer
        if self._closed:
            raise trio.ClosedResourceError("this receive channel is closed")
        if buffer.items:
            return is_next or not buffer.receiving
        buffer.check()
        if not buffer.senders:
            raise trio.EndOfChannel
        return False

    def clone(self) -> ReceiveChannel[ReceiveT]:
        """Return another receiving end of the same channel. Each item goes to one of them."""
        if self._closed:
            raise trio.ClosedResourceError("this receive channel is closed")
        return ReceiveChannel(self._buffer)
