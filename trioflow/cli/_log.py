"""The lines that the command prints, one for each request.

Rule 1: no request waits for whoever reads the lines: up to 4,096 are kept, the rest is left out.
Rule 2: each process prints its own: a log that is pickled arrives empty.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from trioflow.http import Access

WAITING: Final = 4096  # lines that wait to be written
PATIENCE: Final = 1.0  # seconds for the last ones
_PAUSE: Final = 0.02  # seconds in which lines gather: to wake this thread for each costs 20 µs
_STDOUT: Final = 1
_END: Final = ""


class Log:
    """Prints a line for each request that it is called with; `close` prints the last ones."""

    def __init__(self, as_text: Callable[[Access], str]) -> None:
        self._as_text = as_text
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[Log], tuple[Callable[[Access], str]]]:
        return Log, (self._as_text,)

    def __call__(self, access: Access) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()
            atexit.register(self.close)  # for a worker process, whose log nobody else closes
        if self._lines.qsize() < WAITING:
            self._lines.put(self._as_text(access) + "\n")

    def close(self) -> None:
        """Print the last lines, if somebody reads them soon. Harmless when repeated."""
        if self._thread is not None:
            self._lines.put(_END)
            self._thread.join(PATIENCE)

    def _write(self) -> None:
        is_read = sys.__stdout__ is not None  # else the number belongs to whatever was opened first
        lines: list[str] = []
        while _END not in lines:
            lines = [self._lines.get()]
            time.sleep(_PAUSE)
            lines += [self._lines.get() for _ in range(self._lines.qsize())]
            if is_read:
                try:
                    _print("".join(lines).encode())
                except OSError:  # nobody reads them: throw them away from now on
                    is_read = False


def _print(data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(_STDOUT, left) :]
        except BlockingIOError:  # another process that shares it has made it non-blocking
            select.select([], [_STDOUT], [])
