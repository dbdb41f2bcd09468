"""Opens files for writing: a new one under a temporary name, an existing one, or one that is already open.

Rule 1: an atomic target is written under a temporary name in the same directory and renamed at the end; after a failure
    it is removed, and the old file is untouched (R13).
Rule 2: only a regular file can be replaced; a pipe or a device is written to directly, and so is a file that is already
    open, such as /dev/stdout.
Rule 3: a file that cannot be replaced is refused before anything is received, as far as the system tells.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import trio

from trioflow._core.block import block
from trioflow._core.errors import note
from trioflow.io.file_writer import PATIENCE, Target, cannot_replace
from trioflow.io.openat2 import is_mount

_SHOWN: Final = 100  # bytes of a file's name in its temporary name: every file system allows at least 143
_LINKS: Final = 40  # symbolic links that Linux follows at most
_FLAGS: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
_DESCRIPTORS: Final = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")
# This process may not set the attribute, the file system does not keep it, or it has just been removed.
_NOT_KEPT: Final = frozenset((errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODATA))


@block
async def open_target(
    path: str, *, append: bool, atomic: bool, durable: bool, reads: str | int | None = None
) -> AsyncGenerator[Target, None]:
    """Open the file that `path` names for writing; finish it when the block ends, discard it if the block raises.

    `reads` is the file that the written data comes from, if any: it cannot be written in place.
    """
    opened = partial(_open_target, path, append=append, atomic=atomic, reads=reads)
    while (target := await trio.to_thread.run_sync(opened)) is None:  # noqa: ASYNC110
        await trio.sleep(PATIENCE)  # no event says that a pipe has a reader
    try:
        yield target
        await trio.to_thread.run_sync(partial(target.finish, durable=durable))
    except BaseException as exc:
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(target.discard)
            except OSError as error:
                note(exc, f"and then: {error}")
        raise


def _open_target(path: str, *, append: bool, atomic: bool, reads: str | int | None) -> Target | None:
    """Open it; return None for a pipe that has no reader yet."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        status = None
    is_file = status is None or stat.S_ISREG(status.st_mode)
    descriptor = _descriptor_at(path) if status is not None and is_file else None
    if is_file and descriptor is None and atomic and not append:
        return _open_beside(path, status)
    if status is not None and is_file and reads is not None and _is_same(reads, status):
        raise OSError(errno.EINVAL, "it cannot be written in place while it is read; atomic=True replaces it", path)
    if descriptor is not None:
        return _open_again(path, *descriptor, append=append)
    flags = os.O_APPEND if append else os.O_TRUNC
    try:
        # Without O_NONBLOCK, opening a pipe waits for a reader, and cannot be cancelled.
        fd = os.open(path, _FLAGS | os.O_CREAT | flags, 0o666)
    except OSError as exc:
        if exc.errno == errno.ENXIO and status is not None and stat.S_ISFIFO(status.st_mode):
            return None
        raise
    return Target(fd, path, is_shared=append)


def _is_same(path: str | int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:  # the reader gets the same error
        return False


def _descriptor_at(path: str) -> tuple[int, bool] | None:
    """Return the descriptor that `path` names, as /dev/stdout does, and whether it is one of this process."""
    for _ in range(_LINKS):
        directory = os.path.realpath(os.path.dirname(path))
        name = os.path.basename(path)
        if name.isdecimal() and (found := _DESCRIPTORS.fullmatch(directory)):
            return int(name), found[1] is None or found[1] == os.readlink("/proc/self")
        if not os.path.islink(path):
            return None
        path = os.path.join(directory, os.readlink(path))
    return None


def _open_again(path: str, number: int, is_ours: bool, *, append: bool) -> Target:  # noqa: FBT001 - unpacked
    """Open a file that is already open: earlier output stays, and later output of its writer follows ours."""
    if not is_ours:  # another process's position is not known here
        return Target(os.open(path, _FLAGS | os.O_APPEND), path, is_named=False, is_shared=True)
    fd = os.dup(number)
    try:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only", path)
        if append:
            os.lseek(fd, 0, os.SEEK_END)
        return Target(fd, path, is_named=False, is_shared=True)
    except BaseException:
        os.close(fd)
        raise


def _open_beside(path: str, status: os.stat_result | None) -> Target:
    """Create a temporary file next to the target, with the target's mode, or the umask's if it does not exist."""
    if status is not None and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    place = os.path.realpath(path)  # a link stays a link: what it points to is replaced
    if status is None and not os.path.basename(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    directory, name = os.path.split(os.fsencode(place))
    if status is not None and is_mount(directory, name):
        raise cannot_replace(errno.EBUSY, "it is a mount", path)
    if len(name) > _SHOWN:
        name = name[:_SHOWN].decode("utf-8", "ignore").encode()  # drop a cut character: some file systems refuse it
    temporary = os.fsdecode(os.path.join(directory, b".%b.%b.tmp" % (name, secrets.token_hex(8).encode())))
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as exc:
        if status is not None and exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise cannot_replace(exc.errno, "its directory takes no new file", path) from None
        exc.filename = path  # not the temporary name
        raise
    target = Target(fd, place, temporary)
    try:
        if status is not None:
            _keep_owner_and_mode(fd, status)
            _keep_attributes(fd, place)
    except BaseException:
        target.discard()
        raise
    return target


def _keep_owner_and_mode(fd: int, status: os.stat_result) -> None:
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except PermissionError:  # only root may change the owner
            pass
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


def _keep_attributes(fd: int, path: str) -> None:
    """Copy the extended attributes that may be copied, mostly access control lists and users' own."""
    if not hasattr(os, "listxattr"):  # only Linux has it
        return
    try:
        for name in os.listxattr(path):
            try:
                os.setxattr(fd, name, os.getxattr(path, name))
            except OSError as exc:
                if exc.errno not in _NOT_KEPT:
                    raise
    except OSError as exc:
        if exc.errno != errno.EOPNOTSUPP:
            raise
