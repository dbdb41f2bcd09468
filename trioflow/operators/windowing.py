"""An operator that gathers items by the time at which they arrive, on Trio's clock.

Rule 1: window number n covers [start + n * slide, start + n * slide + every). Times are computed from the start and not
    added up, so they do not drift and are exact with a mock clock.
Rule 2: the time of an item is when it was taken from the source. A full window takes no more items, so the source waits
    until the window ends (R6).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_flags, check_positive
from trioflow._core.makers import differing, task
from trioflow._core.streams import Transform
from trioflow._core.typevars import T

MOST: Final = 65536  # items in one window


def window_time(
    every: float, *, slide: float | None = None, empty: bool = False, most: int = MOST
) -> Transform[T, list[T]]:
    """Gather items into lists by time, one list for each window of `every` seconds; with `slide`, windows may overlap.

    Emits when: a window ends. The first ends `every` seconds after the run starts, then one ends every `slide` seconds.
        Windows without items are skipped, unless `empty`.
    Waits when: the reader has not taken the last window, or the current one has `most` items.
    Ends when: the source ends, after the unfinished window if it has an item that no earlier window had.
    On cancel: the unfinished window is lost.
    Holds: the items of `every` seconds, but at most `most`.

    Args:
        every: The length of a window, in seconds.
        slide: How long after the start of a window the next one starts, in seconds; by default `every`. If it is less
            than `every`, an item can be in several windows; if it is more, items between two windows are dropped.
        empty: Whether to emit windows without items, as empty lists.
        most: How many items may be held; after that the source waits until the window ends.

    Raises:
        TypeError, ValueError: a time is not a finite number above 0, `empty` is not a bool, or `most` is not an int of 1 or
            more.

    Example:
        >>> source = ticks(0.01).pipe(enumerate()).pipe(map(lambda pair: pair[0])).pipe(take(4))
        >>> run(source.pipe(window_time(10.0)).pipe(collect()))
        [[0, 1, 2, 3]]
    """
    step = every if slide is None else slide
    for name, seconds in (("every", every), ("slide", step)):
        if check_positive(name, seconds) == math.inf:
            raise ValueError(f"window_time: {name} must be finite, got inf")
    check_flags(empty=empty)
    check_count("most", most, 1)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        windows = _Windows(trio.current_time(), every, step)
        while True:
            ended = False
            with trio.move_on_at(windows.closes_at):
                try:
                    await _fill(windows, source, most)
                except trio.EndOfChannel:
                    ended = True
            for items in windows.closed(trio.current_time(), only_full=not empty):
                await output.send(items)
            if ended:
                if rest := windows.rest():
                    await output.send(rest)
                return

    options = differing(slide=(slide, None), empty=(empty, False), most=(most, MOST))
    return task(run, "window_time", every, **options)


async def _fill(windows: _Windows, source: ReceiveChannel[Any], most: int) -> None:
    """Take items until the window is full; then sleep until cancelled at the end of the window."""
    while len(windows.held) < most and trio.current_time() < windows.closes_at:
        items = await source.receive_many(most - len(windows.held))
        windows.add(items, trio.current_time())
    await trio.sleep_forever()


class _Windows:
    """The open window, and the items that arrived in it."""

    def __init__(self, start: float, every: float, step: float) -> None:
        self._start = start
        self._step = step
        steps = every / step
        whole = round(steps)
        # Where one window ends and another begins must be one number: computed as two sums, they may differ by a rounding
        # error, and an item that arrives in between would be in both windows or in none.
        self._steps = whole if math.isclose(steps, whole) else steps  # how many steps a window takes
        self._number = 0
        self._last_closed = -math.inf
        self.held: deque[tuple[float, Any]] = deque()  # (time of arrival, item)

    @property
    def opens_at(self) -> float:
        return self._start + self._number * self._step

    @property
    def closes_at(self) -> float:
        return self._start + (self._number + self._steps) * self._step

    def add(self, items: list[Any], now: float) -> None:
        if now >= self.opens_at:  # otherwise the items fall between two windows
            self.held.extend((now, item) for item in items)

    def closed(self, now: float, *, only_full: bool) -> Iterator[list[Any]]:
        """Yield the windows that have ended by `now`."""
        while self.closes_at <= now:
            closes_at = self.closes_at
            items = [item for came, item in self.held if came < closes_at]
            self._last_closed = closes_at
            self._number += 1
            if only_full and not self.held:  # skip empty windows, to the one that is open now
                # One less, as the quotient may be rounded up; this loop closes that one, too.
                self._number = max(self._number, math.floor((now - self._start) / self._step - self._steps))
            while self.held and self.held[0][0] < self.opens_at:
                self.held.popleft()
            if items or not only_full:
                yield items

    def rest(self) -> list[Any]:
        """Return the items of the unfinished window, or an empty list if an earlier window had them all."""
        if not self.held or self.held[-1][0] < self._last_closed:
            return []
        return [item for _, item in self.held]
