"""Sources of items that do no I/O."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn, TypeVar, overload

import trio

from trioflow._core.channel import SendChannel
from trioflow._core.checks import check_function, check_limit, is_async, refuse_coroutine
from trioflow._core.engine import Stage
from trioflow._core.generators import generate
from trioflow._core.pipeline import as_readable
from trioflow._core.streams import Readable, label, wanted
from trioflow._core.typevars import T

S = TypeVar("S")


@overload
def from_iterable(items: bytes | bytearray | memoryview | trio.abc.ReceiveStream) -> Readable[bytes]: ...
@overload
def from_iterable(items: AsyncIterable[T] | Iterable[T]) -> Readable[T]: ...
def from_iterable(items: AsyncIterable[Any] | Iterable[Any]) -> Readable[Any]:
    """Read the items of an iterable, an async iterable, a channel or a byte stream. A `str` or bytes-like is one item.

    If `items` can be iterated again, such as a list, the Readable can run again. An iterator, a channel or a stream can run
    only once and is closed at the end; a two-way stream is not closed.

    Emits when: the iterable yields an item; a plain iterable must not block.
    Waits when: downstream is not ready. At most one item is taken from a plain iterable that the reader has no room for.
    Ends when: the iterable does.
    On cancel: items in transit are lost; an iterator is closed.
    Holds: one batch, at most as large as the reader has room for.

    Raises:
        TypeError: `items` has another type.

    Example:
        >>> run(from_iterable([1, 2]).pipe(collect()))
        [1, 2]
    """
    return as_readable(items)


def repeat(item: T, times: float = math.inf) -> Readable[T]:
    """Yield the same item `times` times, or without end.

    Emits when: downstream is ready.
    Waits when: downstream is not ready.
    Ends when: it has yielded the item `times` times.
    On cancel: nothing is lost.
    Holds: one batch.

    Raises:
        TypeError: `times` is neither an int nor `math.inf`.
        ValueError: `times` is below 0.

    Example:
        >>> run(repeat("ha", 3).pipe(join()))
        'hahaha'
    """
    if check_limit("times", times, 0) == math.inf:
        return Readable._of(Stage(label("repeat", item), factory=lambda: itertools.repeat(item)))
    return Readable._of(Stage(label("repeat", item, times), factory=lambda: itertools.repeat(item, int(times))))


@overload
def unfold(fn: Callable[[S], tuple[T, S] | None], initial: S) -> Readable[T]: ...
@overload
def unfold(fn: Callable[[S], Coroutine[Any, Any, tuple[T, S] | None]], initial: S) -> Readable[T]: ...
def unfold(
    fn: Callable[[S], tuple[T, S] | None] | Callable[[S], Coroutine[Any, Any, tuple[T, S] | None]], initial: S
) -> Readable[T]:
    """Generate items by calling `fn(state)`, which returns the next item and the next state, or `None` to end.

    The first state is `initial`. Use it for pages that name the next page, or for numbers computed from the one before. It
    is the opposite of `reduce`.

    Emits when: `fn` returns; a plain function must not block.
    Waits when: downstream is not ready. `fn` is called for at most one item that the reader has no room for.
    Ends when: `fn` returns `None`.
    On cancel: a call in progress is cancelled, and the state is lost.
    Holds: the state and one batch.

    Raises:
        TypeError: `fn` is not callable, is a plain function that returns a coroutine, or returns neither a pair nor
            `None`.

    Example:
        >>> run(unfold(lambda n: (n, n * 2) if n < 20 else None, 1).pipe(collect()))
        [1, 2, 4, 8, 16]
    """
    name = label("unfold", fn, initial)
    call: Callable[[Any], Any] = check_function("unfold", fn)
    if not is_async(call):
        return Readable._of(Stage(name, factory=lambda: _unfolded(call, initial)))

    async def run() -> AsyncGenerator[Any, None]:
        given = await call(initial)
        while given is not None:
            item, state = _pair(given)
            yield item
            given = await call(state)

    return Readable._of(Stage(name, function=partial(generate, run, (), {})))


def _unfolded(fn: Callable[[Any], Any], state: Any) -> Iterator[Any]:
    while (given := fn(state)) is not None:
        refuse_coroutine("unfold", given)
        item, state = _pair(given)
        yield item


def _pair(given: object) -> tuple[Any, Any]:
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"the function given to unfold must return a pair (item, next state) or None, got {given!r}")
    return given


def empty() -> Readable[Any]:
    """Yield nothing and end at once.

    Emits when: never.
    Waits when: never.
    Ends when: it starts.
    On cancel: nothing is lost.
    Holds: nothing.

    Example:
        >>> run(empty().pipe(collect()))
        []
    """
    return Readable._of(Stage(label("empty"), factory=lambda: iter(())))


def failed(error: Exception | type[Exception]) -> Readable[Any]:
    """Yield nothing and raise `error`, the same exception in each run, or a new one if `error` is a class.

    Emits when: never.
    Waits when: never.
    Ends when: it starts, by raising.
    On cancel: nothing is lost.
    Holds: nothing.

    Raises:
        TypeError: `error` is not an exception.

    Example:
        >>> run(failed(LookupError("no such sensor")).pipe(collect()))
        Traceback (most recent call last):
        LookupError: no such sensor
        in stage 1 of 2: failed(LookupError('no such sensor'))
    """
    is_exception = issubclass(error, Exception) if isinstance(error, type) else isinstance(error, Exception)
    if not is_exception:
        raise wanted("failed expects an exception", error)

    async def run(output: SendChannel[Any]) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise error.with_traceback(None) if isinstance(error, Exception) else error  # drop the frames of earlier runs

    return Readable._of(Stage(label("failed", error), function=run))
