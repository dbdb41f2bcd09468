"""Opens files for reading, and reads them without blocking the event loop.

Rule 1: the page cache is asked first, in the loop: 16 µs for 128 KiB. What it does not hold, a thread reads.
Rule 2: a read in a thread is waited for, even if cancelled: otherwise the descriptor could belong to another file by
    the time of the read.
Rule 3: a short read does not mean the end, an empty one does. If the empty read came from the cache, the file's size
    must agree.
Rule 4: a pipe, a terminal or a socket is waited for in the loop, and read when that cannot block. Its flags are not
    changed: other processes may share them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Protocol

import trio

from trioflow._core.block import block
from trioflow._core.channel import SendChannel
from trioflow._core.shortcuts import OpenRegion
from trioflow.io.openat2 import HERE, how, openat2
from trioflow.io.page_cache import NOWAIT

CACHED: Final = 1 << 17  # bytes; 64 KiB is 3 % slower, and 512 KiB 7 %, since it exceeds the processor's cache
FIRST: Final = 1 << 14  # bytes read first of a long file, then twice as many: the first byte is sent 7 % sooner
LONG: Final = 1 << 23  # bytes; in a shorter file the three more blocks would cost more than 2 %
COLD: Final = 1 << 19  # bytes that a thread reads at once, and asks the system to read ahead: half a channel's capacity
LONGEST_IN_LOOP: Final = 1 << 20  # bytes; 0.15 ms
EAGER: Final = 4  # first blocks of which each is taken before the next is read: the first byte is sent 9 % sooner
PIPE: Final = 1 << 16  # bytes; what a pipe holds

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ: Final = how(_FLAGS)
_LOOK: Final = how(getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)


class FileRegion(NamedTuple):
    """A region of the file at `path`, from `start` up to `stop`, which a sink may copy whole."""

    path: str
    start: int = 0
    stop: int | None = None

    @block
    async def open(self) -> AsyncGenerator[OpenRegion | None, None]:
        """Open the file and close it at the end of the block; yield None if it has no fixed length."""
        found = self._find_cached() or await trio.to_thread.run_sync(self._find)
        try:
            yield found
        finally:
            if found is not None:
                os.close(found.fd)

    def _find(self) -> OpenRegion | None:
        # Checked before opening: opening and closing a pipe here would look to its writer like a reader that hung up.
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            return None
        fd, status = open_for_reading(self.path)
        is_true = False
        try:
            is_true = _has_true_size(fd, status)
        finally:
            if not is_true:
                os.close(fd)
        return self._region(fd, status) if is_true else None

    def _find_cached(self) -> OpenRegion | None:
        """Open it in the loop, if the kernel's memory holds it and it is an ordinary file."""
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
            return self._region(fd, status)
        os.close(fd)
        return None

    def _region(self, fd: int, status: os.stat_result) -> OpenRegion:
        stop = status.st_size if self.stop is None else min(self.stop, status.st_size)
        return OpenRegion(fd, self.start, max(self.start, stop))


def _has_true_size(fd: int, status: os.stat_result) -> bool:
    """Return whether the file holds as many bytes as its size says; files of /proc and /sys may not."""
    size = status.st_size
    if status.st_blocks:
        return stat.S_ISREG(status.st_mode)
    return not os.pread(fd, 1, size) and (not size or len(os.pread(fd, 1, size - 1)) == 1)


async def open_soon(path: str) -> tuple[int, os.stat_result]:
    """Open anything but a directory: at once if the kernel's memory holds it, else in a thread, 0.1 ms later."""
    fd = _open_cached(os.fsencode(path), _READ)
    if fd is None:
        return await trio.to_thread.run_sync(open_for_reading, path)
    return _looked_at(fd, path)


def _open_cached(path: bytes, way: bytes) -> int | None:
    call = openat2()
    fd = -1 if call is None else call(HERE, path, way)
    return fd if fd >= 0 else None  # the thread that opens it next finds the reason


