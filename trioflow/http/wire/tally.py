"""Counts each client's connections in all worker processes, in a table in shared memory whose cells need no locks.

Rule 1: each process writes only its own row and reads all rows. So a count may miss connections that other processes
    are accepting at this moment.
Rule 2: a process owns its row by a file lock, which the system releases when the process dies; the next process to
    start clears the row.
Rule 3: two clients share a cell with a probability of 1 in 16384, which they cannot raise: the hash has a secret key.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import blake2b
from typing import IO, Final

_CELLS: Final = 1 << 14
_SIZE: Final = 4  # bytes of a cell


class Tally:
    """One process's view of the table.

    Args:
        file: The descriptor of the table's file.
        rows: The table's number of rows.
        key: Secret bytes, the same in all processes.
    """

    def __init__(self, file: int, rows: int, key: bytes) -> None:
        self._rows = rows
        self._key = key
        self._cells = memoryview(mmap.mmap(file, rows * _CELLS * _SIZE)).cast("i")
        fcntl.lockf(file, fcntl.LOCK_EX, 1, rows)  # one process at a time: each briefly locks all free rows
        free = [row for row in range(rows) if self._take(file, row)]
        self._row = free.pop(0)
        for row in (*free, rows):
            fcntl.lockf(file, fcntl.LOCK_UN, 1, row)

    def _take(self, file: int, row: int) -> bool:
        """Lock and clear a row, unless a running process has it; return whether it did."""
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            self._cells[row :: self._rows] = memoryview(bytes(_CELLS * _SIZE)).cast("i")
            return True
        return False

    def count(self, origin: bytes) -> int:
        """Return how many connections a client has in all processes."""
        start = self._start(origin)
        return sum(self._cells[start : start + self._rows])

    def add(self, origin: bytes, change: int) -> None:
        """Count one connection more (1) or less (-1) in this process."""
        self._cells[self._start(origin) + self._row] += change

    def _start(self, origin: bytes) -> int:
        digest = blake2b(origin, key=self._key, digest_size=4).digest()
        return int.from_bytes(digest, "big") % _CELLS * self._rows


def open_table(workers: int) -> tuple[IO[bytes], Callable[[], Tally]]:
    """Return the file of a new table, for processes to inherit, and a picklable function that opens the table in each.

    Raises:
        RuntimeError: the file cannot be written, for example because the disk is full.
    """
    rows = workers + 1  # one extra process runs while another is replaced
    try:
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(bytes(rows * _CELLS * _SIZE))  # no hole: it kills the process if the disk is full
            file.flush()
            stack.pop_all()
    except OSError as exc:
        raise RuntimeError(f"a worker process cannot be started: cannot write a temporary file: {exc}") from exc
    return file, partial(Tally, file.fileno(), rows, os.urandom(16))
