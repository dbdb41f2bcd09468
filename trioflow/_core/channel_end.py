"""What both ends of a channel have in common: closing, statistics, and when a task lets others run.

Rule 1: a task lets others run at least once every `capacity` items (R17), and once it has worked for `TURN` seconds. To ask
    for the time at each item would add a tenth to the cost of a loop over a channel. So an end asks after 16 items, then
    after twice as many while that took less than a turn, and at the latest after `capacity`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, ClassVar, Final, Self

from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from trioflow._core.buffer import Buffer, ChannelStatistics
from trioflow._core.errors import HangUp

TURN: Final = 0.0005  # seconds; a turn for other tasks costs up to a fiftieth of that
_SOON: Final = 16  # items


class End:
    """What both kinds of end share: the buffer, whether it is open, and when to let other tasks run (R17)."""

    __slots__ = ("_buffer", "_closed", "_look_at", "_moved", "_partner", "_since")

    _note_closed: ClassVar[Callable[[Buffer[Any]], None]]  # tells the buffer, which knows if it was the last end

    def __init__(self, buffer: Buffer[Any]) -> None:
        self._buffer = buffer
        self._closed = False
        self._moved = 0  # items since this end last let other tasks run
        # How many of them before it asks for the time.
        self._look_at = _SOON if buffer.stride > _SOON else buffer.stride
        self._since = perf_counter()  # when it last let them run
        self._partner: End | None = None  # the other end of the same stage: if one lets others run, it counts for both

    def __repr__(self) -> str:
        held = f"{self._buffer.used} of {self._buffer.capacity:g}"
        return f"<{type(self).__name__} {held}{', closed' if self._closed else ''}>"

    def statistics(self) -> ChannelStatistics:
        """Return `ChannelStatistics`: the current weights, counts, open ends and waiting tasks."""
        return self._buffer.statistics()

    def close(self) -> None:
        """Close this end. Harmless when repeated.

        When the last sending end closes, readers still get the items in the channel, and then its end. When the last
        receiving end closes, the items are discarded and senders get `trio.BrokenResourceError`.
        """
        if not self._closed:
            self._closed = True
            if self._partner is not None:
                self._partner._partner = None
                self._partner = None
            if self._buffer.on_abort is not None:
                self._buffer.on_abort.pop(self, None)
            type(self)._note_closed(self._buffer)

    async def aclose(self) -> None:
        """Close this end, then let other tasks run."""
        self.close()
        await checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _has_raised(self, exc: HangUp) -> bool:
        return exc.channel is self._buffer  # and not another one (R15)

    def _checkpoint(self, items: int = 1) -> Any:
        # Returns a coroutine instead of being one, which saves 0.15 µs a call.
        self._moved += items
        if self._moved >= self._look_at and self._is_due():
            return self._let_others_run()
        return checkpoint_if_cancelled()  # noqa: ASYNC105 - its caller awaits it

    def _is_due(self, coming: int = 0) -> bool:
        """Return whether to let others run now, and plan when to ask for the time again; `coming` items will be moved."""
        moved = self._moved + coming
        worked = perf_counter() - self._since
        stride = self._buffer.stride
        if worked < TURN:
            self._look_at = min(2 * moved, stride)
            return moved >= stride
        self._look_at = min(int(moved * TURN / worked) or 1, stride)
        return True

    async def _let_others_run(self) -> None:
        await checkpoint()
        self._has_yielded()

    def _has_yielded(self) -> None:
        self._moved = 0
        self._since = perf_counter()
        if self._partner is not None:
            self._partner._moved = 0
            self._partner._since = self._since

    def _pair(self, other: End) -> None:
        """Note that `other` is an end of the same task: a yield at one counts for both, so a stage yields half as often."""
        self._partner, other._partner = other, self
