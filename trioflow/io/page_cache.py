"""Reads files from the page cache, without ever waiting for the disk.

Rule: if the cache does not answer, for whatever reason, the caller reads in a thread, which also raises any error.
"""

from __future__ import annotations

import os
from typing import Final

STRIDE: Final = 1 << 17  # bytes between two probes: Linux reads this much ahead at once, so all of it is cached or none

NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)  # 0 if the system has no such call


def is_cached(fd: int, start: int, stop: int) -> bool:
    """Return whether the page cache holds this stretch, judged by samples: 0.6 µs for each `STRIDE`."""
    byte = bytearray(1)
    try:
        return bool(NOWAIT) and all(os.preadv(fd, [byte], at, NOWAIT) for at in (*range(start, stop, STRIDE), stop - 1))
    except OSError:
        return False


def read_cached(fd: int, start: int, stop: int) -> bytes | memoryview | None:
    """Return this stretch if the page cache holds all of it, else None."""
    if start == stop:
        return b""
    if not NOWAIT:
        return None
    content = bytearray(stop - start)
    try:
        count = os.preadv(fd, [content], start, NOWAIT)
    except OSError:
        return None
    return memoryview(content) if count == len(content) else None
