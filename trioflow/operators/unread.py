"""A channel that nobody has begun to read, and that holds up the readers of others.

Rule: a reader may be slow, and may begin late; but what all wait for must not be waited for without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from trioflow._core.channel import SendChannel

PATIENCE: Final = 30.0  # seconds that such a channel may hold up the reader of another


async def send_in_time(
    output: SendChannel[Any], item: Any, others: Iterable[SendChannel[Any]], name: Callable[[SendChannel[Any]], str]
) -> None:
    """Send, as `output.send` does.

    Raises:
        trio.TooSlowError: `output` is full and nobody has begun to read it, while a reader of `others` waits.
    """
    while output._is_untouched:
        with trio.move_on_after(PATIENCE):
            await output.send(item)
            return
        if any(each.statistics().tasks_waiting_receive for each in others):
            raise trio.TooSlowError(
                f"nobody has begun to read {name(output)} for {PATIENCE:g} s, and the reader of another waits: "
                "read them at the same time, or open the one that you do not need and leave it"
            )
    await output.send(item)
