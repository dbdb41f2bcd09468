"""How a command fails: with an exit code and one line that is safe to print, or because its output is closed."""

from __future__ import annotations

import os
import sys


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


def drop_output() -> None:
    """Send further output to /dev/null, after the reader of stdout has left, such as `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
