"""Sends a file to a socket with `sendfile`; the event loop never waits for the disk.

Rule 1: the kernel copies from the page cache to the socket. What is not in the page cache is sent in a thread, which
    may wait for the disk.
Rule 2: with a fast client, a task yields after every window.
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
AHEAD: Final = 8 << 20  # bytes that the kernel reads ahead while a window that was not cached is sent


def _send_cold(out: int, fd: int, start: int, count: int) -> int:
    """Call `os.sendfile`, in a thread, and let the kernel read ahead meanwhile."""
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
    """Send the bytes from `start` to `stop` of an open file, and call `count` with the size of each part that was sent.

    Waits when: the socket is full, by calling `wait_writable`.
    On cancel: an unknown part has been sent.
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
