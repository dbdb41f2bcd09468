"""The ends where items arrive: lists, counts, results, channels and byte streams.

Rule 1: a plain function is applied batch by batch, in one task with its neighbours; a coroutine function sees one item
    at a time.
Rule 2: a sink that has enough ends its source at once (R9).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, AnyStr, TypeVar, overload

import trio

from trioflow._channel import ReceiveChannel
from trioflow._checks import check_function, is_async, refuse_coroutine
from trioflow._engine import Stage, StageFunction
from trioflow._pipeline import as_writable
from trioflow._streams import Writable, label, wanted
from trioflow._sync import Fold, Part

T = TypeVar("T")
R = TypeVar("R")

_MISSING: Any = object()


def _plain(factory: Callable[[], Part], name: str, *args: object) -> Writable[Any, Any]:
    return Writable[Any, Any].of(Stage(label(name, *args), factory=factory))


def _task(function: StageFunction, name: str, *args: object) -> Writable[Any, Any]:
    return Writable[Any, Any].of(Stage(label(name, *args), function=function))


def collect() -> Writable[T, list[T]]:
    """Give all items in a list.

    Waits when: never.
    Ends when: the source ends.
    On cancel: all is lost.
    Holds: everything; pipe through `take` where that may be too much.

    Example:
        >>> run(from_iterable("ab").pipe(collect()))
        ['ab']
    """
    return _plain(_Collect, "collect")


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
def join(separator: str | bytes | None = None) -> Writable[Any, Any]:
    """Join all chunks into one `bytes` or one `str`.

    Waits when: never.
    Ends when: the source ends. Where nothing came, it gives `b""`, or `separator[:0]`.
    On cancel: all is lost.
    Holds: everything, twice for a moment at the end.

    Args:
        separator: What to put between chunks.

    Raises:
        TypeError: `separator` is neither `str` nor `bytes`, or the chunks are not of one kind.

    Example:
        >>> run(from_iterable([b"a", b"b"]).pipe(join()))
        b'ab'
    """
    if separator is not None and not isinstance(separator, (str, bytes)):
        raise wanted("join wants a str or bytes to put between chunks", separator)
    return _plain(lambda: _Join(separator), "join", *([] if separator is None else [separator]))


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


def for_each(fn: Callable[[T], object]) -> Writable[T, None]:
    """Call `fn(item)` for each item, in order; `fn` may be a coroutine function.

    Waits when: `fn` does.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled.
    Holds: one batch, or one item where `fn` is a coroutine function.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2]).pipe(for_each(print)))
        1
        2
    """
    call: Callable[[T], Any] = fn
    if not is_async(check_function("for_each", fn)):
        return _plain(lambda: _ForEach(call), "for_each", fn)

    async def run(source: ReceiveChannel[Any]) -> None:
        async for item in source:
            await call(item)

    return _task(run, "for_each", fn)


class _ForEach(Fold[Any, None]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> None:
        fn = self._fn
        for item in items:
            refuse_coroutine("for_each", fn(item))

    def result(self) -> None:
        return None


@overload
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R] | R], initial: R) -> Writable[T, R]: ...
@overload
def reduce(fn: Callable[[R, T], Coroutine[Any, Any, R]], initial: R) -> Writable[T, R]: ...
def reduce(fn: Callable[[Any, Any], Any], initial: Any) -> Writable[Any, Any]:
    """Keep a state, `initial` at first: for each item it becomes `fn(state, item)`. Give the last one.

    Waits when: `fn` does.
    Ends when: the source ends; where nothing came, it gives `initial`.
    On cancel: the state is lost.
    Holds: the state and one batch, or one item where `fn` is a coroutine function.

    Raises:
        TypeError: `fn` cannot be called, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2, 3]).pipe(reduce(lambda total, n: total + n, 0)))
        6
    """
    if not is_async(check_function("reduce", fn)):
        return _plain(lambda: _Reduce(fn, initial), "reduce", fn, initial)

    async def run(source: ReceiveChannel[Any]) -> Any:
        state = initial
        async for item in source:
            state = await fn(state, item)
        return state

    return _task(run, "reduce", fn, initial)


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
def first(*, default: Any = _MISSING) -> Writable[Any, Any]:
    """Give the first item.

    Waits when: never.
    Ends when: an item has come, which cancels everything upstream (R9), or the source ends.
    On cancel: nothing is lost but the wait.
    Holds: one batch.

    Args:
        default: What to give where no item came.

    Raises:
        LookupError: no item came, and there is no `default`.

    Example:
        >>> run(from_iterable([1, 2]).pipe(first()))
        1
    """
    return _plain(lambda: _First(default), "first")


class _First(Fold[Any, Any]):
    def __init__(self, default: Any) -> None:
        self._given = default

    def feed(self, items: list[Any]) -> None:
        self._given = items[0]
        self.done = True

    def result(self) -> Any:
        if self._given is _MISSING:
            raise LookupError("first() wants an item, but none came")
        return self._given


def count() -> Writable[object, int]:
    """Give the number of items.

    Waits when: never.
    Ends when: the source ends.
    On cancel: the number is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable(range(5)).pipe(count()))
        5
    """
    return _plain(_Count, "count")


class _Count(Fold[Any, int]):
    def __init__(self) -> None:
        self._count = 0

    def feed(self, items: list[Any]) -> None:
        self._count += len(items)

    def result(self) -> int:
        return self._count


def drain() -> Writable[object, None]:
    """Take all items and forget them.

    Waits when: never.
    Ends when: the source ends.
    On cancel: nothing is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable([1, 2]).pipe(tap(print)).pipe(drain()))
        1
        2
    """
    return _plain(_Drain, "drain")


class _Drain(Fold[Any, None]):
    def feed(self, items: list[Any]) -> None:
        pass

    def result(self) -> None:
        return None


def to_channel(send: trio.abc.SendChannel[T]) -> Writable[T, int]:
    """Send each item to `send`, close it, and give the number of items. Runs once (R4).

    Waits when: the channel is full.
    Ends when: the source ends. After a failure a channel of ours raises `trio.BrokenResourceError` in its readers;
        another kind can only be closed.
    On cancel: as after a failure.
    Holds: one batch.

    Raises:
        TypeError: `send` is not a `trio.abc.SendChannel`.
        trio.BrokenResourceError: its last reader has gone.
    """
    if not isinstance(send, trio.abc.SendChannel):
        raise wanted("to_channel wants a trio.abc.SendChannel", send)
    return as_writable(send)


def to_stream(stream: trio.abc.SendStream) -> Writable[bytes, int]:
    """Write each chunk to a Trio byte stream, end it, and give the number of bytes. Runs once (R4).

    A one-way stream is closed at the end; of a two-way one this direction is ended, with `send_eof` where it has one.

    Waits when: the stream does.
    Ends when: the source ends. After a failure the stream is closed at once, without a graceful end (R13).
    On cancel: as after a failure; how much was written is not known.
    Holds: one batch; small chunks are joined into at most 64 KiB.

    Raises:
        TypeError: `stream` is not a `trio.abc.SendStream`.
        trio.BrokenResourceError: the other side has gone.
    """
    if not isinstance(stream, trio.abc.SendStream):
        raise wanted("to_stream wants a trio.abc.SendStream", stream)
    return as_writable(stream)
