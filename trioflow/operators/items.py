"""Operators that call a function for each item.

Rule 1: a plain function is applied a batch at a time, in one task with the neighbouring stages. A coroutine function gets
    one item at a time, and its stage runs in its own task.
Rule 2: no operator here waits for more items than it needs for its next output.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, TypeVarTuple, overload

from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_function, is_async, refuse_coroutine
from trioflow._core.each import Each
from trioflow._core.fused import Operator, close_iterator
from trioflow._core.makers import awaited, fused, per_item, task
from trioflow._core.streams import Transform
from trioflow._core.typevars import Guard, Narrow, OfAny, T, U, V

Ts = TypeVarTuple("Ts")


@overload
def map(fn: Callable[[T], Coroutine[Any, Any, U] | U]) -> Transform[T, U]: ...
@overload
def map(fn: Callable[[T], Coroutine[Any, Any, U]]) -> Transform[T, U]: ...
def map(fn: Callable[[T], Coroutine[Any, Any, U] | U]) -> Transform[T, U]:
    """Yield `fn(item)` for each item; `fn` may be a coroutine function.

    A coroutine function is called for one item at a time; to make several calls at once, use `map_async`.

    Type checkers infer the type of a lambda's argument when you pass the transform to `pipe`. If you assign it to a name
    first, annotate the name: `double: Transform[int, int] = map(lambda n: 2 * n)`. At the start of a chain of transforms,
    as in `map(fn).pipe(json_lines())`, use a function with annotations.

    Emits when: `fn` returns.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2]).pipe(map(lambda n: n * n)).pipe(collect()))
        [1, 4]
    """
    call: Callable[[T], Any] = check_function("map", fn)
    if not is_async(call):
        return per_item(fused(lambda: Each("map", fn), "map", fn), map, fn)

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        async for item in source:
            yield await call(item)

    return per_item(task(run, "map", fn), map, fn)


@overload
def starmap(fn: Callable[[*Ts], Coroutine[Any, Any, U] | U]) -> Transform[tuple[*Ts], U]: ...
@overload
def starmap(fn: Callable[[*Ts], Coroutine[Any, Any, U]]) -> Transform[tuple[*Ts], U]: ...
def starmap(fn: Callable[[*Ts], Coroutine[Any, Any, U] | U]) -> Transform[tuple[*Ts], U]:
    """Yield `fn(*item)` for each item, a tuple of arguments; `fn` may be a coroutine function.

    Emits when: `fn` returns.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine; an item is not iterable.

    Example:
        >>> run(from_iterable([(2, 5), (3, 2)]).pipe(starmap(pow)).pipe(collect()))
        [32, 9]
    """
    call: Callable[..., Any] = check_function("starmap", fn)

    async def spread_async(item: Iterable[Any]) -> Any:
        return await call(*item)

    def spread(item: Iterable[Any]) -> Any:
        return call(*item)

    spreading = fused(lambda: Each("starmap", call), "starmap", fn)
    return awaited(per_item(spreading, map, spread_async)) if is_async(call) else per_item(spreading, map, spread)


@overload
def filter(fn: Guard[T, V]) -> Transform[T, V]: ...
@overload
def filter(fn: Narrow[T, V]) -> Transform[T, V]: ...
@overload
def filter(fn: Callable[[T], object] | OfAny) -> Transform[T, T]: ...
def filter(fn: Callable[[T], object]) -> Transform[T, Any]:
    """Yield the items for which `fn(item)` is true; `fn` may be a coroutine function.

    If `fn` returns a `TypeGuard` or a `TypeIs`, type checkers narrow the type of the items.

    Emits when: `fn` returns something true.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable("a1b2").pipe(flat_map(list)).pipe(filter(str.isdigit)).pipe(join()))
        '12'
    """
    ask: Callable[[T], Any] = fn
    kept = per_item(fused(lambda: Each("filter", ask), "filter", fn), flat_map, check_function("filter", fn), _kept)
    return awaited(kept) if is_async(fn) else kept


def _kept(item: Any, verdict: object) -> tuple[Any, ...]:
    return (item,) if verdict else ()


def flat_map(
    fn: Callable[[T], Iterable[U] | AsyncIterable[U] | Coroutine[Any, Any, Iterable[U]]],
) -> Transform[T, U]:
    """Yield every item of the iterable that `fn(item)` returns.

    `fn` may be a function, an async generator function, or a coroutine function that returns an iterable.

    Emits when: an iterable yields an item.
    Waits when: downstream is not ready. Iterables are read lazily, so one may be endless.
    Ends when: the source has ended and the last iterable is exhausted.
    On cancel: the rest of the current iterable is lost.
    Holds: one batch of items in and one out.

    Raises:
        TypeError: `fn` is not callable, or its result is not iterable.

    Example:
        >>> run(from_iterable(["a b", "c"]).pipe(flat_map(str.split)).pipe(collect()))
        ['a', 'b', 'c']
    """
    call: Callable[[T], Any] = fn
    if inspect.isasyncgenfunction(check_function("flat_map", fn)):

        async def run_generators(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
            async for item in source:
                async with aclosing(call(item)) as items:
                    async for one in items:
                        yield one

        return per_item(task(run_generators, "flat_map", fn), flat_map, call, _listed)
    if not is_async(fn):
        return per_item(fused(lambda: _FlatMap(call), "flat_map", fn), flat_map, call, _listed)

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        async for item in source:
            items = iter(await call(item))
            try:
                for one in items:
                    yield one
            finally:
                close_iterator(items)

    return per_item(task(run, "flat_map", fn), flat_map, call, _listed)


def _listed(_: object, items: Iterable[Any]) -> list[Any]:
    return list(items)


class _FlatMap(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Iterable[Any]]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> Iterator[Any]:
        for item in items:
            given = self._fn(item)
            refuse_coroutine("flat_map", given)
            yield from given


@overload
def scan(fn: Callable[[U, T], Coroutine[Any, Any, U] | U], initial: U) -> Transform[T, U]: ...
@overload
def scan(fn: Callable[[U, T], Coroutine[Any, Any, U]], initial: U) -> Transform[T, U]: ...
def scan(fn: Callable[[U, T], Coroutine[Any, Any, U] | U], initial: U) -> Transform[T, U]:
    """Yield a running result, `state = fn(state, item)`, for each item, starting from `initial`.

    `fn` may be a coroutine function. To start from an empty list or dict, name its type, as in `dict[str, int]()`: type
    checkers cannot infer that of `{}` here.

    Emits when: `fn` returns; `initial` itself is not emitted.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: the state is lost.
    Holds: the state and one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2, 3]).pipe(scan(lambda total, n: total + n, 0)).pipe(collect()))
        [1, 3, 6]
    """
    call: Callable[[Any, Any], Any] = check_function("scan", fn)
    if not is_async(call):
        return fused(lambda: _Scan(fn, initial), "scan", fn, initial)

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        state = initial
        async for item in source:
            state = await call(state, item)
            yield state

    return task(run, "scan", fn, initial)


class _Scan(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any, Any], Any], initial: Any) -> None:
        self._fn = fn
        self._state = initial

    def feed(self, items: list[Any]) -> list[Any]:
        fn, state = self._fn, self._state
        given: list[Any] = []
        for item in items:
            state = fn(state, item)
            given.append(state)
        refuse_coroutine("scan", given[0], others=given)
        self._state = state
        return given


def tap(fn: Callable[[T], object] | OfAny) -> Transform[T, T]:
    """Call `fn(item)` for each item and pass the item on unchanged; `fn` may be a coroutine function.

    Emits when: `fn` returns.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(tap(print)).pipe(count()))
        a
        b
        2
    """
    look: Callable[[T], Any] = fn
    tapped = per_item(fused(lambda: Each("tap", look), "tap", fn), map, check_function("tap", fn), lambda item, _: item)
    return awaited(tapped) if is_async(fn) else tapped
