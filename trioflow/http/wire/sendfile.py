"""Sends a file to a socket with `sendfile`; the event loop never waits for the disk.

Rule 1: the kernel copies from the page cache to the socket. What is not in the page cache is sent in a thread, which
    may wait for the disk.
Rule 2: in the event loop, a task yields after every window. A client that keeps up is sent the rest by a thread, which
    need not ask the page cache.
Rule 3: where `sendfile` does not work, the same is done by reading and writing.
Rule 4: a file that has become shorter is an error; it is never padded.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trioflow.io.page_cache import is_cached

WINDOW: Final = 1 << 20  # bytes sent between two yields
AHEAD: Final = 8 << 20  # bytes that the kernel reads ahead while a thread sends
TRIP: Final = 0.02  # seconds that a thread works until the loop looks for cancellation: starting one costs 0.1 ms
PATIENCE: Final = 2  # milliseconds that a thread waits for its client

_PIECE: Final = 1 << 18  # bytes: one call for 1 GiB takes twice the kernel's time of calls for so many
_FAST: Final = 8 << 20  # bytes: more than the buffers of a client that reads nothing take, and worth starting a thread


def is_ready(fd: int, event: int, patience: int) -> bool:
    """Wait in a thread, at most `patience` milliseconds, for an event of `select.poll`; return whether it happened."""
    ready = select.poll()
    ready.register(fd, event)
    return bool(ready.poll(patience))


def _send_piece(out: int, fd: int, start: int, size: int) -> int:
    try:
        return os.sendfile(out, fd, start, size)
    except (BlockingIOError, ConnectionError):
        raise
    except OSError:  # this file system or sandbox has no sendfile; what else is wrong is raised below
        return os.write(out, os.pread(fd, size, start))


def _send(out: int, fd: int, start: int, stop: int) -> tuple[int, bool]:
    """Send until `stop`, the end of the file, or the socket is full; return how far it came, and whether it is full."""
    while start < stop:
        size = min(_PIECE, stop - start)
        try:
            sent = _send_piece(out, fd, start, size)
        except BlockingIOError:
            return start, True
        start += sent
        if sent < size:  # the next call would only say that the socket is full
            return start, sent > 0
    return start, False


def _send_in_thread(out: int, fd: int, start: int, stop: int, patience: int) -> tuple[int, bool]:
    """Send as `_send` does, let the kernel read ahead, and wait `patience` milliseconds each time the socket is full."""
    at, until = start, time.perf_counter() + TRIP
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, at, AHEAD, os.POSIX_FADV_WILLNEED)
    while True:
        window = min(at + WINDOW, stop)
        at, is_full = _send(out, fd, at, window)
        if is_full:
            if not is_ready(out, select.POLLOUT, patience):
                return at, True
        elif at < window or at == stop:
            return at, False
        if at > start and time.perf_counter() > until:
            return at, False


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
    On cancel: an unknown part has been sent. A thread that sends is waited for, about `TRIP` seconds or as long as the disk.
    Holds: nothing of the file.

    Raises:
        EOFError: the file has become shorter than `stop`.
        OSError: the socket or the disk failed.
    """
    out = sock.fileno()
    kept_up = 0  # bytes that the client has taken since it last made us wait for longer than a thread would
    enough = _FAST
    while start < stop:
        is_fast = kept_up >= enough and stop - start >= _FAST
        window = min(start + WINDOW, stop)
        is_hot = not is_fast and is_cached(fd, start, window)
        if is_hot:
            end, is_full = _send(out, fd, start, window)
        else:
            patience = PATIENCE if is_fast else 0
            end, is_full = await trio.to_thread.run_sync(_send_in_thread, out, fd, start, stop, patience)
        if end > start:
            count(end - start)
            kept_up += end - start
            start = end
        elif not is_full:
            raise EOFError(f"the file ended at byte {start}, {stop - start} bytes before it should")
        if start == stop:
            return
        if is_full:
            if is_fast:  # it has paused: of eight fast clients at once, each does, and then threads do not pay
                enough *= 2
            began = time.perf_counter()
            await wait_writable()
            if is_fast or time.perf_counter() - began > PATIENCE / 1000:
                kept_up = 0
        elif is_hot:
            await trio.lowlevel.checkpoint()
