"""What the head of a request says. No I/O.

Rule 1: nothing in it changes: requests whose heads are equal byte for byte share one.
Rule 2: what only some handlers ask for is made when it is asked for, once.
"""

from __future__ import annotations

from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import RequestError
from trioflow.http.wire.response_writer import tokens_of
from trioflow.http.wire.target import normalised, parts_of

Fields = list[tuple[bytes, bytes]]


class Head:
    """The head of one request, or of several that are equal.

    Args:
        method: As it was sent.
        target: As it was sent.
        fields: Names in lower case, and values.
        is_old: Whether the version is below 1.1.

    Raises:
        RequestError: the client expects what we cannot do.

    Attributes:
        length: What Content-Length says; None where there is none.
        has_body: Whether a body follows.
        wants_continue: Whether the client may wait to be told to send it.
        is_last: Whether the client will not use the connection again.
    """

    __slots__ = (
        "_headers", "_path", "fields", "has_body", "is_head", "is_last", "is_old", "length", "method", "target",
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
        options: list[bytes] = []
        for name, value in fields:
            match name:
                case b"connection":
                    options += tokens_of(value)
                case b"content-length":
                    self.length = int(value)
                    self.has_body |= self.length > 0
                case b"transfer-encoding":
                    self.has_body = True
                case b"expect" if not is_old:
                    if value.lower() != b"100-continue":
                        raise RequestError(417, f"the server cannot do what {value!r} expects")
                    self.wants_continue = True
                case _:
                    pass
        self.is_last = b"close" in options or (is_old and b"keep-alive" not in options)

    @property
    def headers(self) -> Headers:
        """The fields as a mapping that cannot be changed."""
        if self._headers is None:
            self._headers = Headers.received(self.fields)
            self._headers.freeze("a request's headers are what came: they cannot change")
        return self._headers

    def path(self) -> tuple[str, str, str]:
        """Take the target apart: give its path as it was sent, its query, and the path made normal.

        Raises:
            RequestError: there is no path in it, or none that is served.
        """
        if self._path is None:
            raw_path, _, query = parts_of(self.target)[1].partition("?")
            self._path = raw_path, query, normalised(raw_path)
        return self._path


def _with_host(fields: Fields, target: str) -> Fields:
    """Let the host that a whole URL names take the place of Host (RFC 9112 3.2.2)."""
    host = parts_of(target)[0]
    if host is None:
        return fields
    return [(b"host", host.encode("ascii")), *(field for field in fields if field[0] != b"host")]
