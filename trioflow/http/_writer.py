"""A response made into bytes: its head, its framing, its end. No I/O.

Rule 1: the framing follows from the request's version, the status and the headers (RFC 9112 6); a handler never sets it.
Rule 2: names and values were checked when they were set, and are written as they stand: a second check of each would
    cost 20 µs a response.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, TypeAlias

Fields: TypeAlias = "list[tuple[bytes, bytes]]"

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_LINES: Final = {n: f"HTTP/1.1 {n} {_PHRASES.get(n, '')}\r\n".encode("ascii") for n in range(100, 600)}


def phrase_of(status: int) -> str:
    """Give the words that go with a status; none where it has none."""
    return _PHRASES.get(status, "")


def says_close(value: bytes) -> bool:
    """Tell whether a `Connection` field ends the connection with this message (RFC 9112 9.6)."""
    return b"close" in [token.strip().lower() for token in value.split(b",")]


class ResponseWriter:
    """One response's bytes, in order.

    Args:
        is_head: The request's method was HEAD: the head is as for GET, the body stays away.
        is_old: The client speaks HTTP/1.0, and knows no chunks.
        keeps_alive: Whether the client would use the connection again.
    """

    __slots__ = ("_is_chunked", "_is_head", "_is_old", "is_begun", "is_ended", "keeps_alive")

    def __init__(self, *, is_head: bool, is_old: bool, keeps_alive: bool) -> None:
        self._is_head = is_head
        self._is_old = is_old
        self._is_chunked = False
        self.keeps_alive = keeps_alive
        self.is_begun = False
        self.is_ended = False

    def head(self, status: int, fields: Fields, *, last: bool) -> bytes:
        """Make the head; with `last` the connection ends with this response."""
        assert not self.is_begun
        self.is_begun = True
        is_counted = status in (204, 304)
        is_closing = False
        parts = [_LINES[status]]
        for name, value in fields:
            lowered = name.lower()
            if lowered == b"content-length":
                is_counted = True
            elif lowered == b"connection":
                is_closing |= says_close(value)
            parts += (name, b": ", value, b"\r\n")
        is_chunked = not (is_counted or self._is_old)
        if is_closing or last or not (is_counted or is_chunked):  # without either, its end is the connection's
            self.keeps_alive = False
        if not (self.keeps_alive or is_closing):
            parts.append(b"Connection: close\r\n")
        if is_chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        parts.append(b"\r\n")
        self._is_chunked = is_chunked and not self._is_head
        return b"".join(parts)

    def data(self, chunk: Any) -> list[Any]:
        """Frame a chunk of the body, of which nothing is asked but its `len`."""
        assert self.is_begun
        assert not self.is_ended
        if not self._is_chunked:
            return [chunk] if len(chunk) else []
        return [b"%x\r\n" % len(chunk), chunk, b"\r\n"] if len(chunk) else []  # an empty one would be the end

    def end(self) -> bytes:
        """Make the end of the body."""
        assert self.is_begun
        self.is_ended = True
        return b"0\r\n\r\n" if self._is_chunked else b""
