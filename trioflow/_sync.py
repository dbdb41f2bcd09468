"""Synchronous operators, applied batch by batch, neighbours in one task.

Rule 1: an operator is sans-I/O: `feed(items)` gives items, `flush()` gives the rest; a fresh one is made for each run.
Rule 2: what may give much for little (`flat_map`, `gunzip`) gives a lazy iterable, which is taken piece by piece.
Rule 3: a batch is as large as its reader has room for, 256 items at most, and smaller where an item takes long:
    one batch should take less than `SLOW` seconds between two yields (R17).
Rule 4: `at` always says which part is at work, so that a failure can name its stage (R11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import perf_counter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import trio

from trioflow._buffer import DEFAULT_CAPACITY, are_light, weight_of
from trioflow._channel import ReceiveChannel, SendChannel

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")

SLOW: Final = 0.004  # seconds; ten milliseconds is what a heartbeat beside a busy run may notice


class Operator(Generic[T, U]):
    """Items in, items out, without waiting. Subclasses override `feed` and, where something is held back, `flush`."""

    done = False  # set where it has enough: it is fed no more, and not flushed

    def feed(self, items: list[T]) -> Iterable[U]:
        """Give what `items` give: a list, or a lazy iterable where that may be much more than came in."""
        raise NotImplementedError

    def flush(self) -> Iterable[U]:
        """Give what was held back, once, after the last item."""
        return ()


class Fold(Generic[T, R]):
    """Items in, one result out, without waiting."""

    done = False  # set where it has enough

    def feed(self, items: list[T]) -> None:
        """Take `items` in."""
        raise NotImplementedError

    def result(self) -> R:
        """Give the result, once, after the last item."""
        raise NotImplementedError


Start: TypeAlias = Callable[[], Iterator[Any]]
Part: TypeAlias = "Iterator[Any] | Operator[Any, Any] | Fold[Any, Any]"


class Fused:
    """Adjacent synchronous parts as one stage function: perhaps an iterator first, operators, perhaps a fold last."""

    def __init__(self, factories: Sequence[Callable[[], Part]], capacity: float) -> None:
        self.at = 0
        self._factories = factories
        self._most = int(min(capacity, DEFAULT_CAPACITY))
        self._size = 1  # how many items to take at once: doubled while that is quick
        self._heavy = True  # whether bytes-like items were seen in the last batch
        self._operators: list[Operator[Any, Any]] = []
        self._first = 0  # the first operator that still wants items

    async def run(self, source: ReceiveChannel[Any] | None, output: SendChannel[Any] | None) -> Any:
        """Run as a stage between two channels; without `source` or `output` there is an iterator or a fold instead."""
        iterator: Iterator[Any] | None = None
        fold: Fold[Any, Any] | None = None
        for index, factory in enumerate(self._factories):
            self.at = index
            part = factory()
            if isinstance(part, Fold):
                fold = part
            elif isinstance(part, Operator):
                self._operators.append(part)
                if part.done:
                    self._first = len(self._operators)
            else:
                iterator = part
        first = 0 if iterator is None else 1
        last = len(self._factories) - 1
        try:
            while not (self._finished or (fold is not None and fold.done)):
                if iterator is not None:
                    self.at = 0
                    items = self._pull(iterator, output)
                    if not items:
                        break
                    await trio.lowlevel.checkpoint_if_cancelled()
                else:
                    assert source is not None
                    try:
                        items = await source.receive_many(self._size if self._size < self._most else None)
                    except trio.EndOfChannel:
                        break
                await self._pass_on(self._outputs(items, 0, first), fold, output, last)
            if self._first or (fold is not None and fold.done):
                # Whoever had enough ends what is upstream at once (R9), before slow readers have taken the rest.
                self._hang_up(iterator, source)
            if fold is None or not fold.done:
                await self._pass_on(self._endings(first), fold, output, last)
        finally:
            self._hang_up(iterator, None)
        self.at = last
        return None if fold is None else fold.result()

    @property
    def _finished(self) -> bool:
        return self._first > 0

    def _hang_up(self, iterator: Iterator[Any] | None, source: ReceiveChannel[Any] | None) -> None:
        if source is not None:
            source.close()
        if (close := getattr(iterator, "close", None)) is not None:
            close()

    async def _pass_on(
        self, outputs: Iterator[list[Any]], fold: Fold[Any, Any] | None, output: SendChannel[Any] | None, last: int
    ) -> None:
        """Hand batches on, and learn from the time they took how large the next one may be."""
        spent = 0.0
        while True:
            began = perf_counter()
            items = next(outputs, None)
            if items is not None and fold is not None:
                self.at = last
                fold.feed(items)
            spent += perf_counter() - began
            if items is None:
                break
            if output is not None:
                await output.send_many(items)
            else:
                await trio.lowlevel.checkpoint()
                if fold is not None and fold.done:
                    return
        if spent > SLOW:
            self._size = max(self._size // 4, 1)
        elif spent < SLOW / 4 and self._size < self._most:
            self._size = min(self._size * 2, self._most)

    def _pull(self, iterator: Iterator[Any], output: SendChannel[Any] | None) -> list[Any]:
        """Take from the iterator what may be held: never more than the reader has room for, but one (R5)."""
        room = self._most if output is None else max(1, int(min(output.room(), self._most)))
        if not self._heavy:
            items = list(islice(iterator, min(self._size, room)))
            self._heavy = not are_light(items)
            return items
        items, weight = [], 0
        for item in islice(iterator, self._size):
            items.append(item)
            weight += weight_of(item)
            if weight >= room:
                break
        self._heavy = weight > len(items) or not are_light(items)
        return items

    def _outputs(self, items: list[Any], start: int, offset: int) -> Iterator[list[Any]]:
        """Give what `items` become behind the operators from `start` on, as batches."""
        for i in range(start, len(self._operators)):
            operator = self._operators[i]
            self.at = i + offset
            given = operator.feed(items)
            if operator.done:
                self._first = max(self._first, i + 1)
            if not isinstance(given, list):
                yield from self._in_pieces(given, i, offset)
                return
            if not given:
                return
            items = given
        yield items

    def _in_pieces(self, given: Iterable[Any], i: int, offset: int) -> Iterator[list[Any]]:
        iterator = iter(given)
        while True:
            self.at = i + offset
            piece = list(islice(iterator, self._most))
            if self._operators[i].done:
                self._first = max(self._first, i + 1)
            if not piece:
                return
            yield from self._outputs(piece, i + 1, offset)
            if self._first > i + 1:
                return  # an operator behind this one has enough

    def _endings(self, offset: int) -> Iterator[list[Any]]:
        """Flush the operators that still want items, each through those behind it."""
        i = self._first
        while i < len(self._operators):
            self.at = i + offset
            yield from self._in_pieces(self._operators[i].flush(), i, offset)
            i = max(i + 1, self._first)
