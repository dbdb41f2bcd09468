"""The response that a handler writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from trioflow._core.checks import check_count
from trioflow._core.engine import Stage
from trioflow._core.shortcuts import OpenRegion
from trioflow._core.streams import Duplex, Writable, label
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.response_sender import HEAD_SENT, ResponseSender

_LABEL: Final = label("response")


class Response(Writable[bytes, int]):
    """The response to one request: pipe into it, or `send` a whole body, or `open` it for pieces. It runs once (R4).

    A source of known length sets Content-Length, any other is sent in chunks. HEAD, 204, 205 and 304 send no body: at most
    the first chunk of a source is read, so that it can fail as it does for GET. A handler that sends nothing gets an
    empty body.

    Waits when: the client does.
    Ends when: the source ends; the value is the number of bytes of body sent.
    On cancel: the connection is cut, so that the client notices; before the first byte nothing has been sent.
    Holds: what the channel before it holds; nothing of a file.

    Raises:
        RuntimeError: the body is not as long as its Content-Length says.
        TypeError: a chunk is not bytes.
        trio.BrokenResourceError: the client has gone, which also cancels the handler.
        trio.ClosedResourceError: it has been sent, or the handler has returned.
    """

    __slots__ = ("_sender",)

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the stage when something is piped here: most responses are sent whole, and it costs them 0.5 µs."""
            if name != "_stages":
                return super().__getattr__(name)
            # The stage calls the sender, not this: a response that held its own methods would be a cycle, and wait for
            # the garbage collector after each request.
            sender = self._sender
            self._stages = (Stage(_LABEL, function=sender.send_items, takes={OpenRegion: sender.send_region}),)
            return self._stages

    @property
    def status(self) -> int:
        """The status, 200 at first.

        Raises:
            ValueError: set to what is not between 200 and 599.
            RuntimeError: set after the head has been sent.
        """
        return self._sender.status

    @status.setter
    def status(self, status: int) -> None:
        check_count("status", status, 200, 599)
        if self._sender.has_head:
            raise RuntimeError(HEAD_SENT)
        self._sender.status = int(status)

    @property
    def headers(self) -> Headers:
        """The header fields to send; Date and the framing are added."""
        return self._sender.headers

    @property
    def trailers(self) -> Headers:
        """Fields to send after the body, such as a checksum of it, set before it ends (RFC 9110 6.5).

        They are sent where the body is sent in chunks; otherwise they are left out, as some clients do. A field that
        clients must know before the body, such as Content-Type, is refused.
        """
        return self._sender.trailers

    @property
    def has_head(self) -> bool:
        """Whether sending the head has begun."""
        return self._sender.has_head

    async def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send `data` as the whole body, head and all in one write, and return its length.

        Waits when, on cancel, raises: as a run does.
        """
        return await self._sender.send(data)

    async def start(self) -> None:
        """Send the head now, before there is a body; a failure from now on cuts the connection.

        For a feed whose first item may take long.

        Raises:
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        await self._sender.start()

    async def inform(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Send an informational response before this one, such as 103 with what to load early (RFC 8297).

        A client of HTTP/1.0 gets none. 100 is sent when the body is first read, if the client waits for it.

        Raises:
            ValueError: `status` is not between 102 and 199, or a header cannot be sent.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        check_count("status", status, 102, 199)
        await self._sender.inform(status, Headers(() if headers is None else headers.items()))

    async def upgrade(self, protocol: str) -> Duplex[bytes, bytes]:
        """Answer that the connection goes on in `protocol`, such as `"websocket"`, and return it (RFC 9110 7.8).

        `headers` are sent, and cannot be changed any more. The connection is the handler's until it returns: then it is
        closed. Of the limits only `write_stall` holds.

        Raises:
            RequestError: the request does not ask for this, or has a body.
            ValueError: `headers` frame a body.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        return Duplex.from_stream(await self._sender.upgrade(protocol))
