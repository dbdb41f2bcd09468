"""Reads and checks the query of a request.

Rule 1: an invalid value raises `Refused` with a message for the client; the demo answers it in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import parse_qs

from trioflow import http


class Refused(Exception):
    """The request is refused, for a reason that is sent to the client."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def text_in(request: http.Request, name: str, default: str = "") -> str:
    """Return the last value of `name` in the query."""
    try:
        return parse_qs(request.query, keep_blank_values=True, max_num_fields=20).get(name, [default])[-1]
    except ValueError as exc:
        raise Refused("the query has too many fields") from exc


def number_in(request: http.Request, name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number from the query, from `low` to `high`."""
    said = text_in(request, name, str(default))
    if not (said.isascii() and said.isdigit() and len(said) < 12 and low <= int(said) <= high):
        raise Refused(f"{name} must be a whole number from {low} to {high}, got {said[:40]!r}")
    return int(said)


def word_in(request: http.Request, name: str, known: Iterable[str]) -> str:
    """Return a word from the query, which must be one of `known`."""
    said = text_in(request, name)
    if said not in (known := list(known)):
        raise Refused(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, got {said[:40]!r}")
    return said


def as_json(value: object) -> bytes:
    """Return a value as a line of JSON."""
    return json.dumps(value).encode() + b"\n"
