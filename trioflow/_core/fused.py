"""Synchronous operators, applied batch by batch: neighbours share one task, so that a batch costs one hop for all of them.

    source channel --receive_many--+                                               +--send_many--> output channel
                                   +--> batch --feed--> batch --feed--> batch -----+
    iterator -----------_pull------+            op 0      ^     op 1               +--feed-------> fold
                                                 |        |
                                      lazy result|        |its next piece
                                                 v        |
                                               `pending`, a stack

A batch is fed to one operator after another until one returns nothing, or the last has returned. An operator that may
make much of little (`flat_map`, `gunzip`) returns a lazy iterable. One piece of it goes all the way to the end before the
next is taken, and the newest is emptied first: so items keep their order, and between two operators there is never more
than one batch. Only `_deliver` waits: in `send_many`, which is where a slow reader stops all of this, or at a checkpoint.

Rule 1: an operator is sans-I/O: `feed(items)` returns items, `flush()` returns the rest; each run makes a fresh one.
Rule 2: a batch is as large as its reader has room for, 256 items at most, and smaller where an item takes long:
    one batch should take less than `SLOW` seconds between two yields (R17). Where a fold takes it in the same task it may
    have `LONE_BATCH` items, as no channel holds them.
Rule 3: `at` is always the part at work, so that a failure can name its stage (R11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import perf_counter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY, light_size, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.errors import HangUp, note

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")

# Between an iterator and a fold, the scheduler's passes cost 0.15 of all with batches of 256, 0.04 with this. Beyond it
# little is gained, and one batch whose items suddenly take long holds up other tasks for longer.
LONE_BATCH: Final = 1024
SLOW: Final = 0.004  # seconds; ten milliseconds is what a heartbeat beside a busy run may notice


# No abstract base classes: `isinstance` takes 30 ns of these, 250 ns of those, and each part of a run is looked at.
class Operator(Generic[T, U]):
    """Items in, items out, without waiting. Subclasses override `feed` and, where something is held back, `flush`."""

    done = False  # set where it has enough: it is fed no more, and not flushed

    def feed(self, items: list[T]) -> Iterable[U]:
        """Return what becomes of `items`: a list, or a lazy iterable where that may be much more than came in."""
        raise NotImplementedError

    def flush(self) -> Iterable[U]:
        """Return what was held back. Called once, after the last item."""
        return ()


class Fold(Generic[T, R]):
    """Items in, one result out, without waiting."""

    done = False  # set where it has enough

    def feed(self, items: list[T]) -> None:
        """Take `items` in."""
        raise NotImplementedError

    def result(self) -> R:
        """Return the result. Called once, after the last item."""
        raise NotImplementedError


Part: TypeAlias = "Iterator[Any] | Operator[Any, Any] | Fold[Any, Any]"


class Fused:
    """Adjacent synchronous parts as one stage function: perhaps an iterator first, operators, perhaps a fold last."""

    def __init__(self, factories: Sequence[Callable[[], Part]], capacity: float) -> None:
        self.at = 0
        self._factories = factories
        self._most = int(min(capacity, DEFAULT_CAPACITY))
        self._size = 1  # how many items to take at once: doubled while that is quick
        self._has_weights = True  # whether items of the last batch may weigh more than 1
        self._iterator: Iterator[Any] | None = None
        self._operators: list[Operator[Any, Any]] = []
        self._pending: list[tuple[int, Iterator[Any]]] = []  # lazy results, each with the operator that returned it
        self._fold: Fold[Any, Any] | None = None
        self._source: ReceiveChannel[Any] | None = None
        self._first_open = 0  # the first operator that still wants items: those before it have enough
        self._offset = 0  # the place of the first operator among the parts
        self._pulling = 0.0  # seconds that the iterator took for the batch in hand
        self.is_watched = False  # whether to count what each part returns
        self._counts: list[int] = []  # of the items that came in, then of those that each operator returned

    async def run(self, source: ReceiveChannel[Any] | None, output: SendChannel[Any] | None) -> Any:
        """Run as a stage between two channels; without `source` or `output` there is an iterator or a fold instead."""
        self._source = source
        if output is None and self._most == DEFAULT_CAPACITY:
            self._most = LONE_BATCH
        raised: BaseException | None = None
        try:
            self._make_parts()
            while not self._has_enough:
                if self._iterator is None:
                    assert source is not None
                    try:
                        items = await source._receive_for(output, self._size)
                    except trio.EndOfChannel:
                        break
                else:
                    began = perf_counter()
                    items = self._pull(self._iterator, output)
                    self._pulling = perf_counter() - began
                    if not items:
                        break
                    await trio.lowlevel.checkpoint_if_cancelled()
                await self._deliver(-1, items, output)
            if self._has_enough:
                self._end_upstream()
            await self._flush(output)
        except BaseException as exc:
            raised = exc
            raise
        finally:
            self._close_all(raised)
        self.at = len(self._factories) - 1
        return None if self._fold is None else self._fold.result()

    def _make_parts(self) -> None:
        for index, factory in enumerate(self._factories):
            self.at = index
            part = factory()
            if isinstance(part, Fold):
                self._fold = part
            elif isinstance(part, Operator):
                self._operators.append(part)
                if part.done:
                    self._first_open = len(self._operators)
            else:
                self._iterator = part
                self._offset = 1
        if self.is_watched:
            self._counts = [0] * (len(self._operators) + 1)

    def item_count(self, part: int) -> int:
        """Return how many items the part at that place has returned, or taken where it is the last; counted if watched."""
        return self._counts[min(part + 1 - self._offset, len(self._operators))] if self._counts else 0

    @property
    def _has_enough(self) -> bool:
        return self._first_open > 0 or (self._fold is not None and self._fold.done)

    def _end_upstream(self) -> None:
        self.at = 0
        close_iterator(self._iterator)
        if self._source is not None:
            self._source.close()

    def _close_all(self, raised: BaseException | None) -> None:
        """Close what users' functions have made, the newest first. What fails then is raised, or noted on a failure."""
        if not self._pending and not hasattr(self._iterator, "close"):
            return
        at = self.at
        failure = None if isinstance(raised, (trio.Cancelled, HangUp)) else raised
        for i, iterator in reversed([(-self._offset, self._iterator), *self._pending]):
            try:
                close_iterator(iterator)
            except BaseException as exc:  # noqa: BLE001 - it is raised or noted below
                if failure is None:
                    failure, at = exc, i + self._offset
                else:
                    note(failure, f"and then: {exc!r}")
        self.at = at
        if failure is not None and failure is not raised:
            raise failure from None

    def _pull(self, iterator: Iterator[Any], output: SendChannel[Any] | None) -> list[Any]:
        """Take a batch from the iterator: no more than the reader has room for, but at least one item (R5)."""
        self.at = 0
        room = self._most if output is None else max(1, int(min(output.room(), self._most)))
        if self._has_weights:
            items = _take_weighing(iterator, self._size, min(room, DEFAULT_CAPACITY))
        else:
            items = list(islice(iterator, min(self._size, room)))
        # Without a channel, a look at every seventh item will do: a look at each is 0.07 of what three operators take.
        self._has_weights = light_size(items if output is not None else items[::7]) is None
        return items

    async def _flush(self, output: SendChannel[Any] | None) -> None:
        """Flush the operators that still want items, each through those after it."""
        i = self._first_open
        while i < len(self._operators) and not (self._fold is not None and self._fold.done):
            self.at = i + self._offset
            if given := self._operators[i].flush():
                await self._deliver(i, given, output)
            i = max(i + 1, self._first_open)

    async def _deliver(self, i: int, given: Iterable[Any], output: SendChannel[Any] | None) -> None:
        """Deliver what operator `i` returned, and learn from the time a batch takes how large the next one may be."""
        fold = self._fold
        batches = self._batches(i, given)
        while True:
            began = perf_counter()
            items = next(batches, None)
            if items is None:
                return
            if fold is not None and items:
                self.at = len(self._factories) - 1
                fold.feed(items)
            spent = perf_counter() - began + self._pulling
            self._pulling = 0.0
            if spent > SLOW:
                self._size = max(self._size // 4, 1)
            elif spent < SLOW / 4 and self._size < self._most:
                self._size = min(self._size * 2, self._most)
            if self._has_enough:
                self._end_upstream()  # at once (R9), not after a slow reader has taken the rest
            if output is not None and items:
                await output._send_batch(items)
            else:
                await trio.lowlevel.checkpoint()
                if fold is not None and fold.done:
                    return

    def _batches(self, i: int, given: Iterable[Any]) -> Iterator[list[Any]]:
        """Yield what operator `i` returned (-1: the source) as it comes out of the last operator, batch by batch.

        Where operators drop all of a batch it yields an empty one: other tasks must run all the same (R17).
        """
        pending = self._pending
        while True:
            is_dropped = True
            while given:
                if not isinstance(given, list) or len(given) > self._most:
                    pending.append((i, iter(given)))
                    is_dropped = False
                    break
                i += 1
                if self._counts:
                    self._counts[i] += len(given)
                if i == len(self._operators):
                    yield given
                    is_dropped = False
                    break
                operator = self._operators[i]
                self.at = i + self._offset
                given = operator.feed(given)
                self._note_done(i)
            if is_dropped:
                yield []
            if not pending:
                return
            i, given = self._next_piece()

    def _next_piece(self) -> tuple[int, list[Any]]:
        """Take the next piece of the newest lazy result; an empty one when that has ended."""
        i, iterator = self._pending[-1]
        piece: list[Any] = []
        if self._first_open <= i + 1:  # else an operator after this one has enough
            self.at = i + self._offset
            piece = list(islice(iterator, 1))
            if piece and isinstance(piece[0], (bytes, bytearray, memoryview)):
                piece += _take_weighing(iterator, self._size - 1, self._most - weight_of(piece[0]))
            elif piece:
                piece += islice(iterator, self._size - 1)
            if i >= 0:
                self._note_done(i)
        if not piece:
            self.at = i + self._offset
            self._pending.pop()
            close_iterator(iterator)
        return i, piece

    def _note_done(self, i: int) -> None:
        if self._operators[i].done:
            self._first_open = max(self._first_open, i + 1)


def close_iterator(iterator: Iterator[Any] | None) -> None:
    """Close a generator, or what else can be closed, so that its `finally` blocks run now and not when it is collected."""
    close: Callable[[], None] | None = getattr(iterator, "close", None)
    if close is not None:
        close()


def _take_weighing(iterator: Iterator[Any], most: int, room: float) -> list[Any]:
    """Take `most` items, or as many as weigh `room` together."""
    items: list[Any] = []
    if room > 0:
        for item in islice(iterator, most):
            items.append(item)
            room -= weight_of(item)
            if room <= 0:
                break
    return items
