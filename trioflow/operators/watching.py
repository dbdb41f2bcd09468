"""Watch a run: how much each stage has done, and which one the others wait for.

Rule 1: a monitor reads what the channels count anyway. What only a monitor needs (time spent waiting, items inside a
    task) is recorded from the start of a watched run, and costs other runs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import repeat
from typing import Any, Final, Generic, NamedTuple

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_positive, check_type
from trioflow._core.engine import Stage
from trioflow._core.labels import shown_bytes
from trioflow._core.moving import forward
from trioflow._core.observing import Watched
from trioflow._core.streams import Transform, label
from trioflow._core.typevars import T


class StageSnapshot(NamedTuple):
    """What one stage has done so far.

    `items` is how many items it sent or, for the last stage, took. `bytes` is the size of those items, or None if the
    stage shares its task with others. `rate` is items per second. `fill` is how full the channel after it is, from 0
    to 1, or None if there is no channel. `source_wait` and `reader_wait` are the fractions of time that its task waited
    for items and for room; `busy` is the fraction that remains, until it ended. `taken` is how many items it took (0 for
    a source), and `bytes_taken` their size, or None if the stage shares its task with others.
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
    """The counts of one stage at one moment, and how many seconds its task has waited and lasted."""

    items: int
    bytes: int | None
    taken: int
    bytes_taken: int | None
    fill: float | None
    source_wait: float
    reader_wait: float
    lasted: float


_ALIKE: Final = 0.05  # fractions of time that differ by no more count as equal
_NOTHING: Final = Counted(0, None, 0, None, None, 0.0, 0.0, 0.0)


class Look(NamedTuple):
    """The counts of all stages of a run, some seconds after it started; the difference of two shows what happened between."""

    seconds: float
    stages: Sequence[Counted]

    def since(self, before: Look, names: Sequence[str]) -> tuple[StageSnapshot, ...]:
        """Return what each stage has done so far, with its rate and waits since `before`."""
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
    """The tasks of one run, from its start, and what they have counted."""

    def __init__(self, tasks: Sequence[Watched]) -> None:
        self.tasks = tasks
        self._clock = trio.lowlevel.current_clock().current_time
        self._began = self._clock()
        for buffer in {end for task in tasks for end in (task.source, task.output) if end is not None}:
            buffer.watch(self._clock)

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
    """Return the items and bytes that one of a task's stages sent and took, and the fill of the channel after it."""
    source, output, fused = task.source, task.output, task.fused
    taken, bytes_taken = (0, None) if place or source is None else source.taken()
    if place and fused is not None:
        taken = fused.item_count(place - 1)
    if output is not None and place == len(task.labels) - 1:
        return output.count, output.bytes, taken, bytes_taken, output.used / output.capacity
    if fused is None:  # a sink sends nothing, so count what it took
        return taken, bytes_taken, taken, bytes_taken, None
    return fused.item_count(place), bytes_taken if len(task.labels) == 1 else None, taken, bytes_taken, None


class Snapshot(NamedTuple):
    """What each stage of a run has done, in the `seconds` since it started."""

    name: str
    seconds: float
    stages: tuple[StageSnapshot, ...]

    @property
    def slowest(self) -> StageSnapshot | None:
        """The stage whose task is the busiest: the one that the others wait for."""
        return busiest(self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Return it all as a dict that can be written as JSON."""
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
    """Return the first stage of the busiest task; of several that are equally busy, the last one.

    The last, because it would wait for its source, and not be busy, if it were faster than the stages before it.
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
    """Watches the run that started last. Make one with `monitor`."""

    __slots__ = ("_is_over", "_last", "_run")

    def __init__(self, name: str) -> None:
        self._set(Stage(label("monitor", name), function=self._pass_on))
        self._run: WatchedRun | None = None
        self._last = Snapshot(name, 0.0, ())
        self._is_over = trio.Event()

    def _watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        """Watch these tasks of a run until the block ends; then keep their last snapshot, but nothing of the run itself."""
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
        with self._watch([Watched([self._stages[0].label], None, source._buffer, output._buffer)]):
            await forward(source, output)

    def snapshot(self) -> Snapshot:
        """Return what the run has done so far, or when it ended. During the run, call it in Trio's thread."""
        if self._run is None:
            return self._last
        look = self._run.look()
        names = [name() for task in self._run.tasks for name in task.labels]
        return Snapshot(self._last.name, look.seconds, look.since(BEGIN, names))

    async def snapshots(self, every: float = 1.0) -> AsyncIterator[Snapshot]:
        """Yield a snapshot every `every` seconds until the run has ended, and then the last one.

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
    """Watch how much each stage of a run has done, how full the channels are, and which stages wait for which.

    Pass it to `pipeline(..., monitor=)` to watch all stages of that run. Or pipe into it like a transform, to see what
    passes at that place and whether the run waits for the stages before it or after it. `print` it to get a table. For the
    numbers, call `snapshot()`, or `snapshot().as_dict()` for a log. To follow a run, use
    `async for snapshot in monitor.snapshots(every=1.0)`. If you use it for several runs, it shows the one that started
    last.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: items in transit are lost.
    Holds: nothing.

    Raises:
        TypeError: `name` is not a str.

    Example:
        >>> watch = monitor("squares")
        >>> run(pipeline(range(10), map(lambda n: n * n), collect(), monitor=watch))
        [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        >>> [stage.items for stage in watch.snapshot().stages]
        [10, 10, 10]
    """
    check_type("monitor: name", name, str, "a str")
    return Monitor(name)
