"""Files opened beneath a root: no name and no symbolic link leads out of it.

Rule 1: names are looked up one by one from an open directory, never as one path; the kernel does it if it can
    (openat2), else the walk below. Both follow links that stay inside.
Rule 2: what is open is checked, and nothing is looked up twice, so that nothing can be swapped in between.
Rule 3: opening never waits for another process: a FIFO or a device is opened without blocking, and the caller refuses
    it.
Rule 4: `open_cached` may run in the event loop. `open_beneath` needs a thread: it may wait for a disk.
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
_BENEATH_CACHED: Final = how(_FLAGS, 0x08 | 0x02)  # beneath, and through no magic link of /proc


# What the kernel is sure of without asking a disk, unlike EAGAIN. EXDEV is not among them: `openat2` refuses every
# absolute link, and the walk follows one that leads inside.
_CERTAIN: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ENXIO))


class OpenFile(NamedTuple):
    """An open file, which its owner closes."""

    fd: int
    status: os.stat_result

    @property
    def modified(self) -> int:
        """The second of its last change, unless that is one of the first two of 1970, which reproducible builds set."""
        modified = self.status.st_mtime_ns // 10**9
        return modified if modified not in (0, 1) else self.status.st_ctime_ns // 10**9


class RootDirectory:
    """A directory, and what is beneath it.

    Args:
        path: The directory that nothing leads out of.
        anywhere: Let links lead out of it.
    """

    __slots__ = ("_anywhere", "_path")

    def __init__(self, path: str, *, anywhere: bool) -> None:
        self._path = path
        self._anywhere = anywhere

    async def open(self, names: Sequence[bytes]) -> OpenFile:
        """Open what these names lead to, from memory or in a thread; it raises what `open_now` raises."""
        fd = open_cached(self._path, names, anywhere=self._anywhere)
        return _with_status(fd) if fd is not None else await trio.to_thread.run_sync(self.open_now, names)

    def open_now(self, names: Sequence[bytes]) -> OpenFile:
        """Open what these names lead to; for a thread.

        Raises:
            OSError: there is no such file, it may not be read, or a link to it leads out (EXDEV).
        """
        return _with_status(open_beneath(self._path, names, anywhere=self._anywhere))

    async def open_variant(
        self, names: Sequence[bytes], codings: Iterable[str], plain: OpenFile
    ) -> tuple[OpenFile | None, str | None]:
        """Open the first precompressed variant of a file that is there, and return it with its coding."""
        for coding in codings:
            try:
                found = await self.open([*names[:-1], names[-1] + SUFFIXES[coding].encode()])
            except OSError:
                continue
            # By the second: archives and copies keep no more. One that is older was made of another version.
            if stat.S_ISREG(found.status.st_mode) and int(found.status.st_mtime) >= int(plain.status.st_mtime):
                return found, coding
            os.close(found.fd)
        return None, None

    def status(self, names: Sequence[bytes]) -> os.stat_result | None:
        """Return the status of what these names lead to, None if they lead to nothing; for a thread."""
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


def open_cached(root: str, names: Sequence[bytes], *, anywhere: bool = False) -> int | None:
    """Open a file within microseconds, if the kernel's memory holds what the names lead to.

    Args:
        root: The directory that nothing leads out of.
        names: What to look up, one name after the other.
        anywhere: Let links lead out of the root.

    Returns:
        A descriptor; None if only `open_beneath` can tell.

    Raises:
        OSError: the kernel is sure that there is no such file, or that it may not be read.
    """
    call = openat2()
    if call is None:
        return None
    top = call(HERE, os.fsencode(root), _DIRECTORY_CACHED)
    if top < 0:
        return None
    try:
        descriptor = call(top, b"/".join(names) or b".", _ANYWHERE_CACHED if anywhere else _BENEATH_CACHED)
    finally:
        os.close(top)
    if descriptor >= 0:
        return descriptor
    if -descriptor in _CERTAIN:
        raise OSError(-descriptor, os.strerror(-descriptor), os.fsdecode(b"/".join(names)))
    return None


def open_beneath(root: str, names: Sequence[bytes], *, anywhere: bool = False) -> int:
    """Open a file as `open_cached` does, also if that takes a disk; for a thread.

    Raises:
        OSError: there is no such file, it may not be read, or a link to it leads out of `root` (EXDEV).
    """
    if anywhere:
        return os.open(b"/".join([os.fsencode(root), *names]), _FLAGS)
    stack = [os.open(root, _DIRECTORY)]
    try:
        return _walk(root, stack, list(reversed(names)) or [b"."])
    finally:
        for descriptor in stack:
            os.close(descriptor)


def _walk(root: str, stack: list[int], names: list[bytes]) -> int:
    """Open the last name, going down from `stack[0]`. `names` are in reverse order, `stack` the directories so far."""
    links = 0
    while True:
        name = names.pop()
        if name == b"..":  # of a link: the caller has refused it in a request
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
                names.append(b".")  # it says that it leads to a directory
            names += [part for part in reversed(parts) if part not in (b"", b".")]


def _target(name: bytes, directory: int) -> bytes | None:
    """Return where a symbolic link leads; None if it is not one."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _inside(root: str, target: bytes) -> bytes:
    """Return an absolute link's target, relative to the root."""
    for top in (os.fsencode(root), os.path.realpath(os.fsencode(root))):
        inside = target == top or target.startswith(top.rstrip(b"/") + b"/")
        if inside:
            return target[len(top) :]
    raise _leaves(target)


def _leaves(name: bytes) -> OSError:
    return OSError(errno.EXDEV, "a link leads out of the root", os.fsdecode(name))
