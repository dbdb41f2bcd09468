"""The head of a request: its target, its header fields, and what they say about the body. No I/O.

Rule 1: a head never changes, so requests whose heads are equal byte for byte share one.
Rule 2: the headers and the path are parsed when a handler first uses them.
Rule 3: a path is absolute, decoded once, without `.`, `..` and empty segments, or is refused with 400. It is not
    repaired, because a proxy in front of the server may read it differently. So a dot segment that only appears after
    decoding `%2F` is refused: most proxies pass `/public/..%2fadmin` on as a name below `/public/`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from trioflow.http.wire.headers import Headers, tokens_of
from trioflow.http.wire.limits import RequestError

Fields = list[tuple[bytes, bytes]]

_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


class Head:
    """The head of one request, or of several with equal heads.

    Args:
        method: The method as it was sent.
        target: The target as it was sent.
        fields: The header fields, with names in lower case.
        is_old: Whether the version is below HTTP/1.1.

    Raises:
        RequestError: the request has an `Expect` header other than `100-continue`.

    Attributes:
        length: The value of Content-Length; None without one.
        has_body: Whether a body follows.
        wants_continue: Whether the client may wait for `100 Continue` before it sends the body.
        is_last: Whether this is the client's last request on the connection.
    """

    __slots__ = (
        "_headers", "_log_fields", "_path", "fields", "has_body", "is_head", "is_last", "is_old", "length", "method", "target",
        "wants_continue",
    )  # fmt: skip

    def __init__(self, method: str, target: str, fields: Fields, *, is_old: bool) -> None:
        self.method = method
        self.target = target
        self.fields = fields if target.startswith("/") else _with_host(fields, target)
        self.is_old = is_old
        self.is_head = method == "HEAD"
        self.length: int | None = None
        self.has_body = self.wants_continue = False
        self._headers: Headers | None = None
        self._path: tuple[str, str, str] | None = None
        self._log_fields: tuple[str | None, str | None] | None = None
        options: list[str] = []
        for name, value in fields:
            match name:
                case b"connection":
                    options += tokens_of(value.decode("latin-1"))
                case b"content-length":
                    self.length = int(value)
                    self.has_body |= self.length > 0
                case b"transfer-encoding":
                    self.has_body = True
                case b"expect" if not is_old:
                    if value.lower() != b"100-continue":
                        raise RequestError(417, f"the only supported expectation is 100-continue, got {value!r}")
                    self.wants_continue = True
                case _:
                    pass
        self.is_last = "close" in options or (is_old and "keep-alive" not in options)

    @property
    def headers(self) -> Headers:
        """The fields as a read-only mapping."""
        if self._headers is None:
            self._headers = Headers._received(self.fields)
            self._headers._freeze("a request's headers are read-only")
        return self._headers

    @property
    def log_fields(self) -> tuple[str | None, str | None]:
        """The values of Referer and User-Agent."""
        if self._log_fields is None:
            self._log_fields = (self.headers.get("referer"), self.headers.get("user-agent"))
        return self._log_fields

    def path(self) -> tuple[str, str, str]:
        """Return the path as it was sent, the query, and the normalised path.

        Raises:
            RequestError: the path is malformed or leads above the root.
        """
        if self._path is None:
            raw_path, _, query = parts_of(self.target)[1].partition("?")
            self._path = raw_path, query, normalised(raw_path)
        return self._path


def _with_host(fields: Fields, target: str) -> Fields:
    """Return the fields; if the target is a whole URL, its host replaces the Host field (RFC 9112 3.2.2)."""
    host = parts_of(target)[0]
    if host is None:
        return fields
    return [(b"host", host.encode("ascii")), *(field for field in fields if field[0] != b"host")]


def parts_of(target: str) -> tuple[str | None, str]:
    """Split a checked target into its host, if it names one, and its path with the query."""
    if target.startswith(("/", "*")):
        return None, target
    rest = target.partition("://")[2]  # of a whole URL (RFC 9112 3.2.2)
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end], path if path.startswith("/") else "/" + path


def normalised(raw_path: str) -> str:
    """Return a path percent-decoded, without dot segments and repeated slashes.

    Bytes that are not UTF-8 are decoded as `os.fsdecode` does.

    Raises:
        RequestError: the path has an invalid escape, a NUL, or a dot segment that only appears after decoding `%2F`; or
            it leads above the root.
    """
    if "%" not in raw_path and "/." not in raw_path and "//" not in raw_path:
        return raw_path
    if _BAD_ESCAPE.search(raw_path):
        raise RequestError(400, f"the path {raw_path!r} has a % without two hex digits after it")
    path = unquote_to_bytes(raw_path).decode("utf-8", "surrogateescape")
    if "\0" in path:
        raise RequestError(400, f"the path {raw_path!r} contains a NUL")
    if "%2f" in raw_path.lower():
        for names in (unquote_to_bytes(segment).split(b"/") for segment in raw_path.split("/")):
            if len(names) > 1 and not {b".", b".."}.isdisjoint(names):
                raise RequestError(400, f"the path {raw_path!r} has a dot segment next to an encoded slash (%2F)")
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if not kept:
                raise RequestError(400, f"the path {raw_path!r} leads above the root")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + tail
