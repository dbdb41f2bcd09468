"""Seeing a run at work: which stage has done how much, and which one the others wait for.

Rule 1: who watches reads what the channels know anyway; what only he needs (time spent waiting, items inside a task)
    is noted from the beginning of a watched run on, and costs other runs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import repeat
from typing import Any, Final, Generic, NamedTuple

import trio

from trioflow._core.adapters import forward
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_positive
from trioflow._core.engine import Stage
from trioflow._core.labels import shown_bytes
from trioflow._core.observing import Watched
from trioflow._core.streams import Transform, label
from trioflow._core.typevars import T


class StageSnapshot(NamedTuple):
    """What one stage has done so far.

    `items` are those it gave, or took where it is the last; `bytes` likewise, None inside a task of several stages.
    `rate` is items a second. `fill` is what part of the channel after it is in use, None where there is none.
    `source_wait` and `reader_wait` are the parts of the time that its task waited for items and for room; `busy` is
    what is left of the time until it ended. `taken` are the items that it took, 0 of a source, and `bytes_taken` their
    bytes, None inside a task of several stages.
    """

    name: str
    items: int
    bytes: int | None
    rate: float
    fill: float | None
    source_wait: float
    reader_wait: float
    busy: float
    taken: int
    bytes_taken: int | None


class Counted(NamedTuple):
    """What has been counted of one stage at one moment, and for how many seconds its task has waited and lasted."""

    items: int
    bytes: int | None
    taken: int
    bytes_taken: int | None
    fill: float | None
    source_wait: float
    reader_wait: float
    lasted: float


_ALIKE: Final = 0.05  # what two parts of the time may differ by and be taken for the same
_NOTHING: Final = Counted(0, None, 0, None, None, 0.0, 0.0, 0.0)


class Look(NamedTuple):
    """All stages of a run at one moment, so many seconds after it began: the difference of two is what it did between."""

    seconds: float
    stages: Sequence[Counted]

    def since(self, before: Look, names: Sequence[str]) -> tuple[StageSnapshot, ...]:
        """Return what each stage has done, with its rate and its waits since `before`."""
        seconds = self.seconds - before.seconds
        per = 1 / seconds if seconds > 0 else 0.0
        snapshots: list[StageSnapshot] = []
        for name, now, then in zip(names, self.stages, before.stages or repeat(_NOTHING), strict=False):
            source_wait, reader_wait = now.source_wait - then.source_wait, now.reader_wait - then.reader_wait
            busy = max(now.lasted - then.lasted - source_wait - reader_wait, 0.0)
            shown = StageSnapshot(
                name=name,
                items=now.items,
                bytes=now.bytes,
                rate=(now.items - then.items) * per,
                fill=now.fill,
                source_wait=source_wait * per,
                reader_wait=reader_wait * per,
                busy=busy * per,
                taken=now.taken,
                bytes_taken=now.bytes_taken,
            )
            snapshots.append(shown)
        return tuple(snapshots)


BEGIN: Final = Look(0.0, ())


class WatchedRun:
    """The tasks of one run from its beginning on: what they have counted, whenever it is looked at."""

    def __init__(self, tasks: Sequence[Watched]) -> None:
        self.tasks = tasks
        self._clock = trio.lowlevel.current_clock().current_time
        self._began = self._clock()
        for task in tasks:
            task.time_waits(self._clock)

    def look(self) -> Look:
        """Return what has been counted so far."""
        now = self._clock()
        seconds = now - self._began
        stages: list[Counted] = []
        for task in self.tasks:
            source_wait = 0.0 if task.source is None else task.source.waits(now)[1]
            reader_wait = 0.0 if task.output is None else task.output.waits(now)[0]
            lasted = seconds
            if task.output is not None and task.output.ended_at is not None:
                lasted = task.output.ended_at - self._began
            for place in range(len(task.labels)):
                stages.append(Counted(*_counts(task, place), source_wait, reader_wait, lasted))
        return Look(seconds, stages)


def _counts(task: Watched, place: int) -> tuple[int, int | None, int, int | None, float | None]:
    """Return the items and bytes that one of a task's stages gave and took, and the fill of the channel after it."""
    source, output, fused = task.source, task.output, task.fused
    taken, bytes_taken = (0, None) if place or source is None else source.taken()
    if place and fused is not None:
        taken = fused.item_count(place - 1)
    if output is not None and place == len(task.labels) - 1:
        return output.count, output.bytes, taken, bytes_taken, output.used / output.capacity
    if fused is None:  # a sink gives nothing: what it took counts
        return taken, bytes_taken, taken, bytes_taken, None
    return fused.item_count(place), bytes_taken if len(task.labels) == 1 else None, taken, bytes_taken, None


