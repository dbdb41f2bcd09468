"""The four kinds of stream: values that describe what to run. Nothing opens or runs before `await` or `async with` (R1).

Rule 1: a stream is a tuple of stages. `pipe` joins tuples, and each run makes everything else anew (R4).
Rule 2: arguments are checked here, when the value is made, and the error says what was passed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

import trio

from trioflow._core import engine
from trioflow._core.adapters import cut
from trioflow._core.anyio_streams import Exchanges, as_trio
from trioflow._core.buffer import DEFAULT_CAPACITY
from trioflow._core.bytestream import open_stream
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_limit
from trioflow._core.connection import READ, WRITE, Connection, Direction
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage
from trioflow._core.labels import ChainName, name_of, refused
from trioflow._core.labels import label as label
from trioflow._core.labels import wanted as wanted
from trioflow._core.moving import forward
from trioflow._core.observing import Watch

T = TypeVar("T", covariant=True)
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
U = TypeVar("U")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)

_PIPE: Final = "pipe expects a Transform, a Duplex or a Writable"


class _Stream:
    """A tuple of stages. `pipe` only notes the streams it joins; their tuple is made when it is first needed.

    So calling `pipe` in a loop takes linear time.
    """

    __slots__ = ("_first", "_parts", "_stages")

    _first: Stage
    _parts: Sequence[_Stream]  # what it was joined from, until its stages are made
    _stages: tuple[Stage, ...]

    def __init__(self, run: Callable[..., Awaitable[object]]) -> None:
        kind = type(self).__name__
        if not callable(run):
            raise TypeError(f"{kind} expects an async function over channels, got {run!r}")
        if inspect.isasyncgenfunction(run):
            raise TypeError(
                f"{kind} expects an async function over channels, but {name_of(run)} yields; decorate it instead"
            )
        self._set(Stage(label(name_of(run)), function=run))

    def _set(self, *stages: Stage) -> Self:
        self._first = stages[0]
        self._parts = ()
        self._stages = stages
        return self

    @classmethod
    def _of(cls, *stages: Stage) -> Self:
        return cls.__new__(cls)._set(*stages)

    @classmethod
    def _joined(cls, *parts: _Stream) -> Self:
        self = cls.__new__(cls)
        self._first = parts[0]._first
        self._parts = parts
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make `_stages` when it is first needed."""
            if name != "_stages":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            stages: list[Stage] = []
            left: list[_Stream] = [self]
            while left:
                part = left.pop()
                if part._parts:
                    left += reversed(part._parts)
                else:
                    stages += part._stages
            self._stages = tuple(stages)
            self._parts = ()
            return self._stages

        __await__ = refused("cannot be awaited; await a whole run, from a source to a sink: `await source.pipe(sink)`")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' | '.join(stage.label() for stage in self._stages)}>"


class Readable(_Stream, Generic[T]):
    """A source, with any transforms piped to it: where items come from. It does not run until you use it.

    Pipe it into a `Transform` to get a longer `Readable`, pipe it into a `Writable` and `await` the result to run it, or
    `open` it to receive its items yourself.

    Args:
        run: An async function that sends items to the channel it is given, and returns at the end.
    """

    __slots__ = ()

    if not TYPE_CHECKING:
        __aiter__ = __iter__ = __aenter__ = __aexit__ = refused(
            "cannot be iterated or entered; open it with `async with readable.open() as items`, and loop with "
            "`async for item in items`"
        )

    def __init__(self, run: Callable[[SendChannel[T]], Awaitable[object]]) -> None:
        super().__init__(run)

    @overload
    def pipe(self, stage: Transform[T, U]) -> Readable[U]: ...
    @overload
    def pipe(self, stage: Writable[T, R]) -> Coroutine[Any, Any, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, T]) -> Readable[U]: ...
    def pipe(self, stage: Transform[T, U] | Writable[T, R] | Duplex[U, T]) -> Readable[U] | Coroutine[Any, Any, R]:
        """Connect this to `stage`. Return a longer `Readable` for a `Transform` or `Duplex`, or a run for a `Writable`.

        The run is a coroutine: `await` it to run the whole chain and get the value of its sink.

        Raises:
            TypeError: `stage` is not a `Transform`, a `Duplex` or a `Writable`.
        """
        if isinstance(stage, Writable):
            return run_all((self, stage), DEFAULT_CAPACITY)
        joined: Readable[Any] = Readable._joined(self, as_transform(stage, _PIPE))
        if (follow := joined._first.follow) is not None:
            follow(joined._stages, False)  # raises now if the source cannot run these stages
        return joined

    def open(self, *, capacity: float = DEFAULT_CAPACITY) -> AbstractAsyncContextManager[ReceiveChannel[T]]:
        """Run this beside an `async with` block that receives its items.

        Leaving the block ends everything: upstream is cancelled, and items that were not received are lost. If a stage
        fails, the next `receive` raises its exception, the same object; if you do not receive again, leaving the block
        raises it.

        Holds: `capacity` in each channel.

        Raises:
            TypeError, ValueError: `capacity` is neither an int of at least 1 nor `math.inf`.
        """
        return engine.open_readable(self._stages, check_limit("capacity", capacity))


