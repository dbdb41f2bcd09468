"""Items gathered into lists and tuples.

Rule 1: nothing is given empty.
Rule 2: each run gathers anew; what is held is what the next group needs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_positive
from trioflow._core.fused import Operator
from trioflow._core.makers import differing, fused, passing_on, task
from trioflow._core.streams import Transform
from trioflow._core.typevars import T

_NOTHING: Final[Any] = object()  # no item


def batch(size: int, *, within: float = math.inf) -> Transform[T, list[T]]:
    """Gather items into lists of at most `size`.

    Emits when: a list is full, its first item has waited `within` seconds, or the source has ended.
    Waits when: the reader has not taken the last list.
    Ends when: the source ends, after the unfinished list; an empty list is never sent.
    On cancel: the unfinished list is lost.
    Holds: up to `size` items, beside what the channels around it hold.

    Args:
        size: The longest list to send; 1 or more.
        within: The longest time an item may wait for company, in seconds.

    Raises:
        TypeError: `size` is not an int, or `within` not a number.
        ValueError: `size` is below 1, or `within` is not above 0.

    Example:
        >>> run(from_iterable(range(5)).pipe(batch(2)).pipe(collect()))
        [[0, 1], [2, 3], [4]]
    """
    check_count("size", size, 1)
    if check_positive("within", within) == math.inf:
        return fused(lambda: _Batch(size), "batch", size)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        while True:
            try:
                items = await source.receive_many(size)
            except trio.EndOfChannel:
                return
            if len(items) < size:
                with contextlib.suppress(trio.EndOfChannel), trio.move_on_after(within):
                    while len(items) < size:
                        items += await source.receive_many(size - len(items))
            await output.send(items)

    return passing_on(task(run, "batch", size, within=within))


class _Batch(Operator[Any, list[Any]]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._items: list[Any] = []

    def feed(self, items: list[Any]) -> list[list[Any]]:
        size = self._size
        items = self._items + items
        whole = len(items) - len(items) % size
        self._items = items[whole:]
        return [items[i : i + size] for i in range(0, whole, size)]

    def flush(self) -> list[list[Any]]:
        return [self._items] if self._items else []


def window(size: int, *, step: int = 1) -> Transform[T, tuple[T, ...]]:
    """Give the last `size` items as a tuple, anew for every `step` items. All windows are full.

    Emits when: the last item of a window comes.
    Waits when: its reader does.
    Ends when: the source ends; where fewer than `size` items came, nothing was given.
    On cancel: nothing of its own is lost.
    Holds: `size` items, and one batch.

    Args:
        size: The length of every window; 1 or more.
        step: How many items a window begins behind the one before; above `size`, those in between are left out.

    Raises:
        TypeError: `size` or `step` is not an int.
        ValueError: `size` or `step` is below 1.

    Example:
        >>> run(
        ...     from_iterable("abcd")
        ...     .pipe(flat_map(list))
        ...     .pipe(window(3))
        ...     .pipe(map("".join))
        ...     .pipe(collect())
        ... )
        ['abc', 'bcd']
    """
    check_count("size", size, 1)
    check_count("step", step, 1)
    return fused(lambda: _Window(size, step), "window", size, **differing(step=(step, 1)))


class _Window(Operator[Any, tuple[Any, ...]]):
    def __init__(self, size: int, step: int) -> None:
        self._size = size
        self._step = step
        self._items: list[Any] = []
        self._skip = 0  # how many items to leave out before the next window

    def feed(self, items: list[Any]) -> Iterator[tuple[Any, ...]]:
        # Lazily: a batch of windows holds `size` times as many items as the batch that came.
        held = self._items + items[self._skip :]
        self._skip -= min(self._skip, len(items))
        count = max((len(held) - self._size) // self._step + 1, 0)
        end = count * self._step
        self._items = held[end:]
        self._skip += max(end - len(held), 0)
        return (tuple(held[at : at + self._size]) for at in range(0, end, self._step))


def pairwise() -> Transform[T, tuple[T, T]]:
    """Give each item together with the one before it, as `itertools.pairwise` does.

    Emits when: the second item comes, and every one behind it.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: the last item, and one batch.

    Example:
        >>> run(
        ...     from_iterable([1, 4, 9])
        ...     .pipe(pairwise())
        ...     .pipe(map(lambda pair: pair[1] - pair[0]))
        ...     .pipe(collect())
        ... )
        [3, 5]
    """
    return fused(_Pairwise, "pairwise")


class _Pairwise(Operator[Any, tuple[Any, Any]]):
    def __init__(self) -> None:
        self._last = _NOTHING

    def feed(self, items: list[Any]) -> list[tuple[Any, Any]]:
        before = items if self._last is _NOTHING else [self._last, *items]
        self._last = items[-1]
        return list(itertools.pairwise(before))