class Snapshot(NamedTuple):
    """What a run has done in the `seconds` since it began, stage by stage."""

    name: str
    seconds: float
    stages: tuple[StageSnapshot, ...]

    @property
    def slowest(self) -> StageSnapshot | None:
        """The stage whose task is the busiest: the others wait for it."""
        return busiest(self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return self._asdict() | {"stages": [stage._asdict() for stage in self.stages]}

    def __str__(self) -> str:
        head = ("", "items", "items/s", "bytes", "channel", "waits for source", "for reader")
        lines = [head, *(_cells(stage) for stage in self.stages)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [f"{self.name}, {self.seconds:.1f} s".lstrip(", ")]
        for i, (name, *cells) in enumerate(lines):
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            mark = "  < the others wait for it" if i and len(lines) > 2 and self.stages[i - 1] is self.slowest else ""
            shown.append("  ".join([name.ljust(widths[0]), *aligned]).rstrip() + mark)
        return "\n".join(shown)


def busiest(stages: Sequence[StageSnapshot]) -> StageSnapshot | None:
    """Return the first stage of the busiest task; of several that are busy all the time, of the last one.

    What is before that one would wait for its reader, or its channels fill up; were it quick, it would wait for its source.
    """
    firsts = [stage for i, stage in enumerate(stages) if i == 0 or stages[i - 1].fill is not None]
    most = max((stage.busy for stage in firsts), default=0.0)
    return next((stage for stage in reversed(firsts) if stage.busy >= most - _ALIKE), None)


def _cells(stage: StageSnapshot) -> tuple[str, ...]:
    return (
        stage.name,
        f"{stage.items:,}",
        f"{stage.rate:,.0f}",
        "" if not stage.bytes else shown_bytes(stage.bytes),
        "" if stage.fill is None else f"{stage.fill:.0%}",
        f"{stage.source_wait:.0%}",
        f"{stage.reader_wait:.0%}",
    )


class Monitor(Transform[T, T], Generic[T]):
    """What `monitor` gives: it watches one run, that which began last."""

    __slots__ = ("_is_over", "_last", "_run")

    def __init__(self, name: str) -> None:
        self._stages = (Stage(label("monitor", name), function=self._pass_on),)
        self._run: WatchedRun | None = None
        self._last = Snapshot(name, 0.0, ())
        self._is_over = trio.Event()

    def watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        """Watch these tasks of a run until the block ends; keep the last snapshot of them, and nothing of the run itself."""
        self._run = run = WatchedRun(tasks)
        self._is_over = over = trio.Event()
        block = ExitStack()
        block.callback(self._end, run, over)
        return block

    def _end(self, run: WatchedRun, over: trio.Event) -> None:
        if run is self._run:
            self._last, self._run = self.snapshot(), None
        over.set()

    async def _pass_on(self, source: ReceiveChannel[T], output: SendChannel[T]) -> None:
        with self.watch([Watched.between(source, output, [self._stages[0].label])]):
            await forward(source, output)

    def snapshot(self) -> Snapshot:
        """Return what the run has done so far, or had done when it ended. During the run, call it where Trio runs."""
        if self._run is None:
            return self._last
        look = self._run.look()
        names = [name() for task in self._run.tasks for name in task.labels]
        return Snapshot(self._last.name, look.seconds, look.since(BEGIN, names))

    async def snapshots(self, every: float = 1.0) -> AsyncIterator[Snapshot]:
        """Give a snapshot every so many seconds until the run has ended, and then the last one.

        Raises:
            TypeError, ValueError: `every` is not a number above 0.
        """
        check_positive("every", every)
        while True:
            with trio.move_on_after(every):
                await self._is_over.wait()
            yield self.snapshot()
            if self._is_over.is_set():
                return

    def __str__(self) -> str:
        return str(self.snapshot())


def monitor(name: str = "") -> Monitor[Any]:
    """Watch a run: how much each stage has done, how full the channels are, who waits for whom.

    Given to `pipeline(..., monitor=)` it shows all stages of that run; piped into like a transform it shows what passes
    at that place, and whether those before or those behind it are waited for. `print` it for a table; `snapshot()` gives
    the numbers, `snapshot().as_dict()` for a log, and `async for snapshot in monitor.snapshots(every=1.0)` goes along.
    Of two runs it shows the one that began last.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: what it holds is lost.
    Holds: one batch, where it is a stage of its own.

    Raises:
        TypeError: `name` is not a str.

    Example:
        >>> watch = monitor("squares")
        >>> run(pipeline(range(10), map(lambda n: n * n), collect(), monitor=watch))
        [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        >>> [stage.items for stage in watch.snapshot().stages]
        [10, 10, 10]
    """
    if not isinstance(name, str):
        raise TypeError(f"monitor wants a name, not {name!r}")
    return Monitor(name)
