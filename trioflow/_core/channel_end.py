"""What both ends of a channel have in common: closing, statistics, and when a task lets others run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from trioflow._core.buffer import Buffer, ChannelStatistics
from trioflow._core.errors import HangUp


class End:
    """What both kinds of end share: the buffer, whether it is open, and when to let other tasks run (R17)."""

    __slots__ = ("_buffer", "_closed", "_moved", "_partner")

    _note_closed: ClassVar[Callable[[Buffer[Any]], None]]  # tells the buffer, which knows if it was the last end

    def __init__(self, buffer: Buffer[Any]) -> None:
        self._buffer = buffer
        self._closed = False
        self._moved = 0  # items since this end last let other tasks run
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
        if self._moved >= self._buffer.stride:
            self._has_yielded()
            return checkpoint()  # noqa: ASYNC105 - its caller awaits it
        return checkpoint_if_cancelled()  # noqa: ASYNC105

    def _has_yielded(self) -> None:
        self._moved = 0
        if self._partner is not None:
            self._partner._moved = 0

    def _pair(self, other: End) -> None:
        """Note that `other` is an end of the same task: a yield at one counts for both, so a stage yields half as often."""
        self._partner, other._partner = other, self
