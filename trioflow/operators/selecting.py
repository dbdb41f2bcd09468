"""Operators that keep or drop items by position, by a predicate, or by the items before them.

Rule 1: an item that is kept is passed on unchanged, as soon as it arrives.
Rule 2: an operator that needs no more items cancels everything upstream at once (R9).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any, Final, Protocol

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_flags, check_function, check_limit, is_async, refuse_coroutine
from trioflow._core.crew import Crew
from trioflow._core.fused import Operator
from trioflow._core.makers import differing, fused, marked, task
from trioflow._core.moving import forward
from trioflow._core.streams import Transform
from trioflow._core.typevars import OfAny, T

REMEMBERED: Final = 65536
_NOTHING: Final[Any] = object()  # differs from every key


def take(n: int) -> Transform[T, T]:
    """Yield the first `n` items, then end.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: `n` items have arrived, which cancels everything upstream at once; or the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Raises:
        TypeError, ValueError: `n` is not an int of 0 or more.

    Example:
        >>> run(from_iterable(range(10**9)).pipe(take(3)).pipe(collect()))
        [0, 1, 2]
    """
    check_count("n", n, 0)
    return fused(lambda: _Take(n), "take", n)


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
    """Skip the first `n` items and yield the rest.

    Emits when: an item arrives after the first `n`.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Raises:
        TypeError, ValueError: `n` is not an int of 0 or more.

    Example:
        >>> run(from_iterable(range(5)).pipe(drop(3)).pipe(collect()))
        [3, 4]
    """
    check_count("n", n, 0)
    return fused(lambda: _Drop(n), "drop", n)


class _Drop(Operator[Any, Any]):
    def __init__(self, n: int) -> None:
        self._left = n

    def feed(self, items: list[Any]) -> list[Any]:
        if not self._left:
            return items
        given = items[self._left :]
        self._left -= min(self._left, len(items))
        return given


def take_while(fn: Callable[[T], object] | OfAny, *, inclusive: bool = False) -> Transform[T, T]:
    """Yield items until `fn(item)` is false for one, then end; `fn` may be a coroutine function.

    Emits when: `fn` returns something true.
    Waits when: downstream is not ready.
    Ends when: `fn` returns something false, which cancels everything upstream at once; or the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Args:
        fn: The predicate. It is not called again after it has returned something false.
        inclusive: Whether to also yield the item for which `fn` returned something false, as the last one.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine; `inclusive` is not a bool.

    Example:
        >>> run(from_iterable([1, 2, 5, 1]).pipe(take_while(lambda n: n < 3)).pipe(collect()))
        [1, 2]
    """
    ask: Callable[[T], Any] = fn
    check_flags(inclusive=inclusive)
    given = differing(inclusive=(inclusive, False))
    if not is_async(check_function("take_while", fn)):
        return fused(lambda: _TakeWhile(ask, inclusive=inclusive), "take_while", fn, **given)

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        async for item in source:
            goes_on = await ask(item)
            if goes_on or inclusive:
                yield item
            if not goes_on:
                return

    return task(run, "take_while", fn, **given)


class _TakeWhile(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Any], *, inclusive: bool) -> None:
        self._fn = fn
        self._inclusive = inclusive

    def feed(self, items: list[Any]) -> list[Any]:
        for place, item in enumerate(items):
            verdict = self._fn(item)
            refuse_coroutine("take_while", verdict)
            if not verdict:
                self.done = True
                return items[: place + self._inclusive]
        return items


class Waitable(Protocol):
    """Anything with an async `wait` method, such as a `trio.Event` or `Request.stopping`."""

    async def wait(self) -> object:
        """Wait until it has happened; return at once if it already has."""
        ...


def take_until(event: Waitable) -> Transform[T, T]:
    """Yield items until `event` is set, then end normally, even while waiting for an item.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: `event.wait()` returns, which cancels everything upstream at once; or the source ends.
    On cancel: items in transit are lost, as they are when the event is set.
    Holds: nothing.

    Args:
        event: A `trio.Event`, for example, or `Request.stopping` to end a feed when the server stops.

    Raises:
        TypeError: `event` has no `wait` method.

    Example:
        >>> stopping = trio.Event()
        >>> stopping.set()
        >>> run(ticks(60).pipe(drop(1)).pipe(take_until(stopping)).pipe(collect()))
        []
    """
    if not callable(getattr(event, "wait", None)):
        raise TypeError(f"take_until expects an event with a `wait` method, got {event!r}")

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async def wait() -> None:
            await event.wait()
            crew.cancel()

        async with Crew() as crew:
            crew.start(wait)
            await forward(source, output)
            crew.cancel()

    return marked(task(run, "take_until", event), passes_on=True)


def drop_while(fn: Callable[[T], object] | OfAny) -> Transform[T, T]:
    """Skip items while `fn(item)` is true, then yield the rest; `fn` may be a coroutine function.

    Emits when: `fn` returns something false for an item, and then whenever an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled, and its item is lost.
    Holds: one batch.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2, 5, 1]).pipe(drop_while(lambda n: n < 3)).pipe(collect()))
        [5, 1]
    """
    ask: Callable[[T], Any] = fn
    if not is_async(check_function("drop_while", fn)):
        return fused(lambda: _DropWhile(ask), "drop_while", fn)

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        is_dropping = True
        async for item in source:
            is_dropping = is_dropping and await ask(item)
            if not is_dropping:
                yield item

    return task(run, "drop_while", fn)


class _DropWhile(Operator[Any, Any]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn
        self._is_dropping = True

    def feed(self, items: list[Any]) -> list[Any]:
        if not self._is_dropping:
            return items
        for place, item in enumerate(items):
            verdict = self._fn(item)
            refuse_coroutine("drop_while", verdict)
            if not verdict:
                self._is_dropping = False
                return items[place:]
        return []


def distinct(key: Callable[[T], Any] | OfAny | None = None, *, remember: float = REMEMBERED) -> Transform[T, T]:
    """Drop items that have been seen before; with `key`, items whose `key(item)` has been seen before.

    Memory is bounded: after `remember` different items or keys, the least recently seen one is evicted. If it arrives
    again, it counts as new.

    Emits when: an item arrives that is not remembered.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: what it remembers is lost.
    Holds: up to `remember` items or keys, and one batch; with `math.inf`, every different item or key.

    Args:
        key: A function of an item that returns what to compare, such as `str.lower`; may be a coroutine function.
        remember: How many items or keys to remember; `math.inf` for all.

    Raises:
        TypeError: `key` is not callable, or is a plain function that returns a coroutine; `remember` is neither an
            int nor `math.inf`; an item or a key is not hashable.
        ValueError: `remember` is below 1.

    Example:
        >>> run(from_iterable([1, 2, 1, 3, 2]).pipe(distinct()).pipe(collect()))
        [1, 2, 3]
    """
    most = check_limit("remember", remember)
    return _by_key("distinct", key, lambda: _Seen(most), remember=(remember, REMEMBERED))


def changes(key: Callable[[T], Any] | OfAny | None = None) -> Transform[T, T]:
    """Drop each item that equals the one right before it; with `key`, each item whose `key(item)` equals the last one.

    Emits when: the first item arrives, then whenever an item differs from the one before it.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: the last item or key is lost.
    Holds: the last item or key, and one batch.

    Args:
        key: A function of an item that returns what to compare; may be a coroutine function.

    Raises:
        TypeError: `key` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 1, 2, 2, 1]).pipe(changes()).pipe(collect()))
        [1, 2, 1]
    """
    return _by_key("changes", key, _Last)


class _Seen:
    """A bounded memory of keys that says whether a key is new."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._keys: OrderedDict[Hashable, None] = OrderedDict()  # least recently seen first

    def is_new(self, key: Hashable) -> bool:
        if key in self._keys:
            self._keys.move_to_end(key)
            return False
        self._keys[key] = None
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)
        return True


