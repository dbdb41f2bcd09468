"""Prints the access log: one line for each request.

Rule 1: no request waits for the reader of the log, nor for a full disk. Up to `MOST` bytes are kept; requests beyond
    that are left out and counted, and the log reports their number at most once a second.
Rule 2: at the end the last lines are printed as long as they are read; lines lost then are reported on stderr.
Rule 3: each process prints its own log, in pieces of whole lines that no other process can break up. So a log that is
    pickled arrives empty.
Rule 4: for the event loop, a request costs no more than putting it in a queue. A thread formats the lines, many at a
    time.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from trioflow.http import Access

MOST: Final = 1 << 22  # bytes of requests that wait to be printed
PATIENCE: Final = 1.0  # seconds without progress after which the last lines are given up
_PARTS: Final = 10  # of that time
_EACH: Final = 512  # bytes that a request takes, besides what its client sent
INTERVAL: Final = 1.0  # seconds between two reports of lines left out
_PAUSE: Final = 0.02  # seconds in which requests gather, since waking this thread for each costs 20 µs
_PIECE: Final = 4096  # bytes that a pipe takes in one piece, even if others write to it (POSIX: PIPE_BUF)
_STDOUT: Final = 1
_STDERR: Final = 2


class Log:
    """Prints a line for each request that it is called with; `close` prints the last ones.

    `notice` is the line for requests that were left out, with `{}` for their number.
    """

    def __init__(self, as_text: Callable[[Access], str], notice: str) -> None:
        self._as_text = as_text
        self._notice = notice
        self._waiting: deque[tuple[Access | None, int]] = deque()
        self._is_wanted = threading.Event()  # set when the thread has something to print
        self._is_idle = True  # whether the thread must be woken for the next request
        self._thread: threading.Thread | None = None
        self._is_read = sys.__stdout__ is not None  # without a stdout, its number belongs to another file
        # No lock is needed: only the event loop changes the first two, only the thread the others.
        self._put = 0  # bytes
        self._left_out = 0  # requests
        self._taken = 0  # bytes
        self._lines: list[str] = []  # the next piece, which is ASCII
        self._size = 0  # of these
        self._failed = 0  # requests whose lines could not be written
        self._reported = 0  # requests that were left out, or failed
        self._reported_at = 0.0
        self._pieces = 0  # printed

    def __reduce__(self) -> tuple[type[Log], tuple[Callable[[Access], str], str]]:
        return Log, (self._as_text, self._notice)

    def __call__(self, access: Access) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a worker process has nothing else that closes its log
        if self._put - self._taken < MOST:
            self._put += _EACH + len(access.target) + len(access.referer or "") + len(access.agent or "")
            self._waiting.append((access, self._put))
            if self._is_idle:
                self._is_idle = False
                self._is_wanted.set()
        else:
            self._left_out += 1

    def close(self) -> None:
        """Print the last lines, as long as they are read. Harmless when repeated."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._waiting.append((None, self._put))
        self._is_wanted.set()
        printed, idle = self._pieces, 0  # counted in parts: at most one passes while the whole machine pauses
        while thread.is_alive() and idle < _PARTS:
            thread.join(PATIENCE / _PARTS)
            idle = idle + 1 if printed == self._pieces else 0
            printed = self._pieces
        lost = self._missing()
        if thread.is_alive():
            lost += len(self._lines) + len(self._waiting) - 1
        if lost:
            told = f"trioflow: lines missing at the end of the log, because they could not be written: {lost}\n"
            with suppress(OSError):
                if select.select([], [_STDERR], [], 0)[1]:  # not if it is a terminal stopped with Ctrl-S
                    os.write(_STDERR, told.encode())

    def _missing(self) -> int:
        return self._left_out + self._failed - self._reported

    def _run(self) -> None:
        while True:
            try:
                access, self._taken = self._waiting.popleft()
            except IndexError:
                self._print(self._lines)
                self._size = 0
                self._is_wanted.clear()
                self._is_idle = True
                if not self._waiting:  # otherwise a request came just before
                    self._is_wanted.wait()
                    time.sleep(_PAUSE)
                continue
            if access is None:
                self._print(self._lines, is_last=True)
                return
            line = self._as_text(access)
            self._lines.append(line)
            self._size += len(line) + 1
            if self._size > _PIECE:
                self._print(self._lines[:-1])
                self._size = len(line) + 1

    def _print(self, lines: Sequence[str], *, is_last: bool = False) -> None:
        """Print `lines`, and before them the number of lines left out, if it is time to report that."""
        missing, now = self._missing(), time.monotonic()
        is_due = missing > 0 and (is_last or now - self._reported_at >= INTERVAL)
        notice = f"{self._notice.format(missing)}\n".encode() if is_due else b""
        if self._is_read and (lines or notice):
            try:
                _write(notice)
                _write("\n".join([*lines, ""]).encode())
            except BrokenPipeError:  # the reader has left: drop everything from now on
                self._is_read = False
            except OSError:  # such as a full disk
                self._failed += len(lines)
            else:
                self._pieces += 1
                if is_due:
                    self._reported += missing
                    self._reported_at = now
        del self._lines[: len(lines)]


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(_STDOUT, left) :]
        except BlockingIOError:  # another process that shares stdout made it non-blocking
            select.select([], [_STDOUT], [])
