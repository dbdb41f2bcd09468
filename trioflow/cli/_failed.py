"""How a command fails: with an exit code and one line that is safe to print, also if it cannot print its answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager


class Failed(Exception):
    """The command failed; `code` is the exit code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def reason_of(exc: OSError) -> str:
    """Return why the system refused, without the address."""
    return (exc.strerror or str(exc)).partition(": host ")[0].lower()


def printable(text: str) -> str:
    """Return text that is safe to print, with control characters and invalid bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@contextmanager
def printing() -> Generator[None, None, None]:
    """Print in this block. If the reader of stdout has left, as `| head` does, the block ends without an error.

    Raises:
        Failed: the output cannot be written, such as on a full disk.
    """
    try:
        yield
        print(end="", flush=True)
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written when the process ends
        if not isinstance(exc, BrokenPipeError):
            raise Failed(1, f"cannot write to stdout: {reason_of(exc)}") from exc
