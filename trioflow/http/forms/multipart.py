"""A parser of multipart/form-data (RFC 7578) without I/O: bytes in; heads of parts, pieces of bodies and ends out.

Rule 1: how the input is cut into chunks changes neither the parts nor whether the form is refused. Of two faults, either
    may be reported.
Rule 2: everything before the first boundary and after the last one is discarded, and a boundary may be followed by spaces
    and tabs (RFC 2046 5.1.1).
Rule 3: only a part's head, up to its limit, and the start of a possible boundary are held.
Rule 4: lines end with CR LF, and an ambiguous head is refused.

    PREAMBLE ──boundary──▶ BOUNDARY ──end of line──▶ HEAD ──empty line──▶ BODY ──boundary──▶ BOUNDARY
                               └──────── -- ───────▶ EPILOGUE
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from trioflow.http.forms.parameters import part_names
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import RequestError

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046 5.1.1

_AFTER_BOUNDARY: Final = re.compile(rb"--|[ \t]{0,256}+\r\n")
_BEGUN_AFTER_BOUNDARY: Final = re.compile(rb"-?|[ \t]{0,256}+\r?")

_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t -~\x80-\xff]*+)")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")  # a field may continue on the next line (RFC 5322 2.2.3)
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_MOST_FIELDS: Final = 16  # header fields of one part


class PartHead(NamedTuple):
    """The head of a part; `filename` is None if the part is not a file."""

    name: str
    filename: str | None
    headers: Headers


class _At(Enum):
    """The parser's position in the form."""

    PREAMBLE = auto()
    BOUNDARY = auto()
    HEAD = auto()
    BODY = auto()
    EPILOGUE = auto()


class Multipart:
    """A parser of one form.

    Args:
        header_size: The largest size of one part's header fields, in bytes.
        codec: Python's name for the charset of names. You may change it before you ask for the next event.

    Raises:
        RequestError: `boundary` is not a valid boundary.
    """

    def __init__(self, boundary: str, *, count: float, header_size: float, codec: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise RequestError(400, f"invalid boundary {boundary!r} between the parts of a form")
        self.codec = codec
        self._boundary = b"\r\n--" + boundary.encode("ascii")
        self._spare = count  # parts that are still allowed
        self._header_size = header_size
        self._at = _At.PREAMBLE
        self._held = b"\r\n"  # so that a boundary is also found at the start
        self._is_in_part = False
        self._left: int | None = None  # bytes of this part's body, if it has a Content-Length

    def feed(self, chunk: bytes) -> Iterator[PartHead | bytes | None]:
        """Yield the events in `chunk`: a part's head, then pieces of its body, then None for its end.

        Iterate to the end before you feed the next chunk.

        Raises:
            RequestError: the form is malformed, or exceeds a limit.
        """
        data, at = self._held + chunk if self._held else chunk, 0
        while self._at is not _At.EPILOGUE:
            if self._at is _At.BOUNDARY:
                found = _AFTER_BOUNDARY.match(data, at)
                if found is None:
                    if not _BEGUN_AFTER_BOUNDARY.fullmatch(data, at):
                        raise RequestError(400, "a boundary in the form is followed by other text on its line")
                    break
                if self._is_in_part:
                    self._is_in_part = False
                    if self._left:
                        raise RequestError(400, "a part is shorter than its Content-Length")
                    yield None
                self._at = _At.EPILOGUE if found[0] == b"--" else _At.HEAD
                at = found.end() - 2  # keep this CR LF: before an empty head, it begins the CR LF CR LF that ends one
            elif self._at is _At.HEAD:
                end = data.find(b"\r\n\r\n", at)
                if (end if end >= 0 else len(data) - 3) - at > self._header_size + 2 * _MOST_FIELDS:
                    raise self._too_large()
                if end < 0:
                    break
                head = self._head_of(data[at + 2 : end])
                at = end + 4
                self._at, self._is_in_part = _At.BODY, True
                yield head
            else:  # the preamble, or a part's body
                end = data.find(self._boundary, at)
                stop = end if end >= 0 else self._end_of_certain(data, at)
                if stop > at and self._is_in_part:
                    self._count(stop - at)
                    yield data[at:stop]
                at = stop
                if end < 0:
                    break
                at += len(self._boundary)
                self._at = _At.BOUNDARY
        self._held = b"" if self._at is _At.EPILOGUE else data[at:]

    def end(self) -> None:
        """Check that the form is complete, so that a cut-off one never passes for it (R10).

        Raises:
            RequestError: the form was cut off.
        """
        if self._at is _At.PREAMBLE:
            raise RequestError(400, "the boundary that the form's content type names is not in the form")
        if self._at is not _At.EPILOGUE:
            raise RequestError(400, "the form was cut off before its last boundary")

    def _end_of_certain(self, data: bytes, at: int) -> int:
        """Return where an incomplete boundary may begin, or else the end of `data`.

        Only the last CR can begin one, because the first byte of a boundary is its only CR.
        """
        begun = data.rfind(b"\r", max(at, len(data) - len(self._boundary) + 1))
        return begun if begun >= 0 and self._boundary.startswith(data[begun:]) else len(data)

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise RequestError(400, "a part is longer than its Content-Length")

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the headers of a part are larger than {self._header_size} bytes")

    def _head_of(self, data: bytes) -> PartHead:
        self._spare -= 1
        lines = _FOLD.sub(b" ", data).split(b"\r\n")
        if self._spare < 0 or len(lines) > _MOST_FIELDS:
            raise RequestError(413, "the form has too many parts, or one of them has too many headers")
        if sum(map(len, lines)) > self._header_size:
            raise self._too_large()
        fields: list[tuple[bytes, bytes]] = []
        for line in lines:
            found = _FIELD.fullmatch(line)
            if found is None:
                raise RequestError(400, "a part has no headers, or one that is malformed")
            fields.append((found[1].lower(), found[2].rstrip(b" \t")))
        if len({name for name, _ in fields}) < len(fields):
            raise RequestError(400, "a part repeats a header")
        headers = Headers._received(fields)
        headers._freeze("a part's headers are read-only")
        length = headers.get("content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise RequestError(400, "the Content-Length of a part is not a valid number")
        self._left = None if length is None else int(length)
        return PartHead(*part_names(headers.get("content-disposition", ""), self.codec), headers)
