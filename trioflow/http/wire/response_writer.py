"""A response made into bytes: its head, its framing, its end. No I/O.

Rule 1: the framing follows from the request's version, the status and the headers (RFC 9112 6); a handler never sets it.
Rule 2: names and values were checked when they were set, and are written as they stand: a second check of each would
    cost 20 µs a response.
Rule 3: what cannot be framed is refused before the head is made, while an error can still be sent.
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
_OWN: Final = frozenset(("connection", "content-length", "date", "transfer-encoding"))  # what the server itself sets
_UNFRAMED: Final = frozenset((204, 304))  # no field says that there is no body (RFC 9112 6.3)
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_LINES: Final = {n: f"HTTP/1.1 {n} {_PHRASES.get(n, '')}\r\n".encode("ascii") for n in range(100, 600)}
_ALLOWED: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"  # what is not refused before a handler sees it

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


class ResponseWriter:
    """One response made into bytes, in order: its head, its body, its end.

    Args:
        is_head: The request's method was HEAD: the head is as for GET, and no body follows.
        is_old: The client speaks HTTP/1.0, and knows no chunks.
        keeps_alive: Whether the client would use the connection again.
        keep_alive: The lines that say how long it may wait before that, made by `keep_alive_lines`.

    Attributes:
        keeps_alive: Whether the connection can be used again after this response.
        is_begun: Whether its head has been made.
        is_ended: Whether its end has been made.
        status: Its status; 0 before its head has been made.
        sent: Bytes of its body.
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
        self._left: int | None = None  # bytes of the body still to come; None if that is not known
        self._has_body = True
        self.keeps_alive = keeps_alive
        self.is_begun = False
        self.is_ended = False
        self.status = 0
        self.sent = 0

    @property
    def is_open_ended(self) -> bool:
        """Whether what is being sent may go on for ever: a body of unknown length, or another protocol."""
        return self.status == 101 or (self.is_begun and not self.is_ended and self._left is None)

    def is_bodyless(self, status: int) -> bool:
        """Return whether a response with `status` has no body."""
        return self._is_head or status in _WITHOUT_BODY

    def write_head(
        self, status: int, headers: Headers, length: int | None, *, first: int = 0, is_last: bool = False
    ) -> bytes:
        """Return the head of the response; every one, error or not, is written here.

        Args:
            status: The status.
            headers: What to send; Date, Connection and what frames the body are added.
            length: How many bytes the body has; None if that is not known.
            first: How many of them follow at once.
            is_last: Whether the connection ends with this response.

        Raises:
            RuntimeError: the headers frame the body in another way than it is. Nothing has been written then.
        """
        assert not self.is_begun
        has_body, is_framed = not self.is_bodyless(status), status not in _UNFRAMED
        declared: tuple[Field, ...] = ()
        is_dated = is_closing = False
        if headers.has_any(_OWN):  # one look where there is none, as in nearly all: four took a microsecond
            if headers.all_of("transfer-encoding"):
                raise RuntimeError("Transfer-Encoding is not the handler's to set: the server frames the body")
            declared = () if status == 205 else headers.all_of("content-length")
            is_dated = bool(headers.all_of("date"))
            is_closing = any("close" in tokens_of(field.value) for field in headers.all_of("connection"))
        if declared:
            said = _length_of(declared)
            if has_body and length not in (None, said):
                raise RuntimeError(f"the body has {length} bytes, but its Content-Length says {said}")
            length = said
        elif status == 205:  # it has no body, and says so (RFC 9110 15.3.6)
            length = 0
        left = length if has_body else None
        if left is not None and first > left:
            raise _too_long(first - left)
        self._left, self._has_body = left, has_body
        parts = [_LINES[status], headers.lines(without="content-length" if status in (204, 205) else "")]
        if not is_dated:
            parts.append(date())
        if is_framed and length is not None and not declared:
            parts.append(b"Content-Length: %d\r\n" % length)
        is_chunked = is_framed and length is None
        if is_last or is_closing or (is_chunked and self._is_old):  # without framing, its end is the connection's
            self.keeps_alive = False
        if not (self.keeps_alive or is_closing):
            parts.append(b"Connection: close\r\n")
        elif self.keeps_alive and (self._keep_alive or self._is_old):
            parts.append(self._keep_alive or b"Connection: keep-alive\r\n")  # an old client needs it (RFC 9112 C.2.2)
        if is_chunked and not self._is_old:
            parts.append(b"Transfer-Encoding: chunked\r\n")
            self._is_chunked = not self._is_head
        parts.append(b"\r\n")
        self.is_begun = True
        self.status = status
        return b"".join(parts)

    def data(self, chunk: Piece) -> list[Piece]:
        """Return a chunk of the body with its frame; nothing for an empty one, which would be the end, or without a body."""
        size = len(chunk)
        if not (self._has_body and size):
            return []
        self._count(size)
        return [b"%x\r\n" % size, chunk, b"\r\n"] if self._is_chunked else [chunk]

    def frame(self, size: int) -> tuple[list[Piece], list[Piece]]:
        """Return what goes before and after the next `size` bytes of the body, 1 or more."""
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
        """Return the end of the body; trailers go with it where it is in chunks (RFC 9112 7.1.2).

        Raises:
            RuntimeError: the body is not as long as its Content-Length says.
        """
        assert self.is_begun
        if self._left:
            raise RuntimeError(f"the body is shorter than its Content-Length, by {self._left} bytes")
        self.is_ended = True
        return b"0\r\n%b\r\n" % (trailers.lines() if trailers else b"") if self._is_chunked else b""

    def interim(self, status: int, headers: Headers) -> bytes:
        """Return an informational response; nothing for a client that knows none (RFC 9110 15.2).

        Raises:
            ValueError: the headers frame a body, and it has none.
        """
        for name in ("content-length", "transfer-encoding"):
            if headers.all_of(name):
                raise ValueError(f"an informational response has no body: it cannot have {name}")
        return b"" if self._is_old else _LINES[status] + headers.lines() + b"\r\n"

    def upgrade(self, headers: Headers) -> bytes:
        """Return the response after which the connection speaks another protocol."""
        assert not self.is_begun
        head = self.interim(101, headers)
        self.is_begun = self.is_ended = True
        self.keeps_alive = False
        self.status = 101
        return head

    def error(self, status: int, *, sentence: str = "", is_html: bool = False) -> bytes:
        """Return a whole response that says no more than its status, or `sentence`; the last one of its connection."""
        headers, body = error_page(status, sentence=sentence, is_html=is_html)
        return b"".join([self.write_head(status, headers, len(body), is_last=True), *self.data(body), self.end()])


