"""A file sent to a socket without a copy, and without ever waiting for the disk in the loop.

Rule 1: the kernel copies from the page cache to the socket. What is not in the cache is sent by a thread, which may wait.
Rule 2: a task that sends to a fast reader yields after every window.
Rule 3: a file that has become shorter is an error; it is never padded.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trioflow.io.page_cache import is_cached

WINDOW: Final = 1 << 20  # bytes sent between two yields
AHEAD: Final = 8 << 20  # bytes the kernel is told to read while a cold window is sent


def _send_cold(out: int, fd: int, start: int, count: int) -> int:
    """Send as `os.sendfile` does, in a thread; what comes next is read meanwhile."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start + count, AHEAD, os.POSIX_FADV_WILLNEED)
    return os.sendfile(out, fd, start, count)


async def send_file(
    sock: socket.socket,
    fd: int,
    start: int,
    stop: int,
    wait_writable: Callable[[], Awaitable[None]],
    count: Callable[[int], None],
) -> None:
    """Send the bytes from `start` to `stop` of an open file, and call `count` with how many have gone, again and again.

    Waits when: the socket is full, by calling `wait_writable`.
    On cancel: how much was sent is not known.
    Holds: nothing of the file.

    Raises:
        EOFError: the file has become shorter than `stop`.
        OSError: the socket or the disk failed.
    """
    out = sock.fileno()
    while start < stop:
        window = min(WINDOW, stop - start)
        try:
            is_hot = is_cached(fd, start, start + window)
            if is_hot:
                sent = os.sendfile(out, fd, start, window)
            else:
                sent = await trio.to_thread.run_sync(_send_cold, out, fd, start, window)
        except BlockingIOError:
            await wait_writable()
            continue
        if not sent:
            raise EOFError(f"the file ended at byte {start}, {stop - start} bytes before it should")
        start += sent
        count(sent)
        if is_hot:
            await trio.lowlevel.checkpoint()
