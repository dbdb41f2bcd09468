"""Sources that a sink may take whole, where no chunk need be seen: a stretch of a file, or one that writes by itself.

Rule: a sink takes what it knows how to, and a source can always be read in chunks too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias


class OpenRegion(Protocol):
    """A stretch of an open file, with both ends known: `os.sendfile` and the like take it as it is."""

    @property
    def fd(self) -> int:
        """The descriptor; it stays its region's, is closed by it, and its file offset means nothing."""
        ...

    @property
    def start(self) -> int:
        """The offset of the first byte."""
        ...

    @property
    def stop(self) -> int:
        """The offset behind the last byte, never below `start`: what the file held when it was opened."""
        ...


class Region(Protocol):
    """A stretch of a file that a sink may take whole instead of chunk by chunk.

    Where a `Readable` with a `region` is piped straight into a `Writable` with `take_region`, a run opens the region,
    hands it to the sink and closes it when the sink has returned; no chunk is read.
    """

    def open(self) -> AbstractAsyncContextManager[OpenRegion | None]:
        """Open the file; give None where it has no fixed length (a pipe, a device): then it is read in chunks."""
        ...


# A source that writes all it has by itself, calling a function of its sink's in threads, and gives the number of bytes:
# then one thread moves what otherwise two tasks and a thread would hand on. Taken as a `Region` is.
Pour: TypeAlias = "Callable[[Callable[[bytes | memoryview], object]], Awaitable[int]]"
