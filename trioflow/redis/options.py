"""What the ends of a stream in Redis are told, and what holds where nothing is said."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from trioflow._core.checks import check_positive

CAPACITY: Final = 1000  # entries
PREFETCH: Final = 16  # entries in a chain
LEASE: Final = 30.0  # seconds
TRIES: Final = 5

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(item: Any) -> bytes:
    """Encode an item as streams do where nothing else is said; NaN and the like are refused."""
    return _encoder.encode(item).encode()


def check_name(what: str, name: object) -> str:
    """Give `name` back if it is a word that keys can be made of."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {name!r}")
    if not name or "{" in name or "}" in name or any(character.isspace() for character in name):
        raise ValueError(f"{what} must be a word without braces, not {name!r}")
    return name


def check_patience(seconds: object) -> float:
    """Give seconds back if they are a time to wait for a lost server, 0 for not at all."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds == 0:
        return 0.0
    return check_positive("patience", seconds)


def check_lease(lease: object) -> float:
    """Give seconds back if they are a finite time above 0."""
    seconds = check_positive("lease", lease)
    if seconds == math.inf:
        raise ValueError("lease must be finite: what a dead process holds is delivered again after it")
    return seconds
