"""Bytes read by hand from an opened readable or a byte stream: so many, until a delimiter, looked at, put back.

Rule 1: a cancelled call has taken nothing.
Rule 2: an end between two calls is an end, one inside a call is an `EOFError` (R10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from trioflow._core.checks import check_count, check_limit
from trioflow._core.streams import wanted
from trioflow.codecs.bytebuffer import ByteBuffer

LONGEST: Final = 65536


class Buffered(trio.abc.ReceiveChannel[bytes]):
    """What `buffered` gives: a channel of chunks that can also be read exactly. One task at a time reads."""

    def __init__(self, source: trio.abc.ReceiveChannel[bytes]) -> None:
        self._source = source
        self._buffer = ByteBuffer()

    async def receive(self) -> bytes:
        """Take what is there, or else the next chunk as it comes.

        Raises:
            trio.EndOfChannel: all was taken.
        """
        if not self._buffer:
            return await self._source.receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._buffer.take_all()

    async def receive_exactly(self, count: int) -> bytes:
        """Take `count` bytes, waiting until they have come. It holds them, and at most one chunk more.

        Raises:
            TypeError, ValueError: `count` is not an int of 0 or more.
            trio.EndOfChannel: there is nothing more, and `count` is not 0.
            EOFError: there are some bytes, but fewer than `count`; they can still be received.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while (taken := self._buffer.take(count)) is None:
            await self._more(lambda: f"the input ends after {len(self._buffer)} of {count} bytes")
        return taken

    async def receive_until(self, delimiter: bytes, *, max_length: float = LONGEST) -> bytes:
        """Take what stands before `delimiter`, and drop the delimiter. It holds `max_length` and one chunk.

        Raises:
            TypeError: `delimiter` is not `bytes`, or `max_length` neither an int nor `math.inf`.
            ValueError: `delimiter` is empty, `max_length` below 1, or there is no delimiter within `max_length`.
            trio.EndOfChannel: there is nothing more.
            EOFError: there are some bytes, but no delimiter behind them; they can still be received.
        """
        check_limit("max_length", max_length)
        await trio.lowlevel.checkpoint_if_cancelled()
        while (taken := self._buffer.take_until(delimiter, max_length=max_length)) is None:
            await self._more(lambda: f"the input ends before {delimiter!r}")
        return taken

    async def peek(self, count: int = 1) -> bytes:
        """Give the next `count` bytes, fewer where the input ends, and take none: `b""` tells the end."""
        check_count("count", count, 0)
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._buffer) < count:
            try:
                await self._more(None)
            except trio.EndOfChannel:
                break
        return self._buffer.peek(count)

    def unread(self, data: bytes | bytearray | memoryview) -> None:
        """Put bytes before what is left: they are received next, be it after the end."""
        self._buffer.put_back(data)

    async def _more(self, complaint: Callable[[], str] | None) -> None:
        try:
            chunk = await self._source.receive()
        except trio.EndOfChannel:
            if complaint is not None and self._buffer:
                raise EOFError(complaint()) from None
            raise
        self._buffer.feed(chunk)

    async def aclose(self) -> None:
        """Close the channel underneath; what was not received is lost."""
        self._buffer = ByteBuffer()
        await self._source.aclose()


class _Chunks(trio.abc.ReceiveChannel[bytes]):
    """A byte stream as a channel of the chunks that it gives."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        chunk = await self._stream.receive_some()
        if not chunk:
            raise trio.EndOfChannel
        return bytes(chunk)

    async def aclose(self) -> None:
        await self._stream.aclose()


def buffered(receive: trio.abc.ReceiveChannel[bytes] | trio.abc.ReceiveStream) -> Buffered:
    """Read an opened readable of bytes by hand: `receive_exactly`, `receive_until`, `peek` and `unread`.

    A byte stream will do too, such as the `open` of a `Duplex` gives. What comes of it is itself a channel: what is left
    can be iterated, or piped on by `from_iterable`. Closing it closes `receive`; where that belongs to an `async with`
    block there is no need to.

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
        return Buffered(_Chunks(receive))
    if not isinstance(receive, trio.abc.ReceiveChannel):
        raise wanted("buffered expects an opened readable or a byte stream", receive)
    return Buffered(receive)
