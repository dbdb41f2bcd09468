"""A progress bar: a stage that counts what passes, and updates the display at most ten times a second."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

import trio

from trioflow._core.buffer import size_of
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import BYTES_LIKE, check_limit, check_positive
from trioflow._core.labels import shown_bytes
from trioflow._core.makers import task
from trioflow._core.moving import forward
from trioflow._core.streams import Transform
from trioflow._core.typevars import T


def progress(
    total: float | None = None, *, name: str = "", every: float = 5.0, file: TextIO | None = None, silent: bool = False
) -> Transform[T, T]:
    r"""Show the progress of a run in bytes, if the first item is bytes-like, or in items.

    On a terminal it draws a bar with rich, which the extra `progress` brings. Elsewhere, or without rich, it prints a
    plain line every few seconds and one at the end.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: what it holds is lost; the bar stays as it was.
    Holds: one batch.

    Args:
        total: How many items or bytes to expect. Directly after `read_file` it finds out by itself.
        name: A label to show before the bar.
        every: Seconds between two plain lines.
        file: Where to write; by default the `sys.stderr` at the start of the run. Without one it shows nothing.
        silent: Whether to show nothing.

    Raises:
        TypeError: `total` is not a number.
        ValueError: `total` is below 0, or `every` is not above 0.

    Example:
        >>> import io
        >>> output = io.StringIO()
        >>> run(pipeline(range(4), progress(4, name="numbers", file=output), count()))
        4
        >>> output.getvalue()
        'numbers: 4 of 4 items, 100 %\n'
    """
    if total is not None:
        check_limit("total", total, 0)
    check_positive("every", every)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        place = sys.stderr if file is None else file
        if silent or place is None:  # a program that was started without a standard error has none
            await forward(source, output)
            return
        done = 0
        with _display(name, every, place) as show:
            weigh: Callable[[Sequence[Any]], int] = len
            expected = total
            async for items in source._batches_for(output):
                if not done and isinstance(items[0], BYTES_LIKE):
                    weigh, show.is_bytes = _bytes_of, True
                    if expected is None:
                        expected = source._expected
                await output._send_batch(items)
                done += weigh(items)
                show.update(done, expected)
            show.end(done, expected)

    return task(run, "progress", *([] if total is None else [total]))


def _bytes_of(items: Sequence[Any]) -> int:
    return sum(map(size_of, items))


def _display(name: str, every: float, file: TextIO) -> AbstractContextManager[_Lines | _Bar]:
    if file.isatty():
        try:
            return _Bar(name, file)
        except ImportError:
            pass
    return nullcontext(_Lines(name, every, file))


class _Lines:
    """A plain line every few seconds, and one at the end."""

    def __init__(self, name: str, every: float, file: TextIO) -> None:
        self.is_bytes = False
        self._name, self._every, self._file = name, every, file
        self._next = trio.current_time() + every

    def update(self, done: int, total: float | None) -> None:
        if trio.current_time() >= self._next:
            self._next = trio.current_time() + self._every
            self.end(done, total)

    def end(self, done: int, total: float | None) -> None:
        shown = shown_bytes if self.is_bytes else "{:,}".format
        of = "" if total is None or total == math.inf else f" of {shown(total)}"
        unit = "" if self.is_bytes else " items"
        part = f", {done / total:.0%}".replace("%", " %") if of and total else ""
        print(f"{self._name}: {shown(done)}{of}{unit}{part}".removeprefix(": "), file=self._file, flush=True)


class _Bar:
    """A bar on a terminal, drawn by rich. We refresh it ourselves, so that rich starts no thread."""

    def __init__(self, name: str, file: TextIO) -> None:
        from rich import console
        from rich import progress as bars

        self.is_bytes = False
        self._name = name
        self._columns = (bars.DownloadColumn(), bars.MofNCompleteColumn())
        self._make: Callable[[Any], bars.Progress] = lambda amount: bars.Progress(
            bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), amount, bars.TimeRemainingColumn(),
            console=console.Console(file=file), auto_refresh=False,
        )  # fmt: skip
        self._progress: bars.Progress | None = None
        self._next = 0.0

    def __enter__(self) -> _Bar:
        return self

    def update(self, done: int, total: float | None, *, now: bool = False) -> None:
        if not now and trio.current_time() < self._next:
            return
        self._next = trio.current_time() + 0.1
        whole = None if total == math.inf else total
        if self._progress is None:
            self._progress = self._make(self._columns[0 if self.is_bytes else 1])
            self._progress.add_task(self._name, total=whole)
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=whole, refresh=True)

    def end(self, done: int, total: float | None) -> None:
        self.update(done, done if total is None else total, now=True)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
