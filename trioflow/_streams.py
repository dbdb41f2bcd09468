"""The four streams: values that say what to run. Nothing runs, opens or starts before `await` or `async with` (R1).

Rule 1: a stream is a tuple of stages; `pipe` joins tuples, a run makes everything else anew (R4).
Rule 2: arguments are checked here, when the value is made; what came is named in the error.
"""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import CoroutineType, TracebackType
from typing import Any, Generic, Protocol, TypeVar, cast, overload

import trio

from trioflow import _engine
from trioflow._buffer import DEFAULT_CAPACITY, check_capacity
from trioflow._channel import ReceiveChannel, SendChannel
from trioflow._engine import Stage
from trioflow._foreign import async_source, forward, once, stream_sink

T = TypeVar("T", covariant=True)
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
U = TypeVar("U")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40

    def repr_instance(self, x: Any, level: int) -> str:
        return x.__name__ if callable(x) and hasattr(x, "__name__") else super().repr_instance(x, level)


_brief = _Brief()


def label(name: str, *args: object, **kwargs: object) -> Callable[[], str]:
    """Make what names a stage in notes and reprs: the call as it was written, cut short, rendered when asked for."""

    def render() -> str:
        given = [_brief.repr(arg) for arg in args]
        given += [f"{key}={_brief.repr(value)}" for key, value in kwargs.items()]
        return f"{name}({', '.join(given)})"

    return render


def _name_of(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)


def wanted(what: str, given: object) -> TypeError:
    """Make the error for a wrong stage: what was wanted and what came."""
    came = f"the function {_name_of(given)}: call it" if callable(given) else f"{type(given).__name__} {given!r}"
    return TypeError(f"{what}, not {came}")


def _only_stage(run: Callable[..., Awaitable[Any]], kind: str) -> tuple[Stage, ...]:
    if not callable(run):
        raise TypeError(f"{kind} wants an async function over channels, not {run!r}")
    return (Stage(label(_name_of(run)), function=run),)


class _Stream:
    """A tuple of stages, joined by `pipe`."""

    __slots__ = ("_stages",)

    _stages: tuple[Stage, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' | '.join(stage.label() for stage in self._stages)}>"


class Readable(_Stream, Generic[T]):
    """A source and the transforms on it so far: where items come from. Nothing runs yet.

    Pipe it into a `Transform` and it is a longer `Readable`; pipe it into a `Writable` and `await` that, and it runs;
    or open it and receive item by item.

    Args:
        run: An async function that sends items to the channel it is given, and returns at the end.
    """

    __slots__ = ("region",)

    def __init__(self, run: Callable[[SendChannel[T]], Awaitable[object]]) -> None:
        self._stages = _only_stage(run, "Readable")
        self.region: Region | None = None

    @classmethod
    def of(cls, *stages: Stage, region: Region | None = None) -> Readable[T]:
        """Make one of stages; for operators, not for users."""
        self = cls.__new__(cls)
        self._stages = stages
        self.region = region
        return self

    @overload
    def pipe(self, stage: Transform[T, U]) -> Readable[U]: ...
    @overload
    def pipe(self, stage: Writable[T, R]) -> Coroutine[Any, Any, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, T]) -> Readable[U]: ...
    def pipe(self, stage: Any) -> Any:
        """Go on into `stage`: with a `Transform` or `Duplex` a longer `Readable`, with a `Writable` the whole run.

        Given a `Writable` it returns a coroutine: `await` it, and it gives the sink's value (R3).

        Raises:
            TypeError: `stage` is none of these.
        """
        if isinstance(stage, Writable):
            return run_all(self, stage, DEFAULT_CAPACITY)
        return Readable[Any].of(*self._stages, *_middle(stage, "pipe wants a Transform, a Duplex or a Writable"))

    def open(self, *, capacity: float = DEFAULT_CAPACITY) -> AbstractAsyncContextManager[ReceiveChannel[T]]:
        """Run this beside an `async with` block that receives its items.

        Leaving the block ends everything: what was not received is lost, and upstream is cancelled. A failure is
        raised by the next `receive`, the same object, and by leaving the block if nobody received again.

        Holds: `capacity` in each channel.

        Raises:
            TypeError, ValueError: `capacity` is not an int of 1 or more, or `math.inf`.
        """
        return _engine.open_readable(self._stages, check_capacity(capacity))


