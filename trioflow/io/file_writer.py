"""Writes files, and copies into them, without blocking the event loop.

Rule 1: one trip to a thread writes everything that is ready, at most `STEP` bytes, so that a cancellation is noticed
    within that time.
Rule 2: a write in a thread is waited for, even if cancelled: otherwise the descriptor could belong to another file by
    the time of the write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import trio

from trioflow._core.adapters import gathered, write_vectored
from trioflow._core.channel import ReceiveChannel
from trioflow._core.labels import shown

STEP: Final = 1 << 23  # bytes written by one trip to a thread, or copied between two checks for cancellation: 2 ms
_WORTH_A_TRIP: Final = 1 << 19  # bytes; below this, more is added if it is ready at once. 256 KiB: 2 % slower for lines
_BOUNCE: Final = 1 << 18  # bytes copied at once if the kernel cannot copy by itself
_PASSES: Final = 2  # turns given to other tasks, in which a busy source has more: 10 µs each, a trip costs 200
PATIENCE: Final = 0.05  # seconds between two checks for a pipe's reader


class Output:
    """An open descriptor. A thread writes to a file; for anything else, `_write_soon` waits until there is room."""

    _fd: int
    _is_file: bool

    async def write(self, chunks: Iterable[Any]) -> int:
        """Write all of `chunks` and return their size."""
        count = 0
        for step in steps(chunks):
            if self._is_file:
                await trio.to_thread.run_sync(write_fully, self._fd, step)
            else:
                for piece in step:
                    await self._write_soon(piece)
            count += sum(map(len, step))
        return count

    async def _write_soon(self, piece: memoryview) -> None:
        raise NotImplementedError


class Target(Output):
    """A file that is being written: in place, or under a temporary name until `finish`."""

    def __init__(
        self, fd: int, place: str, temporary: str | None = None, *, is_named: bool = True, is_shared: bool = False
    ) -> None:
        self._fd = fd
        self._place = place
        self._temporary = temporary
        self._is_named = is_named  # False for an open file of a process, such as /dev/fd/3
        self._is_shared = is_shared  # other processes may write to it at the same time
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISBLK(os.fstat(fd).st_mode)
        self._can_copy = hasattr(os, "copy_file_range")
        self._data_end = 0  # where the stretch of data that is being copied ends

    async def _write_soon(self, piece: memoryview) -> None:
        """Write to a pipe or device, which was opened here as non-blocking."""
        while piece:
            await trio.lowlevel.checkpoint()
            try:
                piece = piece[os.write(self._fd, piece) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)

    def write_now(self, piece: bytes | memoryview) -> None:
        """Write all of `piece`; called in a thread."""
        left = memoryview(piece)
        if self._is_file:
            write_fully(self._fd, [left])
            return
        ready = select.poll()
        ready.register(self._fd, select.POLLOUT)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                trio.from_thread.check_cancelled()
                ready.poll(1000 * PATIENCE)

    async def copy(self, source: int, start: int, stop: int) -> int:
        """Write the bytes of the file `source` from `start` to `stop`; return the size, less if it was truncated."""
        if self._is_file:
            return await trio.to_thread.run_sync(self._copy_all, source, start, stop)
        at = start
        while at < stop:
            block = await trio.to_thread.run_sync(os.pread, source, min(_BOUNCE, stop - at), at)
            if not block:
                break
            at += await self.write([block])
        return at - start

    def _copy_all(self, source: int, start: int, stop: int) -> int:
        at = start
        while at < stop and (copied := self._copy(source, at, stop)):
            trio.from_thread.check_cancelled()
            at += copied
        return at - start

    def _copy(self, source: int, start: int, stop: int) -> int:
        """Copy a piece from `start`, or leave out a hole that is there; return its size, 0 at the end of `source`."""
        if start >= self._data_end:  # asked once a stretch, not once a step
            data, self._data_end = _next_data(source, start, stop)
            if data > start and self._leave_out(data - start):
                return data - start
        count = min(STEP, self._data_end - start)
        if self._can_copy:
            # It cannot with two file systems, a pipe, a file opened to append, an old kernel, or in a sandbox; some file
            # systems return 0 before the end. If something else is wrong, it is raised below.
            with contextlib.suppress(OSError):
                if copied := os.copy_file_range(source, self._fd, count, start):
                    return copied
            self._can_copy = False
        block = os.pread(source, min(_BOUNCE, count), start)
        write_fully(self._fd, [memoryview(block)])
        return len(block)

    def _leave_out(self, count: int) -> bool:
        """Skip `count` bytes, leaving a hole; return whether that is possible, which it is only at a file's end."""
        status = os.fstat(self._fd)
        if self._is_shared or not stat.S_ISREG(status.st_mode) or os.lseek(self._fd, 0, os.SEEK_CUR) != status.st_size:
            return False
        os.ftruncate(self._fd, status.st_size + count)
        os.lseek(self._fd, 0, os.SEEK_END)
        return True

    def finish(self, *, durable: bool) -> None:
        """Close the file and give it its name; if `durable`, wait until the disk has both."""
        durable = durable and self._is_file
        if durable:
            os.fsync(self._fd)
        self._close()
        if self._temporary is not None:
            try:
                os.replace(self._temporary, self._place)
            except OSError as exc:
                if exc.errno in (errno.EBUSY, errno.EXDEV):
                    raise cannot_replace(exc.errno, "it is a mount", self._place) from None
                raise OSError(exc.errno, exc.strerror, self._place) from None  # name the target, not the temporary file
            self._temporary = None
        if durable and self._is_named:  # also for an old file: its name may not have been synced
            directory = os.open(os.path.dirname(os.path.realpath(self._place)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Close the file and remove it if it only has a temporary name. Harmless when repeated."""
        try:
            self._close()
        finally:
            if self._temporary is not None:
                temporary, self._temporary = self._temporary, None
                os.unlink(temporary)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def cannot_replace(number: int, why: str, path: str) -> OSError:
    """Return the error for a file that cannot be replaced."""
    return OSError(
        number, f"{os.strerror(number)}: {why}, so it cannot be replaced; atomic=False writes in place", path
    )


def _next_data(fd: int, start: int, stop: int) -> tuple[int, int]:
    """Return the start and end of the first stretch of data from `start` on; a hole reaches up to it."""
    try:
        data = os.lseek(fd, start, os.SEEK_DATA)
        return min(data, stop), min(os.lseek(fd, data, os.SEEK_HOLE), stop)
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # the file system cannot tell data from holes
            return start, stop
    end = max(start, min(os.fstat(fd).st_size, stop))  # no more data
    return end, end


async def ready_pieces(name: str, source: ReceiveChannel[Any], chunks: list[Any]) -> list[Any]:
    """Join `chunks` with what `source` has ready, as long as more arrives at once and it is little.

    The lines of a log, 256 a batch, are written three times as fast as with one trip to a thread for each batch.
    Joining each batch as it arrives costs a third of joining them all at the end.
    """
    pieces: list[Any] = []
    size = patience = 0
    while True:
        if chunks:
            check_chunks(name, chunks)
            joined = list(gathered(chunks))
            pieces += joined
            size += sum(map(len, joined))
            patience = _PASSES
        if size >= _WORTH_A_TRIP or not patience:
            return pieces
        patience -= 1
        await trio.lowlevel.checkpoint()
        try:
            chunks = source.receive_many_nowait()
        except trio.WouldBlock:
            chunks = []
        except trio.EndOfChannel:
            return pieces


def write_fully(fd: int, pieces: Sequence[memoryview]) -> None:
    """Write all of `pieces`; called in a thread."""
    # One call for many pieces: after each call the thread waits for the GIL, up to 5 ms.
    left = deque(pieces)
    while left:
        write_vectored(partial(os.writev, fd), left)


def steps(chunks: Iterable[Any]) -> Iterator[list[memoryview]]:
    """Join small chunks and cut large ones: yield lists of pieces, each list of at most `STEP` bytes."""
    step: list[memoryview] = []
    room = STEP
    for chunk in gathered(chunks):
        view = memoryview(chunk).cast("B")
        while view:
            piece = view[:room]
            step.append(piece)
            view = view[len(piece) :]
            room -= len(piece)
            if not room:
                yield step
                step, room = [], STEP
    if step:
        yield step


def check_chunks(name: str, chunks: Iterable[object], wish: str = "bytes") -> None:
    """Raise if an item is not bytes-like. `wish` says what it should have been."""
    if set(map(type, chunks)) == {bytes}:
        return
    for chunk in chunks:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            hint = "; pipe through tf.encode() first" if isinstance(chunk, str) else ""
            raise TypeError(f"{name} expects {wish}, got {type(chunk).__name__} {shown(chunk)}{hint}")
