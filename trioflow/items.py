"""Per-item operators.

Rule 1: a plain function is applied batch by batch, in one task with its neighbours; a coroutine function sees one item
    at a time, and its stage is a task of its own.
Rule 2: nothing here waits for more items than it needs to give the next one.
"""

from __future__ import annotations

import builtins
import inspect
import math
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar, overload

import trio

from trioflow._channel import ReceiveChannel, SendChannel
from trioflow._checks import check_count, check_function, check_positive, is_async, refuse_coroutine
from trioflow._engine import Stage, StageFunction
from trioflow._streams import Transform, label
from trioflow._sync import Operator, Part

T = TypeVar("T")
U = TypeVar("U")


def _plain(factory: Callable[[], Part], name: str, *args: object) -> Transform[Any, Any]:
    return Transform[Any, Any].of(Stage(label(name, *args), factory=factory))


def _task(function: StageFunction, name: str, *args: object, **kwargs: object) -> Transform[Any, Any]:
    return Transform[Any, Any].of(Stage(label(name, *args, **kwargs), function=function))


@overload
def map(fn: Callable[[T], Coroutine[Any, Any, U] | U]) -> Transform[T, U]: ...
@overload
def map(fn: Callable[[T], Coroutine[Any, Any, U]]) -> Transform[T, U]: ...
def map(fn: Callable[[Any], Any]) -> Transform[Any, Any]:
    """Give `fn(item)` for each item.

    Emits when: `fn` has returned.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, its item lost.
    Holds: one batch, or one item where `fn` is a coroutine function.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2]).pipe(map(lambda n: n * n)).pipe(collect()))
        [1, 4]
    """
    if not is_async(check_function("map", fn)):
        return _plain(lambda: _Map(fn), "map", fn)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for item in source:
            await output.send(await fn(item))

    return _task(run, "map", fn)


