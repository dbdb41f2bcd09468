"""Reads a chunked body (RFC 9112 7.1). No I/O.

Rule 1: as in a head, nothing is repaired, and an error gets the same status however the bytes were split on the way.
Rule 2: one call reads a limited number of lines, not of bytes: a line takes 2 µs, whatever the size of its chunk.
Rule 3: extensions and trailers are checked, counted and dropped.
"""

from __future__ import annotations

import re
from typing import Final

from trioflow.http.wire.headers import ROUTING
from trioflow.http.wire.limits import Limits, RequestError
from trioflow.http.wire.socket import CHUNK
from trioflow.http.wire.strict import BROKEN, FIELD, TOKEN, malformed

_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION: Final = rb";[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+" % (TOKEN, TOKEN, _QUOTED)
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%b)*+)\r\n" % _EXTENSION)
_EXTENDED: Final = "its chunk extensions are too large"
_LONGEST_SIZE: Final = 18  # bytes of a chunk-size line without extensions
_LINES: Final = 64  # read in one step, which then takes 0.2 ms with tiny chunks
_FREE: Final = 65536  # bytes of framing that every body may have


class Chunked:
    """A chunked body.

    Args:
        received: Bytes that arrived with the head.
        limits: The limits of the body's size, extensions, framing and trailers.

    Attributes:
        is_read: Whether all of it has arrived and has been taken.
    """

    __slots__ = (
        "_at", "_data", "_failure", "_fields", "_framing", "_in_trailers", "_left", "_limits", "_line", "_size", "_spare",
        "is_read",
    )  # fmt: skip

    at_once = most = CHUNK

    def __init__(self, received: bytes, limits: Limits) -> None:
        self._limits = limits
        self._data = received
        self._at = 0  # where in `_data` the next line, or the rest of a chunk, begins
        self._left = 0  # bytes until the next line, including the CR LF after a chunk
        self._line = b""  # the beginning of a line whose end has not arrived
        self._size = 0  # of the body so far
        self._framing = 0  # bytes of framing so far
        self._spare = limits.extension_size  # bytes left for extensions, and later for trailers
        self._fields = 0
        self._in_trailers = False
        self._failure: tuple[int, str] | None = None
        self.is_read = False

    @property
    def has_more(self) -> bool:
        """Whether there are bytes that `take` has not looked at yet."""
        return self._at < len(self._data) and not self.is_read

    @property
    def leftover(self) -> bytes:
        """Bytes that arrived after the end of this body."""
        return self._data[self._at :]

    def feed(self, data: bytes) -> None:
        """Add bytes that have been received; call it only once `has_more` is false.

        Raises:
            RequestError: `data` is empty: the client closed its sending side before the end of the body.
        """
        assert not self.has_more
        if not data:
            raise RequestError(400, "the body ended before its last chunk")
        self._data, self._at = data, 0

    def take(self) -> list[bytes]:
        """Return the chunks that have arrived since the last call, or some of them.

        Raises:
            RequestError: the body is malformed or too large; every later call raises the same.
        """
        try:
            if self._failure is None:
                return self._take()
        except RequestError as exc:
            self._failure = (exc.status, str(exc))
        raise RequestError(*self._failure)

    def _take(self) -> list[bytes]:
        chunks: list[bytes] = []
        data, lines = self._data, _LINES
        while self._at < len(data) and lines and not self.is_read:
            if self._left > 2:
                chunk = data[self._at : self._at + self._left - 2]
                self._left -= len(chunk)
                self._at += len(chunk)
                chunks.append(chunk)
            elif self._left:
                end = b"\r\n"[2 - self._left :]
                come = data[self._at : self._at + self._left]
                if not end.startswith(come):
                    raise malformed("a chunk is longer than its size says")
                self._left -= len(come)
                self._at += len(come)
            else:
                lines -= 1
                self._take_line(data)
        return chunks

    def _take_line(self, data: bytes) -> None:
        """Read a line, or the part of it that has arrived."""
        if not (self._line or self._in_trailers) and (found := _SIZE.match(data, self._at)):
            self._at = found.end()
            self._take_size(found)
            return
        end = data.find(b"\n", self._at)
        stop = end + 1 if end >= 0 else len(data)
        seen = len(self._line)
        self._line += data[self._at : stop]
        self._at = stop
        most = self._spare + (2 if self._in_trailers else _LONGEST_SIZE)
        if BROKEN.search(self._line, max(seen - 1, 0), int(min(len(self._line), most))):
            raise malformed("a chunk-size or trailer line has a control character, or does not end with CR LF")
        if len(self._line) > most:
            if self._in_trailers:
                raise RequestError(431, "the trailers are too large")
            raise malformed(_EXTENDED)
        if end < 0:
            return
        line, self._line = self._line, b""
        if self._in_trailers:
            self._take_trailer(line)
        elif found := _SIZE.fullmatch(line):
            self._take_size(found)
        else:
            raise malformed("invalid chunk size")

    def _take_size(self, found: re.Match[bytes]) -> None:
        size = int(found[1], 16)
        self._spare -= len(found[2])
        self._size += size
        self._framing += found.end() - found.start() + 2
        if self._spare < 0:
            raise malformed(_EXTENDED)
        if self._size > self._limits.body_size:
            raise RequestError(413, "the body is too large")
        if self._framing > _FREE + self._limits.framing * self._size:
            raise malformed("its chunks are too small for their framing")
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True
            self._spare = self._limits.head_size

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_read = True
            return
        self._spare -= len(line)
        self._fields += 1
        if self._fields > self._limits.head_count:
            raise RequestError(431, "the request has too many trailers")
        if FIELD.fullmatch(line) is None or line.partition(b":")[0].decode("ascii").lower() in ROUTING:
            raise malformed("a trailer is not a valid field, or is not allowed as a trailer")
