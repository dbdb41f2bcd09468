"""What both ends of a channel have in common: a buffer, being open, a place in the line, and the duty to yield (R17)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from trio.lowlevel import checkpoint, checkpoint_if_cancelled, wait_task_rescheduled

from trioflow._core.buffer import Buffer, ChannelStatistics, Waiter


class End:
    """What both kinds of end have in common: a buffer, being open, and the duty to yield."""

    __slots__ = ("_closed", "_moved", "_partner", "_buffer")

    def __init__(self, buffer: Buffer[Any]) -> None:
        self._buffer = buffer
        self._closed = False
        self._moved = 0  # items since this end last let other tasks run
        self._partner: End | None = None  # the other end of its stage: when one has let others run, both have

    def statistics(self) -> ChannelStatistics:
        """Give `ChannelStatistics`: weights, counts, open ends and waiting tasks, all at this moment."""
        return self._buffer.statistics()

    def _checkpoint(self, items: int = 1) -> Any:
        # Not a coroutine itself: that would cost 0.15 µs a call.
        self._moved += items
        if self._moved >= self._buffer.stride:
            self._has_yielded()
            return checkpoint()  # noqa: ASYNC105 - its caller awaits it
        return checkpoint_if_cancelled()  # noqa: ASYNC105

    def _has_yielded(self) -> None:
        self._moved = 0
        if self._partner is not None:
            self._partner._moved = 0

    def pair(self, other: End) -> None:
        """Be an end of the same task as `other`: it yields for both. That saves every second yield of a stage."""
        self._partner, other._partner = other, self

    def _part(self) -> None:
        if self._partner is not None:
            self._partner._partner = None
            self._partner = None

    async def _queue(self, line: deque[Waiter], need: int, attempt: Callable[[bool], bool]) -> None:
        """Wait in `line` until `attempt` succeeds; it is tried when this task is called, and told whether it is first.

        One behind the first is called too, when a clone is closed (Rule 3).
        """
        waiter = Waiter(need)
        line.append(waiter)
        if (clock := self._buffer.clock) is not None:
            waiter.since = clock()
        try:
            while True:
                waiter.is_asleep = True
                await wait_task_rescheduled(waiter.abort)
                await checkpoint_if_cancelled()  # a failure that came meanwhile overtakes what woke us (R12)
                self._has_yielded()
                if attempt(line[0] is waiter):
                    return
        finally:
            line.remove(waiter)
            if (clock := self._buffer.clock) is not None:
                self._buffer.note_wait(line, clock() - waiter.since)
            self._buffer.call_next()
