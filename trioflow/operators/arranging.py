"""Operators that flatten, number, separate or pass on items.

Rule 1: nothing here calls a user's function or depends on an item's value, only on its position.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any, overload

from trioflow._core.checks import check_count
from trioflow._core.fused import Operator
from trioflow._core.makers import differing, fused
from trioflow._core.streams import Transform
from trioflow._core.typevars import T, U


def flatten() -> Transform[Iterable[T], T]:
    """Yield the items of each incoming iterable.

    Emits when: an iterable yields an item.
    Waits when: downstream is not ready. Iterables are read lazily, so one may be endless.
    Ends when: the source has ended and the last iterable is exhausted.
    On cancel: the rest of the current iterable is lost.
    Holds: one batch of items in and one out.

    Raises:
        TypeError: an item is not iterable.

    Example:
        >>> run(from_iterable([[1, 2], [], [3]]).pipe(flatten()).pipe(collect()))
        [1, 2, 3]
    """
    return fused(_Flatten, "flatten")


class _Flatten(Operator[Iterable[Any], Any]):
    def feed(self, items: list[Iterable[Any]]) -> Iterator[Any]:
        for item in items:
            yield from item


def enumerate(start: int = 0) -> Transform[T, tuple[int, T]]:
    """Number the items by yielding `(number, item)` for each.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Args:
        start: The number of the first item.

    Raises:
        TypeError: `start` is not an int.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(enumerate(1)).pipe(collect()))
        [(1, 'a'), (2, 'b')]
    """
    if isinstance(start, bool) or not isinstance(start, int):
        raise TypeError(f"enumerate: start must be an int, got {start!r}")
    return fused(lambda: _Enumerate(start), "enumerate", *([start] if start else []))


class _Enumerate(Operator[Any, tuple[int, Any]]):
    def __init__(self, start: int) -> None:
        self._next = start

    def feed(self, items: list[Any]) -> list[tuple[int, Any]]:
        numbered = list(builtins.enumerate(items, self._next))
        self._next += len(items)
        return numbered


@overload
def intersperse(separator: T, *, every: int = ...) -> Transform[T, T]: ...
@overload  # pyright solves the one above for any separator, mypy needs this one
def intersperse(  # type: ignore[overload-cannot-match]  # pyright: ignore[reportOverlappingOverload]
    separator: U, *, every: int = ...
) -> Transform[T, T | U]: ...
def intersperse(separator: U, *, every: int = 1) -> Transform[T, T | U]:
    """Insert `separator` between items.

    Emits when: an item arrives. The separator is sent right before that item, so it is never first or last.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Args:
        separator: What to insert.
        every: How many items to send between two separators.

    Raises:
        TypeError: `every` is not an int.
        ValueError: `every` is below 1.

    Example:
        >>> run(from_iterable(["a", "b", "c"]).pipe(intersperse(", ")).pipe(join()))
        'a, b, c'
    """
    check_count("every", every, 1)
    return fused(lambda: _Intersperse(separator, every), "intersperse", separator, **differing(every=(every, 1)))


class _Intersperse(Operator[Any, Any]):
    def __init__(self, separator: Any, every: int) -> None:
        self._separator = separator
        self._every = every
        self._count = 0

    def feed(self, items: list[Any]) -> list[Any]:
        given: list[Any] = []
        for place, item in builtins.enumerate(items, self._count):
            if place and not place % self._every:
                given.append(self._separator)
            given.append(item)
        self._count += len(items)
        return given


def passthrough() -> Transform[T, T]:
    """Pass each item on unchanged, where a transform is required but there is nothing to do.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable([1, 2]).pipe(passthrough()).pipe(collect()))
        [1, 2]
    """
    return fused(_Passthrough, "passthrough")


class _Passthrough(Operator[Any, Any]):
    def feed(self, items: list[Any]) -> list[Any]:
        return items
