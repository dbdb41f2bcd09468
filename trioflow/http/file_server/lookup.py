"""Opens files beneath a root directory, which no name and no symbolic link can leave.

Rule 1: names are resolved one by one from an open directory, never as one path: by the kernel if it can (openat2), else
    by `_walk`. Both follow links that stay inside.
Rule 2: checks are made on the open file, and nothing is looked up twice, so nothing can be swapped in between.
Rule 3: opening never waits for another process: a FIFO or a device is opened without blocking, and the caller refuses
    it.
Rule 4: `open_cached` may run in the event loop. `open_now` needs a thread, because it may wait for the disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import trio

from trioflow.http.file_server.encodings import SUFFIXES
from trioflow.io.openat2 import HERE, how, openat2

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DIRECTORY: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_MOST_LINKS: Final = 40  # as many as Linux follows

_DIRECTORY_CACHED: Final = how(_DIRECTORY)
_ANYWHERE_CACHED: Final = how(_FLAGS)
_BENEATH_CACHED: Final = how(_FLAGS, 0x08 | 0x02)  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS


# Errors that are final, unlike EAGAIN, after which the disk must be asked. EXDEV is not one of them: `openat2` refuses
# every absolute link, but `_walk` follows one that stays inside.
_CERTAIN: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ENXIO))


class OpenFile(NamedTuple):
    """An open file; whoever opened it must close it."""

    fd: int
    status: os.stat_result

    @property
    def modified(self) -> int:
        """The second of its mtime; of its ctime if the mtime is 0 or 1, as reproducible builds set it."""
        modified = self.status.st_mtime_ns // 10**9
        return modified if modified not in (0, 1) else self.status.st_ctime_ns // 10**9


class RootDirectory:
    """A directory to open files beneath; if `anywhere`, symbolic links may lead out of it."""

    def __init__(self, path: str, *, anywhere: bool) -> None:
        self._path = path
        self._anywhere = anywhere

    async def open(self, names: Sequence[bytes]) -> OpenFile:
        """Open what these names lead to, in a thread if the kernel has not cached it; raises as `open_now` does."""
        opened = self.open_cached(names)
        return await trio.to_thread.run_sync(self.open_now, names) if opened is None else opened

    def open_cached(self, names: Sequence[bytes]) -> OpenFile | None:
        """Open a file without waiting for the disk, if the kernel has cached the directories that lead to it.

        It returns None if only `open_now` can tell.

        Raises:
            OSError: there certainly is no such file, or it may not be read.
        """
        call = openat2()
        if call is None:
            return None
        top = call(HERE, os.fsencode(self._path), _DIRECTORY_CACHED)
        if top < 0:
            return None
        try:
            descriptor = call(top, b"/".join(names) or b".", _ANYWHERE_CACHED if self._anywhere else _BENEATH_CACHED)
        finally:
            os.close(top)
        if descriptor >= 0:
            return _with_status(descriptor)
        if -descriptor in _CERTAIN:
            raise OSError(-descriptor, os.strerror(-descriptor), os.fsdecode(b"/".join(names)))
        return None

    def open_now(self, names: Sequence[bytes]) -> OpenFile:
        """Open what these names lead to; call it in a thread, because it may wait for the disk.

        Raises:
            OSError: there is no such file, it may not be read, or a link leads out of the root (EXDEV).
        """
        if self._anywhere:
            return _with_status(os.open(b"/".join([os.fsencode(self._path), *names]), _FLAGS))
        stack = [os.open(self._path, _DIRECTORY)]
        try:
            return _with_status(_walk(self._path, stack, list(reversed(names)) or [b"."]))
        finally:
            for descriptor in stack:
                os.close(descriptor)

    async def open_variant(
        self, names: Sequence[bytes], codings: Iterable[str], plain: OpenFile
    ) -> tuple[OpenFile | None, str | None]:
        """Open the first precompressed variant of `plain` that exists, and return it with its coding."""
        for coding in codings:
            try:
                found = await self.open([*names[:-1], names[-1] + SUFFIXES[coding].encode()])
            except OSError:
                continue
            # An older variant belongs to another version. Whole seconds, because archives and copies keep no more.
            if stat.S_ISREG(found.status.st_mode) and int(found.status.st_mtime) >= int(plain.status.st_mtime):
                return found, coding
            os.close(found.fd)
        return None, None

    def status(self, names: Sequence[bytes]) -> os.stat_result | None:
        """Return the status of what these names lead to, or None if it cannot be opened; call it in a thread."""
        try:
            opened = self.open_now(names)
        except OSError:
            return None
        os.close(opened.fd)
        return opened.status


def _with_status(fd: int) -> OpenFile:
    try:
        return OpenFile(fd, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise


def _walk(root: str, stack: list[int], names: list[bytes]) -> int:
    """Open the last name, going down from `stack[0]`. `names` is in reverse order; `stack` has the open directories."""
    links = 0
    while True:
        name = names.pop()
        if name == b"..":  # from a link: the caller refuses it in a request
            if len(stack) == 1:
                raise _leaves(name)
            os.close(stack.pop())
            name = b"."
        try:
            if not names:
                return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=stack[-1])
            if name != b".":
                stack.append(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=stack[-1]))
        except OSError as exc:
            target = _target(name, stack[-1]) if exc.errno in (errno.ELOOP, errno.ENOTDIR) else None
            links += 1
            if target is None or links > _MOST_LINKS:
                raise
            if target.startswith(b"/"):
                target = _inside(root, target)
                while len(stack) > 1:
                    os.close(stack.pop())
            parts = target.split(b"/")
            if parts[-1] in (b"", b"."):
                names.append(b".")  # the target must be a directory
            names += [part for part in reversed(parts) if part not in (b"", b".")]


def _target(name: bytes, directory: int) -> bytes | None:
    """Return the target of a symbolic link; None if it is not one."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _inside(root: str, target: bytes) -> bytes:
    """Return the absolute target of a link relative to the root; raise EXDEV if it is outside."""
    for top in (os.fsencode(root), os.path.realpath(os.fsencode(root))):
        inside = target == top or target.startswith(top.rstrip(b"/") + b"/")
        if inside:
            return target[len(top) :]
    raise _leaves(target)


def _leaves(name: bytes) -> OSError:
    return OSError(errno.EXDEV, "the link leads out of the root directory", os.fsdecode(name))
