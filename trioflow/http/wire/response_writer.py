"""Turns a response into bytes: its head, its framing, its end. No I/O.

Rule 1: the request's version, the status and the headers decide the framing (RFC 9112 6); a handler never sets it.
Rule 2: names and values were checked when they were set. Checking each again here would cost 20 µs a response.
Rule 3: headers that contradict the body are refused before the head is made, while an error response can still be sent.
"""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import Final, TypeAlias

from trioflow.http.wire.headers import Field, Headers, tokens_of

Piece: TypeAlias = bytes | memoryview

_WITHOUT_BODY: Final = frozenset((204, 205, 304))
_SMALL: Final = 16384  # bytes: a chunk up to this size is copied into its frame, which is then sent as one piece
_OWN: Final = frozenset(("connection", "content-length", "date", "transfer-encoding"))  # what the server sets itself
_UNFRAMED: Final = frozenset((204, 304))  # their status alone says that they have no body (RFC 9112 6.3)
_RENAMED: Final = {  # by RFC 9110, and in Python since 3.13
    413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content",
}  # fmt: skip
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | _RENAMED
_LINES: Final = {n: f"HTTP/1.1 {n} {_PHRASES.get(n, '')}\r\n".encode("ascii") for n in range(100, 600)}
_ALLOWED: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"  # the common methods that reach a handler

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 15vh auto 0; max-width: 30rem; padding: 0 1rem; font: 1.125rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; }}
</style>
<h1>{title}</h1>
{sentence}"""

# The server's own error texts. They never quote the client or an exception.
_SENTENCES: Final = {
    400: "The request is malformed.",
    405: "This method is not allowed here.",
    408: "The request took too long.",
    413: "The request body is too large.",
    414: "The request line is too long.",
    415: "The server does not accept a request body of this type.",
    417: "The server does not support this Expect header.",
    431: "The request header is too large.",
    500: "The server failed to answer this request.",
    501: "The server does not support what the request asks for.",
    503: "The server cannot handle this request now. Try again later.",
    505: "The server supports only HTTP/1.1 and HTTP/1.0.",
}


class ResponseWriter:
    """Makes the bytes of one response, in order: its head, its body, its end.

    Args:
        is_head: The request's method was HEAD: the head is the same as for GET, but no body follows.
        is_old: The client uses HTTP/1.0, which has no chunked bodies.
        keeps_alive: Whether the client wants to use the connection again.
        keep_alive: The header lines that say how long the connection stays open, from `keep_alive_lines`.

    Attributes:
        keeps_alive: Whether the connection can be used again after this response.
        is_begun: Whether the head has been made.
        is_ended: Whether the end has been made.
        status: The status; 0 until the head has been made.
        sent: Number of bytes of the body so far.
    """

    __slots__ = (
        "_has_body", "_is_chunked", "_is_head", "_is_old", "_keep_alive", "_left", "is_begun", "is_ended", "keeps_alive",
        "sent", "status",
    )  # fmt: skip

    def __init__(self, *, is_head: bool, is_old: bool, keeps_alive: bool, keep_alive: bytes = b"") -> None:
        self._is_head = is_head
        self._keep_alive = keep_alive
        self._is_old = is_old
        self._is_chunked = False
        self._left: int | None = None  # bytes of the body still to be sent; None if unknown
        self._has_body = True
        self.keeps_alive = keeps_alive
        self.is_begun = False
        self.is_ended = False
        self.status = 0
        self.sent = 0

    @property
    def is_open_ended(self) -> bool:
        """Whether the response may never end: its body has no known length, or the connection was upgraded."""
        return self.status == 101 or (self.is_begun and not self.is_ended and self._left is None)

    def is_bodyless(self, status: int) -> bool:
        """Return whether a response with `status` has no body."""
        return self._is_head or status in _WITHOUT_BODY

    def write_head(
        self, status: int, headers: Headers, length: int | None, *, first: int = 0, is_last: bool = False
    ) -> bytes:
        """Return the head of the response. All heads, those of errors included, are made here.

        Args:
            status: The status.
            headers: The headers to send; Date, Connection and the framing are added.
            length: The size of the body; None if unknown.
            first: The size of its first chunk, which follows at once.
            is_last: Whether this response closes the connection.

        Raises:
            RuntimeError: the headers contradict the body. Nothing has been written then.
        """
        assert not self.is_begun
        has_body, is_framed = not self.is_bodyless(status), status not in _UNFRAMED
        declared: tuple[Field, ...] = ()
        is_dated = is_closing = False
        if headers._has_any(_OWN):  # most have none of them: one lookup instead of four saves a microsecond
            if headers._all_of("transfer-encoding"):
                raise RuntimeError("Transfer-Encoding cannot be set: the server chooses the framing; remove the header")
            declared = () if status == 205 else headers._all_of("content-length")
            is_dated = bool(headers._all_of("date"))
            is_closing = any("close" in tokens_of(field.value) for field in headers._all_of("connection"))
        if declared:
            said = _length_of(declared)
            if has_body and length not in (None, said):
                raise RuntimeError(f"the body has {length} bytes, but its Content-Length says {said}")
            length = said
        elif status == 205:  # its length of 0 is sent (RFC 9110 15.3.6)
            length = 0
        left = length if has_body else None
        if left is not None and first > left:
            raise _too_long(first - left)
        self._left, self._has_body = left, has_body
        parts = [_LINES[status], headers._lines(without="content-length" if status in (204, 205) else "")]
        if not is_dated:
            parts.append(date())
        if is_framed and length is not None and not declared:
            parts.append(b"Content-Length: %d\r\n" % length)
        is_chunked = is_framed and length is None
        if is_last or is_closing or (is_chunked and self._is_old):  # unframed, it ends when the connection does
            self.keeps_alive = False
        if not (self.keeps_alive or is_closing):
            parts.append(b"Connection: close\r\n")
        elif self.keeps_alive and (self._keep_alive or self._is_old):
            parts.append(self._keep_alive or b"Connection: keep-alive\r\n")  # HTTP/1.0 needs it (RFC 9112 C.2.2)
        if is_chunked and not self._is_old:
            parts.append(b"Transfer-Encoding: chunked\r\n")
            self._is_chunked = not self._is_head
        parts.append(b"\r\n")
        self.is_begun = True
        self.status = status
        return b"".join(parts)

    def data(self, chunk: Piece) -> list[Piece]:
        """Return a chunk of the body with its framing; nothing if there is no body or the chunk is empty."""
        size = len(chunk)
        if not (self._has_body and size):
            return []
        if self._left is not None or self.is_ended:
            self._count(size)
        else:
            self.sent += size
        if not self._is_chunked:
            return [chunk]
        if size <= _SMALL and isinstance(chunk, bytes):  # it would be copied anyway, to send it in one piece
            return [b"%x\r\n%b\r\n" % (size, chunk)]
        return [b"%x\r\n" % size, chunk, b"\r\n"]

    def frame(self, size: int) -> tuple[list[Piece], list[Piece]]:
        """Return the framing before and after the next `size` bytes of the body, which must be 1 or more."""
        self._count(size)
        return ([b"%x\r\n" % size], [b"\r\n"]) if self._is_chunked else ([], [])

    def _count(self, size: int) -> None:
        assert self.is_begun
        assert not self.is_ended
        if self._left is not None:
            if size > self._left:
                raise _too_long(size - self._left)
            self._left -= size
        self.sent += size

    def end(self, trailers: Headers | None = None) -> bytes:
        """Return the end of the body, with the trailers if it is chunked (RFC 9112 7.1.2).

        Raises:
            RuntimeError: the body is shorter than its Content-Length.
        """
        assert self.is_begun
        if self._left:
            raise RuntimeError(f"the body is {self._left} bytes shorter than its Content-Length")
        self.is_ended = True
        return b"0\r\n%b\r\n" % (trailers._lines() if trailers else b"") if self._is_chunked else b""

    def interim(self, status: int, headers: Headers) -> bytes:
        """Return an informational response; nothing for HTTP/1.0, which has none (RFC 9110 15.2).

        Raises:
            ValueError: the headers have Content-Length or Transfer-Encoding.
        """
        for name in ("content-length", "transfer-encoding"):
            if headers._all_of(name):
                raise ValueError(f"an informational response cannot have {name}, because it has no body")
        return b"" if self._is_old else _LINES[status] + headers._lines() + b"\r\n"

    def upgrade(self, headers: Headers) -> bytes:
        """Return the 101 response after which the connection uses another protocol."""
        assert not self.is_begun
        head = self.interim(101, headers)
        self.is_begun = self.is_ended = True
        self.keeps_alive = False
        self.status = 101
        return head

    def error(self, status: int, *, sentence: str = "", is_html: bool = False) -> bytes:
        """Return a complete error response, with `sentence` or a text for its status; it closes the connection."""
        headers, body = error_page(status, sentence=sentence, is_html=is_html)
        return b"".join([self.write_head(status, headers, len(body), is_last=True), *self.data(body), self.end()])


def _length_of(declared: tuple[Field, ...]) -> int:
    value = declared[0].value
    if len(declared) > 1 or not (value.isascii() and value.isdigit()):
        raise RuntimeError(f"Content-Length must be one number, got {', '.join(field.value for field in declared)!r}")
    return int(value)


def _too_long(excess: int) -> RuntimeError:
    return RuntimeError(f"the body is at least {excess} bytes longer than its Content-Length")


def accepts_html(headers: Headers) -> bool:
    """Return whether a request names `text/html` in Accept, as browsers do for pages, but not for scripts or images."""
    return any("text/html" in field.value.lower() for field in headers._all_of("accept"))


@cache
def error_page(status: int, *, sentence: str = "", is_html: bool = False) -> tuple[Headers, bytes]:
    """Return the headers and the body of an error page, with `sentence` or a text for its status."""
    title = f"{status} {_PHRASES.get(status, '')}".rstrip()
    sentence = sentence or _SENTENCES.get(status, "")
    headers = Headers([("X-Content-Type-Options", "nosniff"), ("Vary", "Accept")])
    if is_html:
        headers["Content-Type"] = "text/html; charset=utf-8"
        headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        body = _PAGE.format(title=title, sentence=f"<p>{sentence}\n" if sentence else "")
    else:
        headers["Content-Type"] = "text/plain; charset=utf-8"
        body = f"{sentence or title}\n"
    if status == 405:
        headers["Allow"] = _ALLOWED
    elif status == 503:
        headers["Retry-After"] = "1"
    headers._freeze("the headers of an error page are shared: copy them instead")
    return headers, body.encode("ascii")


def keep_alive_lines(idle: float) -> bytes:
    """Return the header lines that tell a client to give up the connection a second before the server closes it.

    Otherwise a client such as Node's agent may send a request just as the server closes the connection, and lose it
    (RFC 9112 9.3.1).

    Args:
        idle: The seconds that a connection may be idle.
    """
    return b"" if idle == math.inf else b"Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n" % max(0, idle - 1)


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """Return the `Date` line, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]
