"""Handles signals while `http.run` does not: before it serves, and from the second signal on.

Rule 1: they end the process at once. An exception could be raised anywhere instead, such as in the middle of an import.
Rule 2: while Python shuts down after the command, they are ignored: it has given up its handlers by then, and what signals
    do without one would change the exit code.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def leaving_at_a_signal() -> Generator[None, None, None]:
    """End the process with exit code 0 at a signal that the block does not handle itself."""
    atexit.register(_ignore_signals)
    before = {number: signal.signal(number, _leave) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(*_: object) -> None:
    os._exit(0)


def _ignore_signals() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
