"""The two ends of a bounded channel: batches inside, items outside.

Rule 1: a cancelled `send` has not sent and a cancelled `receive` has not taken: nothing is awaited between
    the decision and the deed.
Rule 2: every call delivers cancellation; a task yields at least once every `capacity` items (R17).
Rule 3: a call queues behind those who wait at its end.
Rule 4: the end travels behind the items (R8), a failure overtakes them (R12).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import trio
from trio.lowlevel import checkpoint

from trioflow._core.buffer import (
    DEFAULT_CAPACITY,
    Buffer,
    Overflow,
    check_capacity,
    check_overflow,
    light_size,
    weight_of,
)
from trioflow._core.end import End
from trioflow._core.errors import HangUp

T = TypeVar("T")
SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)


class SendChannel(End, trio.abc.SendChannel[SendT]):
    """The sending end of a channel. Made by `open_channel` and by `Writable.open`."""

    __slots__ = ()

    def __init__(self, buffer: Buffer[Any]) -> None:
        super().__init__(buffer)
        buffer.senders += 1

    async def send(self, value: SendT) -> None:
        """Put one item in, waiting while the channel is full (R6). Cancelled, it has not sent.

        Raises:
            trio.BrokenResourceError: the last receiver has closed.
            trio.ClosedResourceError: this end was closed, before or meanwhile.
            BufferError: the channel is full and was opened with `overflow="fail"`.
        """
        await self._checkpoint()
        if not self._try_send(value):
            await self._send_in_line(value)

    def send_nowait(self, value: SendT) -> None:
        """Put one item in if there is room now; raises as `send` does, and `trio.WouldBlock` where it would wait."""
        if not self._try_send(value):
            raise trio.WouldBlock

    def _try_send(self, value: SendT, is_next: bool = False) -> bool:  # noqa: FBT001, FBT002 - called by `_queue`
        buffer = self._buffer
        self._check()
        weight = weight_of(value)
        if buffer.fits(weight) and (is_next or not buffer.sending):
            buffer.put(value, weight)
        elif buffer.overflow == "wait":
            return False
        elif buffer.make_room(weight):
            buffer.put(value, weight)
        return True

    async def send_many(self, values: Iterable[SendT]) -> None:
        """Put all of `values` in, in order, as room allows. Cancelled or failing, it has sent the first few or none.

        The same as `send` for each, at a tenth of the cost: they cross in batches. Raises as `send` does.
        """
        items = values if isinstance(values, list) else list(values)
        size = light_size(items)
        if size is not None and self._buffer.overflow == "wait":
            await self.send_light(items, size)
        else:
            for item in items:
                await self.send(item)

    async def send_light(self, items: Sequence[SendT], size: int) -> None:
        """Put all of `items` in as `send_many` does, where they are known to weigh 1 each, and `size` bytes together."""
        buffer = self._buffer
        start = 0

        def put(is_next: bool) -> bool:  # noqa: FBT001 - called by `_queue`
            nonlocal start
            self._check()
            room = buffer.capacity - buffer.used if is_next else buffer.room()
            count = max(int(min(room, len(items) - start)), 0)
            if count == len(items):
                buffer.put_light(items, size)
            elif count:
                part = items[start : start + count]
                buffer.put_light(part, (light_size(part) or 0) if size else 0)
            self._moved += count
            start += count
            return start == len(items)

        await self._checkpoint(0)
        if not put(False):
            await self._queue(buffer.sending, 1, put)

    def send_many_nowait(self, values: Iterable[SendT]) -> None:
        """Put all of `values` in if there is room for all now; raises as `send_nowait` does, and then has put none."""
        items = values if isinstance(values, list) else list(values)
        self._check()
        buffer = self._buffer
        size = light_size(items)
        if size is not None and len(items) <= buffer.room():
            buffer.put_light(items, size)
            return
        weights = [weight_of(item) for item in items]
        if sum(weights) > buffer.room() and not (len(items) == 1 and buffer.empty and not buffer.sending):
            raise trio.WouldBlock
        for item, weight in zip(items, weights, strict=True):
            buffer.put(item, weight)

    async def _send_in_line(self, value: SendT) -> None:
        await self._queue(self._buffer.sending, weight_of(value), lambda is_next: self._try_send(value, is_next))

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this send channel is closed")
        self._buffer.check()
        if not self._buffer.receivers:
            raise HangUp(self._buffer, "the last reader of this channel has gone")

    def __del__(self) -> None:
        # A sender that is lost unclosed leaves its readers waiting for ever: `python -X dev` tells.
        if not self._closed and sys.flags.dev_mode:
            warnings.warn(
                f"{self!r} was never closed, its readers never see the end", ResourceWarning, stacklevel=2, source=self
            )

    def room(self) -> float:
        """Give the weight that could be sent now without waiting."""
        return self._buffer.room()

    async def wait_for_room(self) -> None:
        """Wait until an item that weighs 1 could be sent; raises as `send` does.

        For who gathers what it sends. Another sender of the same channel may be quicker.
        """

        def has_room(is_next: bool) -> bool:  # noqa: FBT001
            self._check()
            return is_next and self._buffer.fits(1)

        await self._checkpoint(0)
        self._check()
        if not self._buffer.room():
            await self._queue(self._buffer.sending, 1, has_room)

    async def wait_empty(self) -> None:
        """Wait until readers have taken all that was sent; raises as `send` does.

        For a sender that has something newer, or another reader, for what its reader is not yet ready to take.
        """

        def is_empty(is_next: bool = False) -> bool:  # noqa: FBT001, FBT002
            self._check()
            return self._buffer.empty

        await self._checkpoint(0)
        if not is_empty():
            await self._queue(self._buffer.sending, int(min(self._buffer.capacity, sys.maxsize)), is_empty)

    def clone(self) -> SendChannel[SendT]:
        """Make another sending end of the same channel: readers see the end when the last one closes (R19)."""
        if self._closed:
            raise trio.ClosedResourceError("this send channel is closed")
        return SendChannel(self._buffer)

    def abort(self, cause: BaseException | None = None) -> None:
        """Drop what is held; every call at either end now raises `trio.BrokenResourceError`, caused by `cause`.

        For a sender that has failed: what its readers got is not all, and they must not take it for that (R13).
        """
        failure = HangUp(self._buffer, "the sender has failed")
        failure.__cause__ = cause
        self._buffer.abort(failure)

    def close(self) -> None:
        """Close this end. When it is the last one, readers get what is held, then the end. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._part()
            self._buffer.sender_closed()

    async def aclose(self) -> None:
        """Close this end, then let other tasks run."""
        self.close()
        await checkpoint()

    def __enter__(self) -> SendChannel[SendT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ReceiveChannel(End, trio.abc.ReceiveChannel[ReceiveT]):
    """The receiving end of a channel. Made by `open_channel` and by `Readable.open`."""

    __slots__ = ()

    def __init__(self, buffer: Buffer[Any]) -> None:
        super().__init__(buffer)
        buffer.receivers += 1

    async def receive(self) -> ReceiveT:
        """Take the next item, waiting for it if need be. Cancelled, it has not taken.

        Raises:
            trio.EndOfChannel: all senders have closed and everything was received.
            trio.ClosedResourceError: this end was closed, before or meanwhile.
        """
        await self._checkpoint()
        if not self._ready():
            await self._wait_in_line()
        item: ReceiveT = self._buffer.take()
        return item

    def receive_nowait(self) -> ReceiveT:
        """Take the next item if there is one now; raises as `receive` does, and `trio.WouldBlock` where it would wait."""
        if not self._ready():
            raise trio.WouldBlock
        item: ReceiveT = self._buffer.take()
        return item

    async def receive_many(self, limit: int | None = None) -> list[ReceiveT]:
        """Take all that is there, at most `limit` items; wait only while there is nothing.

        Never an empty list: at the end it raises as `receive` does. Cancelled, it has taken nothing.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        await self._checkpoint(0)
        if not self._ready():
            await self._wait_in_line()
        items = self._buffer.take_many(limit)
        self._moved += len(items)
        return items

    def receive_many_nowait(self) -> list[ReceiveT]:
        """Take all that is there now; raises as `receive_many` does, and `trio.WouldBlock` where it would wait."""
        if not self._ready():
            raise trio.WouldBlock
        return self._buffer.take_many(None)

    def batches(self) -> Batches[ReceiveT]:
        """Iterate over lists of all that is ready, as `receive_many` gives them."""
        return Batches(self)

    async def _wait_in_line(self) -> None:
        if self._buffer.on_wanted is not None:
            self._buffer.on_wanted()
        await self._queue(self._buffer.receiving, 1, self._ready)

    async def __anext__(self) -> ReceiveT:
        try:
            return await self.receive()
        except (trio.EndOfChannel, StopAsyncIteration) as exc:
            _end_of_loop(self._buffer, exc)

    def _ready(self, is_next: bool = False) -> bool:  # noqa: FBT001, FBT002 - called by `_queue`
        buffer = self._buffer
        if self._closed:
            raise trio.ClosedResourceError("this receive channel is closed")
        if buffer.empty:
            buffer.check()
            if buffer.ended:
                raise trio.EndOfChannel
            return False
        return is_next or not buffer.receiving

    def clone(self) -> ReceiveChannel[ReceiveT]:
        """Make another receiving end of the same channel: each item goes to one of them (R19)."""
        if self._closed:
            raise trio.ClosedResourceError("this receive channel is closed")
        return ReceiveChannel(self._buffer)

    def close(self) -> None:
        """Close this end. When it is the last one, what is held is discarded and senders are told. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._part()
            self._buffer.receiver_closed()

    async def aclose(self) -> None:
        """Close this end, then let other tasks run."""
        self.close()
        await checkpoint()

    def __enter__(self) -> ReceiveChannel[ReceiveT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Batches(AsyncIterator[list[T]]):
    """What `ReceiveChannel.batches` gives; it holds nothing and needs no closing."""

    __slots__ = ("_source",)

    def __init__(self, source: ReceiveChannel[T]) -> None:
        self._source = source

    async def __anext__(self) -> list[T]:
        try:
            return await self._source.receive_many()
        except (trio.EndOfChannel, StopAsyncIteration) as exc:
            _end_of_loop(self._source._buffer, exc)


def _end_of_loop(buffer: Buffer[Any], exc: Exception) -> NoReturn:
    """End a loop, unless a stage has failed with what looks like the end (R11)."""
    if exc is not buffer.failure:
        raise StopAsyncIteration from None
    if isinstance(exc, trio.EndOfChannel):
        raise exc
    raise RuntimeError(
        "a stage raised StopAsyncIteration"
    ) from exc  # as Python does, where a loop would take it for its end


class open_channel(tuple[SendChannel[T], ReceiveChannel[T]]):  # noqa: N801 - called as a function, `open_channel[str](16)`
    """Open a bounded channel and give its two ends, `(send, receive)`, as data flows.

    Holds: items that weigh at most `capacity` together; an item weighs 1, a bytes-like one 1 for every started 4 KiB (R5).

    Args:
        capacity: The weight to hold at most, 1 or more; `math.inf` for no limit.
        overflow: What `send` does when there is no room: `"wait"`; `"drop_oldest"` or `"drop_newest"`, counted in
            `statistics().dropped`; `"fail"`, which raises `BufferError` (R6).

    Raises:
        TypeError: `capacity` is neither an int nor `math.inf`.
        ValueError: `capacity` is below 1, or `overflow` is not one of the four.

    Example:
        >>> send, receive = open_channel[str](capacity=2)
        >>> send.send_nowait("a")
        >>> receive.receive_nowait()
        'a'
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]  # a plain tuple is what it gives
        cls, capacity: float = DEFAULT_CAPACITY, *, overflow: Overflow = "wait"
    ) -> tuple[SendChannel[T], ReceiveChannel[T]]:
        buffer: Buffer[T] = Buffer(check_capacity(capacity), check_overflow(overflow))
        return SendChannel(buffer), ReceiveChannel(buffer)

    def __init__(self, capacity: float = DEFAULT_CAPACITY, *, overflow: Overflow = "wait") -> None: ...