class Writable(_Stream, Generic[In, Result]):
    """A destination, and the transforms before it: where items go. Running it yields a result.

    Args:
        run: An async function that receives items from the channel it is given until it ends, and returns the result.
            When a run fails it is cancelled: it never sees an end that is not one (R12, R13).
    """

    __slots__ = ("take_region",)

    def __init__(self, run: Callable[[ReceiveChannel[In]], Awaitable[Result]]) -> None:
        self._stages = _only_stage(run, "Writable")
        self.take_region: Callable[[OpenRegion], Awaitable[Result]] | None = None

    @classmethod
    def of(
        cls, *stages: Stage, take_region: Callable[[OpenRegion], Awaitable[Result]] | None = None
    ) -> Writable[In, Result]:
        """Make one of stages; for operators, not for users."""
        self = cls.__new__(cls)
        self._stages = stages
        self.take_region = take_region
        return self

    def open(self, *, capacity: float = DEFAULT_CAPACITY) -> AbstractAsyncContextManager[SendChannel[In]]:
        """Run this beside an `async with` block that sends it items.

        Leaving the block ends the items and waits until all has been written; leaving it by an exception cuts
        them off: the sink is cancelled and never takes what came for the whole (R13).

        Holds: `capacity` in each channel.

        Raises:
            TypeError, ValueError: `capacity` is not an int of 1 or more, or `math.inf`.
        """
        return _engine.open_writable(self._stages, check_capacity(capacity))


class Transform(_Stream, Generic[In, Out]):
    """Items in, items out: what happens on the way.

    Args:
        run: An async function between two channels: it receives from the first until it ends, and sends to the second.
            The code after its loop is the flush.
    """

    __slots__ = ()

    def __init__(self, run: Callable[[ReceiveChannel[In], SendChannel[Out]], Awaitable[object]]) -> None:
        self._stages = _only_stage(run, "Transform")

    @classmethod
    def of(cls, *stages: Stage) -> Transform[In, Out]:
        """Make one of stages; for operators, not for users."""
        self = cls.__new__(cls)
        self._stages = stages
        return self

    @overload
    def pipe(self, stage: Transform[Out, U]) -> Transform[In, U]: ...
    @overload
    def pipe(self, stage: Writable[Out, R]) -> Writable[In, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, Out]) -> Transform[In, U]: ...
    def pipe(self, stage: Any) -> Any:
        """Compose: with a `Transform` or `Duplex` a longer `Transform`, with a `Writable` a `Writable`.

        Raises:
            TypeError: `stage` is none of these.
        """
        if isinstance(stage, Writable):
            return Writable[Any, Any].of(*self._stages, *stage._stages)
        return Transform[Any, Any].of(*self._stages, *_middle(stage, "pipe wants a Transform, a Duplex or a Writable"))


