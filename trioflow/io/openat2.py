"""Opens files from the kernel's memory: within microseconds, or not at all.

openat2(2) with RESOLVE_CACHED, since Linux 5.12, answers EAGAIN if a lookup would need the disk. So the event loop may
try, and needs a thread only if that fails. With RESOLVE_NO_XDEV the call also detects a mount.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import sys
from collections.abc import Callable
from typing import Final

HERE: Final = -100  # AT_FDCWD: a path is looked up from the working directory

_NUMBER: Final = 437  # the same on every Linux architecture but alpha
_HOW: Final = struct.Struct("=QQQ")  # flags, mode, and how to resolve
_CACHED: Final = 0x20
_NO_MOUNT: Final = 0x01


def how(flags: int, resolve: int = 0) -> bytes:
    """Return the last argument of `openat2`, for lookups answered from memory."""
    return _HOW.pack(flags, 0, _CACHED | resolve)


def is_mount(directory: bytes, name: bytes) -> bool:
    """Return whether a file is a mount of its own, as in a container; False if that cannot be known."""
    call = openat2()
    if call is None:
        return False
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        found = call(parent, name, _HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, _NO_MOUNT))
    finally:
        os.close(parent)
    if found >= 0:
        os.close(found)
    return found == -errno.EXDEV


@functools.cache
def openat2() -> Callable[[int, bytes, bytes], int] | None:
    """Return the system call, which returns a descriptor or a negative error number; None if it is missing."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes  # takes a millisecond, so only programs that open files pay for it

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
    syscall.restype = ctypes.c_long

    def call(directory: int, path: bytes, how: bytes) -> int:
        if b"\0" in path:
            return -errno.EINVAL  # or the path before the NUL would be opened
        descriptor: int = syscall(_NUMBER, directory, path, how, _HOW.size)
        return descriptor if descriptor >= 0 else -ctypes.get_errno()

    return call
