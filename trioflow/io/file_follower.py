"""A growing file, read on and on: at its end it is looked at again.

Rule 1: looking is a thread's, and so is opening; between two looks nothing runs.
Rule 2: a file that got shorter is read again from its beginning; one that another has replaced is read until it has been
    quiet for an interval, then the other from its beginning.
Rule 3: what a later look fails by is waited out where rotating logs, or a mount that comes and goes, can cause it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from trioflow.io.file_reader import FileReader, Reader, open_for_reading, reader_of

# The file has no name for a moment, or one that cannot be read yet; a directory is in its place, or above it is none.
_PASSING: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ESTALE)
)


@asynccontextmanager
async def open_following(
    path: str, start: int, chunk_size: int | None, interval: float
) -> AsyncGenerator[Reader, None]:
    """Open the file at `path`, to be read without an end, and close whatever is open then."""
    opened = await trio.to_thread.run_sync(open_for_reading, path)
    follower = Follower(path, opened, start, chunk_size, interval)
    try:
        yield follower
    finally:
        os.close(follower.fd)


class Follower:
    """Reads what is at a path, as it grows: `read` gives `b""` only where that is a pipe or a device and has ended."""

    def __init__(
        self, path: str, opened: tuple[int, os.stat_result], start: int, chunk_size: int | None, interval: float
    ) -> None:
        self._path = path
        self._chunk_size = chunk_size
        self._interval = interval
        self._take(opened, start)

    def _take(self, opened: tuple[int, os.stat_result], start: int) -> None:
        self.fd, status = opened
        self._identity = _identity(status)
        self._can_grow = stat.S_ISREG(status.st_mode)
        self._reader = reader_of(self.fd, status, start, None, self._chunk_size)
        self._is_replaced = False

    async def read(self) -> bytes:
        """Give the next block, waiting for it; `b""` at the end."""
        while True:
            block = await self._reader.read()
            if block or not self._can_grow:
                return block
            await trio.sleep(self._interval)
            if self._is_replaced:
                if block := await self._reader.read():
                    return block
                await self._go_on_to_the_other()
            else:
                await self._look()

    async def _look(self) -> None:
        size, self._is_replaced = await trio.to_thread.run_sync(self._find)
        if isinstance(self._reader, FileReader) and size < self._reader.at:
            self._reader.at = 0

    def _find(self) -> tuple[int, bool]:
        size = os.fstat(self.fd).st_size
        try:
            return size, _identity(os.stat(self._path)) != self._identity
        except OSError as exc:
            _raise_unless_passing(exc)
            return size, False

    async def _go_on_to_the_other(self) -> None:
        try:
            opened = await trio.to_thread.run_sync(open_for_reading, self._path)
        except OSError as exc:  # gone again, or not readable yet
            _raise_unless_passing(exc)
            return
        os.close(self.fd)
        self._take(opened, 0)


def _raise_unless_passing(exc: OSError) -> None:
    if exc.errno not in _PASSING:
        raise exc


def _identity(status: os.stat_result) -> tuple[int, int]:
    # The number of a file that is open is not given to another.
    return status.st_dev, status.st_ino
