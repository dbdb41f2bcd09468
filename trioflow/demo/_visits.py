"""State that an open page shares with its handlers: one visit for each page, as long as its status updates are read.

Rule 1: nothing of a visit outlives it. A request without a page, as from curl, gets a visit of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import Refused, text_in

_visits: Final[dict[str, Visit]] = {}
_SHOWN: Final = 8  # records of each kind that are kept, the newest


def _notes() -> deque[dict[str, Any]]:
    return deque(maxlen=_SHOWN)


@dataclass
class Visit:
    """State that the handlers of one page share."""

    pace: float = 12.0  # items per second that the slow reader takes
    picture: dict[str, int] = field(default_factory=lambda: {"chunks": 0, "bytes": 0})
    upload: dict[str, Any] = field(default_factory=dict)
    ranges: deque[dict[str, Any]] = field(default_factory=_notes)
    sources: deque[dict[str, Any]] = field(default_factory=_notes)
    pieces: tf.SendChannel[bytes] | None = None  # sends what is typed to its transform

    @contextmanager
    def source(self, name: str) -> Generator[dict[str, Any], None, None]:
        """Record a source from its first item until it stops, for whatever reason."""
        note = {"name": name, "made": 0, "running": True}
        self.sources.append(note)
        try:
            yield note
        finally:
            note["running"] = False

    def shown(self) -> dict[str, Any]:
        """Return the values that the page shows."""
        return {
            "picture": self.picture,
            "upload": self.upload,
            "ranges": list(self.ranges),
            "sources": list(self.sources),
        }


def visit_of(request: http.Request) -> Visit:
    """Return the visit that the query names."""
    return _visits.get(text_in(request, "visit")) or Visit()


@contextmanager
def visiting(request: http.Request) -> Generator[Visit, None, None]:
    """Begin the visit that the query names; it ends with the block."""
    name, visit = text_in(request, "visit"), Visit()
    if len(name) > 64:
        raise Refused("visit must have at most 64 characters")
    if name:
        _visits[name] = visit
    try:
        yield visit
    finally:
        if _visits.get(name) is visit:  # the page may have reconnected already
            del _visits[name]