class Writable(_Stream, Generic[In, Result]):
    """A sink, with any transforms before it: where items go. Running it returns a value.

    Args:
        run: An async function that receives items from the channel it is given until that ends, and returns the value.
            If another stage fails it is cancelled, so partial data never passes for complete.
    """

    __slots__ = ()

    def __init__(self, run: Callable[[ReceiveChannel[In]], Awaitable[Result]]) -> None:
        super().__init__(run)

    def open(self, *, capacity: float = DEFAULT_CAPACITY) -> AbstractAsyncContextManager[SendChannel[In]]:
        """Run this beside an `async with` block that sends it items.

        Leaving the block ends the items and waits until all have been written. If an exception leaves the block, the sink
        is cancelled, so partial data never passes for complete.

        Holds: `capacity` in each channel.

        Raises:
            TypeError, ValueError: `capacity` is neither an int of at least 1 nor `math.inf`.
        """
        return engine.open_writable(self._stages, check_limit("capacity", capacity))


class Transform(_Stream, Generic[In, Out]):
    """A stage, or a chain of stages, that receives items and emits items.

    Args:
        run: An async function over two channels: it receives from the first until that ends, and sends to the second.
            Code after its loop runs once, when the items have ended.
    """

    __slots__ = ()

    def __init__(self, run: Callable[[ReceiveChannel[In], SendChannel[Out]], Awaitable[object]]) -> None:
        super().__init__(run)

    @overload
    def pipe(self, stage: Transform[Out, U]) -> Transform[In, U]: ...
    @overload
    def pipe(self, stage: Writable[Out, R]) -> Writable[In, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, Out]) -> Transform[In, U]: ...
    def pipe(self, stage: Transform[Out, U] | Writable[Out, R] | Duplex[U, Out]) -> Transform[In, U] | Writable[In, R]:
        """Connect this to `stage`. Return a longer `Transform` for a `Transform` or `Duplex`, a `Writable` for a `Writable`.

        Raises:
            TypeError: `stage` is not a `Transform`, a `Duplex` or a `Writable`.
        """
        if isinstance(stage, Writable):
            return Writable._joined(self, stage)
        return Transform._joined(self, as_transform(stage, _PIPE))


