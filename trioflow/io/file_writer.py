"""Files written, and copied into, without blocking the loop.

Rule 1: one trip to a thread writes all that is ready, at most `STEP` bytes: so soon a cancellation is heard.
Rule 2: a write in a thread is waited for, also when cancelled: the descriptor could be another file's by then.
"""

from __future__ import annotations

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

STEP: Final = 1 << 23  # bytes written by one trip to a thread, or copied between two looks for a cancellation: 2 ms
_WORTH_A_TRIP: Final = 1 << 18  # bytes; up to here more are waited for, if they come at once
_BOUNCE: Final = 1 << 18  # bytes copied at once where the kernel cannot do it alone
_PASSES: Final = 2  # of all other tasks, within which a busy source has more: 10 µs each, a trip costs 200
PATIENCE: Final = 0.05  # seconds between two looks whether a pipe has got a reader
# What copy_file_range says where it cannot: other file systems, a pipe, a file opened to append, an old kernel.
_CANNOT_COPY: Final = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY)
)


class Target:
    """A file that is being written: at its place, or beside it until `finish`."""

    def __init__(
        self, fd: int, place: str, temporary: str | None = None, *, is_named: bool = True, is_shared: bool = False
    ) -> None:
        self._fd = fd
        self._place = place
        self._temporary = temporary
        self._is_named = is_named  # not one of a process's open files
        self._is_shared = is_shared  # others may write to it at the same time
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISBLK(os.fstat(fd).st_mode)
        self._can_copy = hasattr(os, "copy_file_range")
        self._data_end = 0  # of the stretch of data that is being copied

    async def write(self, chunks: Iterable[Any]) -> int:
        """Write all of `chunks` and give their size."""
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
        """Write to what must be waited for; it was opened here, and not to block."""
        while piece:
            await trio.lowlevel.checkpoint()
            try:
                piece = piece[os.write(self._fd, piece) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)

    def write_now(self, piece: bytes | memoryview) -> None:
        """Write all of `piece`; for a thread."""
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
        """Write what the file `source` holds from `start` to `stop`; give the size, less where it has become shorter."""
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
            try:
                if copied := os.copy_file_range(source, self._fd, count, start):
                    return copied
            except OSError as exc:
                if exc.errno not in _CANNOT_COPY:
                    raise
            self._can_copy = False  # nor does nothing copied mean the end: some file systems say so in vain
        block = os.pread(source, min(_BOUNCE, count), start)
        write_fully(self._fd, [memoryview(block)])
        return len(block)

    def _leave_out(self, count: int) -> bool:
        """Go on `count` bytes later, with a hole in between; return whether that can be done: at the end of a file."""
        status = os.fstat(self._fd)
        if self._is_shared or not stat.S_ISREG(status.st_mode) or os.lseek(self._fd, 0, os.SEEK_CUR) != status.st_size:
            return False
        os.ftruncate(self._fd, status.st_size + count)
        os.lseek(self._fd, 0, os.SEEK_END)
        return True

    def finish(self, *, durable: bool) -> None:
        """Close the file and give it its name; where it is to be `durable`, wait until the disk has both."""
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
                raise OSError(exc.errno, exc.strerror, self._place) from None  # not a name that nobody knows
            self._temporary = None
        if durable and self._is_named:  # also if it had a name before: nobody may have waited for that one
            directory = os.open(os.path.dirname(os.path.realpath(self._place)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Close the file; where it has no name of its own yet, nothing of it is left. Harmless when repeated."""
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
    """Make the error for a file that no other can take the place of."""
    return OSError(
        number, f"{os.strerror(number)}: {why}, so it cannot be replaced; atomic=False writes in place", path
    )


def _next_data(fd: int, start: int, stop: int) -> tuple[int, int]:
    """Return where the first stretch of data begins and ends in a file, from `start` on; a hole reaches up to it."""
    try:
        data = os.lseek(fd, start, os.SEEK_DATA)
        return min(data, stop), min(os.lseek(fd, data, os.SEEK_HOLE), stop)
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # a file system that does not know
            return start, stop
    end = max(start, min(os.fstat(fd).st_size, stop))  # no data comes any more
    return end, end


async def ready_pieces(name: str, source: ReceiveChannel[Any], chunks: list[Any]) -> list[Any]:
    """Join `chunks`, and what `source` has ready for as long as more comes at once and it is not worth a trip yet.

    Lines of a log, 256 a batch, are written three times as fast as with a trip to a thread for each batch. Each batch is
    joined when it comes: that costs a third of joining all of them.
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
    """Write all of `pieces`; for a thread."""
    # One call for many: behind each the thread waits until the loop lets it go on, up to 5 ms.
    left = deque(pieces)
    while left:
        write_vectored(partial(os.writev, fd), left)


def steps(chunks: Iterable[Any]) -> Iterator[list[memoryview]]:
    """Join small chunks and cut large ones: lists of pieces, each list at most `STEP` bytes."""
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


def check_chunks(name: str, chunks: Iterable[object]) -> None:
    """Raise for an item that is not bytes-like."""
    if set(map(type, chunks)) == {bytes}:
        return
    for chunk in chunks:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            hint = ": pipe through encode() first" if isinstance(chunk, str) else ""
            raise TypeError(f"{name} wants bytes, not {type(chunk).__name__} {shown(chunk)}{hint}")
