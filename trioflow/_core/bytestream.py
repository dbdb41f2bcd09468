"""A pair of byte channels as one Trio byte stream, for code that expects `receive_some` and `send_all`.

Rule 1: it behaves as Trio asks of a stream (R20). A second task in one direction gets `trio.BusyResourceError`. After
    closing, calls raise `trio.ClosedResourceError`, even those that already wait. `b""` is never sent, so receiving it
    always means the end.
Rule 2: a failure of the channel is raised as the same object.
Rule 3: leaving the block closes both directions, and waits at most `LINGER` seconds for the other side to read (R16).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio
from trio.lowlevel import checkpoint

from trioflow._core.adapters import in_bytes
from trioflow._core.block import block
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count
from trioflow._core.labels import shown

LINGER: Final = 10.0  # seconds; the peer may have stopped reading


class BusyGuard:
    """Admits one task at a time, for example to one direction of a stream. Others get `trio.BusyResourceError` (R20)."""

    __slots__ = ("_doing", "_is_busy")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._is_busy = False

    def __enter__(self) -> None:
        if self._is_busy:
            raise trio.BusyResourceError(f"another task is {self._doing}")
        self._is_busy = True

    def __exit__(self, *exc: object) -> None:
        self._is_busy = False


class ByteStream(trio.abc.HalfCloseableStream):
    """A byte stream that sends to one channel and receives from another."""

    def __init__(self, send: SendChannel[bytes], receive: ReceiveChannel[bytes]) -> None:
        self._send = send
        self._receive = receive
        self._sending = BusyGuard("sending to this byte stream")
        self._receiving = BusyGuard("receiving from this byte stream")
        self._closed = False
        self._ended = False  # whether the receiving channel has ended
        self._rest: bytes | memoryview = b""  # the rest of the last chunk, beyond `max_bytes`

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, waiting while the channel is full. If it is cancelled, nothing was sent."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send_all expects bytes, a bytearray or a memoryview, got {shown(data)}")
        with self._sending:
            await checkpoint()
            if len(data):
                await self._send.send(bytes(data))  # no copy for bytes; the caller may change other kinds later
            else:
                self._send._check()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a chunk. The reader may have gone even so."""
        with self._sending:
            await checkpoint()
            await self._send.wait_for_room()

    async def send_eof(self) -> None:
        """End the sending direction; you can still receive. Harmless when repeated."""
        with self._sending:
            if self._closed:
                raise trio.ClosedResourceError("this byte stream is closed")
            self._send.close()
            await checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the bytes that are there, at most `max_bytes`, waiting only if there are none; `b""` at the end.

        If it is cancelled, nothing was taken.
        """
        if max_bytes is not None:
            check_count("max_bytes", max_bytes, 1)
        with self._receiving:
            if self._closed:
                raise trio.ClosedResourceError("this byte stream is closed")
            await checkpoint()
            while not (self._rest or self._ended):
                try:
                    self._rest = in_bytes(await anext(self._receive))
                except StopAsyncIteration:
                    self._ended = True
            rest = self._rest
            if max_bytes is None or len(rest) <= max_bytes:
                self._rest = b""
                return bytes(rest)  # no copy if it is bytes already
            self._rest = memoryview(rest)[max_bytes:]
            return bytes(rest[:max_bytes])

    def close(self) -> None:
        """Close both directions at once. The other side can still read what was sent. Harmless when repeated."""
        self._closed = True
        self._rest = b""
        self._send.close()
        self._receive.close()

    async def aclose(self) -> None:
        """Close both directions, then let other tasks run."""
        self.close()
        await checkpoint()


@block
async def open_stream(
    receiving: AbstractAsyncContextManager[ReceiveChannel[bytes]],
    sending: AbstractAsyncContextManager[SendChannel[bytes]],
) -> AsyncGenerator[trio.abc.HalfCloseableStream, None]:
    """Open both channels and yield a stream over them. The end of the block closes all three."""
    with trio.CancelScope() as scope:
        async with receiving as receive, sending as send:
            stream = ByteStream(send, receive)
            try:
                yield stream
                stream.close()
            finally:
                scope.deadline = trio.current_time() + LINGER
    if scope.cancelled_caught:
        raise trio.TooSlowError(f"the other side did not read everything within {LINGER:g} seconds of closing")