class _Last:
    """A memory of the last key that says whether a key differs from it."""

    def __init__(self) -> None:
        self._key = _NOTHING

    def is_new(self, key: object) -> bool:
        last, self._key = self._key, key
        return last is _NOTHING or bool(key != last)


def _by_key(
    name: str, key: Callable[[Any], Any] | None, memory: Callable[[], _Seen | _Last], **options: tuple[object, object]
) -> Transform[Any, Any]:
    """Return a transform that keeps the items whose keys are new to a memory."""
    args = [] if key is None else [check_function(name, key)]
    given = differing(**options)
    if key is None or not is_async(key):
        return fused(lambda: _New(name, key, memory()), name, *args, **given)
    find: Callable[[Any], Any] = key

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        known = memory()
        async for item in source:
            if known.is_new(await find(item)):
                yield item

    return task(run, name, *args, **given)


class _New(Operator[Any, Any]):
    def __init__(self, name: str, key: Callable[[Any], Any] | None, memory: _Seen | _Last) -> None:
        self._name = name
        self._key = key
        self._is_new = memory.is_new

    def feed(self, items: list[Any]) -> list[Any]:
        if self._key is None:
            return [item for item in items if self._is_new(item)]
        keys = [self._key(item) for item in items]
        refuse_coroutine(self._name, keys[0], others=keys)
        return list(itertools.compress(items, map(self._is_new, keys)))
