"""`pipeline`: a list of stages, run as one, with foreign things at its ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol, TypeAlias, TypedDict, Unpack, overload

import trio

from trioflow._core.adapters import async_source, channel_sink, iterator_factory, stream_sink
from trioflow._core.anyio_streams import as_trio
from trioflow._core.buffer import DEFAULT_CAPACITY, check_capacity
from trioflow._core.checks import BYTES_LIKE
from trioflow._core.engine import Stage
from trioflow._core.labels import shown
from trioflow._core.observing import Watched
from trioflow._core.streams import Duplex, Readable, Transform, Writable, join, label, run_all, wanted
from trioflow._core.typevars import A, B, C, D, E, F, G, H, I, R

Head: TypeAlias = "Readable[A] | Duplex[A, Any] | AsyncIterable[A] | Iterable[A]"
Middle: TypeAlias = "Transform[A, B] | Duplex[B, A]"
# A function cannot be a stage. But mypy looks at an argument last, when it knows what A is, where it might be one:
# without that, `collect()` would give it a `list[Never]`.
Later: TypeAlias = "Callable[[A], NoReturn]"
Tail: TypeAlias = "Writable[A, R] | Later[A] | trio.abc.SendChannel[A] | Duplex[Any, A] | trio.abc.SendStream"
Run: TypeAlias = "Coroutine[Any, Any, R]"


class Watcher(Protocol):
    """Who is told of a run's tasks when it begins, such as a `Monitor` or an `Inspector`."""

    def watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]: ...


class _How(TypedDict, total=False):
    capacity: float
    monitor: Watcher | None


def as_readable(head: object) -> Readable[Any]:
    """Make a `Readable` of whatever items can be read from.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(head, Readable):
        return head
    if isinstance(head, Duplex):
        return head.readable
    name = label("from_iterable", head)
    if isinstance(head, AsyncIterable):
        function = async_source(head)
        return Readable._of(Stage(name, function=function, release=getattr(function, "release", None)))
    if isinstance(head, Iterable):
        factory = iterator_factory(head)
        return Readable._of(Stage(name, factory=factory, release=getattr(factory, "release", None)))
    raise wanted("a stream must begin with a Readable, an iterable, a channel or a byte stream", head)


def as_writable(tail: object) -> Writable[Any, Any]:
    """Make a `Writable` of whatever items can be written to.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(tail, Writable):
        return tail
    if isinstance(tail, Duplex):
        return tail.writable
    end = as_trio(tail)
    if isinstance(end, trio.abc.SendStream):
        return Writable._of(Stage(label("to_stream", tail), function=stream_sink(end)))
    if isinstance(end, trio.abc.SendChannel):
        return Writable._of(Stage(label("to_channel", tail), function=channel_sink(end)))
    raise wanted("a pipeline must end in a Writable, a channel or a byte stream", tail)


# fmt: off
@overload
def pipeline(a: Head[A], z: Tail[A, R], /, **how: Unpack[_How]) -> Run[R]: ...
@overload
def pipeline(a: Head[A], b: Middle[A, B], z: Tail[B, R], /, **how: Unpack[_How]) -> Run[R]: ...
@overload
def pipeline(a: Head[A], b: Middle[A, B], c: Middle[B, C], z: Tail[C, R], /, **how: Unpack[_How]) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], z: Tail[D, R], /, **how: Unpack[_How]
) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], e: Middle[D, E], z: Tail[E, R], /,
    **how: Unpack[_How]
) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], e: Middle[D, E], f: Middle[E, F], z: Tail[F, R],
    /, **how: Unpack[_How]
) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], e: Middle[D, E], f: Middle[E, F], g: Middle[F, G],
    z: Tail[G, R], /, **how: Unpack[_How]
) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], e: Middle[D, E], f: Middle[E, F], g: Middle[F, G],
    h: Middle[G, H], z: Tail[H, R], /, **how: Unpack[_How]
) -> Run[R]: ...
@overload
def pipeline(
    a: Head[A], b: Middle[A, B], c: Middle[B, C], d: Middle[C, D], e: Middle[D, E], f: Middle[E, F], g: Middle[F, G],
    h: Middle[G, H], i: Middle[H, I], z: Tail[I, R], /, **how: Unpack[_How]
) -> Run[R]: ...
# fmt: on
def pipeline(*stages: object, capacity: float = DEFAULT_CAPACITY, monitor: Watcher | None = None) -> Run[Any]:
    """Run stages from first to last, and give the last one's value (R3). Await what it returns.

    The first may also be an iterable, an async iterable, a channel or a byte stream to receive from, the last a
    channel or a byte stream to send to: then the value is the number of items or bytes. A run closes the live one-way
    ends it was given; a two-way stream is ended in its own direction only. The streams of anyio are taken too.

    Type checkers know up to ten stages. For more, compose some of them with `.pipe` first; stages in a list whose types
    are not known are given as `pipeline(*stages)`, all of them.

    mypy looks at a stage before it knows what comes from the one before. So to mypy a lambda's argument is `Any`, and so
    is what `take(2)` and the like let through: `collect()` after them gives a `list[Any]`. A lambda that returns its
    argument, such as `flat_map(lambda items: items)`, may be refused. Pipe such stages to the source, and mypy is exact:
    `pipeline(source.pipe(take(2)), collect())`. Pyright is exact either way.

    Holds: `capacity` between every two stages (R5).

    Args:
        stages: A `Readable`, any number of `Transform`s and `Duplex`es, a `Writable`.
        capacity: The weight each channel may hold.
        monitor: What `monitor()` or `Inspector()` returns: it shows what each stage has done and what it waits for. A file
            that would be copied inside the kernel is then read in chunks.

    Raises:
        TypeError: a stage is not what its place wants, or there are fewer than two; the first is a `str`, bytes or a path,
            which may be meant as a file's name or as an item.
        ValueError: `capacity` is below 1.

    Example:
        >>> run(pipeline(["a", "bc"], map(str.upper), join()))
        'ABC'
        >>> run(pipeline([1, 2, 3], map(lambda n: n * n), collect()))
        [1, 4, 9]
    """
    if len(stages) < 2:
        raise TypeError(f"pipeline expects at least a source and a sink, got {len(stages)} stages")
    first, *middle, last = stages
    if isinstance(first, (str, os.PathLike, *BYTES_LIKE)):
        raise TypeError(
            f"pipeline expects a source first, got {type(first).__name__} {shown(first)}; "
            f"write read_file(...) for a file of that name, or [...] around it for one item"
        )
    check_capacity(capacity)
    if isinstance(last, Transform):
        raise TypeError(
            f"a pipeline must end in a Writable, a channel or a byte stream, got {last!r}; "
            f"nothing would read what it sends"
        )
    sink = as_writable(last)
    source = join(as_readable(first), tuple(middle), "the middle of a pipeline expects a Transform or a Duplex")
    if monitor is not None and not callable(getattr(monitor, "watch", None)):
        raise TypeError(f"monitor must be what monitor() or Inspector() returns, got {monitor!r}")
    return run_all(source, sink, capacity, None if monitor is None else monitor.watch)
