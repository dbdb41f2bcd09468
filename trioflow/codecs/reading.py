"""Read bytes by hand from an opened readable or a byte stream: an exact number, up to a delimiter, peek, or put back.

Rule 1: a cancelled call has taken nothing.
Rule 2: an end between two calls is the end of the channel; an end inside a call is an `EOFError` (R10).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from trioflow._core.checks import check_count, check_limit
from trioflow._core.streams import wanted
from trioflow.codecs.bytebuffer import ByteBuffer

LONGEST: Final = 65536


class Buffered(trio.abc.ReceiveChannel[bytes]):
    """A channel of chunks that you can also read in exact amounts, from one task at a time. Made by `buffered`."""

    def __init__(self, receive: Callable[[], Awaitable[bytes]], close: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._close = close
        self._buffer = ByteBuffer()

    async def receive(self) -> bytes:
        """Return the bytes that are held, or else the next chunk.

        Raises:
            trio.EndOfChannel: the input has ended.
        """
        if not self._buffer:
            return await self._receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._buffer.take_all()

    async def receive_exactly(self, count: int) -> bytes:
        """Return exactly `count` bytes, waiting until they have arrived. Holds them, and at most one chunk more.

        Raises:
            TypeError, ValueError: `count` is not an int of at least 0.
            trio.EndOfChannel: the input has ended, and `count` is not 0.
            EOFError: the input ends after fewer than `count` bytes; they can still be received.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while (taken := self._buffer.take(count)) is None:
            await self._more(lambda: f"the input ends after {len(self._buffer)} of {count} bytes")
        return taken

    async def receive_until(self, delimiter: bytes, *, max_length: float = LONGEST) -> bytes:
        """Return the bytes before `delimiter`, and drop the delimiter. Holds `max_length` bytes and one chunk.

        Raises:
            TypeError: `delimiter` is not `bytes`, or `max_length` is neither an int nor `math.inf`.
            ValueError: `delimiter` is empty, `max_length` is below 1, or there is no delimiter within `max_length`.
            trio.EndOfChannel: the input has ended.
            EOFError: the input ends without the delimiter; the bytes before its end can still be received.
        """
        check_limit("max_length", max_length)
        await trio.lowlevel.checkpoint_if_cancelled()
        while (taken := self._buffer.take_until(delimiter, max_length=max_length)) is None:
            await self._more(lambda: f"the input ends before {delimiter!r}")
        return taken

    async def peek(self, count: int = 1) -> bytes:
        """Return the next `count` bytes without taking them, or fewer if the input ends: `b""` at the end."""
        check_count("count", count, 0)
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._buffer) < count:
            try:
                await self._more(None)
            except trio.EndOfChannel:
                break
        return self._buffer.peek(count)

    def unread(self, data: bytes | bytearray | memoryview) -> None:
        """Put bytes back in front: they are received next, even after the end."""
        self._buffer.put_back(data)

    async def _more(self, complaint: Callable[[], str] | None) -> None:
        try:
            chunk = await self._receive()
        except trio.EndOfChannel:
            if complaint is None:
                raise
            raise (EOFError if self._buffer else trio.EndOfChannel)(complaint()) from None
        self._buffer.feed(chunk)

    async def aclose(self) -> None:
        """Close the underlying channel; bytes that were not received are lost."""
        self._buffer = ByteBuffer()
        await self._close()


async def _next_chunk(stream: trio.abc.ReceiveStream) -> bytes:
    chunk = await stream.receive_some()
    if not chunk:
        raise trio.EndOfChannel
    return bytes(chunk)


def buffered(receive: trio.abc.ReceiveChannel[bytes] | trio.abc.ReceiveStream) -> Buffered:
    """Return a reader for an opened readable of bytes, with `receive_exactly`, `receive_until`, `peek` and `unread`.

    `receive` may also be a byte stream, such as `Duplex.open` yields. The reader is itself a channel: you can iterate over
    the rest, or pipe it on with `from_iterable`. Closing it closes `receive`; inside `async with` you need not close it.

    Holds: what one call asks for, and one chunk.

    Raises:
        TypeError: `receive` is neither a `trio.abc.ReceiveChannel` nor a `trio.abc.ReceiveStream`.

    Example:
        >>> async def read():
        ...     async with from_iterable([b"5 he", b"llo;", b"rest"]).open() as receive:
        ...         reader = buffered(receive)
        ...         size = int(await reader.receive_until(b" "))
        ...         word = await reader.receive_exactly(size)
        ...         return size, word, await reader.peek(), [chunk async for chunk in reader]
        >>> run(read())
        (5, b'hello', b';', [b';', b'rest'])
    """
    if isinstance(receive, trio.abc.ReceiveStream):
        return Buffered(partial(_next_chunk, receive), receive.aclose)
    if not isinstance(receive, trio.abc.ReceiveChannel):
        raise wanted("buffered expects an opened readable or a byte stream", receive)
    return Buffered(receive.receive, receive.aclose)
