"""Follows a growing file: at its end, looks again until there is more.

Rule 1: a thread looks and opens; between two looks nothing runs.
Rule 2: a file that became shorter is read again from its beginning. A file that another has replaced is read until it
    has been quiet for one interval; then the other is read from its beginning.
Rule 3: after the first look, errors that pass by themselves are waited out: those of a rotation, or of a process that
    is out of descriptors. Any other, such as EIO, ends the run, and so does every error of the first look.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator
from typing import Final

import trio

from trioflow._core.block import block
from trioflow.io.file_reader import FileReader, Reader, open_for_reading, reader_of

# The name is missing, has a file in place of a directory, is a directory, cannot be read yet, or is a loop of links;
# its directory was replaced on a file server; no descriptor is free.
_PASSING: Final = frozenset(
    (
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ESTALE, errno.EMFILE,
        errno.ENFILE,
    )
)  # fmt: skip


@block
async def open_following(
    path: str, start: int, chunk_size: int | None, interval: float, *, waits: bool
) -> AsyncGenerator[Reader, None]:
    """Open the file at `path` for reading without an end; when the block ends, close whichever file is open then.

    If it `waits`, a missing file is waited for.
    """
    attempt = _open_unless_missing if waits else open_for_reading
    while (opened := await trio.to_thread.run_sync(attempt, path)) is None:  # noqa: ASYNC110 - no event to wait for
        await trio.sleep(interval)
    follower = Follower(path, opened, start, chunk_size, interval)
    try:
        yield follower
    finally:
        os.close(follower.fd)


class Follower:
    """Reads the file at a path as it grows. Only a pipe or a device has an end."""

    has_more = True

    def __init__(
        self, path: str, opened: tuple[int, os.stat_result], start: int, chunk_size: int | None, interval: float
    ) -> None:
        self._path = path
        self._chunk_size = chunk_size
        self._interval = interval
        self._start_reading(opened, start)

    def _start_reading(self, opened: tuple[int, os.stat_result], start: int) -> None:
        self.fd, status = opened
        self._status = status  # while the file is open, its inode number is not used again, so it says which file it is
        self._can_grow = stat.S_ISREG(status.st_mode)
        self._reader = reader_of(self.fd, status, start, None, self._chunk_size)
        self._is_replaced = False

    async def read(self) -> bytes:
        """Wait for the next block and return it; `b""` at the end."""
        while True:
            block = await self._reader.read()
            if block or not self._can_grow:
                return block
            await trio.sleep(self._interval)
            if self._is_replaced:
                if block := await self._reader.read():
                    return block
                await self._switch()
            else:
                await self._look()

    async def _look(self) -> None:
        size, self._is_replaced = await trio.to_thread.run_sync(self._find)
        if isinstance(self._reader, FileReader) and size < self._reader.at:
            self._reader.at = 0

    def _find(self) -> tuple[int, bool]:
        size = os.fstat(self.fd).st_size
        try:
            return size, not os.path.samestat(os.stat(self._path), self._status)
        except OSError as exc:
            _raise_unless_passing(exc)
            return size, False

    async def _switch(self) -> None:
        """Continue with the file that has taken the name, if it can be opened."""
        self._is_replaced = False  # as of the last look: if the other cannot be opened, the next look decides again
        opened = await trio.to_thread.run_sync(_open_unless_missing, self._path)
        if opened is None:
            return
        if os.path.samestat(opened[1], self._status):  # it was moved back
            os.close(opened[0])
            return
        os.close(self.fd)
        self._start_reading(opened, 0)


def _open_unless_missing(path: str) -> tuple[int, os.stat_result] | None:
    try:
        return open_for_reading(path)
    except OSError as exc:
        _raise_unless_passing(exc)
        return None


def _raise_unless_passing(exc: OSError) -> None:
    if exc.errno not in _PASSING:
        raise exc
