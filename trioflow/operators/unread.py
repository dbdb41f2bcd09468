"""Detect a branch that is never read and so blocks the readers of the others.

Rule: a reader may be slow and may start late; but if the others wait too long for one that has not started, that is an
    error and not a silent deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from trioflow._core.channel import SendChannel

PATIENCE: Final = 30.0  # seconds that an unread channel may block the reader of another


async def send_in_time(
    output: SendChannel[Any], item: Any, others: Iterable[SendChannel[Any]], name: Callable[[SendChannel[Any]], str]
) -> None:
    """Send `item`, as `output.send` does, but do not wait forever for a reader that never starts.

    Raises:
        trio.TooSlowError: `output` is full and has never been read, while a reader of `others` waits.
    """
    while output._is_untouched:
        with trio.move_on_after(PATIENCE):
            await output.send(item)
            return
        if any(each.statistics().tasks_waiting_receive for each in others):
            raise trio.TooSlowError(
                f"{name(output)}: not read for {PATIENCE:g} s, while the reader of another waits; "
                "read them at the same time, or open the one that you do not need and leave it"
            )
    await output.send(item)
