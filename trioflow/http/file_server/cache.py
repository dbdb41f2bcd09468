"""A short-lived cache of small files: one that is requested again and again is not opened each time.

Rule 1: what is kept is kept whole: a length, a tag and bytes that belong together.
Rule 2: an entry expires after `LASTS` seconds, so a file that was replaced, changed or removed is noticed by then.
Rule 3: a file that changed within the last `RESTS` seconds is not kept: it may still be changing, and a client that has
    just written one and requests it gets what it wrote.
Rule 4: no descriptor is kept, and at most `MOST` bytes; the oldest entry is evicted first.
"""

from __future__ import annotations

import time
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

LASTS: Final = 0.1  # seconds: at 1,000 requests a second, one in 100 opens the file
RESTS: Final = 2.0  # seconds: no file system's times are coarser
LARGEST: Final = 1 << 16  # bytes of a file: to send a larger one costs far more than to open it
MOST: Final = 1 << 22  # bytes of all entries
_HEADERS: Final = 2048  # bytes that an entry's headers count as


Key: TypeAlias = "tuple[str, tuple[str, ...]]"  # the path that is looked up, and which codings the client accepts


class Sized(Protocol):
    """What can be kept: something with content."""

    @property
    def content(self) -> bytes | memoryview | None:
        """The bytes to send."""
        ...


T = TypeVar("T", bound=Sized)


class FileCache(Generic[T]):
    """Files that are kept for a moment, by the path that was looked up."""

    __slots__ = ("_kept", "_weight")

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[float, T]] = {}
        self._weight = 0

    def get(self, key: Key) -> T | None:
        """Return what is kept, or None if there is nothing or it has expired."""
        known = self._kept.get(key)
        if known is None:
            return None
        until, kept = known
        if time.monotonic() < until:
            return kept
        self._evict(key)
        return None

    def put(self, key: Key, kept: T) -> None:
        """Keep this, and evict what is too much."""
        if key in self._kept:
            self._evict(key)
        self._kept[key] = (time.monotonic() + LASTS, kept)
        self._weight += _weight(key, kept)
        while self._weight > MOST:
            self._evict(next(iter(self._kept)))

    def _evict(self, key: Key) -> None:
        self._weight -= _weight(key, self._kept.pop(key)[1])


def _weight(key: Key, kept: Sized) -> int:
    return _HEADERS + len(key[0]) + len(kept.content or b"")


def is_at_rest(changed_ns: int) -> bool:
    """Return whether a file whose inode was last changed then has been left alone for a while."""
    return time.time() - changed_ns / 1e9 > RESTS
