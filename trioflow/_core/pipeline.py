"""`pipeline`: run a list of stages. Its ends may also be iterables, channels and streams that are not ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol, TypeAlias, TypedDict, Unpack, overload

import trio

from trioflow._core.adapters import async_source, channel_sink, iterator_factory, only_once, stream_sink
from trioflow._core.anyio_streams import as_trio
from trioflow._core.buffer import DEFAULT_CAPACITY
from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import BYTES_LIKE, check_limit
from trioflow._core.engine import Stage
from trioflow._core.labels import shown
from trioflow._core.observing import Watched
from trioflow._core.streams import Duplex, Readable, Transform, Writable, as_transform, label, run_all, wanted
from trioflow._core.typevars import A, B, C, D, E, F, G, H, I, R

Head: TypeAlias = "Readable[A] | Duplex[A, Any] | AsyncIterable[A] | Iterable[A]"
Middle: TypeAlias = "Transform[A, B] | Duplex[B, A]"
# A function is not a stage. But as the parameter might be one, mypy checks the argument last, when it knows A. Otherwise
# `collect()` would return a `list[Never]`.
Later: TypeAlias = "Callable[[A], NoReturn]"
Tail: TypeAlias = "Writable[A, R] | Later[A] | trio.abc.SendChannel[A] | Duplex[Any, A] | trio.abc.SendStream"
Run: TypeAlias = "Coroutine[Any, Any, R]"


class Watcher(Protocol):
    """Anything that gets a run's tasks when the run begins, such as a `Monitor` or an `Inspector`."""

    def _watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]: ...


class _How(TypedDict, total=False):
    capacity: float
    monitor: Watcher | None


def as_readable(head: object) -> Readable[Any]:
    """Return a `Readable` over anything that items can be read from.

    Raises:
        TypeError: no items can be read from it.
    """
    if isinstance(head, Readable):
        return head
    if isinstance(head, Duplex):
        return head.readable
    name = label("from_iterable", head)
    if isinstance(head, ReceiveChannel):
        once = only_once(head, type(head).__name__)
        return Readable._of(Stage(name, channel=once, release=once.release))
    if isinstance(head, AsyncIterable):
        function = async_source(head)
        return Readable._of(Stage(name, function=function, release=getattr(function, "release", None)))
    if isinstance(head, Iterable):
        factory = iterator_factory(head)
        return Readable._of(Stage(name, factory=factory, release=getattr(factory, "release", None)))
    raise wanted("a stream must begin with a Readable, an iterable, a channel or a byte stream", head)


def as_writable(tail: object) -> Writable[Any, Any]:
    """Return a `Writable` over anything that items can be written to.

    Raises:
        TypeError: no items can be written to it.
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
    """Run `stages` from first to last, and return the value of the last one. Nothing runs until you `await` it.

    The first stage may also be an iterable, an async iterable, or a channel or byte stream to receive from. The last may
    be a channel or byte stream to send to; then the value is the number of items or bytes. The run closes one-way channels
    and streams that you pass in. Of a two-way stream it ends only the direction that it used. anyio's streams work too.

    Type checkers support up to ten stages. For more, combine some of them with `.pipe` first. To pass a list of stages
    whose types are not known, write `pipeline(*stages)` with all of them.

    mypy checks a stage before it knows what the stage before it emits. So in a lambda the argument is `Any`, and after
    `take(2)` and the like `collect()` returns a `list[Any]`. It may refuse a lambda that returns its argument, such as
    `flat_map(lambda items: items)`. Pipe such stages to the source to get exact types from mypy:
    `pipeline(source.pipe(take(2)), collect())`. Pyright is exact either way.

    Holds: `capacity` between every two stages.

    Args:
        stages: A `Readable`, any number of `Transform`s and `Duplex`es, a `Writable`.
        capacity: The weight that each channel may hold.
        monitor: What `monitor()` or `Inspector()` returns. It shows what each stage has done and what it waits for. With
            a monitor, a file that would be copied inside the kernel is read in chunks instead.

    Raises:
        TypeError: a stage is of the wrong kind for its place, or there are fewer than two; or the first is a `str`, bytes
            or a path, which might mean a file's name or an item.
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
    if not isinstance(first, Readable) and isinstance(first, (str, os.PathLike, *BYTES_LIKE)):
        raise TypeError(
            f"pipeline expects a source first, got {type(first).__name__} {shown(first)}; "
            f"write read_file(...) for a file of that name, or [...] around it for one item"
        )
    check_limit("capacity", capacity)
    if isinstance(last, Transform):
        raise TypeError(
            f"a pipeline must end in a Writable, a channel or a byte stream, got {last!r}; "
            f"nothing would read what it sends"
        )
    what = "the middle of a pipeline expects a Transform or a Duplex"
    parts = [as_readable(first), *[as_transform(stage, what) for stage in middle], as_writable(last)]
    if monitor is not None and not callable(getattr(monitor, "_watch", None)):
        raise TypeError(f"monitor must be what monitor() or Inspector() returns, got {monitor!r}")
    return run_all(parts, capacity, None if monitor is None else monitor._watch)
