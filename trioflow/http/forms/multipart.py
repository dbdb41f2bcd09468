"""multipart/form-data (RFC 7578) without I/O: bytes in; heads of parts, pieces of their bodies and their ends out.

Rule 1: how the input is cut into chunks changes neither the parts nor whether the form is refused; of two faults, either
    may be reported.
Rule 2: nothing may come before the first boundary; what comes after the last one is discarded (RFC 2046 5.1.1).
Rule 3: of a part only its head is held, within its limit, and the start of a boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import RequestError

_KIND: Final = re.compile(r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*")
_PARAMETER: Final = re.compile(r';[ \t]*([^\s;="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*|;[ \t]*')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046 5.1.1
_CONTROL: Final = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
_MOST_FIELDS: Final = 16  # header fields of one part


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """Split a `Content-Type` into the type in lower case and its parameters (RFC 9110 8.3.1).

    Raises:
        RequestError: it is malformed, or has a parameter twice.
    """
    kind = _KIND.match(value)
    at = kind.end() if kind else 0
    parameters: dict[str, str] = {}
    while kind and at < len(value):
        found = _PARAMETER.match(value, at)
        name = found[1] and found[1].lower() if found else None
        if not found or name in parameters:
            kind = None
        elif name:
            parameters[name] = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
        at = found.end() if found else at
    if not kind:
        raise RequestError(400, f"malformed content type {value!r}")
    return kind[1].lower(), parameters


class PartHead(NamedTuple):
    """The head of a part; `filename` is None if the part is not a file."""

    name: str
    filename: str | None
    headers: Headers


class Multipart:
    """A parser of one form.

    Args:
        boundary: What the content type says.
        count: The most parts.
        header_size: The most bytes in the header fields of one part.

    Raises:
        RequestError: `boundary` is not a valid boundary.
        ImportError: the extra `forms` is not installed.
    """

    def __init__(self, boundary: str, *, count: float, header_size: float) -> None:
        try:
            import multipart  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

            library: Any = multipart
            library.PushMultipartParser  # noqa: B018 - another library may have this name, as python-multipart has
        except (ImportError, AttributeError) as exc:
            raise ImportError("forms with files need multipart: pip install 'trioflow[forms]'") from exc
        if not _BOUNDARY.fullmatch(boundary):
            raise RequestError(400, f"invalid boundary {boundary!r} between the parts of a form")
        # The library counts a line's end where a chunk ends within it: this gives it room, the limit is ours.

        class Strict(library.PushMultipartParser):  # type: ignore[misc]
            # The library takes a lone line end for one where a chunk ends behind it, and for a part of its line elsewhere.
            def _on_segment_headerline(self, line: bytes) -> None:
                if _CONTROL.search(line):
                    raise library.ParserError("a header of a part has a control character in it")
                super()._on_segment_headerline(line)

        self._parser = Strict(
            boundary.encode("ascii"),
            max_segment_count=count,
            max_header_size=header_size + 2,
            max_header_count=_MOST_FIELDS,
            header_charset="latin-1",
        )
        self._errors = library.MultipartError
        self._limit_reached = library.ParserLimitReached
        self._header_size = header_size
        self._boundary = b"--" + boundary.encode("ascii")
        self._held: bytes | None = b""  # what came before there was enough for a boundary; None after that

    def feed(self, chunk: bytes) -> Iterator[PartHead | bytes | None]:
        """Yield what `chunk` holds: a part's head, then pieces of its body, then None for its end.

        Iterate to the end before you feed the next chunk.

        Raises:
            RequestError: it is malformed, or exceeds a limit.
        """
        if not chunk:
            return  # the library would take it for the end
        if self._held is not None:
            chunk = self._held + chunk
            self._held = chunk
            if len(chunk) < len(self._boundary) + 2:
                return
            self._held = None
            if not chunk.removeprefix(b"\r\n").startswith(self._boundary):
                raise RequestError(400, "the form does not begin with its boundary")
        try:
            for event in self._parser.parse(chunk):
                yield event if event is None or isinstance(event, bytes) else self._head_of(event)
        except self._errors as exc:
            status = 413 if isinstance(exc, self._limit_reached) else 400
            raise RequestError(status, f"the form cannot be read: {exc}") from exc

    def end(self) -> None:
        """Check that the form is complete (R10).

        Raises:
            RequestError: it was cut off.
        """
        try:
            self._parser.close()
        except self._errors as exc:
            raise RequestError(400, "the form was cut off before its last boundary") from exc

    def _head_of(self, segment: Any) -> PartHead:
        fields: list[tuple[str, str]] = segment.headerlist
        if sum(len(name) + len(value) + 2 for name, value in fields) > self._header_size:
            raise RequestError(413, f"the headers of a part are larger than {self._header_size} bytes")
        if len({name for name, _ in fields}) < len(fields):
            raise RequestError(400, "a part has a header twice")
        headers = Headers.received(
            [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        )
        headers.freeze("a part's headers are what came: they cannot change")
        return PartHead(
            _in_utf8(segment.name), None if segment.filename is None else _in_utf8(segment.filename), headers
        )


def _in_utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError as exc:
        raise RequestError(400, "the name of a part is not UTF-8") from exc