class Duplex(trio.abc.AsyncResource, Generic[Out, In]):
    """A `readable` and a `writable` that belong together, such as the two directions of a socket.

    If you pipe into it, it works as a transform: it writes the items it gets, and emits what it reads. It ends when its
    `readable` does. `async with duplex:` closes both directions at the end of the block, whether they have run or not.
    """

    __slots__ = ("_aclose", "_exchange", "_label", "_open", "_release", "readable", "writable")

    def __init__(self, readable: Readable[Out], writable: Writable[In, object]) -> None:
        if not isinstance(readable, Readable):
            raise wanted("Duplex expects a Readable first", readable)
        if not isinstance(writable, Writable):
            raise wanted("Duplex expects a Writable second", writable)
        self.readable = readable
        self.writable = writable
        self._aclose: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._exchange: Callable[..., Awaitable[None]] = self._exchange_apart
        self._release: Callable[[], Awaitable[None]] = lambda: engine.release((*readable._stages, *writable._stages))
        self._open: Callable[[float], AbstractAsyncContextManager[trio.abc.HalfCloseableStream]] | None = None
        self._label: Callable[[], str] = label("Duplex")

    @staticmethod
    def _over(
        name: Callable[[], str], shared: Connection, fresh: Callable[[], Connection], *, can_end: bool = True
    ) -> Duplex[bytes, bytes]:
        """Return a duplex whose two directions share a connection. Each use as a whole opens a `fresh` one.

        Without `can_end` the stream has no `send_eof`; then `open` runs the two directions apart, over two channels.
        """

        async def exchange(source: ReceiveChannel[bytes], output: SendChannel[bytes]) -> None:
            await fresh().exchange(source, output)

        def opened(capacity: float) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
            if can_end:
                return fresh().open()
            apart = Duplex._over(name, fresh(), fresh)
            return open_stream(apart.readable.open(capacity=capacity), apart.writable.open(capacity=capacity))

        read, write = Direction(shared, READ), Direction(shared, WRITE)
        self = Duplex[bytes, bytes](
            Readable._of(Stage(lambda: f"{name()}.readable", function=read, release=read.release)),
            Writable._of(Stage(lambda: f"{name()}.writable", function=write, release=write.release)),
        )
        self._label = name
        self._aclose = shared.aclose
        self._exchange = exchange
        self._release = lambda: fresh().skip(READ, WRITE)
        self._open = opened
        return self

    @staticmethod
    def from_stream(stream: trio.abc.Stream | Exchanges) -> Duplex[bytes, bytes]:
        """Return a duplex over a two-way byte stream of Trio or anyio. Each direction can run once.

        At the end of what is written it calls `send_eof`, if the stream has one. The stream is closed when both
        directions have ended, or by `aclose`. A failed or cancelled write closes it at once, so that the peer does not
        take partial data for complete; a run that reads from it then raises `trio.BrokenResourceError`.

        Raises:
            TypeError: `stream` is neither a `trio.abc.Stream` nor an `anyio.abc.ByteStream`.
        """
        given = as_trio(stream)
        if not isinstance(given, trio.abc.Stream):
            raise wanted("Duplex.from_stream expects a trio.abc.Stream", stream)
        connection = Connection(given, lambda: f"this {type(stream).__name__}", is_lent=True)
        can_end = isinstance(given, trio.abc.HalfCloseableStream)
        return Duplex._over(label("from_stream", stream), connection, lambda: connection, can_end=can_end)

    @overload
    def pipe(self, stage: Transform[Out, U]) -> Readable[U]: ...
    @overload
    def pipe(self, stage: Writable[Out, R]) -> Coroutine[Any, Any, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, Out]) -> Readable[U]: ...
    def pipe(
        self, stage: Transform[Out, U] | Writable[Out, R] | Duplex[U, Out]
    ) -> Readable[U] | Coroutine[Any, Any, R]:
        """Pipe its `readable` into `stage`."""
        return self.readable.pipe(stage)

    def open(
        self: Duplex[bytes, bytes], *, capacity: float = DEFAULT_CAPACITY
    ) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """Open both directions of a duplex of bytes as one Trio byte stream, for an `async with` block.

        `send_eof` ends what is written. Leaving the block closes both directions; if an exception leaves it, the
        connection is cut off. An endpoint such as `connect_tcp` opens a new connection for each block.

        Holds: `capacity` in each channel, or nothing if there is a stream underneath.

        Raises:
            TypeError, ValueError: `capacity` is neither an int of at least 1 nor `math.inf`.
            trio.TooSlowError: ten seconds after the end of the block the other side has not read everything.
        """
        check_limit("capacity", capacity)
        if self._open is not None:
            return self._open(capacity)
        return open_stream(self.readable.open(capacity=capacity), self.writable.open(capacity=capacity))

    async def _exchange_apart(self, source: ReceiveChannel[In], output: SendChannel[Out]) -> None:
        """Run both directions concurrently, each as a run of its own."""

        async def take(send: SendChannel[In]) -> None:
            await forward(source, send)

        async def give(receive: ReceiveChannel[Out]) -> None:
            await forward(receive, output)

        async def write() -> None:
            await Readable(take).pipe(self.writable)
            source.close()  # a writable that needs no more items stops everything upstream (R9)

        async with Crew() as crew:
            crew.start(write)
            await self.readable.pipe(Writable(give))
            crew.cancel()

    async def aclose(self) -> None:
        """Close both directions, even if closing one of them fails. Harmless when repeated."""
        await self._aclose()

    async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None:
            await self.aclose()
        else:
            await cut(self)

    def __repr__(self) -> str:
        return f"<Duplex {self._label()}>"


def as_transform(stage: object, what: str) -> Transform[Any, Any]:
    """Return `stage` as a transform, or raise a `TypeError` that begins with `what`."""
    if isinstance(stage, Transform):
        return stage
    if isinstance(stage, Duplex):
        return Transform._of(Stage(stage._label, function=stage._exchange, release=stage._release))
    is_ours = str(getattr(stage, "__module__", None)).startswith("trioflow.")
    if callable(stage) and not hasattr(stage, "__signature__") and not is_ours:
        name = name_of(stage)
        raise TypeError(f"{what}, got the function {name}; use tf.map({name}), or tf.for_each({name}) at the end")
    raise wanted(what, stage)


def run_all(parts: Sequence[_Stream], capacity: float, watch: Watch | None = None) -> Coroutine[Any, Any, Any]:
    """Return the coroutine that runs `parts`, named after their stages: Python's warning "never awaited" names it."""
    stages = engine.followed([stage for part in parts for stage in part._stages])
    run = engine.run(stages, capacity, watch)
    run.__qualname__ = name = ChainName()  # type: ignore[attr-defined]  # mypy does not know that coroutines have one
    name.stages = stages
    return run
