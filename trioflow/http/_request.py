"""The request that a handler reads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import trio

from trioflow._core.adapters import Once, gathered
from trioflow._core.channel import SendChannel
from trioflow._core.engine import Stage
from trioflow._core.shortcuts import Offer, ThreadCopy
from trioflow._core.streams import Readable, label
from trioflow.http._proxies import Peer
from trioflow.http.wire.exchange import Exchange
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import RequestError


class Stopping:
    """A read-only event that is set once the server begins to stop."""

    __slots__ = ("_event",)

    def __init__(self, event: trio.Event) -> None:
        self._event = event

    def is_set(self) -> bool:
        """Return whether the server is stopping."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until the server is stopping; return at once if it already is."""
        await self._event.wait()


class Request:
    """The request that a handler answers.

    Attributes:
        method: The method as it was sent, such as `"GET"`.
        raw_path: The path as it was sent, without the query.
        query: What follows the `?`, as it was sent; `""` if there is no query.
    """

    __slots__ = ("_body", "_exchange", "_path", "_peer", "_stopping", "method", "query", "raw_path")

    def __init__(self, exchange: Exchange, peer: Peer, stopping: trio.Event) -> None:
        self._exchange = exchange
        self._stopping = stopping
        self._body: Readable[bytes] | None = None
        self.method = exchange.request.method
        self._peer = peer
        self.raw_path, self.query, self._path = exchange.request.path()

    @property
    def path(self) -> str:
        """The path, percent-decoded, without dot segments or repeated slashes; `"*"` for a request about the whole server.

        You can set another path before you call `http.files` or another handler.

        Raises:
            RequestError: the path is not UTF-8. Let it propagate: the server answers 400.
        """
        if not self._path.isascii():
            try:
                self._path.encode()
            except UnicodeEncodeError:
                raise RequestError(400, f"the path {self.raw_path!r} is not UTF-8") from None
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        self._path = path

    @property
    def client(self) -> Any:
        """The client's address as the socket reports it, such as `("127.0.0.1", 50123)`; `""` for a Unix socket.

        If the request came through proxies that `serve` trusts, it is the address that they name, with port 0.
        """
        return self._peer.client(self.headers)[0]

    @property
    def scheme(self) -> str:
        """`"https"` over TLS or if a trusted proxy says so, `"http"` otherwise."""
        return self._peer.client(self.headers)[1]

    @property
    def stopping(self) -> Stopping:
        """An event that is set once the server begins to stop. An endless feed should end then.

        To end one cleanly, use `feed.pipe(tf.take_until(request.stopping)).pipe(response)`. A handler has `Limits.grace`
        seconds from then on, or less if its response has no known end and sends nothing.
        """
        return Stopping(self._stopping)

    @property
    def headers(self) -> Headers:
        """The header fields, which are read-only."""
        return self._exchange.request.headers

    @property
    def body(self) -> Readable[bytes]:
        """The body, as a Readable that can be run once.

        If you pipe a body of known length directly into `write_file`, one thread receives and writes it.

        Emits when: some of the body has arrived; what arrived together is one chunk.
        Waits when: its reader does; TCP then slows the client down.
        Ends when: the body ends. A client that waits for `100 Continue` gets it when you start to read.
        On cancel: what was received but not read is lost; the rest is discarded, or the connection is closed.
        Holds: 256 KiB, or 64 KiB of a chunked body; as much again on its way to a file.

        Raises:
            RequestError: the body is malformed, too large, cut off or stalled, so that a partial body never passes for a
                complete one. It carries the status to answer with.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the body has already been read, or the handler has returned.
        """
        if self._body is None:
            run = Once[Any](self._receive, f"the body of this {self.method} request")
            offer = Offer(ThreadCopy, lambda: nullcontext(ThreadCopy(run))) if self._exchange.can_copy else None
            self._body = Readable._of(Stage(label("body"), function=run, offer=offer))
        return self._body

    async def _receive(self, output: SendChannel[bytes] | Callable[[bytes | memoryview], object]) -> int | None:
        if not isinstance(output, SendChannel):
            return await self._exchange.copy_body(output)
        while chunks := await self._exchange.read_body():
            await output.send_many(list(gathered(chunks)))
        return None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self._exchange.request.target}>"
