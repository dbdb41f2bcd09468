"""What a request asks for in its query, checked.

Rule 1: what cannot be is told in words, by `Refused`; the demo answers it in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import parse_qs

from trioflow import http


class Refused(Exception):
    """What was asked for cannot be. The text is for who asked."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def text_in(request: http.Request, name: str, default: str = "") -> str:
    """Give what the query says last about `name`."""
    try:
        return parse_qs(request.query, keep_blank_values=True, max_num_fields=20).get(name, [default])[-1]
    except ValueError as exc:
        raise Refused("the query has too many fields") from exc


def number_in(request: http.Request, name: str, default: int, *, low: int, high: int) -> int:
    """Give a whole number from the query, from `low` to `high`."""
    said = text_in(request, name, str(default))
    if not (said.isascii() and said.isdigit() and len(said) < 12 and low <= int(said) <= high):
        raise Refused(f"{name} must be a whole number from {low} to {high}, not {said[:40]!r}")
    return int(said)


def word_in(request: http.Request, name: str, known: Iterable[str]) -> str:
    """Give one of the known words from the query."""
    said = text_in(request, name)
    if said not in (known := list(known)):
        raise Refused(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {said[:40]!r}")
    return said


def as_json(value: object) -> bytes:
    """Give a value as a line of JSON."""
    return json.dumps(value).encode() + b"\n"
