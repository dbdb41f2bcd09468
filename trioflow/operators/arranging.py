"""Items taken apart, numbered, spaced, or passed on as they are.

Rule 1: no function of a user's is called here; what is done looks at an item's place, not at its value.
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
    """Give the items of each item, an iterable.

    Emits when: an iterable has given an item.
    Waits when: its reader does; iterables are taken piece by piece, so an endless one is welcome.
    Ends when: the source ends, behind the last iterable.
    On cancel: what the current iterable has not given is lost.
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
    """Give each item with its number, as `(number, item)`.

    Emits when: an item comes.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Args:
        start: The first item's number.

    Raises:
        TypeError: `start` is not an int.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(enumerate(1)).pipe(collect()))
        [(1, 'a'), (2, 'b')]
    """
    if isinstance(start, bool) or not isinstance(start, int):
        raise TypeError(f"start must be an int, not {start!r}")
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
    """Put `separator` between items.

    Emits when: an item comes: the separator stands right before an item, so that none is first or last.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Args:
        separator: The item to put between others.
        every: How many items stand between two separators.

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
    """Give each item as it is: for a place that wants a transform where nothing is to be done.

    Emits when: an item comes.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable([1, 2]).pipe(passthrough()).pipe(collect()))
        [1, 2]
    """
    return fused(_Passthrough, "passthrough")


class _Passthrough(Operator[Any, Any]):
    def feed(self, items: list[Any]) -> list[Any]:
        return items
