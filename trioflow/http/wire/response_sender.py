"""Sends one response, whether its body is bytes, a stream or a file.

Rule 1: the head is sent in one write with the first bytes of the body, so that a failure before them still gets a
    proper error response (R14).
Rule 2: an incomplete body never looks complete to the client (R13).
Rule 3: a response is sent once (R4); if sending failed before the head, it can be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from trioflow._core.adapters import gathered
from trioflow._core.channel import ReceiveChannel
from trioflow._core.in_place import left_by
from trioflow._core.shortcuts import OpenRegion
from trioflow.http.wire.exchange import Exchange
from trioflow.http.wire.headers import Headers, Trailers
from trioflow.http.wire.response_writer import Piece
from trioflow.http.wire.upgraded import UpgradedStream, check_upgrade
from trioflow.io.page_cache import read_cached

HEAD_SENT: Final = "the head of this response has been sent: its status and headers can no longer change"
_END_SENT: Final = "the end of this response has been sent: its trailers can no longer change"
_SMALL: Final = 65536  # bytes: a file up to this size is sent in one write with the head
_STATES: Final = {"busy": "is being sent", "done": "has been sent", "cut": "was cut off"}


class ResponseSender:
    """The state of a response, and the ways to send it.

    Attributes:
        status: The status to send.
        headers: The header fields to send.
    """

    __slots__ = ("_exchange", "_state", "_trailers", "headers", "status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._state = "new"  # then "busy", then "done" or "cut"; "new" again if it failed before the head
        self._trailers: Trailers | None = None
        self.headers = Headers()
        self.status = 200

    @property
    def is_done(self) -> bool:
        """Whether all of it has been sent."""
        return self._state == "done"

    @property
    def has_head(self) -> bool:
        """Whether the head has been made, or a write has failed."""
        return not self._exchange.can_answer

    @property
    def trailers(self) -> Trailers:
        """The fields to send after the body."""
        if self._trailers is None:
            self._trailers = Trailers()
            if self._state == "done":
                self._trailers._freeze(_END_SENT)
        return self._trailers

    async def send(self, data: object) -> int:
        """Send `data` as the whole body."""
        chunk = _checked(data)
        self._begin()
        try:
            pieces = self._head_if_unsent(len(chunk))
            pieces += self._exchange.writer.data(chunk)
            return await self._finish(pieces)
        finally:
            self._leave()

    async def send_items(self, source: ReceiveChannel[bytes]) -> int:
        """Send the chunks from `source` as the body."""
        self._begin()
        try:
            if self._is_bodyless:
                length = None
                try:
                    await source.receive()
                except trio.EndOfChannel:
                    length = 0
                source.close()
                return await self._finish(self._head_if_unsent(length))
            async for left in left_by(source, self._send_nowait):
                await self._exchange.write(left)
            return await self._finish(self._head_if_unsent(0))
        finally:
            self._leave()

    def _send_nowait(self, chunks: list[bytes]) -> Sequence[Piece]:
        """Send as much of the next chunks as can be sent without waiting, and return the rest in its framing."""
        exchange = self._exchange
        writer = exchange.writer
        pieces: list[Piece] = []
        for chunk in gathered(chunks, _checked):
            if not writer.is_begun:
                pieces += self._head_if_unsent(None, len(chunk))
            pieces += writer.data(chunk)
        return exchange.write_nowait(pieces) if pieces else pieces

    async def send_region(self, region: OpenRegion) -> int:
        """Send a range of an open file as the body."""
        self._begin()
        try:
            size = region.stop - region.start
            pieces = self._head_if_unsent(size)
            if self._is_bodyless:
                return await self._finish(pieces)
            if size <= _SMALL and (content := read_cached(region.fd, region.start, region.stop)) is not None:
                return await self._finish([*pieces, *self._exchange.writer.data(content)])
            before, after = self._exchange.writer.frame(size)
            await self._exchange.write([*pieces, *before], more=True)
            await self._exchange.write_file(region.fd, region.start, region.stop)
            return await self._finish(after)
        finally:
            self._leave()

    async def complete(self) -> None:
        """Send an empty body if the handler has returned without sending one.

        Raises:
            RuntimeError: the body is incomplete, or the headers say that it is not empty.
        """
        if self._state == "cut":
            raise RuntimeError("the handler returned before the end of its response's body")
        if self._state == "new":
            await self._finish(self._head_if_unsent(0))

    async def start(self) -> None:
        """Send the head without any of the body."""
        self._check_new()
        await self._exchange.write(self._head_if_unsent(None))

    async def inform(self, status: int, headers: Headers) -> None:
        """Send an informational response before this one."""
        self._check_new()
        await self._exchange.inform(status, headers)

    async def upgrade(self, protocol: str) -> UpgradedStream:
        """Send a 101 response, and return the connection as a stream for `protocol`."""
        headers = Headers([("connection", "Upgrade"), ("upgrade", protocol)])
        check_upgrade(self._exchange.request, protocol)
        self._check_new()
        headers.fill(self.headers)
        self.headers._freeze(HEAD_SENT)
        self._state = "done"
        return await self._exchange.upgrade(headers)

    @property
    def _is_bodyless(self) -> bool:
        return self._exchange.writer.is_bodyless(self.status)

    def _check_new(self) -> None:
        if self._state != "new" or self.has_head:
            raise trio.ClosedResourceError("the head of this response has been sent already")

    def _begin(self) -> None:
        if self._state != "new":
            raise trio.ClosedResourceError(f"a response can be sent only once, and this one {_STATES[self._state]}")
        self._state = "busy"

    def _leave(self) -> None:
        if self._state == "busy":
            self._state = "cut" if self.has_head else "new"

    def _head_if_unsent(self, length: int | None, first: int = 0) -> list[Piece]:
        """Return the head, to be sent before what follows; nothing if it has been returned before."""
        exchange = self._exchange
        if not exchange.can_answer:
            return []
        if length is None:
            exchange.look()
        head = exchange.writer.write_head(self.status, self.headers, length, first=first, is_last=exchange.is_last)
        self.headers._freeze(HEAD_SENT)
        return [head]

    async def _finish(self, pieces: list[Piece]) -> int:
        exchange = self._exchange
        if end := exchange.writer.end(self._trailers):
            pieces.append(end)
        if pieces:
            await exchange.write(pieces)
        self._state = "done"
        if self._trailers is not None:
            self._trailers._freeze(_END_SENT)
        return exchange.writer.sent


def _checked(data: object) -> Piece:
    """Return `data` in a form whose `len` is its size in bytes."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        view = memoryview(data)
        return view.cast("B") if view.c_contiguous else bytes(view)
    raise TypeError(f"a response body must be bytes, got {type(data).__name__} {data!r:.40}")
