"""Sinks that return a result: a list, a joined text, a reduced value, one item, or a count.

Rule 1: a plain function is applied a batch at a time, in one task with the neighbouring stages. A coroutine function gets
    one item at a time.
Rule 2: a sink that needs no more items cancels everything upstream at once (R9).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, AnyStr, TypeVar, overload

from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_function, is_async, refuse_coroutine
from trioflow._core.fused import Fold
from trioflow._core.makers import ending, ending_task
from trioflow._core.streams import Writable, wanted
from trioflow._core.typevars import T

R = TypeVar("R")


class _Missing:
    def __repr__(self) -> str:
        return "<an empty source is an error>"  # shown by `help`


_MISSING: Any = _Missing()


def collect() -> Writable[T, list[T]]:
    """Return all items in a list.

    Waits when: never.
    Ends when: the source ends.
    On cancel: all items are lost.
    Holds: all items; if they may be too many, pipe through `take` first.

    Example:
        >>> run(from_iterable("ab").pipe(collect()))
        ['ab']
    """
    return ending(_Collect, "collect")


class _Collect(Fold[Any, list[Any]]):
    def __init__(self) -> None:
        self._items: list[Any] = []

    def feed(self, items: list[Any]) -> None:
        self._items += items

    def result(self) -> list[Any]:
        return self._items


@overload
def join() -> Writable[AnyStr, AnyStr]: ...
@overload
def join(separator: AnyStr) -> Writable[AnyStr, AnyStr]: ...
def join(separator: AnyStr | None = None) -> Writable[AnyStr, AnyStr]:
    """Join all chunks into one `bytes` or one `str`.

    Waits when: never.
    Ends when: the source ends. If nothing came, it returns `b""`, or `separator[:0]`.
    On cancel: all chunks are lost.
    Holds: all chunks, and briefly twice as much at the end.

    Args:
        separator: What to put between chunks.

    Raises:
        TypeError: `separator` is neither `str` nor `bytes`, or the chunks are not all of one type.

    Example:
        >>> run(from_iterable([b"a", b"b"]).pipe(join()))
        b'ab'
    """
    if separator is not None and not isinstance(separator, (str, bytes)):
        raise wanted("join expects a str or bytes to put between chunks", separator)
    return ending(lambda: _Join(separator), "join", *([] if separator is None else [separator]))


class _Join(_Collect):
    def __init__(self, separator: Any) -> None:
        super().__init__()
        self._separator = separator

    def result(self) -> Any:
        if self._separator is not None:
            return self._separator.join(self._items)
        if self._items and isinstance(self._items[0], str):
            return "".join(self._items)
        return b"".join(self._items)


@overload
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R] | R], initial: R) -> Writable[T, R]: ...
@overload
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R]], initial: R) -> Writable[T, R]: ...
@overload  # mypy takes the R above for object in `print(await ...)`, and few functions fit that
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R] | R], initial: R) -> Writable[T, object]: ...
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R] | R], initial: R) -> Writable[T, Any]:
    """Compute `state = fn(state, item)` for each item, starting from `initial`, and return the last state.

    `fn` may be a coroutine function. To start from an empty list or dict, name its type, as in `dict[str, int]()`: type
    checkers cannot infer that of `{}` here.

    Waits when: `fn` runs.
    Ends when: the source ends. If nothing came, it returns `initial`.
    On cancel: the state is lost.
    Holds: the state and one batch, or one item if `fn` is a coroutine function.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2, 3]).pipe(reduce(lambda total, n: total + n, 0)))
        6
    """
    call: Callable[[Any, Any], Any] = check_function("reduce", fn)
    if not is_async(call):
        return ending(lambda: _Reduce(fn, initial), "reduce", fn, initial)

    async def run(source: ReceiveChannel[Any]) -> Any:
        state = initial
        async for item in source:
            state = await call(state, item)
        return state

    return ending_task(run, "reduce", fn, initial)


class _Reduce(Fold[Any, Any]):
    def __init__(self, fn: Callable[[Any, Any], Any], initial: Any) -> None:
        self._fn = fn
        self._state = initial

    def feed(self, items: list[Any]) -> None:
        fn, state = self._fn, self._state
        for item in items:
            state = fn(state, item)
        refuse_coroutine("reduce", state)
        self._state = state

    def result(self) -> Any:
        return self._state


@overload
def first() -> Writable[T, T]: ...
@overload
def first(*, default: T) -> Writable[T, T]: ...
@overload  # pyright solves the one above for any default, mypy needs this one
def first(  # type: ignore[overload-cannot-match]  # pyright: ignore[reportOverlappingOverload]
    *, default: R
) -> Writable[T, T | R]: ...
def first(*, default: Any = _MISSING) -> Writable[T, T | Any]:
    """Return the first item.

    Waits when: never.
    Ends when: an item arrives, which cancels everything upstream; or the source ends.
    On cancel: nothing is lost.
    Holds: one batch.

    Args:
        default: What to return if no item came.

    Raises:
        LookupError: no item came, and `default` was not given.

    Example:
        >>> run(from_iterable([1, 2]).pipe(first()))
        1
    """
    return _kept("first", 0, default)


@overload
def last() -> Writable[T, T]: ...
@overload
def last(*, default: T) -> Writable[T, T]: ...
@overload  # as for `first`
def last(  # type: ignore[overload-cannot-match]  # pyright: ignore[reportOverlappingOverload]
    *, default: R
) -> Writable[T, T | R]: ...
def last(*, default: Any = _MISSING) -> Writable[T, T | Any]:
    """Return the last item.

    Waits when: never.
    Ends when: the source ends.
    On cancel: the item is lost.
    Holds: the item and one batch.

    Args:
        default: What to return if no item came.

    Raises:
        LookupError: no item came, and `default` was not given.

    Example:
        >>> run(from_iterable([1, 2]).pipe(last()))
        2
    """
    return _kept("last", -1, default)


def _kept(name: str, place: int, default: object) -> Writable[Any, Any]:
    given = {} if default is _MISSING else {"default": default}
    return ending(lambda: _Kept(name, place, default), name, **given)


class _Kept(Fold[Any, Any]):
    def __init__(self, name: str, place: int, default: object) -> None:
        self._name = name
        self._place = place  # 0 for the first item, -1 for the last
        self._item = default

    def feed(self, items: list[Any]) -> None:
        self._item = items[self._place]
        self.done = self._place == 0

    def result(self) -> Any:
        if self._item is _MISSING:
            raise LookupError(f"{self._name}: the source ended without an item; pass default= to allow that")
        return self._item


def count() -> Writable[object, int]:
    """Return the number of items.

    Waits when: never.
    Ends when: the source ends.
    On cancel: the count is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable(range(5)).pipe(count()))
        5
    """
    return ending(Count, "count")


class Count(Fold[Any, int]):
    """Counts the items."""

    def __init__(self) -> None:
        self._count = 0

    def feed(self, items: list[Any]) -> None:
        """Count `items`."""
        self._count += len(items)

    def result(self) -> int:
        """Return how many there were."""
        return self._count
