"""The signals that end the command: the first one cleanly, a second one at once.

Rule 1: until it serves, and once it has been told to stop, a signal ends the process there and then. An exception instead
    could come up anywhere, such as in the middle of an import.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import trio

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


async def cancel_at_a_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel `scope` at the first signal; after that, signals do what they did before."""
    with trio.open_signal_receiver(*_ENDING) as signals:
        task_status.started()
        await anext(signals)
        scope.cancel()
