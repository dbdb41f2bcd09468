"""How a command fails: with an exit code and one line, in which whatever was typed can be printed; or with its output."""

from __future__ import annotations

import os
import sys


class Failed(Exception):
    """What was asked for cannot be done; `code` is the exit code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def reason_of(exc: OSError) -> str:
    """Return why the system refused, without the place."""
    return (exc.strerror or str(exc)).partition(": host ")[0].lower()


def printable(text: str) -> str:
    """Return text as it may be printed, whatever bytes and control characters are in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def drop_output() -> None:
    """Write nothing more to stdout, which nobody reads any more, such as after `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
