"""A short-lived cache of small files, so that a popular file is not opened for each request.

Rule 1: an entry is a whole file: its length, tag and bytes belong together.
Rule 2: an entry expires after `LASTS` seconds, so a file that was replaced, changed or removed is noticed by then.
Rule 3: a file that changed within the last `RESTS` seconds is not cached. It may still be changing, and a client that
    has just written a file must get what it wrote.
Rule 4: the cache keeps at most `MOST` bytes and no descriptors; the oldest entry is evicted first.
"""

from __future__ import annotations

import time
from typing import Final, Generic, TypeAlias, TypeVar

LASTS: Final = 0.1  # seconds: at 1,000 requests a second, one in 100 opens the file
RESTS: Final = 2.0  # seconds: the coarsest resolution of a file system's times
LARGEST: Final = 1 << 16  # bytes: sending a larger file costs far more than opening it
MOST: Final = 1 << 22  # bytes of all entries
_HEADERS: Final = 2048  # bytes that an entry's headers are assumed to take


Key: TypeAlias = "tuple[str, tuple[str, ...]]"  # the path, and which codings the client accepts


T = TypeVar("T")


class FileCache(Generic[T]):
    """Cached files, by the path of the request and the accepted codings."""

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[float, int, T]] = {}
        self._weight = 0

    def get(self, key: Key) -> T | None:
        """Return the cached file; None if it is not cached or has expired."""
        known = self._kept.get(key)
        if known is None:
            return None
        until, _, kept = known
        if time.monotonic() < until:
            return kept
        self._evict(key)
        return None

    def put(self, key: Key, kept: T, size: int) -> None:
        """Cache a file of `size` bytes, and evict the oldest ones if the cache is full."""
        if key in self._kept:
            self._evict(key)
        weight = _HEADERS + len(key[0]) + size
        self._kept[key] = (time.monotonic() + LASTS, weight, kept)
        self._weight += weight
        while self._weight > MOST:
            self._evict(next(iter(self._kept)))

    def _evict(self, key: Key) -> None:
        self._weight -= self._kept.pop(key)[1]


def is_at_rest(changed_ns: int) -> bool:
    """Return whether a file, whose inode last changed at `changed_ns`, has not changed for `RESTS` seconds."""
    return time.time() - changed_ns / 1e9 > RESTS
