"""Which other origins may read a response: CORS, decided without I/O (the Fetch standard, 3.2).

Rule 1: the response depends on the origin only if not all are allowed; then `Vary` says so.
Rule 2: no credentials: what an origin's scripts may read with a user's cookies, a handler decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~%!$&'()*+=:\[\]-]+|null", re.IGNORECASE)
_SHOWN: Final = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"
_MAY_ASK: Final = "If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range"
_LASTS: Final = "7200"  # seconds for which a browser may cache a preflight; none does so for longer

Fields: TypeAlias = "list[tuple[str, str]]"


def checked_origins(cors: str | Iterable[str] | None) -> frozenset[str] | None:
    """Return the origins that are allowed, `"*"` for all; None for no CORS.

    Raises:
        TypeError: one is not a str.
        ValueError: one is not an origin as browsers write it.
    """
    if cors is None:
        return None
    origins = [cors] if isinstance(cors, str) else list(cors)
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"cors wants origins such as 'https://example.org', not {origin!r}")
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            raise ValueError(f"cors wants '*' or origins such as 'https://example.org', without a path, not {origin!r}")
    return frozenset(origins)


def fields_for(origins: frozenset[str], origin: str | None) -> Fields:
    """Return the header fields of a response to a request from `origin`, None if it does not say."""
    if "*" in origins:
        return [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _SHOWN)]
    fields = [("Vary", "Origin")]
    if origin is not None and origin in origins:
        fields += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _SHOWN)]
    return fields


def preflight_fields(methods: str) -> Fields:
    """Return the further header fields of a response to a preflight."""
    return [
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", _MAY_ASK),
        ("Access-Control-Max-Age", _LASTS),
    ]
