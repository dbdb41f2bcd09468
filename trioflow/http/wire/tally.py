"""How many connections each client has in all worker processes: a table that they share, without locks on its cells.

Rule 1: each process writes its own row and reads all of them. So a count may be off by what others accept at this moment.
Rule 2: a row is taken by a lock that the system releases when its process dies; the next process to start empties it.
Rule 3: two clients share a cell with a chance of 1 in 16384; without its secret key a client cannot arrange that.
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
    """This process's part in a table.

    Args:
        file: The number of its file.
        rows: How many it has.
        key: Secret bytes, the same in all processes.
    """

    def __init__(self, file: int, rows: int, key: bytes) -> None:
        self._rows = rows
        self._key = key
        self._cells = memoryview(mmap.mmap(file, rows * _CELLS * _SIZE)).cast("i")
        fcntl.lockf(file, fcntl.LOCK_EX, 1, rows)  # wait: another that begins holds all free rows for a moment
        free = [row for row in range(rows) if self._take(file, row)]
        self._row = free.pop(0)
        for row in (*free, rows):
            fcntl.lockf(file, fcntl.LOCK_UN, 1, row)

    def _take(self, file: int, row: int) -> bool:
        """Take and empty a row, unless a living process has it."""
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            self._cells[row :: self._rows] = memoryview(bytes(_CELLS * _SIZE)).cast("i")
            return True
        return False

    def count(self, origin: bytes) -> int:
        """Return how many connections a client has."""
        start = self._start(origin)
        return sum(self._cells[start : start + self._rows])

    def add(self, origin: bytes, change: int) -> None:
        """Count one more (1) or one less (-1) in this process."""
        self._cells[self._start(origin) + self._row] += change

    def _start(self, origin: bytes) -> int:
        digest = blake2b(origin, key=self._key, digest_size=4).digest()
        return int.from_bytes(digest, "big") % _CELLS * self._rows


def open_table(workers: int) -> tuple[IO[bytes], Callable[[], Tally]]:
    """Return the file of a new table, for processes to inherit, and what each calls, pickled, to take its part.

    Raises:
        RuntimeError: there is no room for it.
    """
    rows = workers + 1  # one more process runs while another is replaced
    try:
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(bytes(rows * _CELLS * _SIZE))  # a hole would kill the processes once the disk is full
            file.flush()
            stack.pop_all()
    except OSError as exc:
        raise RuntimeError(f"a worker process cannot be started: there is no room for a temporary file: {exc}") from exc
    return file, partial(Tally, file.fileno(), rows, os.urandom(16))
