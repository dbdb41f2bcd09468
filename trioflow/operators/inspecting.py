"""Seeing all runs of a program at once, while they go and for a while after.

Rule 1: an inspector keeps numbers and text. While a run goes on it looks at what that holds anyway, and lets go at its end.
Rule 2: what it tells has the names of stages and of functions, and never a value that a stage was given: that may be an item.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, nullcontext
from traceback import format_exception_only
from types import TracebackType
from typing import Any, Final, NamedTuple

import trio

from trioflow._core import observing
from trioflow._core.block import block
from trioflow._core.checks import check_count
from trioflow._core.labels import name_without_values
from trioflow._core.observing import HIDDEN, NotBegun, Place, State, Watched, failure_of, state_of
from trioflow.operators.watching import BEGIN, Look, StageSnapshot, WatchedRun, busiest

RECENT: Final = 1.0  # seconds: over at least so many the rates of a run are taken, if it has lasted that long
_NAME: Final = 200  # characters
_FAILURE: Final = 2000


class RunSnapshot(NamedTuple):
    """What one run is doing, or has done.

    `id` counts the runs of this program, and `parent` is the run inside which this one began, such as that which retries
    it. `began` is in seconds since 1970, `seconds` how long it has lasted. `failure` is what it failed by, with its notes.
    While it goes on, the rates and waits of its stages are those of the last seconds; afterwards those of all its time.
    """

    id: int
    parent: int | None
    name: str
    state: State
    began: float
    seconds: float
    failure: str | None
    stages: tuple[StageSnapshot, ...]

    @property
    def slowest(self) -> StageSnapshot | None:
        """The stage whose task is the busiest: the others wait for it."""
        return busiest(self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold; `slowest` is the index of that stage, None if there are no stages."""
        slowest = self.slowest
        index = next((i for i, stage in enumerate(self.stages) if stage is slowest), None)
        return self._asdict() | {"stages": [stage._asdict() for stage in self.stages], "slowest": index}


class Inspector:
    """What `inspect` yields: it knows the runs that have begun since then.

    One that you make yourself sees the runs that it is given to, as `pipeline(..., monitor=inspector)`.

    Holds: numbers and text, for the last `keep` runs that have ended, and for those that go on.

    Args:
        keep: How many runs to remember after their end.

    Raises:
        TypeError: `keep` is not an int.
        ValueError: `keep` is below 0.
    """

    def __init__(self, *, keep: int = 100) -> None:
        check_count("keep", keep, 0)
        self._running: dict[int, _Inspected] = {}
        self._ended: deque[RunSnapshot] = deque(maxlen=keep)
        self._on_end: list[Callable[[RunSnapshot, Look], object]] = []  # called with each run that has ended

    def runs(self, most: float = math.inf) -> tuple[RunSnapshot, ...]:
        """Return the runs that go on, the oldest first and at most so many, then those that have ended, the newest first.

        Call it where Trio runs.
        """
        going = itertools.islice(self._running.values(), None if most == math.inf else int(most))
        return (*[run.snapshot() for run in going], *self._ended)

    @property
    def running(self) -> int:
        """How many runs go on."""
        return len(self._running)

    def watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        """Watch a run of these tasks until the block ends."""
        place = observing.place.get()
        return nullcontext() if place is None or place is HIDDEN else _Inspected(self, place, tasks)

    def hidden(self) -> AbstractContextManager[object]:
        """Show none of the runs that begin inside the block, as those that show the others."""
        block = ExitStack()
        block.callback(observing.place.set, observing.place.get())
        observing.place.set(HIDDEN)
        return block

    def _ended_as(self, run: _Inspected, state: State, failure: str | None) -> None:
        if self._running.pop(run.id, None) is not None:
            self._ended.appendleft(ended := run.snapshot(state, failure))
            for tell in self._on_end:
                tell(ended, run.look())

    def _looks(self) -> Iterator[tuple[RunSnapshot, Look]]:
        """Yield the runs that go on, and what their stages have counted since they began."""
        for run in self._running.values():
            yield run.snapshot(), run.look()

    def _forget(self, run: _Inspected) -> None:
        self._running.pop(run.id, None)

    def _let_go(self) -> None:
        self._running.clear()


