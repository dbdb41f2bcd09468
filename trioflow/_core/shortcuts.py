"""What a sink may take whole from a source, where no chunk need be seen: a stretch of a file, or a copy made by a thread.

Rule: a sink takes the kinds that it knows, and a source can always be read in chunks too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

Write: TypeAlias = "Callable[[bytes | memoryview], object]"
Takes: TypeAlias = Mapping[type, Callable[[Any], Awaitable[Any]]]  # what a sink can take, by kind
NOTHING: Final[Takes] = {}


class Offer(NamedTuple):
    """What a source offers.

    Where the next stage is a sink that takes this `kind`, a run opens it, hands it to the sink, and closes it when the
    sink has returned. It may open as None, as a pipe does that has no fixed length: the source is then read in chunks.
    """

    kind: type
    open: Callable[[], AbstractAsyncContextManager[Any]]


class OpenRegion(Protocol):
    """A stretch of an open file, with both ends known: `os.sendfile` and the like take it as it is."""

    @property
    def fd(self) -> int:
        """The descriptor. It belongs to the region, which closes it; its file offset means nothing."""
        ...

    @property
    def start(self) -> int:
        """The offset of the first byte."""
        ...

    @property
    def stop(self) -> int:
        """The offset after the last byte, never below `start`: what the file held when it was opened."""
        ...


class ThreadCopy:
    """All that a source has, written by itself: one thread moves what would otherwise cross two tasks and a channel.

    Args:
        copy: Calls the function that it is given with each piece, in threads, and returns the number of bytes.
    """

    def __init__(self, copy: Callable[[Write], Awaitable[int]]) -> None:
        self._copy = copy
        self.failure: BaseException | None = None  # of the source itself; what the sink's function raised is the sink's

    async def into(self, write: Write) -> int:
        """Call `write` with all of it, in threads, and return the number of bytes."""
        refused: list[BaseException] = []

        def written(piece: bytes | memoryview) -> None:
            try:
                write(piece)
            except BaseException as exc:
                refused.append(exc)
                raise

        try:
            return await self._copy(written)
        except BaseException as exc:
            if exc not in refused:
                self.failure = exc
            raise
