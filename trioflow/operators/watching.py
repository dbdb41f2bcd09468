"""Seeing a run at work: which stage has done how much, and which one the others wait for.

Rule 1: who watches reads what the channels know anyway; what only he needs (time spent waiting, items inside a task)
    is noted from the beginning of a watched run on, and costs other runs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, NamedTuple

import trio

from trioflow._core.adapters import forward
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_positive
from trioflow._core.engine import Stage
from trioflow._core.labels import shown_bytes
from trioflow._core.run import Watched
from trioflow._core.streams import Transform, label
from trioflow._core.typevars import T


class StageSnapshot(NamedTuple):
    """What one stage has done so far.

    `items` are those it gave, or took where it is the last; `bytes` likewise, None inside a task of several stages.
    `rate` is items a second. `fill` is what part of the channel behind it is in use, None where there is none.
    `source_wait` and `reader_wait` are the parts of the time that its task waited for items and for room; `busy` is
    what is left of the time until it ended.
    """

    name: str
    items: int
    bytes: int | None
    rate: float
    fill: float | None
    source_wait: float
    reader_wait: float
    busy: float


class Snapshot(NamedTuple):
    """What a run has done in the `seconds` since it began, stage by stage."""

    name: str
    seconds: float
    stages: tuple[StageSnapshot, ...]

    @property
    def slowest(self) -> StageSnapshot | None:
        """The stage whose task is the busiest: the others wait for it."""
        return max(self.stages, key=lambda stage: stage.busy, default=None)

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

    __slots__ = ("_began", "_is_over", "_last", "_tasks")

    def __init__(self, name: str) -> None:
        self._stages = (Stage(label("monitor", name), function=self._pass_on),)
        self._tasks: Sequence[Watched] = ()
        self._began = 0.0
        self._last = Snapshot(name, 0.0, ())
        self._is_over = trio.Event()

    def watch(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        """Watch these tasks of a run until the block ends; keep the last snapshot of them, and nothing of the run itself."""
        self._tasks = tasks
        self._is_over = over = trio.Event()
        self._began = trio.current_time()
        for task in tasks:
            task.time_waits(trio.current_time)
        block = ExitStack()
        block.callback(self._end, over)
        return block

    def _end(self, over: trio.Event) -> None:
        if over is self._is_over:
            self._last, self._tasks = self.snapshot(), ()
        over.set()

    async def _pass_on(self, source: ReceiveChannel[T], output: SendChannel[T]) -> None:
        with self.watch([Watched.between(source, output, [self._stages[0].label])]):
            await forward(source, output)

    def snapshot(self) -> Snapshot:
        """Return what the run has done so far, or had done when it ended. During the run, call it where Trio runs."""
        if not self._tasks:
            return self._last
        now = trio.current_time()
        return Snapshot(self._last.name, now - self._began, tuple(self._rows(now)))

    def _rows(self, now: float) -> Iterator[StageSnapshot]:
        seconds = now - self._began
        for task in self._tasks:
            waits = (
                0.0 if task.source is None else task.source.waits(now)[1],
                0.0 if task.output is None else task.output.waits(now)[0],
            )
            lasted = seconds
            if task.output is not None and task.output.ended_at is not None:
                lasted = task.output.ended_at - self._began
            parts = [part / seconds if seconds else 0.0 for part in (*waits, max(lasted - sum(waits), 0.0))]
            for place, name in enumerate(task.labels):
                items, count, fill = _done(task, place)
                yield StageSnapshot(name(), items, count, items / seconds if seconds else 0.0, fill, *parts)

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


def _done(task: Watched, place: int) -> tuple[int, int | None, float | None]:
    """Give the items and bytes of one of a task's stages, and the fill of the channel behind it."""
    if task.output is not None and place == len(task.labels) - 1:
        return task.output.count, task.output.bytes, task.output.used / task.output.capacity
    # A sink's own channel, which it is the only one to read.
    items, size = task.source.taken() if task.source is not None and len(task.labels) == 1 else (0, None)
    return items if task.fused is None else task.fused.item_count(place), size, None


def monitor(name: str = "") -> Monitor[Any]:
    """Watch a run: how much each stage has done, how full the channels are, who waits for whom.

    Given to `pipeline(..., monitor=)` it shows all stages of that run; piped into like a transform it shows what passes
    at that place, and whether those before or those behind it are waited for. `print` it for a table; `snapshot()` gives
    the numbers, `snapshot().as_dict()` for a log, and `async for snapshot in monitor.snapshots(every=1.0)` goes along.
    Of two runs it shows the one that began last.

    Emits when: an item comes.
    Waits when: its reader does.
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
