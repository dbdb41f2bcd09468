"""Files opened for reading, and read without blocking the loop.

Rule 1: the page cache is asked first, in the loop: 16 µs for 128 KiB. What it does not hold, a thread reads.
Rule 2: a read in a thread is waited for, also when cancelled: the descriptor could be another file's by then.
Rule 3: a short read is no end. An empty one is; where only the cache says so, the file's size must agree.
Rule 4: a pipe, a terminal, a socket is waited for in the loop, and read when that cannot block. Its flags stay as they
    are: they may be shared with other processes.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Protocol

import trio

from trioflow._core.block import block
from trioflow._core.channel import SendChannel
from trioflow.io.openat2 import HERE, how, openat2
from trioflow.io.page_cache import NOWAIT, UNSUPPORTED

CACHED: Final = 1 << 17  # bytes; 64 KiB are 3 % slower, 512 KiB 7 %: a processor's cache holds no more
COLD: Final = 1 << 19  # bytes a thread reads at once, and has the system read ahead: half of what a channel holds
LONGEST_IN_LOOP: Final = 1 << 20  # bytes; 0.15 ms
EAGER: Final = (
    4  # blocks at first, each of which lets others run: the first byte is through three stages in 1.1 ms, not 1.5
)
PIPE: Final = 1 << 16  # bytes; what a pipe holds

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ: Final = how(_FLAGS)
_LOOK: Final = how(getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)


class OpenStretch(NamedTuple):
    """A stretch of an open file: what `FileRegion.open` gives."""

    fd: int
    start: int
    stop: int


class FileRegion(NamedTuple):
    """A stretch of the file at `path`, from `start` to before `stop`, which a sink may take whole."""

    path: str
    start: int = 0
    stop: int | None = None

    @block
    async def open(self) -> AsyncGenerator[OpenStretch | None, None]:
        """Open the file, and close it at the end of the block; None where it has no fixed length."""
        found = self._find_cached() or await trio.to_thread.run_sync(self._find)
        try:
            yield found
        finally:
            if found is not None:
                os.close(found.fd)

    def _find(self) -> OpenStretch | None:
        # Asked before it is opened: the writer of a pipe would take what follows for a reader that hung up.
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            return None
        fd, status = open_for_reading(self.path)
        try:
            is_true = _has_true_size(fd, status)
        except BaseException:
            os.close(fd)
            raise
        if not is_true:
            os.close(fd)
            return None
        return self._stretch(fd, status)

    def _find_cached(self) -> OpenStretch | None:
        """Find it in the loop, where memory knows that it is a file like most."""
        path = os.fsencode(self.path)
        looked = _open_cached(path, _LOOK)
        if looked is None:
            return None
        try:
            status = os.fstat(looked)
        finally:
            os.close(looked)
        if not stat.S_ISREG(status.st_mode) or not status.st_blocks:
            return None
        fd = _open_cached(path, _READ)
        if fd is None:
            return None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return self._stretch(fd, status)
        os.close(fd)
        return None

    def _stretch(self, fd: int, status: os.stat_result) -> OpenStretch:
        stop = status.st_size if self.stop is None else min(self.stop, status.st_size)
        return OpenStretch(fd, self.start, max(self.start, stop))


def _has_true_size(fd: int, status: os.stat_result) -> bool:
    """Tell whether the file holds as many bytes as it says; those of /proc and /sys hold less or more."""
    size = status.st_size
    if status.st_blocks:
        return stat.S_ISREG(status.st_mode)
    return not os.pread(fd, 1, size) and (not size or len(os.pread(fd, 1, size - 1)) == 1)


async def open_soon(path: str) -> tuple[int, os.stat_result]:
    """Open anything but a directory: at once where memory knows it, else in a thread, which takes 0.1 ms more."""
    fd = _open_cached(os.fsencode(path), _READ)
    if fd is None:
        return await trio.to_thread.run_sync(open_for_reading, path)
    return _looked_at(fd, path)


def _open_cached(path: bytes, way: bytes) -> int | None:
    call = openat2()
    fd = -1 if call is None else call(HERE, path, way)
    return fd if fd >= 0 else None  # why not is for the thread to find out


def open_for_reading(path: str) -> tuple[int, os.stat_result]:
    """Open anything but a directory; without blocking, whatever it is."""
    # Without O_NONBLOCK, opening a pipe waits for a writer, and cannot be cancelled.
    return _looked_at(os.open(path, _FLAGS), path)


def _looked_at(fd: int, path: str) -> tuple[int, os.stat_result]:
    try:
        status = os.fstat(fd)
        refuse_directory(status, path)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def refuse_directory(status: os.stat_result, path: str) -> None:
    """Raise what reading or writing a directory raises, with its path."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


