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
    """The response that a handler sends. Pipe into it, `send` a whole body, or `open` it to write in pieces, but only once.

    A source of known length sets Content-Length; any other source is sent in chunks. Responses to HEAD and with status
    204, 205 or 304 have no body: at most the first chunk of the source is read, so that a source that fails at once
    fails as it would for GET. If the handler sends nothing, the body is empty.

    Waits when: the client does.
    Ends when: the source ends; the result is the number of body bytes sent.
    On cancel: the connection is cut, so that the client notices; before the first byte nothing has been sent.
    Holds: what the channel before it holds; nothing of a file.

    Raises:
        RuntimeError: the body is not as long as its Content-Length says.
        TypeError: a chunk is not bytes.
        trio.BrokenResourceError: the client has gone, which also cancels the handler.
        trio.ClosedResourceError: the response has already been sent, or the handler has returned.
    """

    __slots__ = ("_sender",)

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender
        self._parts = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the stage only when something is piped here: most responses are sent whole, and it costs 0.5 µs."""
            if name != "_stages":
                return super().__getattr__(name)
            # The stage calls the sender, not the response: a response that held its own bound methods would be a
            # reference cycle, left to the garbage collector after each request.
            sender = self._sender
            self._stages = (Stage(_LABEL, function=sender.send_items, takes={OpenRegion: sender.send_region}),)
            return self._stages

    @property
    def status(self) -> int:
        """The status, 200 unless you set it.

        Raises:
            ValueError: the new status is not between 200 and 599.
            RuntimeError: the head has already been sent.
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
        """The header fields to send. The server adds Date and the fields that frame the body."""
        return self._sender.headers

    @property
    def trailers(self) -> Headers:
        """Fields to send after the body, such as its checksum; set them before the body ends (RFC 9110 6.5).

        They are sent only if the body is sent in chunks, and some clients drop them. A field that clients need before the
        body, such as Content-Type, is refused.
        """
        return self._sender.trailers

    @property
    def has_head(self) -> bool:
        """Whether the server has begun to send the head."""
        return self._sender.has_head

    async def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send `data` as the whole body, in one write with the head, and return its length.

        It waits, is cancelled and raises as a run into this response does.
        """
        return await self._sender.send(data)

    async def start(self) -> None:
        """Send the head now, before there is a body. A failure after this cuts the connection.

        Use it for a feed whose first item may be late.

        Raises:
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        await self._sender.start()

    async def inform(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Send an informational response before this one, such as 103 with links to load early (RFC 8297).

        An HTTP/1.0 client is sent nothing. You need not send 100: a client that waits for it gets it when you start to
        read the body.

        Raises:
            ValueError: `status` is not between 102 and 199, or a header cannot be sent.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        check_count("status", status, 102, 199)
        await self._sender.inform(status, Headers(() if headers is None else headers.items()))

    async def upgrade(self, protocol: str) -> Duplex[bytes, bytes]:
        """Switch the connection to `protocol`, such as `"websocket"`, and return it (RFC 9110 7.8).

        `headers` are sent, and can no longer be changed. The connection belongs to the handler and is closed when the
        handler returns. Of the limits, only `write_stall` applies to it.

        Raises:
            RequestError: the request does not ask for this protocol, or has a body.
            ValueError: `headers` frame a body.
            trio.BrokenResourceError: the client has gone.
            trio.ClosedResourceError: the head has been sent, or the handler has returned.
        """
        return Duplex.from_stream(await self._sender.upgrade(protocol))