class _Map(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> list[Any]:
        # builtins.map costs 45 ns an item where a comprehension costs 60, but takes a StopIteration for the end.
        given = list(builtins.map(self._fn, items))
        if len(given) != len(items):
            raise RuntimeError("the function given to map raised StopIteration")
        refuse_coroutine("map", given[0], others=given)
        return given


def filter(fn: Callable[[T], object]) -> Transform[T, T]:
    """Give the items for which `fn(item)` is true; `fn` may be a coroutine function.

    Emits when: `fn` has said yes.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, its item lost.
    Holds: one batch, or one item where `fn` is a coroutine function.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable("a1b2").pipe(flat_map(list)).pipe(filter(str.isdigit)).pipe(join()))
        '12'
    """
    ask: Callable[[T], Any] = fn
    if not is_async(check_function("filter", fn)):
        return _plain(lambda: _Filter(ask), "filter", fn)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for item in source:
            if await ask(item):
                await output.send(item)

    return _task(run, "filter", fn)


class _Filter(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn
        self._is_tried = False

    def feed(self, items: list[Any]) -> list[Any]:
        fn = self._fn
        if not self._is_tried:
            self._is_tried = True
            verdict = fn(items[0])
            refuse_coroutine("filter", verdict)
            rest = [item for item in items[1:] if fn(item)]
            return [items[0], *rest] if verdict else rest
        return [item for item in items if fn(item)]


def flat_map(
    fn: Callable[[T], Iterable[U] | AsyncIterable[U] | Coroutine[Any, Any, Iterable[U]]],
) -> Transform[T, U]:
    """Give every item of `fn(item)`, an iterable; an async generator or a coroutine function will do too.

    Emits when: an iterable has given an item.
    Waits when: its reader does; iterables are taken piece by piece, so an endless one is welcome.
    Ends when: the source ends, behind the last iterable.
    On cancel: what the current iterable has not given is lost.
    Holds: one batch of items in and one out.

    Raises:
        TypeError: `fn` cannot be called, or what it gave is not iterable.

    Example:
        >>> run(from_iterable(["a b", "c"]).pipe(flat_map(str.split)).pipe(collect()))
        ['a', 'b', 'c']
    """
    give: Callable[[T], Any] = fn
    if inspect.isasyncgenfunction(check_function("flat_map", fn)):

        async def run_generators(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
            async for item in source:
                items = give(item)
                try:
                    async for one in items:
                        await output.send(one)
                finally:
                    await items.aclose()

        return _task(run_generators, "flat_map", fn)
    if not is_async(fn):
        return _plain(lambda: _FlatMap(give), "flat_map", fn)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for item in source:
            for one in await give(item):
                await output.send(one)

    return _task(run, "flat_map", fn)


class _FlatMap(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Iterable[Any]]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> Iterator[Any]:
        for item in items:
            given = self._fn(item)
            refuse_coroutine("flat_map", given)
            yield from given


def take(n: int) -> Transform[T, T]:
    """Give the first `n` items, then end.

    Emits when: an item comes.
    Waits when: its reader does.
    Ends when: `n` items have come: everything upstream is cancelled at once (R9); or the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Raises:
        TypeError, ValueError: `n` is not an int of 0 or more.

    Example:
        >>> run(from_iterable(range(10**9)).pipe(take(3)).pipe(collect()))
        [0, 1, 2]
    """
    check_count("n", n, 0)
    return _plain(lambda: _Take(n), "take", n)


class _Take(Operator[Any, Any]):
    def __init__(self, n: int) -> None:
        self._left = n
        self.done = n == 0

    def feed(self, items: list[Any]) -> list[Any]:
        given = items[: self._left] if self._left < len(items) else items
        self._left -= len(given)
        self.done = self._left == 0
        return given


def drop(n: int) -> Transform[T, T]:
    """Give all but the first `n` items.

    Emits when: an item comes behind the first `n`.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Raises:
        TypeError, ValueError: `n` is not an int of 0 or more.

    Example:
        >>> run(from_iterable(range(5)).pipe(drop(3)).pipe(collect()))
        [3, 4]
    """
    check_count("n", n, 0)
    return _plain(lambda: _Drop(n), "drop", n)


class _Drop(Operator[Any, Any]):
    def __init__(self, n: int) -> None:
        self._left = n

    def feed(self, items: list[Any]) -> list[Any]:
        if not self._left:
            return items
        given = items[self._left :]
        self._left -= min(self._left, len(items))
        return given


@overload
def scan(fn: Callable[[U, T], Coroutine[Any, Any, U] | U], initial: U) -> Transform[T, U]: ...
@overload
def scan(fn: Callable[[U, T], Coroutine[Any, Any, U]], initial: U) -> Transform[T, U]: ...
def scan(fn: Callable[[Any, Any], Any], initial: Any) -> Transform[Any, Any]:
    """Keep a state, `initial` at first: for each item it becomes `fn(state, item)`, which is given.

    Emits when: `fn` has returned; `initial` itself is not given.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: the state is lost.
    Holds: the state and one batch.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2, 3]).pipe(scan(lambda total, n: total + n, 0)).pipe(collect()))
        [1, 3, 6]
    """
    if not is_async(check_function("scan", fn)):
        return _plain(lambda: _Scan(fn, initial), "scan", fn, initial)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        state = initial
        async for item in source:
            state = await fn(state, item)
            await output.send(state)

    return _task(run, "scan", fn, initial)


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


def tap(fn: Callable[[T], object]) -> Transform[T, T]:
    """Call `fn(item)` for each item and give the item itself; `fn` may be a coroutine function.

    Emits when: `fn` has returned.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, its item lost.
    Holds: one batch, or one item where `fn` is a coroutine function.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(tap(print)).pipe(count()))
        a
        b
        2
    """
    look: Callable[[T], Any] = fn
    if not is_async(check_function("tap", fn)):
        return _plain(lambda: _Tap(look), "tap", fn)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for item in source:
            await look(item)
            await output.send(item)

    return _task(run, "tap", fn)


class _Tap(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> list[Any]:
        fn = self._fn
        for item in items:
            refuse_coroutine("tap", fn(item))
        return items


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
        return _plain(lambda: _Batch(size), "batch", size)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for item in source:
            items = [item]
            with trio.move_on_after(within):
                while len(items) < size:
                    try:
                        items.append(await source.receive())
                    except trio.EndOfChannel:
                        break
            await output.send(items)

    return _task(run, "batch", size, within=within)


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
