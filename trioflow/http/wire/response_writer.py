"""A response made into bytes: its head, its framing, its end. No I/O.

Rule 1: the framing follows from the request's version, the status and the headers (RFC 9112 6); a handler never sets it.
Rule 2: names and values were checked when they were set, and are written as they stand: a second check of each would
    cost 20 µs a response.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

_WITHOUT_BODY: Final = frozenset((204, 304))
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_LINES: Final = {n: f"HTTP/1.1 {n} {_PHRASES.get(n, '')}\r\n".encode("ascii") for n in range(100, 600)}
_ALLOW: Final = (
    b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"  # what is not refused before a handler sees it
)

# What the server itself answers with; never what was wrong in the client's words, nor in an exception's.
_SENTENCES: Final = {
    400: "The request is malformed.",
    405: "This method is not allowed here.",
    408: "The request took too long.",
    413: "The body of the request is too large.",
    414: "The first line of the request is too long.",
    415: "The server does not take a body of this kind.",
    417: "The server cannot do what the request expects.",
    431: "The header of the request is too large.",
    500: "The server failed to answer this request.",
    501: "The server does not implement what the request asks for.",
    503: "The server has no room for this request now.",
    505: "The server speaks HTTP/1.1 and HTTP/1.0.",
}


def phrase_of(status: int) -> str:
    """Give the words that go with a status; none where it has none."""
    return _PHRASES.get(status, "")


def sentence_of(status: int) -> bytes:
    """Give the body that goes with a status: one line."""
    return (_SENTENCES.get(status) or f"{status} {phrase_of(status)}".rstrip()).encode("ascii") + b"\n"


def tokens_of(value: bytes) -> list[bytes]:
    """Give the tokens of a `Connection` field, in lower case: `close` ends the connection with this message."""
    return [token.strip(b" \t").lower() for token in value.split(b",")]


class ResponseWriter:
    """One response's bytes, in order.

    Args:
        is_head: The request's method was HEAD: the head is as for GET, the body stays away.
        is_old: The client speaks HTTP/1.0, and knows no chunks.
        keeps_alive: Whether the client would use the connection again.
    """

    __slots__ = ("_is_chunked", "_is_head", "_is_old", "is_begun", "is_ended", "keeps_alive", "sent", "status")

    def __init__(self, *, is_head: bool, is_old: bool, keeps_alive: bool) -> None:
        self._is_head = is_head
        self._is_old = is_old
        self._is_chunked = False
        self.keeps_alive = keeps_alive
        self.is_begun = False
        self.is_ended = False
        self.status = 0
        self.sent = 0  # bytes of the body

    def head(
        self, status: int, lines: list[bytes], *, is_counted: bool = False, is_closing: bool = False, last: bool = False
    ) -> bytes:
        """Make the head.

        Args:
            status: The status.
            lines: Header fields as they go out, each with its line end.
            is_counted: Whether Content-Length is among them.
            is_closing: Whether `Connection: close` is among them.
            last: Whether the connection ends with this response.
        """
        assert not self.is_begun
        self.is_begun = True
        self.status = status
        parts = [_LINES[status], *lines]
        is_framed = not (is_counted or status in _WITHOUT_BODY)
        if last or is_closing or (is_framed and self._is_old):  # without either framing, its end is the connection's
            self.keeps_alive = False
        if not (self.keeps_alive or is_closing):
            parts.append(b"Connection: close\r\n")
        elif self.keeps_alive and self._is_old:  # it must be told (RFC 9112 C.2.2)
            parts.append(b"Connection: keep-alive\r\n")
        if is_framed and not self._is_old:
            parts.append(b"Transfer-Encoding: chunked\r\n")
            self._is_chunked = not self._is_head
        parts.append(b"\r\n")
        return b"".join(parts)

    def data(self, chunk: Any) -> list[Any]:
        """Frame a chunk of the body, of which nothing is asked but its `len`."""
        assert self.is_begun
        assert not self.is_ended
        self.sent += len(chunk)
        if not self._is_chunked:
            return [chunk] if len(chunk) else []
        return [b"%x\r\n" % len(chunk), chunk, b"\r\n"] if len(chunk) else []  # an empty one would be the end

    def end(self, trailers: list[bytes] | None = None) -> bytes:
        """Make the end of the body; trailers go with it where it is in chunks (RFC 9112 7.1.2)."""
        assert self.is_begun
        self.is_ended = True
        if not self._is_chunked:
            return b""
        return b"0\r\n%b\r\n" % b"".join(trailers) if trailers else b"0\r\n\r\n"

    def interim(self, status: int, lines: list[bytes]) -> bytes:
        """Make an informational response; nothing for a client that knows none (RFC 9110 15.2)."""
        return b"" if self._is_old else b"".join([_LINES[status], *lines, b"\r\n"])

    def switch(self, lines: list[bytes]) -> bytes:
        """Make the response after which the connection speaks another protocol."""
        assert not self.is_begun
        self.is_begun = self.is_ended = True
        self.keeps_alive = False
        self.status = 101
        return self.interim(101, lines)


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """Give the line of `Date`, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]


def error_page(status: int) -> tuple[list[bytes], bytes]:
    """Give the header lines and the body of an answer that says no more than its status."""
    body = sentence_of(status)
    lines = [
        date(),
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"X-Content-Type-Options: nosniff\r\n",
        b"Content-Length: %d\r\n" % len(body),
    ]
    if status == 405:
        lines.append(_ALLOW)
    return lines, body


def refusal(status: int, *, is_head: bool = False) -> bytes:
    """Make a whole answer to a request that could not be read: the last one of its connection."""
    lines, body = error_page(status)
    writer = ResponseWriter(is_head=is_head, is_old=False, keeps_alive=False)
    head = writer.head(status, lines, is_counted=True, last=True)
    return head if is_head else head + body