class Reader(Protocol):
    """What gives a file's bytes, block by block."""

    async def read(self) -> bytes:
        """Give the next block; `b""` at the end."""
        ...


def reader_of(fd: int, status: os.stat_result, start: int, stop: int | None, chunk_size: int | None) -> Reader:
    """Make what reads an open file, by its kind."""
    if stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return FileReader(fd, status.st_size, start, stop, chunk_size)
    return StreamReader(fd, start, stop, chunk_size)


async def send_all(reader: Reader, output: SendChannel[bytes], chunk_size: int | None) -> None:
    """Send all blocks, cut into chunks of at most `chunk_size`."""
    eager = EAGER
    while block := await reader.read():
        if chunk_size is None or len(block) <= chunk_size:
            await output.send(block)
        else:
            await output.send_many([block[at : at + chunk_size] for at in range(0, len(block), chunk_size)])
        if eager:
            eager -= 1
            await trio.lowlevel.checkpoint()


def _blocks_of(size: int, chunk_size: int | None) -> int:
    """Give how much to read at once: about `size`, whole chunks."""
    return size if chunk_size is None else chunk_size * max(1, size // chunk_size)


class FileReader:
    """Reads a file that has a place to read at: `at` is where the next block begins."""

    def __init__(self, fd: int, size: int, start: int, stop: int | None, chunk_size: int | None) -> None:
        self.at = start
        self._fd = fd
        self._size = size
        self._stop = math.inf if stop is None else stop
        self._cold = _blocks_of(COLD, chunk_size)
        block = _blocks_of(CACHED, chunk_size)
        self._asks_cache = bool(NOWAIT) and block <= LONGEST_IN_LOOP
        # One buffer for all reads, and a copy of each: it stays in the processor's cache, a new one must be zeroed.
        self._buffer = memoryview(bytearray(min(block, self._left(block)) if self._asks_cache else 0))

    def _left(self, most: int) -> int:
        return int(max(0, min(most, self._stop - self.at)))

    async def read(self) -> bytes:
        """Give the next block; `b""` at the end."""
        block = self._cached() if self._asks_cache else None
        if block is None:
            block = await trio.to_thread.run_sync(self._read)
        self.at += len(block)
        return block

    def _cached(self) -> bytes | None:
        """Give what the page cache holds of the next block; None where a thread must look."""
        buffer = self._buffer[: self._left(len(self._buffer))]
        if not buffer:
            return b""
        try:
            count = os.preadv(self._fd, [buffer], self.at, NOWAIT)
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:
                raise
            self._asks_cache = False
            return None
        if not count and self.at < self._size:
            return None
        return bytes(buffer[:count])

    def _read(self) -> bytes:
        count = self._left(self._cold)
        if self._asks_cache:  # so there is a cache, and the next block is to be in it when it is wanted
            os.posix_fadvise(self._fd, self.at, 2 * count, os.POSIX_FADV_WILLNEED)
        return os.pread(self._fd, count, self.at)


class StreamReader:
    """Reads what must be waited for, and has no place to read at: what is before `start` is read and forgotten."""

    def __init__(self, fd: int, start: int, stop: int | None, chunk_size: int | None) -> None:
        self._fd = fd
        self._at = 0
        self._start = start
        self._stop = math.inf if stop is None else stop
        self._buffer = memoryview(bytearray(_blocks_of(PIPE, chunk_size)))
        self._can_wait = True

    async def read(self) -> bytes:
        """Give the next block; `b""` at the end."""
        while self._at < self._stop:
            block = await self._next(int(min(len(self._buffer), self._stop - self._at)))
            if not block:
                break
            skipped = max(0, self._start - self._at)
            self._at += len(block)
            if skipped < len(block):
                return block[skipped:]
        return b""

    async def _next(self, most: int) -> bytes:
        # Waited for before the first read: that of a pipe which has no writer yet would give its end.
        while self._can_wait:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except PermissionError:  # such as /dev/null: nothing to wait for
                self._can_wait = False
            else:
                try:
                    return self._read_now(most)
                except BlockingIOError:  # another process was faster
                    continue
        return await trio.to_thread.run_sync(os.read, self._fd, most)

    def _read_now(self, most: int) -> bytes:
        if NOWAIT:
            buffer = self._buffer[:most]
            try:
                return bytes(buffer[: os.preadv(self._fd, [buffer], -1, NOWAIT)])
            except OSError as exc:
                if exc.errno not in UNSUPPORTED:
                    raise
        return os.read(self._fd, most)