class _Inspected:
    """One run, and the block that it goes in."""

    __slots__ = ("_began", "_inspector", "_looks", "_names", "_parent", "_run", "id")

    def __init__(self, inspector: Inspector, place: Place, tasks: Sequence[Watched]) -> None:
        self.id, self._parent = place
        self._inspector = inspector
        self._run = WatchedRun(tasks)
        self._began = time.time()
        self._names: Sequence[str] | None = None
        self._looks: deque[Look] = deque([BEGIN], maxlen=2)  # the older one is what a rate is taken from

    def __enter__(self) -> None:
        self._inspector._running[self.id] = self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(raised, NotBegun):
            self._inspector._forget(self)
        else:
            failure = failure_of(raised)
            self._inspector._ended_as(self, state_of(raised), None if failure is None else _text_of(failure)[:_FAILURE])

    def look(self) -> Look:
        """Return what its stages have counted so far."""
        return self._run.look()

    def snapshot(self, state: State = "running", failure: str | None = None) -> RunSnapshot:
        """Return what the run has done so far."""
        if self._names is None:
            labels = (label for task in self._run.tasks for label in task.labels)
            self._names = [name_without_values(label)[:_NAME] for label in labels]
        look = self._run.look()
        before = self._looks[0] if state == "running" else BEGIN
        if look.seconds - self._looks[-1].seconds >= RECENT:
            self._looks.append(look)
        name = " | ".join(self._names)[:_NAME]
        stages = look.since(before, self._names)
        return RunSnapshot(self.id, self._parent, name, state, self._began, look.seconds, failure, stages)


def _text_of(failure: BaseException) -> str:
    """Return a failure as a traceback ends: its kind, its words, its notes; and those of a group's members."""
    text = "".join(format_exception_only(failure)).rstrip()
    if isinstance(failure, BaseExceptionGroup):
        text = "\n".join([text, *(_text_of(each).replace("\n", "\n  ") for each in failure.exceptions[:10])])
    return text


def inspect(*, keep: int = 100) -> AbstractAsyncContextManager[Inspector]:
    """See every run that begins while the `async with` block goes on: what each stage does, and which one is waited for.

    `inspector.runs()` returns a `RunSnapshot` for each run that goes on, and for those that have ended lately.
    `http.inspector(inspector)` shows them on a page. Runs that had begun before are not seen, nor are those of another
    thread's `trio.run`. A file that is copied inside the kernel is still copied so: its bytes are told at its end.

    Holds: numbers and text, for the last `keep` runs that have ended, and for those that go on.

    Args:
        keep: How many runs to remember after their end.

    Raises:
        TypeError: `keep` is not an int.
        ValueError: `keep` is below 0.

    Example:
        >>> async def main():
        ...     async with tf.inspect() as inspector:
        ...         await tf.pipeline(range(10), map(lambda n: n * n), collect())
        ...     [run] = inspector.runs()
        ...     return run.name, run.state, [stage.items for stage in run.stages]
        >>> run(main())
        ('from_iterable | map(<lambda>) | collect', 'done', [10, 10, 10])
    """
    return _inspecting(Inspector(keep=keep))


@block
async def _inspecting(inspector: Inspector) -> AsyncGenerator[Inspector, None]:
    token = trio.lowlevel.current_trio_token()

    def watch(tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        return inspector.watch(tasks) if trio.lowlevel.current_trio_token() is token else nullcontext()

    observing.observers = (*observing.observers, watch)
    try:
        yield inspector
    finally:
        observing.observers = tuple(each for each in observing.observers if each is not watch)
        inspector._let_go()
