"""Operators that gather items into lists and tuples.

Rule 1: no empty group is ever emitted.
Rule 2: each run starts with nothing gathered, and holds only what the next group needs.
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
from trioflow._core.makers import differing, fused, marked, task
from trioflow._core.streams import Transform
from trioflow._core.typevars import T

_NOTHING: Final[Any] = object()  # stands for "no item yet"


def batch(size: int, *, within: float = math.inf) -> Transform[T, list[T]]:
    """Gather items into lists of at most `size`.

    Emits when: a list is full, its first item has waited `within` seconds, or the source has ended.
    Waits when: the reader has not taken the last list.
    Ends when: the source ends, after the last, shorter list; an empty list is never sent.
    On cancel: the unfinished list is lost.
    Holds: up to `size` items, plus what the channels around it hold.

    Args:
        size: The length of a full list; 1 or more.
        within: How long the first item of a list may wait for the list to fill, in seconds.

    Raises:
        TypeError: `size` is not an int, or `within` is not a number.
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

    return marked(task(run, "batch", size, within=within), passes_on=True)


class _Batch(Operator[Any, list[Any]]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._items: list[Any] = []

    def feed(self, items: list[Any]) -> list[list[Any]]:
        size, held = self._size, self._items
        # In place: a new list for each feed would copy all that is held.
        held += items
        if len(held) < size:
            return []
        whole = len(held) - len(held) % size
        self._items = held[whole:]
        return [held[i : i + size] for i in range(0, whole, size)]

    def flush(self) -> list[list[Any]]:
        return [self._items] if self._items else []


def window(size: int, *, step: int = 1) -> Transform[T, tuple[T, ...]]:
    """Yield sliding windows as tuples of `size` items, each starting `step` items after the one before.

    Every window is full.

    Emits when: the last item of a window arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends. If fewer than `size` items came, nothing is emitted.
    On cancel: the unfinished window is lost.
    Holds: `size` items, and one batch.

    Args:
        size: The length of every window; 1 or more.
        step: How many items after the start of a window the next one starts; if that is more than `size`, the items
            between two windows are skipped.

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
        self._skip = 0  # how many items to skip before the next window

    def feed(self, items: list[Any]) -> Iterator[tuple[Any, ...]]:
        # A generator, because a batch of windows holds `size` times as many items as the batch it is made from.
        held = self._items
        held += items[self._skip :]
        self._skip -= min(self._skip, len(items))
        count = max((len(held) - self._size) // self._step + 1, 0)
        if not count:
            return iter(())
        end = count * self._step
        self._items = held[end:]
        self._skip += max(end - len(held), 0)
        return (tuple(held[at : at + self._size]) for at in range(0, end, self._step))


def pairwise() -> Transform[T, tuple[T, T]]:
    """Yield each item together with the one before it, as `itertools.pairwise` does.

    Emits when: the second item arrives, and every item after it.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: the last item is lost.
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
