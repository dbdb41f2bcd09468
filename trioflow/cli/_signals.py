"""The signals that end the command where `http.run` does not handle them: until it serves, and from the second one on.

Rule 1: they end the process there and then. An exception instead could come up anywhere, such as in the middle of an
    import.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def leaving_at_a_signal() -> Generator[None, None, None]:
    """End the process with exit code 0 at a signal that nothing within the block handles."""
    before = {number: signal.signal(number, _leave) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(*_: object) -> None:
    os._exit(0)
