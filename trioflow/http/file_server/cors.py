"""CORS: which other origins may read a response, decided without I/O (the Fetch standard, 3.2).

Rule 1: unless all origins are allowed, the response depends on the origin, and `Vary` says so.
Rule 2: requests with credentials are never allowed here: a handler must decide which origins may read with a user's
    cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~%!$&'()*+=:\[\]-]+|null", re.IGNORECASE)
_SHOWN: Final = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"
_MAY_ASK: Final = "If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range"
_LASTS: Final = "7200"  # seconds for which a browser may cache a preflight: no browser allows more

Fields: TypeAlias = "list[tuple[str, str]]"


def checked_origins(cors: str | Iterable[str] | None) -> frozenset[str] | None:
    """Return the allowed origins, with `"*"` for all of them; None without CORS.

    Raises:
        TypeError: an origin is not a `str`.
        ValueError: an origin is not in the form that browsers send.
    """
    if cors is None:
        return None
    origins = [cors] if isinstance(cors, str) else list(cors)
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"cors must be origins such as 'https://example.org', got {origin!r}")
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            raise ValueError(
                f"cors must be '*' or origins such as 'https://example.org', without a path, got {origin!r}"
            )
    return frozenset(origins)


def fields_for(origins: frozenset[str], origin: str | None) -> Fields:
    """Return the CORS header fields for a request from `origin`, which is None if the request has no Origin."""
    if "*" in origins:
        return [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _SHOWN)]
    fields = [("Vary", "Origin")]
    if origin is not None and origin in origins:
        fields += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _SHOWN)]
    return fields


def preflight_fields(methods: str) -> Fields:
    """Return the additional header fields of the response to a preflight request."""
    return [
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", _MAY_ASK),
        ("Access-Control-Max-Age", _LASTS),
    ]