def _length_of(declared: tuple[Field, ...]) -> int:
    value = declared[0].value
    if len(declared) > 1 or not (value.isascii() and value.isdigit()):
        raise RuntimeError(f"Content-Length must be one number, not {', '.join(field.value for field in declared)!r}")
    return int(value)


def _too_long(excess: int) -> RuntimeError:
    return RuntimeError(f"the body is longer than its Content-Length, by {excess} bytes or more")


def accepts_html(headers: Headers) -> bool:
    """Return whether a request asks for HTML by name, as a browser does for a page but not for what is in it."""
    return any("text/html" in field.value.lower() for field in headers.all_of("accept"))


@cache
def error_page(status: int, *, sentence: str = "", is_html: bool = False) -> tuple[Headers, bytes]:
    """Return the header fields and the body of a response that says no more than its status, or `sentence`."""
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
    headers.freeze("the headers of an error page are shared: copy them")
    return headers, body.encode("ascii")


def keep_alive_lines(idle: float) -> bytes:
    """Return the lines that tell a client to stop using the connection a second before it is closed.

    Clients such as Node's agent would otherwise send a request that meets the close, and lose it (RFC 9112 9.3.1).

    Args:
        idle: How many seconds a connection may be idle.
    """
    return b"" if idle == math.inf else b"Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n" % max(0, idle - 1)


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """Return the line of `Date`, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]
