"""A connection that was upgraded to another protocol, as a Trio byte stream.

Rule 1: it behaves as Trio requires of a stream (R20): a second task in the same direction gets
    `trio.BusyResourceError`, and after closing every call gets `trio.ClosedResourceError`, also one that is waiting.
Rule 2: bytes that arrived after the request are received first.
Rule 3: closing it in a cancelled scope, as after a failure, resets the connection, so that partial data never passes
    for complete (R13).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from trio.lowlevel import checkpoint

from trioflow._core.bytestream import BusyGuard
from trioflow._core.checks import check_count
from trioflow.http.wire.headers import tokens_of
from trioflow.http.wire.limits import RequestError
from trioflow.http.wire.request_head import Head
from trioflow.http.wire.socket import CHUNK, SocketTransport


def check_upgrade(head: Head, protocol: str) -> None:
    """Check that a request asks for an upgrade to `protocol` (RFC 9110 7.8).

    Raises:
        RequestError: it does not, or it has a body.
    """
    headers = head.headers
    asks = "upgrade" in tokens_of(headers.get("connection", ""))
    if head.is_old or not asks or protocol.lower() not in tokens_of(headers.get("upgrade", "")):
        raise RequestError(400, f"the request does not ask for an upgrade to {protocol}")
    if head.has_body:
        raise RequestError(400, f"a request with a body cannot be upgraded to {protocol}")


class UpgradedStream(trio.abc.HalfCloseableStream):
    """The stream of an upgraded connection.

    Args:
        transport: The connection.
        received: Bytes that have arrived already.
        before_end: Called before our sending side is closed, and before the transport is: from then on the system reports
            a client that closes its own sending side as one that has gone.
    """

    def __init__(self, transport: SocketTransport, received: bytes, before_end: Callable[[], None]) -> None:
        self._transport = transport
        self._received = received
        self._before_end = before_end
        self._sending = BusyGuard("sending to this stream")
        self._receiving = BusyGuard("receiving from this stream")
        self._is_closed = False
        self._is_ended = False  # whether our sending side is closed

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream is closed")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, waiting while the client does not read; `Limits.write_stall` applies."""
        with self._sending:
            await checkpoint()
            self._check()
            if self._is_ended:
                raise trio.ClosedResourceError("cannot send after send_eof")
            if len(data):
                await self._transport.send([memoryview(data).cast("B")])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something can be sent."""
        with self._sending:
            await checkpoint()
            self._check()
            if not self._is_ended:
                await self._transport.wait_writable()

    async def send_eof(self) -> None:
        """Close our sending side; you can still receive. You can call it more than once."""
        with self._sending:
            await checkpoint()
            self._check()
            if not self._is_ended:
                self._is_ended = True
                self._before_end()
                await self._transport.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return up to `max_bytes` that have arrived, waiting only if there are none; `b""` at the end."""
        if max_bytes is not None:
            check_count("max_bytes", max_bytes, 1)
        with self._receiving:
            await checkpoint()
            self._check()
            if self._received:
                most = len(self._received) if max_bytes is None else max_bytes
                data, self._received = self._received[:most], self._received[most:]
                return data
            if self._transport.at_end:
                return b""
            return await self._transport.receive(CHUNK if max_bytes is None else max_bytes)

    async def aclose(self) -> None:
        """Close both directions. You can call it more than once."""
        if not self._is_closed:
            self._is_closed = True
            self._before_end()
            if trio.current_effective_deadline() == -math.inf:
                self._transport.cut()
            else:
                self._transport.close()
        await checkpoint()