class Duplex(Generic[Out, In]):
    """A `readable` and a `writable` that belong together, such as the two directions of a socket.

    Piped into, it runs as a transform: what is written comes back as what is read. It ends when its `readable` does.
    `async with duplex:` closes both directions at the end of the block, whatever has been run.
    """

    __slots__ = ("_aclose", "_fresh", "_label", "readable", "writable")

    def __init__(self, readable: Readable[Out], writable: Writable[In, object]) -> None:
        if not isinstance(readable, Readable):
            raise wanted("Duplex wants a Readable first", readable)
        if not isinstance(writable, Writable):
            raise wanted("Duplex wants a Writable second", writable)
        self.readable = readable
        self.writable = writable
        self._aclose: Callable[[], Awaitable[None]] | None = None
        self._fresh: Callable[[], Duplex[Out, In]] = lambda: self
        self._label: Callable[[], str] = label("Duplex")

    @classmethod
    def of(
        cls,
        readable: Readable[Out],
        writable: Writable[In, object],
        *,
        label: Callable[[], str],
        aclose: Callable[[], Awaitable[None]] | None = None,
        fresh: Callable[[], Duplex[Out, In]] | None = None,
    ) -> Duplex[Out, In]:
        """Make one that can be closed, and that opens a `fresh` one for each run; for endpoints, not for users."""
        self = cls(readable, writable)
        self._aclose = aclose
        self._label = label
        if fresh is not None:
            self._fresh = fresh
        return self

    @staticmethod
    def from_stream(stream: trio.abc.Stream) -> Duplex[bytes, bytes]:
        """Make one of a two-way Trio byte stream. Each direction runs once (R4).

        The end of what is written is sent with `send_eof` where the stream has one. The stream is closed when both
        directions have ended, or by `aclose`; a failed write closes it at once (R13).

        Raises:
            TypeError: `stream` is not a `trio.abc.Stream`.
        """
        if not isinstance(stream, trio.abc.Stream):
            raise wanted("Duplex.from_stream wants a trio.abc.Stream", stream)
        open_halves = {"readable", "writable"}

        def half(name: str, run: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
            async def run_half(end: Any) -> Any:
                try:
                    return await run(end)
                finally:
                    open_halves.discard(name)
                    if not open_halves:
                        await trio.aclose_forcefully(stream)

            return once(run_half, f"the {name} of this {type(stream).__name__}")

        return Duplex[bytes, bytes].of(
            Readable[bytes].of(Stage(label("readable"), function=half("readable", async_source(stream)))),
            Writable[bytes, int].of(Stage(label("writable"), function=half("writable", stream_sink(stream)))),
            label=label("from_stream", stream),
            aclose=stream.aclose,
        )

    @overload
    def pipe(self, stage: Transform[Out, U]) -> Readable[U]: ...
    @overload
    def pipe(self, stage: Writable[Out, R]) -> Coroutine[Any, Any, R]: ...
    @overload
    def pipe(self, stage: Duplex[U, Out]) -> Readable[U]: ...
    def pipe(self, stage: Any) -> Any:
        """Pipe its `readable` into `stage`."""
        return self.readable.pipe(stage)

    def as_stage(self) -> Stage:
        """Give the stage that this runs as in the middle of a chain."""

        async def run(source: ReceiveChannel[In], output: SendChannel[Out]) -> None:
            async with self._fresh() as duplex:

                async def write() -> None:
                    async with duplex.writable.open() as send:
                        await forward(source, send)

                async def read() -> None:
                    async with duplex.readable.open() as receive:
                        await forward(receive, output)

                await _engine.together(read, write)

        return Stage(self._label, function=run)

    async def aclose(self) -> None:
        """Close both directions, even if one fails to. Harmless when repeated."""
        if self._aclose is not None:
            await self._aclose()
        else:
            await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Duplex[Out, In]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Duplex {self._label()}>"


class OpenRegion(Protocol):
    """A stretch of an open file, with both ends known: `os.sendfile` and the like take it as it is."""

    @property
    def fd(self) -> int:
        """The descriptor; it stays its region's, is closed by it, and its file offset means nothing."""
        ...

    @property
    def start(self) -> int:
        """The offset of the first byte."""
        ...

    @property
    def stop(self) -> int:
        """The offset behind the last byte, never below `start`: what the file held when it was opened."""
        ...


class Region(Protocol):
    """A stretch of a file that a sink may take whole instead of chunk by chunk.

    Where a `Readable` with a `region` is piped straight into a `Writable` with `take_region`, a run opens the region,
    hands it to the sink and closes it when the sink has returned; no chunk is read.
    """

    def open(self) -> AbstractAsyncContextManager[OpenRegion | None]:
        """Open the file; give None where it has no fixed length (a pipe, a device): then it is read in chunks."""
        ...


def _middle(stage: object, what: str) -> tuple[Stage, ...]:
    if isinstance(stage, Transform):
        return stage._stages
    if isinstance(stage, Duplex):
        return (stage.as_stage(),)
    raise wanted(what, stage)


def join(head: Readable[Any], middle: tuple[object, ...], what: str) -> Readable[Any]:
    """Pipe `head` through each of `middle`, which must be transforms."""
    for stage in middle:
        head = Readable[Any].of(*head._stages, *_middle(stage, what)) if stage is not None else head
    return head


def run_all(head: Readable[Any], tail: Writable[Any, R], capacity: float) -> Coroutine[Any, Any, R]:
    """Make the coroutine that runs `head` into `tail`; it is named after the chain, for whoever forgets to await it."""
    stages = head._stages + tail._stages
    if head.region is not None and tail.take_region is not None:
        coroutine = _engine.run_directly(stages, head.region.open, tail.take_region, capacity)
    else:
        coroutine = _engine.run(stages, capacity)
    run = cast("CoroutineType[Any, Any, R]", coroutine)
    run.__qualname__ = " | ".join(stage.label() for stage in stages)
    return run
