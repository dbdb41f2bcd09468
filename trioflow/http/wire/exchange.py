"""HTTP/1.1 on one connection: reads requests and sends responses.

Rule 1: a head is collected here, within its limits, before a parser sees it.
Rule 2: nothing is read before it is needed, so that neither bodies nor pipelined requests pile up (R6).
Rule 3: an invalid request raises a `RequestError` with the status to respond with.
Rule 4: a finished exchange reads and writes nothing more, even if a handler has kept a reference to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from trioflow.http.wire.bodies import Counted
from trioflow.http.wire.chunked import Chunked
from trioflow.http.wire.h11_reader import reader_of
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import Limits, Patience, RequestError
from trioflow.http.wire.liveness import IdleConnections
from trioflow.http.wire.request_head import Head
from trioflow.http.wire.response_writer import Piece, ResponseWriter, accepts_html, keep_alive_lines
from trioflow.http.wire.socket import CHUNK, SocketTransport, unread, unsent
from trioflow.http.wire.strict import check_start, empty_lines
from trioflow.http.wire.upgraded import UpgradedStream

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CR: Final = 13


def _nothing() -> None: ...


class Wire:
    """One connection, which carries one exchange after another."""

    __slots__ = (
        "_due", "_read_head", "_rest", "_scanned", "before_end", "exchange", "keep_alive", "limits", "look", "stopping",
        "transport",
    )  # fmt: skip

    def __init__(self, transport: SocketTransport, limits: Limits) -> None:
        self.transport = transport
        self.limits = limits
        self.before_end: Callable[[], None] = _nothing  # `UpgradedStream` says when it is called
        # Learns whether the client has just closed its sending side: what is sent after that is progress.
        self.look: Callable[[], None] = _nothing
        self.stopping = False  # whether the next response closes the connection
        self.exchange: Exchange | None = None  # the one that started last
        self._due: IdleConnections | None = None  # times the next response after the client has closed its sending side
        self._read_head = reader_of(limits)
        self.keep_alive = keep_alive_lines(limits.idle)
        # Received bytes that belong to no exchange yet. An immutable `bytes`, because most heads arrive complete and
        # alone, and are then passed on without a copy.
        self._rest = b""
        self._scanned = 0

    @property
    def has_bytes(self) -> bool:
        """Whether part of a request has arrived; empty lines before it are skipped (RFC 9112 2.2)."""
        if not self._rest:
            return False
        if self._rest[0] == _CR:
            self._rest = self._rest[empty_lines(self._rest) :]
        return self._rest not in (b"", b"\r")

    @property
    def has_begun_head_request(self) -> bool:
        """Whether a refused request is a HEAD request, whose response must not have a body."""
        return self._rest.startswith(b"HEAD ")

    def has_come(self) -> bool:
        """Take what has arrived, without waiting; return whether part of a request has."""
        self._rest += self.transport.receive_nowait() or b""
        return self.has_bytes

    async def wait(self) -> bool:
        """Wait for the first byte of a request; return False at the end of the stream."""
        while not self.has_bytes:
            data = await self.transport.receive()
            if not data:
                return False
            self._rest += data
        return True

    async def read_head(self) -> Exchange:
        """Wait for a complete head and start its exchange.

        Raises:
            RequestError: the head is malformed, too large or incomplete.
            trio.BrokenResourceError: the client has gone.
        """
        while (exchange := self.take_head()) is None:
            data = await self.transport.receive()
            if not data:
                raise RequestError(400, "the request ended before the end of its head")
            self._rest += data
        return exchange

    def take_head(self) -> Exchange | None:
        """Start an exchange if a complete head has arrived, else return None."""
        rest, scanned = self._rest, self._scanned
        end = rest.find(b"\r\n\r\n", max(scanned - 3, 0) if scanned else 0) + 4
        if end < 4:
            check_start(rest, scanned, self.limits)
            self._scanned = len(rest)
            return None
        self._scanned = 0
        head = self._read_head(rest[:end])
        if head.has_body:
            self._rest = b""
            exchange = Exchange(self, head, rest[end:])
        else:
            self._rest = rest[end:]
            exchange = Exchange(self, head)
        self.exchange = exchange
        if self._due is not None:
            self._time_answer(self._due)
        return exchange

    def client_ended(self, due: IdleConnections) -> None:
        """Time the next response: its exchange expires in `due` unless something is sent or read before that."""
        self._due = due
        self._time_answer(due)

    def forget(self) -> None:
        """End and drop the last exchange, because the connection is being closed."""
        if self.exchange is not None:
            self.exchange.finish()
            self.exchange = None

    def _time_answer(self, due: IdleConnections) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.writer.is_ended:
            self._due = None
            exchange.be_due(due)

    def take_rest(self) -> bytes:
        """Remove and return the bytes that arrived after the last request."""
        rest, self._rest = self._rest, b""
        return rest

    def put_back(self, data: bytes) -> None:
        """Put back bytes that arrived after a request."""
        self._rest += data


class Exchange:
    """One request and its response.

    Args:
        head: The request's head.
        received: The bytes that arrived with the head, if the request has a body; else None.
    """

    __slots__ = (
        "_body", "_continuing", "_due", "_is_wanted", "_over", "_patience", "_unread", "_waits", "_wire", "_written",
        "failed", "look", "request", "writer",
    )  # fmt: skip

    def __init__(self, wire: Wire, head: Head, received: bytes | None = None) -> None:
        self._wire = wire
        self.look = wire.look
        self.request = head
        # Whether the client still waits for `100 Continue` before it sends its body.
        self._waits = head.wants_continue and received == b""
        self._due: IdleConnections | None = None  # times this, if the client has closed its sending side
        self._continuing: trio.Event | None = None  # while a 100 is being sent; set once it has been
        self._over = False
        self._is_wanted = False  # whether the handler has started to read the body
        self.failed = False  # whether a write did not finish
        self.writer = ResponseWriter(
            is_head=head.is_head, is_old=head.is_old, keeps_alive=not head.is_last, keep_alive=wire.keep_alive
        )
        self._body: Counted | Chunked | None = None
        if received is not None:
            self._patience = Patience(wire.limits.body_stall, wire.limits.body_rate)  # while the client sends its body
            self._body = Chunked(received, wire.limits) if head.length is None else Counted(head.length, received)

    # A client that has closed its sending side either waits for its response or has gone. TCP cannot tell the two apart
    # until something is sent: a client that has gone answers with a reset, and then `transport.on_loss` is called.

    def be_due(self, due: IdleConnections) -> None:
        """Start the timeout of `due`."""
        self._due = due
        self._written = (self.writer.is_begun, self.writer.sent)
        self._unread = unread(self._wire.transport.sock)
        due.add(self)

    def expire(self) -> None:
        """Assume that the client has gone if nothing was sent; allow more time if some of its request was read."""
        assert self._due is not None
        transport, writer = self._wire.transport, self.writer
        if writer.is_ended or self._written != (writer.is_begun, writer.sent) or unsent(transport.sock):
            return
        before, self._unread = self._unread, unread(transport.sock)
        if self._unread != before:
            self._due.add(self)
        else:
            transport.on_loss()

    # The request body.

    async def read_body(self) -> list[bytes]:
        """Wait for more of the body and return the chunks that have arrived; an empty list at its end.

        Raises:
            RequestError: the body is malformed, too large, cut off or too slow.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the exchange is over.
        """
        body = self._body
        self._is_wanted = True
        while True:
            self._check()
            if body is None:
                return []
            chunks = body.take()
            if body.has_more:
                await trio.lowlevel.checkpoint()
            elif not (chunks or body.is_read):
                await self._receive(body)
                continue
            if chunks or body.is_read:
                return chunks

    @property
    def can_copy(self) -> bool:
        """Whether `copy_body` can read the body straight from the socket."""
        return isinstance(self._body, Counted) and self._wire.transport.is_plain

    async def copy_body(self, write: Callable[[bytes | memoryview], object]) -> int:
        """Pass the whole body to `write`, in a thread, and return its size; waits and raises as `read_body` does."""
        body = self._body
        assert isinstance(body, Counted)
        size = 0
        while chunks := await self.read_body():
            come = sum(map(len, chunks))
            most = body.left if come >= CHUNK else 0  # a slow client has sent no more yet
            copied = await self._wire.transport.copy(most, chunks, write)
            body.left -= copied
            self._patience.regain(copied, 0.0)
            size += come + copied
        return size

    async def _receive(self, body: Counted | Chunked) -> None:
        """Wait for more bytes and feed them to `body`."""
        transport = self._wire.transport
        data = transport.receive_nowait(body.most)
        if data is None:
            if self.wants_continue:
                await self._continue()
            began = trio.current_time()
            with trio.move_on_after(self._patience.left):
                data = await transport.receive(body.most)
            if data is None:
                transport.counters.stalls += 1
                raise RequestError(408, f"the body is too slow: nothing arrived in {self._patience.left:g} seconds")
            self._check()
            self._patience.regain(len(data), trio.current_time() - began)
        self._waits = False
        body.feed(data)
        size = len(data)
        while size + CHUNK <= body.at_once and body.most and (data := transport.receive_nowait(body.most)):
            body.feed(data)
            size += len(data)

    async def _continue(self) -> None:
        self._waits = False
        self._continuing = trio.Event()
        try:
            await self._wire.transport.send([_CONTINUE])
        except BaseException:
            self.failed = True
            raise
        finally:
            self._continuing.set()
            self._continuing = None

    @property
    def wants_continue(self) -> bool:
        """Whether the client still waits for `100 Continue`."""
        return self._waits and not self.writer.is_begun

    def is_read(self) -> bool:
        """Return whether the whole request has been read."""
        return self._body is None or self._body.is_read

    async def drain(self) -> None:
        """Discard the rest of a body, unless the connection is closed anyway.

        If the response did not say that it is, the client may send its next request at once, however long the body is,
        and must not lose it.

        Raises:
            trio.BrokenResourceError: it took longer than `Limits.linger`.
        """
        assert self._body is not None
        limits = self._wire.limits
        self._patience = Patience(limits.linger_stall, limits.body_rate)
        with trio.move_on_after(limits.linger) as within, suppress(trio.BrokenResourceError):
            self._body.take()
            while self.writer.keeps_alive and not self.is_read():
                await self.read_body()
                await trio.lowlevel.checkpoint()
        if within.cancelled_caught:
            raise trio.BrokenResourceError(f"the body did not end within {limits.linger:g} seconds after its response")

    # The response. `writer` makes its bytes; the methods below send them.

    @property
    def can_answer(self) -> bool:
        """Whether a response can still be started: no head has been made, and no write has failed."""
        return not (self.writer.is_begun or self.failed)

    @property
    def is_last(self) -> bool:
        """Whether this response closes the connection: the server is stopping, or too much of the body is unread."""
        body = self._body
        if self._wire.stopping or body is None:
            return self._wire.stopping
        return self.wants_continue or (
            not self._is_wanted and isinstance(body, Counted) and body.left > self._wire.limits.drain
        )

    @property
    def is_whole(self) -> bool:
        """Whether all of the response has been sent."""
        return self.writer.is_ended and not self.failed

    async def inform(self, status: int, headers: Headers) -> None:
        """Send an informational response."""
        self._check()
        if interim := self.writer.interim(status, headers):
            await self.write([interim])
        else:
            await trio.lowlevel.checkpoint()

    async def upgrade(self, headers: Headers) -> UpgradedStream:
        """Send a 101 response, and return the connection as a stream for the new protocol."""
        self._check()
        await self.write([self.writer.upgrade(headers)])
        return UpgradedStream(self._wire.transport, self._wire.take_rest(), self._wire.before_end)

    async def refuse(self, status: int) -> None:
        """Send an error response; it closes the connection."""
        await self.write([self.writer.error(status, is_html=accepts_html(self.request.headers))])

    async def write(self, pieces: Sequence[Piece], *, more: bool = False) -> None:
        """Send bytes of the response, after any 100 that is still being sent. Do not call it concurrently."""
        self._check()
        if self._continuing is not None:
            await self._continuing.wait()
        try:
            await self._wire.transport.send(pieces, more=more)
        except BaseException:
            self.failed = True
            raise

    def write_nowait(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Send what can be sent without waiting, and return the rest, for `write`: it saves a chunk two awaits."""
        if self._over:
            self._check()
        if self._continuing is not None or not self._wire.transport.is_plain:
            return pieces
        try:
            return self._wire.transport.send_nowait(pieces)
        except BaseException:
            self.failed = True
            raise

    async def write_file(self, fd: int, start: int, stop: int) -> None:
        """Send a range of an open file, without framing."""
        self._check()
        self.writer.sent -= stop - start  # `_count` adds what is really sent: the response may be cut off
        try:
            await self._wire.transport.send_file(fd, start, stop, self._count)
        except BaseException:
            self.failed = True
            raise

    def _count(self, sent: int) -> None:
        self.writer.sent += sent

    def _check(self) -> None:
        if self._over:
            raise trio.ClosedResourceError("the handler has returned: its request and response can no longer be used")

    def finish(self) -> bool:
        """End the exchange, put back bytes that arrived after it, and return whether the connection can be reused."""
        self._over = True
        if self._due is not None:
            self._due.remove(self)
        if self._body is not None:
            self._wire.put_back(self._body.leftover)
        return self.is_read() and not self.failed and self.writer.is_ended and self.writer.keeps_alive
