"""Fields that come behind a body."""

from __future__ import annotations

from typing import Final

from trioflow.http.wire.headers import Headers

# What says where a message ends, whom it is for, or what must be known before its body (RFC 9110 6.5.1).
_NOT_BEHIND: Final = frozenset(
    [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "proxy-authorization",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
    ]
)


class Trailers(Headers):
    """Header fields that are sent behind a body; what a client must know before it is refused."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        _refuse(name)
        super().__setitem__(name, value)

    def add(self, name: str, value: str) -> None:
        """Add one more field of that name, behind those there are."""
        _refuse(name)
        super().add(name, value)


def _refuse(name: object) -> None:
    if isinstance(name, str) and name.lower() in _NOT_BEHIND:
        raise ValueError(f"{name} cannot come behind a body")
