"""A pair of byte channels seen as one of Trio's byte streams, for whoever wants `receive_some` and `send_all`.

Rule 1: what Trio asks of a stream holds here (R20): one task a direction, or `trio.BusyResourceError`; closed means
    `trio.ClosedResourceError`, also in a call that waits; `b""` is never sent, so that it can only mean the end.
Rule 2: a failure is raised as the channel raises it, the same object.
Rule 3: leaving closes both directions, and waits for what was sent to be taken, for `LINGER` seconds at most (R16).
"""

from __future__ import annotations

import operator
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio
from trio.lowlevel import checkpoint

from trioflow._core.channel import ReceiveChannel, SendChannel

LINGER: Final = 10.0  # seconds; what is sent may be on its way to a peer that reads no more


class ByteStream(trio.abc.HalfCloseableStream):
    """The byte stream that sends to one channel and receives from another."""

    def __init__(self, send: SendChannel[bytes], receive: ReceiveChannel[bytes]) -> None:
        self._send = send
        self._receive = receive
        self._sending = False
        self._receiving = False
        self._closed = False
        self._ended = False  # nothing more comes
        self._rest: bytes | memoryview = b""  # what the last chunk held beyond what was asked for

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, waiting while the channel is full. Cancelled, it has sent nothing."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send_all wants bytes, a bytearray or a memoryview, not {data!r}")

        async def send() -> None:
            await checkpoint()
            if len(data):
                await self._send.send(bytes(data))  # free for bytes; other kinds may change once this has returned
            else:
                self._send._check()

        await self._alone_in_sending(send)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a chunk; the reader may be gone all the same."""

        async def wait() -> None:
            await checkpoint()
            await self._send.wait_for_room()

        await self._alone_in_sending(wait)

    async def send_eof(self) -> None:
        """End what is sent; receiving goes on. Harmless when repeated."""

        async def end() -> None:
            if self._closed:
                raise trio.ClosedResourceError("this byte stream is closed")
            self._send.close()
            await checkpoint()

        await self._alone_in_sending(end)

    async def _alone_in_sending(self, act: Callable[[], Awaitable[None]]) -> None:
        if self._sending:
            await checkpoint()
            raise trio.BusyResourceError("another task is sending to this byte stream")
        self._sending = True
        try:
            await act()
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Give what is there, at most `max_bytes`, waiting only while there is nothing; `b""` at the end.

        Cancelled, it has taken nothing.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes must be 1 or more, not {max_bytes}")
        if self._receiving:
            await checkpoint()
            raise trio.BusyResourceError("another task is receiving from this byte stream")
        self._receiving = True
        try:
            return await self._take(max_bytes)
        finally:
            self._receiving = False

    async def _take(self, max_bytes: int | None) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("this byte stream is closed")
        await checkpoint()
        while not (self._rest or self._ended):
            try:
                self._rest = _as_bytes(await anext(self._receive))
            except StopAsyncIteration:
                self._ended = True
        rest = self._rest
        if max_bytes is None or len(rest) <= max_bytes:
            self._rest = b""
            return bytes(rest)  # which costs nothing where it is bytes already
        self._rest = memoryview(rest)[max_bytes:]
        return bytes(rest[:max_bytes])

    def close(self) -> None:
        """Close both directions at once; what was sent is still to be taken. Harmless when repeated."""
        self._closed = True
        self._rest = b""
        self._send.close()
        self._receive.close()

    async def aclose(self) -> None:
        """Close both directions, then let other tasks run."""
        self.close()
        await checkpoint()


def _as_bytes(chunk: object) -> bytes | memoryview:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, (bytearray, memoryview)):
        return memoryview(chunk).cast("B")
    raise TypeError(f"a byte stream carries bytes, not {chunk!r}")


@asynccontextmanager
async def open_stream(
    receiving: AbstractAsyncContextManager[ReceiveChannel[bytes]],
    sending: AbstractAsyncContextManager[SendChannel[bytes]],
) -> AsyncGenerator[trio.abc.HalfCloseableStream, None]:
    """Open both channels and give the stream over them, closed with them at the end of the block."""
    with trio.CancelScope() as scope:
        async with receiving as receive, sending as send:
            stream = ByteStream(send, receive)
            try:
                yield stream
                stream.close()
            finally:
                scope.deadline = trio.current_time() + LINGER
    if scope.cancelled_caught:
        raise trio.TooSlowError(f"what was sent was not taken within {LINGER:g} seconds of closing")
