"""What a sink can take whole from a source, without chunks in between: a region of a file, or a copy made by a thread.

Rule: a sink takes only the kinds that it knows, and every source can also be read in chunks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias

Write: TypeAlias = "Callable[[bytes | memoryview], object]"
Takes: TypeAlias = Mapping[type, Callable[[Any], Awaitable[Any]]]  # what a sink can take, by kind
NOTHING: Final[Takes] = {}


class Offer(NamedTuple):
    """What a source offers to a sink.

    If the next stage is a sink that takes this `kind`, a run opens the offer, passes it to the sink, and closes it when the
    sink has returned. It may open as None, for example for a pipe, which has no fixed length; then the source is read in
    chunks.
    """

    kind: type
    open: Callable[[], AbstractAsyncContextManager[Any]]


class OpenRegion(NamedTuple):
    """A region of an open file with known bounds, ready for `os.sendfile` and the like. Ignore the file offset of `fd`.

    `start` is the offset of the first byte. `stop` is the offset after the last, never below `start`, and at most the size
    that the file had when it was opened.
    """

    fd: int
    start: int
    stop: int


class ThreadCopy:
    """A source that writes its content itself: one thread moves bytes that would otherwise cross two tasks and a channel.

    `copy` calls the function that it gets with each piece, in threads, and returns the number of bytes.
    """

    def __init__(self, copy: Callable[[Write], Awaitable[int]]) -> None:
        self._copy = copy
        self.failure: BaseException | None = None  # of the source, not of the sink's function

    async def into(self, write: Write) -> int:
        """Call `write` with each piece, in threads, and return the number of bytes."""
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
