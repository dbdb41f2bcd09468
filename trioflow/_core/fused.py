"""Synchronous operators, applied batch by batch. Neighbours share one task, so a batch costs one hop for all of them.

    source channel --receive_many--+                                               +--send_many--> output channel
                                   +--> batch --feed--> batch --feed--> batch -----+
    iterator -----------_pull------+            op 0      ^     op 1               +--feed-------> fold
                                                 |        |
                                      lazy result|        |its next piece
                                                 v        |
                                               `pending`, a stack

A batch is fed to one operator after another, until one returns nothing or the last has returned. An operator whose output
may be much larger than its input (`flat_map`, `gunzip`) returns a lazy iterable, of items or of lists. Each piece of it goes
all the way to the end before the next is taken, and the newest lazy result is emptied first. So items keep their order, and
there is never more than one batch between two operators. Only `_deliver` waits: in `_send_batch`, where a slow reader stops
all of this, or at a checkpoint. Before something is pulled from an iterator, `run` waits for room.

Rule 1: an operator does no I/O: `feed(items)` returns items, `flush()` returns the rest. Each run makes a new one.
Rule 2: a batch is as large as its reader has room for, up to 256 items, and smaller if items take long, as one batch
    should take less than `SLOW` seconds. With a fold in the same task it may have `LONE_BATCH` items, as no channel holds
    them. The task yields once it has worked for `TURN` seconds (R17).
Rule 3: `at` is always the part that is working, so that a failure can name its stage (R11).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from time import perf_counter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY, light_size, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.channel_end import TURN
from trioflow._core.errors import HangUp, note

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")

# Between an iterator and a fold, batches of 256 numbers take 14 % longer than these, and of 2,048 numbers 6 % less. But if
# items suddenly take long, a larger batch holds up other tasks for longer, and if they are containers, such as dicts, so
# many at once start the garbage collector.
LONE_BATCH: Final = 1024
SLOW: Final = 0.004  # seconds; a heartbeat beside a busy run may notice ten milliseconds


class Portions(Generic[T]):
    """A lazy result that comes in portions, each a list or lazy itself. A list goes on as it is, while the cache has it."""

    def __init__(self, portions: Iterable[Iterable[T]]) -> None:
        self.portions = iter(portions)

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.portions)


# Not abstract base classes: `isinstance` takes 30 ns with these and 250 ns with ABCs, and every part of a run is checked.
class Operator(Generic[T, U]):
    """Items in, items out, without waiting. Subclasses override `feed`, and `flush` if they hold items back."""

    done = False  # set it when no more items are needed: it is then not fed again, and not flushed
    at = 0  # if it takes the place of several: which of them is working

    def joined(self, after: Operator[Any, Any], *, is_counted: bool) -> Operator[T, Any] | None:
        """Return one operator for this and the one `after` it, or None. With `is_counted` the outputs of both must show."""
        return None

    def feed(self, items: list[T]) -> Iterable[U]:
        """Return the output for `items`: a list, or a lazy iterable if it may be much larger than the input."""
        raise NotImplementedError

    def flush(self) -> Iterable[U]:
        """Return the items that were held back. Called once, after the last item."""
        return ()


class Fold(Generic[T, R]):
    """Items in, one result out, without waiting."""

    done = False  # set it when no more items are needed

    def feed(self, items: list[T]) -> None:
        """Add `items` to the result."""
        raise NotImplementedError

    def result(self) -> R:
        """Return the result. Called once, after the last item."""
        raise NotImplementedError


Part: TypeAlias = "Iterator[Any] | Operator[Any, Any] | Fold[Any, Any]"


class Fused:
    """Adjacent synchronous parts as one stage function: an optional iterator, operators, and an optional fold."""

    def __init__(self, factory: Callable[[], Part], capacity: float) -> None:
        self.at = 0
        self.factories = [factory]
        self._most = int(min(capacity, DEFAULT_CAPACITY))
        self._size = 1  # how many items to take at once; doubled while batches are quick
        self._has_weights = True  # whether items of the last batch may weigh more than 1
        self._iterator: Iterator[Any] | None = None
        self._operators: list[Operator[Any, Any]] = []
        # Lazy results, piece by piece, each with the operator that returned it.
        self._pending: list[tuple[int, Iterator[Iterable[Any]]]] = []
        self._fold: Fold[Any, Any] | None = None
        self._source: ReceiveChannel[Any] | None = None
        self._first_open = 0  # the first operator to feed; those before it are no longer needed
        self._places = [0]  # the index among the parts of each operator, and of what comes after the last
        # Seconds of work between two turns for other tasks, where nothing is sent. With small channels, after each batch.
        self._rest = TURN if self._most == DEFAULT_CAPACITY else 0.0
        self._worked = 0.0  # seconds since the last turn; waiting does not count
        self._pulling = 0.0  # seconds that the iterator took for the current batch
        self.is_watched = False  # whether to count the items that each part returns
        self._counts: list[int] = []  # of the incoming items, then of those that each operator returned

    async def run(self, source: ReceiveChannel[Any] | None, output: SendChannel[Any] | None) -> Any:
        """Run as a stage between two channels. Without `source` there is an iterator, without `output` a fold."""
        self._source = source
        if output is None:
            self._worked = TURN  # nothing else here is sure to be a checkpoint
            if self._most == DEFAULT_CAPACITY:
                self._most = LONE_BATCH
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
                    if output is not None and not output.room():
                        await output._room_for_batch()  # then one batch is pulled, and not one item and then a batch
                    began = perf_counter()
                    items = self._pull(self._iterator, output)
                    self._pulling = perf_counter() - began
                    if not items:
                        break
                await self._deliver(-1, items, output)
            if self._has_enough:
                self._end_upstream()
            await self._flush(output)
        except BaseException as exc:
            self._close_all(exc)  # here, as a name for it after this block would make a reference cycle
            raise
        self._close_all(None)
        self.at = len(self.factories) - 1
        return None if self._fold is None else self._fold.result()

    def _make_parts(self) -> None:
        for index, factory in enumerate(self.factories):
            self.at = index
            part = factory()
            if isinstance(part, Fold):
                self._fold = part
            elif isinstance(part, Operator):
                last = self._operators[-1] if self._operators else part
                if last is not part and (both := last.joined(part, is_counted=self.is_watched)) is not None:
                    self._operators[-1] = both
                    self._places[-1] = index + 1
                    continue
                self._operators.append(part)
                self._places.append(index + 1)
                if part.done:
                    self._first_open = len(self._operators)
            else:
                self._iterator = part
                self._places = [1]
        if self.is_watched:
            self._counts = [0] * (len(self._operators) + 1)

    def item_count(self, part: int) -> int:
        """Return how many items the part at that index has returned (a fold: taken). They are counted only if watched."""
        return self._counts[bisect_right(self._places, part + 1) - 1] if self._counts else 0

    @property
    def _has_enough(self) -> bool:
        return self._first_open > 0 or (self._fold is not None and self._fold.done)

    def _end_upstream(self) -> None:
        self.at = 0
        close_iterator(self._iterator)
        if self._source is not None:
            self._source.close()

    def _close_all(self, raised: BaseException | None) -> None:
        """Close users' iterators, the newest first. If closing fails, raise that, or note it on the failure in `raised`."""
        if not self._pending and not hasattr(self._iterator, "close"):
            return
        at = self.at
        failure = None if isinstance(raised, (trio.Cancelled, HangUp)) else raised
        for i, iterator in reversed([(-1, self._iterator), *self._pending]):
            try:
                close_iterator(iterator)
            except BaseException as exc:  # noqa: BLE001 - raised or noted below
                if failure is None:
                    failure, at = exc, self._place(i)
                else:
                    note(failure, f"and then: {exc!r}")
        self.at = at
        if failure is not None and failure is not raised:
            raise failure from None

    def _pull(self, iterator: Iterator[Any], output: SendChannel[Any] | None) -> list[Any]:
        """Take a batch from the iterator: at most what the reader has room for, but at least one item (R5)."""
        self.at = 0
        room = self._most if output is None else max(1, int(min(output.room(), self._most)))
        if self._has_weights:
            items = _take_weighing(iterator, self._size, min(room, DEFAULT_CAPACITY))
        else:
            items = list(islice(iterator, min(self._size, room)))
        if output is None or self._operators:
            # Every seventh item, as to check each adds 7 % to the time of three operators. Items that are sent as they are
            # are all checked then.
            self._has_weights = light_size(items[::7]) is None
        return items

    async def _flush(self, output: SendChannel[Any] | None) -> None:
        """Flush the operators that are still needed, each through those after it."""
        i = self._first_open
        while i < len(self._operators) and not (self._fold is not None and self._fold.done):
            self.at = self._place(i)
            if given := self._operators[i].flush():
                await self._deliver(i, given, output)
            i = max(i + 1, self._first_open)

    async def _deliver(self, i: int, given: Iterable[Any], output: SendChannel[Any] | None) -> None:
        """Deliver what operator `i` returned, and adapt the size of the next batch to the time that each takes."""
        fold = self._fold
        batches = self._batches(i, given)
        spent = 0.0
        while True:
            began = perf_counter()
            items = next(batches, None)
            if items is None:
                return
            if fold is not None and items:
                self.at = len(self.factories) - 1
                fold.feed(items)
            took = perf_counter() - began + self._pulling
            # The end of a lazy result takes no time, but says nothing about the next batch: what was before it counts.
            spent, longest = took, took if items else max(took, spent)
            self._worked += took
            self._pulling = 0.0
            if took > SLOW:
                self._size = max(self._size // 4, 1)
            elif longest < SLOW / 4 and self._size < self._most:
                self._size = min(self._size * 2, self._most)
            if self._has_enough:
                self._end_upstream()  # now (R9), and not only when a slow reader has taken the rest
            if output is not None and items:
                is_light = await output._send_batch(items)
                if not self._operators:
                    self._has_weights = not is_light
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
            # What was sent may be few of many items, or have taken long, so the channel alone would yield too seldom.
            if self._worked >= (TURN if output is not None and items else self._rest):
                await trio.lowlevel.checkpoint()
                self._worked = 0.0
            if fold is not None and fold.done:
                return

    def _batches(self, i: int, given: Iterable[Any]) -> Iterator[list[Any]]:
        """Yield what the last operator makes of what operator `i` returned (-1: the source), batch by batch.

        If the operators drop a whole batch, yield an empty one, so that other tasks get to run (R17).
        """
        pending = self._pending
        while True:
            is_dropped = True
            while given:
                if not isinstance(given, list) or len(given) > self._most:
                    pending.append((i, given.portions if isinstance(given, Portions) else self._pieces(iter(given))))
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
                self.at = self._places[i]
                try:
                    given = operator.feed(given)
                except BaseException:
                    self.at += operator.at
                    raise
                self._note_done(i)
            if is_dropped:
                yield []
            if not pending:
                return
            i, given = self._next_piece()

    def _next_piece(self) -> tuple[int, Iterable[Any]]:
        """Return the next piece of the newest lazy result, or an empty one if that has ended."""
        i, pieces = self._pending[-1]
        if self._first_open <= i + 1:  # otherwise an operator after this one needs no more items
            self.at = self._place(i)
            piece = next(filter(None, pieces), None)  # a portion may be empty
            if i >= 0:
                self._note_done(i)
            if piece is not None:
                return i, piece
        self.at = self._place(i)
        self._pending.pop()
        close_iterator(pieces)
        return i, ()

    def _pieces(self, iterator: Iterator[Any]) -> Iterator[list[Any]]:
        """Yield the items of `iterator` in lists as large as a batch, and close it at the end."""
        try:
            for first in iterator:
                if isinstance(first, (bytes, bytearray, memoryview)):
                    yield [first, *_take_weighing(iterator, self._size - 1, self._most - weight_of(first))]
                else:
                    yield [first, *islice(iterator, self._size - 1)]
        finally:
            close_iterator(iterator)

    def _place(self, i: int) -> int:
        return 0 if i < 0 else self._places[i]  # -1 is the source

    def _note_done(self, i: int) -> None:
        if self._operators[i].done:
            self._first_open = max(self._first_open, i + 1)


def close_iterator(iterator: Iterator[Any] | None) -> None:
    """Close a generator, or anything with `close`, so that its `finally` blocks run now and not when it is collected."""
    close: Callable[[], None] | None = getattr(iterator, "close", None)
    if close is not None:
        close()


def _take_weighing(iterator: Iterator[Any], most: int, room: float) -> list[Any]:
    """Return at most `most` items, and stop when they weigh `room` together."""
    items: list[Any] = []
    if room > 0:
        for item in islice(iterator, most):
            items.append(item)
            room -= weight_of(item)
            if room <= 0:
                break
    return items
