"""Show all runs of a program, while they run and for a while after.

Rule 1: an inspector keeps only numbers and text. It reads the counters that a run keeps anyway, and drops its references
    when the run ends.
Rule 2: its text has the names of stages and functions, but never a value that a stage was given, which may be an item.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, nullcontext
from traceback import format_exception_only
from typing import Any, Final, NamedTuple

import trio

from trioflow._core import observing
from trioflow._core.block import block
from trioflow._core.checks import check_count
from trioflow._core.labels import name_without_values
from trioflow._core.observing import HIDDEN, NotBegun, Place, State, Watched, failure_of, state_of
from trioflow.operators.watching import BEGIN, Look, StageSnapshot, WatchedRun, busiest

RECENT: Final = 1.0  # seconds: the rates of a run are averaged over at least this long, once it has lasted that long
_NAME: Final = 200  # characters
_FAILURE: Final = 2000


class RunSnapshot(NamedTuple):
    """What one run is doing, or has done.

    `id` numbers the runs of this program, and `parent` is the id of the run inside which this one started, such as the
    `retry` that runs it. `began` is its start in seconds since 1970, and `seconds` is how long it has lasted. `failure` is
    the text of the exception that it failed with, and its notes. The rates and waits of its stages are those of the last
    seconds while it runs, and those of its whole time afterwards.
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
        """The stage whose task is the busiest: the one that the others wait for."""
        return busiest(self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Return it all as a dict that can be written as JSON; `slowest` is the index of that stage, or None."""
        slowest = self.slowest
        index = next((i for i, stage in enumerate(self.stages) if stage is slowest), None)
        return self._asdict() | {"stages": [stage._asdict() for stage in self.stages], "slowest": index}


class Inspector:
    """Knows the runs that have started since `inspect` yielded it.

    If you make one yourself, it sees only the runs that you pass it to, as in `pipeline(..., monitor=inspector)`.

    Holds: numbers and text, for current runs and for the last `keep` runs that have ended.

    Args:
        keep: How many ended runs to remember.

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
        """Return the current runs, oldest first and at most `most`, then the ended runs, newest first.

        Call it in Trio's thread.
        """
        going = itertools.islice(self._running.values(), None if most == math.inf else int(most))
        return (*[run.snapshot() for run in going], *self._ended)

    @property
    def running(self) -> int:
        """The number of current runs."""
        return len(self._running)

    def _watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        """Watch a run of these tasks until the block ends."""
        place = observing.place.get()
        return nullcontext() if place is None or place is HIDDEN else _Inspected(self, place, tasks)

    def _hidden(self) -> AbstractContextManager[object]:
        """Hide the runs that start inside the block, such as those that serve the inspector's page."""
        block = ExitStack()
        block.callback(observing.place.set, observing.place.get())
        observing.place.set(HIDDEN)
        return block

    def _looks(self) -> Iterator[tuple[RunSnapshot, Look]]:
        """Yield the current runs, and what their stages have counted so far."""
        for run in self._running.values():
            yield run.snapshot(), run.counts.look()


class _Inspected:
    """One run, as a context manager that is open while it runs."""

    __slots__ = ("_began", "_inspector", "_looks", "_names", "_parent", "counts", "id")

    def __init__(self, inspector: Inspector, place: Place, tasks: Sequence[Watched]) -> None:
        self.id, self._parent = place
        self._inspector = inspector
        self.counts = WatchedRun(tasks)
        self._began = time.time()
        self._names: Sequence[str] | None = None
        self._looks: deque[Look] = deque([BEGIN], maxlen=2)  # rates are computed since the older one

    def __enter__(self) -> None:
        self._inspector._running[self.id] = self

    def __exit__(self, kind: object, raised: BaseException | None, traceback: object) -> None:
        inspector, failure = self._inspector, failure_of(raised)
        if inspector._running.pop(self.id, None) is None or isinstance(raised, NotBegun):
            return
        ended = self.snapshot(state_of(raised), None if failure is None else _text_of(failure)[:_FAILURE])
        inspector._ended.appendleft(ended)
        for callback in inspector._on_end:
            callback(ended, self.counts.look())

    def snapshot(self, state: State = "running", failure: str | None = None) -> RunSnapshot:
        """Return what the run has done so far."""
        if self._names is None:
            labels = (label for task in self.counts.tasks for label in task.labels)
            self._names = [name_without_values(label)[:_NAME] for label in labels]
        look = self.counts.look()
        before = self._looks[0] if state == "running" else BEGIN
        if look.seconds - self._looks[-1].seconds >= RECENT:
            self._looks.append(look)
        name = " | ".join(self._names)[:_NAME]
        stages = look.since(before, self._names)
        return RunSnapshot(self.id, self._parent, name, state, self._began, look.seconds, failure, stages)


def _text_of(failure: BaseException) -> str:
    """Return a failure as the last lines of a traceback show it: type, message and notes, also of a group's members."""
    text = "".join(format_exception_only(failure)).rstrip()
    if isinstance(failure, BaseExceptionGroup):
        text = "\n".join([text, *(_text_of(each).replace("\n", "\n  ") for each in failure.exceptions[:10])])
    return text


def inspect(*, keep: int = 100) -> AbstractAsyncContextManager[Inspector]:
    """Watch every run that starts during the `async with` block: what each stage does, and which one the others wait for.

    `inspector.runs()` returns a `RunSnapshot` for each current run, and for the last ones that have ended.
    `http.inspector(inspector)` shows them on a web page. Runs that started before the block are not seen, nor are those of
    a `trio.run` in another thread. Files that are copied inside the kernel still are; their bytes are counted at the end
    of the copy.

    Holds: numbers and text, for current runs and for the last `keep` runs that have ended.

    Args:
        keep: How many ended runs to remember.

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
        return inspector._watch(tasks) if trio.lowlevel.current_trio_token() is token else nullcontext()

    observing.observers = (*observing.observers, watch)
    try:
        yield inspector
    finally:
        observing.observers = tuple(each for each in observing.observers if each is not watch)
        inspector._running.clear()
