"""One client's connection: its requests are answered one after the other, then the connection is closed.

Rule 1: one task serves the connection and runs the handler; if the client leaves, that task is cancelled.
Rule 2: if a handler raises, the client gets an error response if it still can, otherwise the connection is cut (R13,
    R14). The exception is logged here, once, and nowhere else; the client learns only the status.
Rule 3: a connection is closed cleanly only when nothing is owed to its client.
Rule 4: whatever fails here ends only this connection.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
import time
from functools import partial
from typing import Any, Final

import trio

from trioflow._core.errors import is_among, split_failure
from trioflow.http._access import Access
from trioflow.http._proxies import Peer
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler, Service
from trioflow.http.wire.exchange import Exchange, Wire
from trioflow.http.wire.limits import Patience, RequestError
from trioflow.http.wire.liveness import IdleConnections, has_ended
from trioflow.http.wire.response_sender import ResponseSender
from trioflow.http.wire.response_writer import ResponseWriter
from trioflow.http.wire.socket import SocketTransport, unread, unsent
from trioflow.http.wire.tls import PlainTextError, TlsTransport

_log: Final = logging.getLogger("trioflow.http")
_TLS_ONLY: Final = "The server speaks TLS here: use https:// instead of http://."


@trio.lowlevel.disable_ki_protection
async def _call(handler: Handler, request: Request, response: Response) -> None:
    await handler(request, response)  # Ctrl-C can interrupt a handler that computes without end


class Connection:
    """One client's connection, whose socket this closes."""

    __slots__ = (
        "_asked", "_at_rest_in", "_is_lost", "_limits", "_peer", "_phase", "_scope", "_service", "_unsent", "_wire",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, client: Any, service: Service) -> None:
        self._service = service
        self._limits = limits = service.limits
        self._peer = Peer(client, service.config.scheme, service.config.proxies)
        transport = SocketTransport(
            sock, stall=limits.write_stall, rate=limits.write_rate, on_loss=self.client_left, counters=service.counters
        )
        self._wire = Wire(transport, limits)
        self._wire.before_end = partial(service.watch.remove, sock)
        self._wire.look = service.watch.look
        self._asked = 0  # requests received
        self._scope = trio.CancelScope()
        self._at_rest_in: IdleConnections | None = None  # set while nothing is owed to the client
        # "handshake"; "idle"; "head" from a request's first byte; "busy" until it is answered; "ending"
        self._phase = "idle"
        self._is_lost = False
        self._unsent = math.inf  # bytes the client had not taken when its idle time was up

    def retire(self) -> None:
        """Make the current response, or else the next one, the last on this connection."""
        self._wire.stopping = True

    def stop(self) -> None:
        """Finish the current response, if there is one, and end."""
        self._wire.stopping = True
        if self._phase != "busy" and not (self._phase == "idle" and unread(self._wire.transport.sock)):
            self._scope.cancel()

    @property
    def origin(self) -> bytes | None:
        """The key that all connections of one client share; None if the client cannot be told from others."""
        return self._peer.origin

    def at_rest_since(self) -> float:
        """Return the time since which nothing has been owed to the client; `math.inf` if something is."""
        return math.inf if self._at_rest_in is None else self._at_rest_in.since(self)

    def leave(self) -> bool:
        """End without a response if nothing is owed to the client and it has sent nothing new; return whether it ends."""
        if self._at_rest_in is None or unread(self._wire.transport.sock):
            return False
        self._stir()
        self._phase = "idle"
        self._scope.cancel()
        return True

    def _rest(self, where: IdleConnections) -> None:
        """Be at rest: nothing is owed to the client, and it must send something within the time limit of `where`."""
        where.add(self)
        self._at_rest_in = where

    def _stir(self) -> None:
        if self._at_rest_in is not None:
            self._at_rest_in.remove(self)
            self._at_rest_in = None

    def is_quiet(self) -> bool:
        """Return whether an endless response is in progress and no byte has moved since this was last called."""
        transport, exchange = self._wire.transport, self._wire.exchange
        has_moved, transport.has_moved = transport.has_moved, False
        is_closed = transport.sock.fileno() == -1  # by a handler that upgraded it, and that may still have work to do
        if has_moved or self._phase != "busy" or exchange is None or is_closed:
            return False
        return exchange.writer.is_open_ended and not unsent(transport.sock)

    def expire(self) -> None:
        """End without a response, because the time at rest is over.

        A client that is still reading the last response gets more time. One that reads nothing is cut, so that it cannot
        make the system hold some MiB of a response indefinitely.
        """
        self._at_rest_in = None
        if self._phase == "idle" and self._asked:
            sock = self._wire.transport.sock
            if before := unsent(sock):
                taken = self._unsent - before
                self._unsent = before
                if taken >= max(1, self._limits.write_rate * self._limits.idle):
                    self._rest(self._service.idle)
                    return
                self._service.counters.stalls += 1
                self._phase = "busy"  # so that it is cut
            elif unread(sock):  # a request has arrived at the last moment: answer it
                self._rest(self._service.idle)
                return
        self._scope.cancel()

    def client_left(self) -> None:
        """End without a response: the client has gone."""
        self._is_lost = True
        self._scope.cancel()

    def client_ended(self) -> None:
        """Time the next response, because the client has ended its direction and may have gone."""
        self._wire.client_ended(self._service.half_closed)

    @trio.lowlevel.enable_ki_protection  # so that Ctrl-C cannot interrupt before the `finally` that closes the socket
    async def run(self) -> None:
        """Serve until the connection ends, then close its socket, whatever has failed."""
        try:
            try:
                self._prepare()
                await self._serve()
            finally:
                self._close()
        except trio.BrokenResourceError:
            pass  # the client has left
        except Exception as exc:  # noqa: BLE001 - such as an OSError when the system is out of memory
            client = self._peer.address or "a Unix socket"
            _log.error("the connection from %s failed and was closed", client, exc_info=exc)

    def _prepare(self) -> None:
        sock = self._wire.transport.sock
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send small responses at once
        self._service.watch.add(sock, self)

    def _close(self) -> None:
        self._stir()
        self._wire.forget()
        self._service.watch.remove(self._wire.transport.sock)
        if self._phase == "busy":
            self._wire.transport.cut()
        else:
            self._wire.transport.close()
        # It refers to this connection too. Without this cycle all that the connection held is freed now, and not by the
        # garbage collector: its work was 12 % of a short connection.
        del self._wire

    async def _serve(self) -> None:
        status: int | None = None
        with self._scope:
            try:
                if self._service.context is not None:
                    await self._shake_hands(self._service.context)
                status = await self._answer_all()
            except RequestError as exc:  # the request cannot be read
                status = exc.status
        self._stir()
        if self._phase == "head" and self._scope.cancelled_caught and not self._wire.stopping:
            status = 408
            self._service.counters.stalls += 1
        if status is None or self._phase == "busy" or self._is_lost:
            return
        self._phase = "ending"
        self._service.watch.remove(self._wire.transport.sock)
        with trio.move_on_after(self._limits.linger) as self._scope:
            if status:
                await self._refuse(status)
            await self._wire.transport.linger(Patience(self._limits.linger_stall, self._limits.body_rate))

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        plain = self._wire.transport
        self._wire.transport = tls = TlsTransport(plain, context)
        self._phase = "handshake"
        self._rest(self._service.handshaking)
        try:
            await tls.shake_hands()
        except PlainTextError as exc:
            self._wire.transport = plain
            self._wire.put_back(exc.received)
            raise
        self._stir()
        self._phase = "idle"

    async def _refuse(self, status: int) -> None:
        """Send an error response to a request that could not be read."""
        self._service.counters.refusals += 1
        writer = ResponseWriter(is_head=self._wire.has_begun_head_request, is_old=False, keeps_alive=False)
        wants_tls = self._service.context is not None and self._wire.transport.is_plain
        await self._wire.transport.send([writer.error(status, sentence=_TLS_ONLY if wants_tls else "")])
        self._log_access(Access(time.time(), self._peer.address, "", "", status, writer.sent, 0.0, True, None, None))

    async def _answer_all(self) -> int | None:
        """Answer requests, up to the last one; return 0 to linger, None to close."""
        wire = self._wire
        answer = self._answer if self._service.config.log is None else self._answer_and_log
        while True:
            exchange = await self._next()
            if exchange is None:
                return None
            self._phase = "busy"
            self._service.counters.requests += 1
            if not await answer(exchange):
                return 0
            self._phase = "idle"
            if wire.stopping:
                return 0

    async def _next(self) -> Exchange | None:
        """Return the next request, within the limits; None if the client has ended the connection."""
        wire = self._wire
        if wire.has_bytes:  # the client is pipelining
            await trio.lowlevel.checkpoint()
        elif self._asked or not wire.has_come():  # most first requests have arrived: 4 % of a short connection
            self._rest(self._service.idle if self._asked else self._service.fresh)
            if not await wire.wait():
                return None
            self._stir()
            self._unsent = math.inf
        self._phase = "head"
        exchange = wire.take_head()
        if exchange is None:  # rare: most heads arrive in one piece
            self._rest(self._service.heads)
            exchange = await wire.read_head()
            self._stir()
        self._asked += 1
        if self._asked >= self._limits.requests:
            wire.stopping = True
        return exchange

    async def _answer_and_log(self, exchange: Exchange) -> bool:
        arrived, began = time.time(), time.perf_counter()
        try:
            return await self._answer(exchange)
        finally:
            seconds = time.perf_counter() - began
            head, writer = exchange.request, exchange.writer
            client, _ = self._peer.client(head.headers)
            answer = (writer.status, writer.sent, seconds, exchange.is_whole)
            self._log_access(Access(arrived, client, head.method, head.target, *answer, *head.log_fields))

    def _log_access(self, access: Access) -> None:
        log = self._service.config.log
        if log is None:
            return
        try:
            log(access)
        except Exception:  # noqa: BLE001 - it is logged, and the response was sent all the same
            _log.exception("the access log failed")

    async def _answer(self, exchange: Exchange) -> bool:
        """Run the handler and complete its response; return whether the connection can be used again."""
        status = 0
        sender = ResponseSender(exchange)
        try:
            request = Request(exchange, self._peer, self._service.stopping)
            await _call(self._service.config.handler, request, Response(sender))
            if not sender.is_done:
                await sender.complete()
        except BaseException as exc:  # noqa: BLE001 - `_settle` logs failures and raises the rest, such as Cancelled
            status = self._settle(exchange, exc)
        if status:
            if not exchange.can_answer or self._is_lost:
                exchange.finish()
                return False  # the phase is still "busy", so the connection is cut
            await exchange.refuse(status)
        self._phase = "ending"
        if not exchange.is_read():
            await exchange.drain()
        return exchange.finish()

    def _settle(self, exchange: Exchange, exc: BaseException) -> int:
        """Count and log what a handler raised, and return the status to answer with; raise what is not an error."""
        failure, rest = split_failure(exc)
        status = 0
        if failure is not None:
            status = status_of(failure)
            if status < 500:
                self._service.counters.refusals += 1
                if isinstance(failure.__cause__, UnicodeDecodeError):  # usually the page is wrong: tell its author
                    _log.warning("%s %.200r was refused: %s", exchange.request.method, exchange.request.target, failure)
                elif not (exchange.can_answer or self._is_lost or has_ended(self._wire.transport.sock)):
                    # The client sees that the response breaks off, and nothing else says why.
                    head = exchange.request
                    _log.warning("%s %.200r was cut off during its response: %s", head.method, head.target, failure)
            elif not (self._is_lost and is_among(failure, (trio.BrokenResourceError,))):
                self._service.counters.failures += 1
                if status == 500:
                    _log.error("%s %.200r failed", exchange.request.method, exchange.request.target, exc_info=failure)
        if rest is not None:
            exchange.finish()
            try:
                raise rest
            finally:
                # Otherwise they refer to this frame, and it to them, with all that the handler had.
                del exc, failure, rest
        return status


def status_of(failure: BaseException) -> int:
    """Return the status to answer a failure with: the RequestError's, unless something else has failed too."""
    if isinstance(failure, BaseExceptionGroup):
        statuses = [status_of(one) for one in failure.exceptions]
        return 500 if 500 in statuses else statuses[0]
    return failure.status if isinstance(failure, RequestError) else 500
