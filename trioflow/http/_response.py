"""The response that a handler writes.

Rule 1: the head goes out with the first byte of the body, in one write, so that a failure before it still gets a full
    error response (R14).
Rule 2: a body that did not reach its end is never ended as if it had (R13).
Rule 3: a response runs once (R4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from trioflow._core.adapters import gathered
from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_count
from trioflow._core.engine import Stage
from trioflow._core.shortcuts import OpenRegion
from trioflow._core.streams import Duplex, Writable, label
from trioflow.http.wire.exchange import Exchange
from trioflow.http.wire.headers import Headers, Trailers
from trioflow.http.wire.response_writer import Piece
from trioflow.http.wire.upgraded import check_upgrade
from trioflow.io.page_cache import read_cached

_SMALL: Final = 65536  # bytes of a file that go out in one write with the head
_STATES: Final = {"busy": "is being sent", "done": "has been sent", "cut": "was cut off"}
_GONE_OUT: Final = "the head of this response has gone out: its status and headers cannot change any more"


class Response(Writable[bytes, int]):
    """The response to one request: pipe into it, or `send` a whole body, or `open` it for pieces. It runs once (R4).

    A source of known length sets Content-Length, any other is sent in chunks. HEAD, 204, 205 and 304 send no body: at most
    the first chunk of a source is read, so that it can fail as it does for GET. A handler that sends nothing gets an
    empty body.

    Waits when: the client does.
    Ends when: the source ends; the value is the number of bytes of body sent.
    On cancel: the connection is cut, so that the client can tell; before the first byte nothing has been sent.
    Holds: what the channel before it holds; of a file nothing.

    Raises:
        RuntimeError: the body is not as long as its Content-Length says.
        TypeError: a chunk is not bytes.
        trio.BrokenResourceError: the client has gone, which also cancels the handler.
        trio.ClosedResourceError: it has been sent, or the handler has returned.
    """

    __slots__ = ("_exchange", "_headers", "_state", "_status", "_trailers")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._headers = Headers()
        self._status = 200
        self._state = "new"  # then "busy", then "done", or "cut"; "new" again where it failed before the head
        self._trailers: Trailers | None = None

    # Made for each run, not kept: a response that holds its own methods would be garbage for the collector, not for
    # the counter, once per request. Nobody sets them, so that a property may stand for them.
    @property
    def _stages(self) -> tuple[Stage, ...]:  # type: ignore[override]
        return (Stage(label("response"), function=self._receive, takes={OpenRegion: self._take_region}),)

    @property
    def status(self) -> int:
        """The status, 200 at first.

        Raises:
            ValueError: set to what is not between 200 and 599.
            RuntimeError: set after the head has gone out.
        """
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"status must be an int, not {status!r}")
        if not 200 <= status <= 599:
            raise ValueError(f"status must be from 200 to 599, not {status}")
        if self.has_head:
            raise RuntimeError(_GONE_OUT)
        self._status = int(status)

    @property
    def headers(self) -> Headers:
        """The header fields to send; Date and the framing are added."""
        return self._headers

    @property
    def trailers(self) -> Headers:
        """Fields to send behind the body, such as a checksum of it, set before it ends (RFC 9110 6.5).

        They go out where the body is sent in chunks; else they are left out, as some clients do. What must be known
        before a body, such as Content-Type, is refused.
        """
        if self._trailers is None:
            self._trailers = Trailers()
            if self._state == "done":
                self._trailers.freeze("the end of this response has been sent")
        return self._trailers

    @property
    def has_head(self) -> bool:
        """Whether the head has gone out, or been tried to."""
        return not self._exchange.can_answer

    async def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send `data` as the whole body, head and all in one write, and give its length.

        Waits when, on cancel, raises: as a run does.
        """
        chunk = _chunk(data)
        self._begin()
        try:
            pieces = self._head(len(chunk))
            return await self._finish(pieces if self._is_bodyless else [*pieces, *self._exchange.writer.data(chunk)])
        finally:
            self._leave()

    async def start(self) -> None:
        """Send the head now, before there is a body; a failure from now on cuts the connection.

        For a feed whose first item may be long in coming.

        Raises:
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        self._check_new()
        await self._exchange.write(self._head(None))

    async def inform(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Send an informational response before this one, such as 103 with what to load early (RFC 8297).

        A client of HTTP/1.0 gets none. 100 is sent when the body is first read, where the client waits for it.

        Raises:
            ValueError: `status` is not between 102 and 199, or a header cannot be sent.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        if check_count("status", status, 102) > 199:
            raise ValueError(f"status must be 199 or less, not {status}")
        fields = Headers(() if headers is None else headers.items())
        self._check_new()
        await self._exchange.inform(status, fields)

    async def upgrade(self, protocol: str) -> Duplex[bytes, bytes]:
        """Answer that the connection goes on in `protocol`, such as `"websocket"`, and return it (RFC 9110 7.8).

        `headers` are sent, and may not be changed any more. The connection is the handler's until it returns: then it is
        closed. Of the limits only `write_stall` holds.

        Raises:
            RequestError: the request does not ask for this, or has a body.
            ValueError: `headers` frame a body.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        own = Headers([("connection", "Upgrade"), ("upgrade", protocol)])
        check_upgrade(self._exchange.request, protocol)
        self._check_new()
        self._headers.freeze(_GONE_OUT)
        self._state = "done"
        own.fill(self._headers)
        return Duplex.from_stream(await self._exchange.upgrade(own))

    def _check_new(self) -> None:
        if self._state != "new" or self.has_head:
            raise trio.ClosedResourceError("the head of this response has been sent")

    async def complete(self) -> None:
        """Send what a handler that has returned left unsent: an empty body; for the server, not for users.

        Raises:
            RuntimeError: a body was begun and not ended, or its length does not let it be empty.
        """
        if self._state == "cut":
            raise RuntimeError("the handler returned before the body of its response was whole")
        if self._state == "new":
            await self._finish(self._head(0))

    async def _receive(self, source: ReceiveChannel[bytes]) -> int:
        self._begin()
        try:
            if self._is_bodyless:
                length = None
                try:
                    await source.receive()
                except trio.EndOfChannel:
                    length = 0
                source.close()
                return await self._finish(self._head(length))
            async for chunks in source.batches():
                pieces = [piece for chunk in gathered(map(_chunk, chunks)) for piece in self._framed(chunk)]
                if pieces:
                    await self._exchange.write(pieces)
            return await self._finish(self._head(0))
        finally:
            self._leave()

    async def _take_region(self, region: OpenRegion) -> int:
        self._begin()
        try:
            size = region.stop - region.start
            pieces = self._head(size)
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

    @property
    def _is_bodyless(self) -> bool:
        return self._exchange.writer.is_bodyless(self._status)

    def _begin(self) -> None:
        if self._state != "new":
            raise trio.ClosedResourceError(f"a response runs once, and this one {_STATES[self._state]}")
        self._state = "busy"

    def _leave(self) -> None:
        if self._state == "busy":
            self._state = "cut" if self.has_head else "new"

    def _head(self, length: int | None, first: int = 0) -> list[Piece]:
        """Return the head, which is sent once: nothing if it has been."""
        if self.has_head:
            return []
        exchange = self._exchange
        head = exchange.writer.write_head(self._status, self._headers, length, first=first, is_last=exchange.is_last)
        self._headers.freeze(_GONE_OUT)
        return [head]

    def _framed(self, chunk: Piece) -> list[Piece]:
        return [*self._head(None, len(chunk)), *self._exchange.writer.data(chunk)]

    async def _finish(self, pieces: list[Piece]) -> int:
        if end := self._exchange.writer.end(self._trailers):
            pieces.append(end)
        if pieces:
            await self._exchange.write(pieces)
        self._state = "done"
        if self._trailers is not None:
            self._trailers.freeze("the end of this response has been sent")
        return self._exchange.writer.sent


def _chunk(data: object) -> Piece:
    """Give a chunk as something whose `len` is its size in bytes."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        view = memoryview(data)
        return view.cast("B") if view.c_contiguous else bytes(view)
    raise TypeError(f"a response is made of bytes, not of {type(data).__name__} {data!r:.40}")