def open_for_reading(path: str) -> tuple[int, os.stat_result]:
    """Open anything but a directory, without blocking, whatever it is."""
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
    """Raise the error for reading or writing a directory, with its path."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


class Reader(Protocol):
    """Reads a file block by block."""

    @property
    def has_more(self) -> bool:
        """Whether another block may be expected after those that were read."""
        ...

    async def read(self) -> bytes:
        """Return the next block; `b""` at the end."""
        ...


def reader_of(fd: int, status: os.stat_result, start: int, stop: int | None, chunk_size: int | None) -> Reader:
    """Return a reader for an open file, by its kind."""
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
        if eager and reader.has_more:
            eager -= 1
            await output._wait_empty()


def _blocks_of(size: int, chunk_size: int | None) -> int:
    """Return how much to read at once: whole chunks, about `size` in all."""
    return size if chunk_size is None else chunk_size * max(1, size // chunk_size)


class _Buffer(threading.local):
    """Where all reads of one thread go, to be copied from: it stays in the processor's cache, and need not be zeroed again."""

    _all = memoryview(b"")

    def of(self, size: int) -> memoryview:
        """Return the first `size` bytes of it."""
        if size > len(self._all):
            self._all = memoryview(bytearray(max(size, CACHED)))
        return self._all[:size]


_buffer: Final = _Buffer()


class FileReader:
    """Reads a file that can seek: `at` is the offset of the next block."""

    def __init__(self, fd: int, size: int, start: int, stop: int | None, chunk_size: int | None) -> None:
        self.at = start
        self._fd = fd
        self._size = size
        self._stop = math.inf if stop is None else stop
        self._cold = _blocks_of(COLD, chunk_size)
        self._asks_cache = bool(NOWAIT) and _blocks_of(CACHED, chunk_size) <= LONGEST_IN_LOOP
        self._block = block = self._left(_blocks_of(CACHED, chunk_size))
        is_long = chunk_size is None and self._left(size - start) >= LONG
        self._most = FIRST if is_long else block  # bytes to ask the cache for next

    @property
    def has_more(self) -> bool:
        """Whether the file was larger when it was opened than what was read; if not, nobody need be waited for."""
        return self.at < min(self._size, self._stop)

    def _left(self, most: int) -> int:
        return int(max(0, min(most, self._stop - self.at)))

    async def read(self) -> bytes:
        """Return the next block; `b""` at the end."""
        block = self._cached() if self._asks_cache else None
        if block is None:
            block = await trio.to_thread.run_sync(self._read)
        self.at += len(block)
        return block

    def _cached(self) -> bytes | None:
        """Return as much of the next block as the page cache holds; None if a thread must look."""
        most = self._left(self._most)
        self._most = min(2 * self._most, self._block)
        if not most:
            return b""
        buffer = _buffer.of(most)
        try:
            count = os.preadv(self._fd, [buffer], self.at, NOWAIT)
        except BlockingIOError:
            return None
        except OSError:
            self._asks_cache = False
            return None
        if not count and self.at < self._size:
            return None
        return bytes(buffer[:count])

    def _read(self) -> bytes:
        count = self._left(self._cold)
        if self._asks_cache:  # there is a cache, so have the next block read into it
            os.posix_fadvise(self._fd, self.at, 2 * count, os.POSIX_FADV_WILLNEED)
        return os.pread(self._fd, count, self.at)


class StreamReader:
    """Reads what must be waited for and cannot seek: bytes before `start` are read and thrown away."""

    has_more = True

    def __init__(self, fd: int, start: int, stop: int | None, chunk_size: int | None) -> None:
        self._fd = fd
        self._at = 0
        self._start = start
        self._stop = math.inf if stop is None else stop
        self._buffer = memoryview(bytearray(_blocks_of(PIPE, chunk_size)))
        self._can_wait = True

    async def read(self) -> bytes:
        """Return the next block; `b""` at the end."""
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
        # Wait before the first read: a pipe that has no writer yet would read as ended.
        while self._can_wait:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except PermissionError:  # such as /dev/null, which is always ready
                self._can_wait = False
            else:
                try:
                    return self._read_now(most)
                except BlockingIOError:  # another process read it first
                    continue
        return await trio.to_thread.run_sync(os.read, self._fd, most)

    def _read_now(self, most: int) -> bytes:
        if NOWAIT:
            buffer = self._buffer[:most]
            try:
                return bytes(buffer[: os.preadv(self._fd, [buffer], -1, NOWAIT)])
            except BlockingIOError:
                raise
            except OSError:
                pass  # without this call, or in a sandbox; what else is wrong is raised below
        return os.read(self._fd, most)
