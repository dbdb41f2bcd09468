"""Files opened for writing, and written without blocking the loop.

Rule 1: an atomic target is written beside its name, under another, and renamed over it at the end; after a failure
    nothing of it is left, and what was there before is untouched (R13).
Rule 2: only a regular file can be replaced; a pipe or a device is written to as it is.
Rule 3: one trip to a thread writes all that is ready, at most `STEP` bytes: so soon a cancellation is heard.
Rule 4: a write in a thread is waited for, also when cancelled: the descriptor could be another file's by then.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import stat
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from trioflow._core.adapters import gathered, write_vectored
from trioflow._core.channel import ReceiveChannel

STEP: Final = 1 << 23  # bytes written by one trip to a thread, or copied between two looks for a cancellation: 2 ms
_TRIP: Final = 1 << 28  # bytes copied by one trip to a thread: a trip costs 0.25 ms, 8 MiB cost 2
_WORTH_A_TRIP: Final = 1 << 18  # bytes; up to here more are waited for, if they come at once
_BOUNCE: Final = 1 << 18  # bytes copied at once where the kernel cannot do it alone
_PASSES: Final = 2  # of all other tasks, within which a busy source has more: 10 µs each, a trip costs 200
_SHOWN: Final = 100  # bytes of a file's name in that of its temporary one: no file system allows fewer than 143
_PATIENCE: Final = 0.05  # seconds between two looks whether a pipe has got a reader
# What copy_file_range says where it cannot: other file systems, a pipe, a file opened to append, an old kernel.
_CANNOT_COPY: Final = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY)
)


class Target:
    """A file that is being written: at its place, or beside it until `finish`."""

    def __init__(self, fd: int, place: str, temporary: str | None = None, *, is_new: bool) -> None:
        self._fd = fd
        self._place = place
        self._temporary = temporary
        self._is_new = is_new  # its name, too, is still to be stored
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISBLK(os.fstat(fd).st_mode)
        self._can_copy = hasattr(os, "copy_file_range")

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
                ready.poll(1000 * _PATIENCE)

    async def copy(self, source: int, start: int, stop: int) -> int:
        """Write what the file `source` holds from `start` to `stop`; give the size, less where it has become shorter."""
        at = start
        while at < stop:
            if self._is_file:
                copied = await trio.to_thread.run_sync(self._copy_trip, source, at, min(_TRIP, stop - at))
            else:
                block = await trio.to_thread.run_sync(os.pread, source, min(_BOUNCE, stop - at), at)
                copied = await self.write([block])
            if not copied:
                break
            at += copied
        return at - start

    def _copy_trip(self, source: int, start: int, count: int) -> int:
        at, stop = start, start + count
        while at < stop and (copied := self._copy(source, at, min(STEP, stop - at))):
            trio.from_thread.check_cancelled()
            at += copied
        return at - start

    def _copy(self, source: int, start: int, count: int) -> int:
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

    def finish(self, *, durable: bool) -> None:
        """Close the file and give it its name; where it is to be `durable`, wait until the disk has both."""
        durable = durable and self._is_file
        if durable:
            os.fsync(self._fd)
        self._close()
        if self._temporary is not None:
            os.replace(self._temporary, self._place)
            self._temporary = None
        if durable and self._is_new:
            directory = os.open(os.path.dirname(self._place) or ".", os.O_RDONLY | os.O_DIRECTORY)
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


@asynccontextmanager
async def open_target(path: str, *, append: bool, atomic: bool, durable: bool = False) -> AsyncGenerator[Target, None]:
    """Open what `path` names for writing; leaving the block finishes it, leaving it by an exception discards it."""
    while (target := await trio.to_thread.run_sync(_open_target, path, append, atomic)) is None:  # noqa: ASYNC110
        await trio.sleep(_PATIENCE)  # no event tells that a pipe has got a reader
    try:
        yield target
        await trio.to_thread.run_sync(partial(target.finish, durable=durable))
    except BaseException as exc:
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(target.discard)
            except OSError as error:
                exc.add_note(f"and then: {error}")
        raise


def _open_target(path: str, append: bool, atomic: bool) -> Target | None:  # noqa: FBT001 - a thread is given no keywords
    """Open it; None for a pipe that has no reader yet."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        status = None
    if (atomic and not append) and (status is None or stat.S_ISREG(status.st_mode)):
        return _open_beside(path, status)
    flags = os.O_APPEND if append else os.O_TRUNC
    try:
        # Without O_NONBLOCK, opening a pipe waits for a reader, and cannot be cancelled.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | flags, 0o666)
    except OSError as exc:
        if exc.errno == errno.ENXIO and status is not None and stat.S_ISFIFO(status.st_mode):
            return None
        raise
    return Target(fd, path, is_new=status is None)


def _open_beside(path: str, status: os.stat_result | None) -> Target:
    """Open a new file in the directory of what `path` names, with the mode it has, or gets from the umask."""
    if status is not None and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    place = os.path.realpath(path)  # a link stays a link: what it points to is replaced
    if status is None and not os.path.basename(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    directory, name = os.path.split(os.fsencode(place))
    temporary = os.fsdecode(os.path.join(directory, b".%b.%b.tmp" % (name[:_SHOWN], secrets.token_hex(8).encode())))
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as exc:
        exc.filename = path  # not a name that nobody knows
        raise
    target = Target(fd, place, temporary, is_new=True)
    try:
        if status is not None:
            _keep_owner_and_mode(fd, status)
    except BaseException:
        target.discard()
        raise
    return target


def _keep_owner_and_mode(fd: int, status: os.stat_result) -> None:
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except PermissionError:  # only root gives files away
            pass
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


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
            shown = repr(chunk)
            shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
            raise TypeError(f"{name} wants bytes, not {type(chunk).__name__} {shown}{hint}")
