"""From end to end: what becomes of an entry is followed through a chain, and it is acknowledged when all of it is stored.

Rule 1: an item travels with the receipt of the entry that it comes of. A transform that treats each item by itself is
    made anew around a function that passes the receipt on; one that gives items on untouched, in lists perhaps, is
    followed too. Any other could hold, mix or drop them unseen: it is refused when it is piped.
Rule 2: what a function gives nothing for is done when the function has returned.
Rule 3: a function that fails gives its failure, and a stage behind raises it, or gives the entry back and goes on.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import is_async
from trioflow._core.engine import Stage
from trioflow._core.fused import Operator
from trioflow._core.streams import Duplex, Readable, Transform, Writable, wanted


class Receipt:
    """What is still to be stored of one entry, or of several gathered; then `done` is called, or `failed` instead."""

    __slots__ = ("_done", "_failed", "is_lost", "left")

    def __init__(
        self,
        done: Callable[[], object],
        failed: Callable[[], object],
        is_lost: Callable[[], Awaitable[bool]],
    ) -> None:
        self._done = done
        self._failed = failed
        self.is_lost = is_lost  # tells whether others have the entry by now
        self.left = 1

    def settle(self) -> None:
        """Note that one item of it is stored."""
        self.left -= 1
        if self.left == 0:
            self._done()

    def fail(self) -> None:
        """Note that it cannot be stored; harmless when repeated, and final."""
        self.left = -1
        self._failed()


class Carried:
    """An item and its receipt; of a function that gives many, all of them, to be iterated over."""

    __slots__ = ("failure", "receipt", "value")

    def __init__(self, value: Any, receipt: Receipt, failure: Exception | None = None) -> None:
        self.value = value
        self.receipt = receipt
        self.failure = failure

    def __iter__(self) -> Iterator[Carried]:
        if self.failure is not None:
            yield self
            return
        values = list(self.value)
        self.receipt.left += len(values) - 1
        if not self.receipt.left:
            self.receipt.left = 1
            self.receipt.settle()
        for value in values:
            yield Carried(value, self.receipt)


def carrying(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make of a function of items one of carried items."""
    if is_async(fn):

        async def call_and_wait(carried: Carried) -> Carried:
            try:
                return Carried(await fn(carried.value), carried.receipt)
            except Exception as exc:  # noqa: BLE001 - raised by the stage behind
                return Carried(None, carried.receipt, exc)

        return call_and_wait

    def call(carried: Carried) -> Any:
        try:
            given = fn(carried.value)
        except Exception as exc:  # noqa: BLE001 - raised by the stage behind
            return Carried(None, carried.receipt, exc)
        # A coroutine is for the transform to refuse.
        return given if inspect.iscoroutine(given) else Carried(given, carried.receipt)

    return call


class _Judging(Operator[Any, Any]):
    """Raises what a function has raised, or gives the entry back and leaves it out."""

    def __init__(self, goes_on: bool) -> None:  # noqa: FBT001 - called by the line below the class
        self._goes_on = goes_on

    def feed(self, items: list[Carried]) -> Iterator[Carried]:
        for item in items:
            if item.failure is None:
                yield item
                continue
            item.receipt.fail()
            if not self._goes_on:
                raise item.failure


class _Gathered(Operator[Any, Any]):
    """Makes of a list of carried items a carried list."""

    def feed(self, items: list[Any]) -> list[Any]:
        return [_gathered(item) if isinstance(item, (list, tuple)) else item for item in items]


def _gathered(items: Sequence[Carried]) -> Carried:
    receipts = [item.receipt for item in items]

    def done() -> None:
        for receipt in receipts:
            receipt.settle()

    def failed() -> None:
        for receipt in receipts:
            receipt.fail()

    async def is_lost() -> bool:
        return all([await receipt.is_lost() for receipt in receipts])

    return Carried([item.value for item in items], Receipt(done, failed, is_lost))


class CarryingReadable(Readable[Any]):
    """A `Readable` of a Redis stream whose entries are acknowledged where the chain says that they are done."""

    __slots__ = ("_carried", "_goes_on")

    _carried: tuple[Stage, ...]
    _goes_on: bool

    @classmethod
    def carried(cls, *stages: Stage, goes_on: bool) -> CarryingReadable:
        """Make one of stages whose items are carried."""

        async def refuse(output: SendChannel[Any]) -> None:
            raise _endless(self)

        self = cls.of(Stage(lambda: " | ".join(stage.label() for stage in stages), function=refuse))
        assert isinstance(self, CarryingReadable)
        self._carried = stages
        self._goes_on = goes_on
        return self

    def through(self, stage: Any, what: str) -> Readable[Any]:
        """Go on through a transform that can be followed, or become a plain `Readable` behind `acknowledge()`."""
        if isinstance(stage, Acknowledge):
            return Readable[Any].of(*self._carried, *stage._stages)
        if isinstance(stage, Duplex) or (isinstance(stage, Transform) and not (stage.around or stage.is_moving)):
            raise TypeError(
                f"an entry of Redis cannot be followed through {stage!r}, so as to be acknowledged when all that comes of "
                "it is stored: it may hold, mix or drop items unseen. map, filter, flat_map, tap, map_async and "
                "map_in_threads can be followed, and batch(size, within=seconds), throttle and delay. Or say with "
                "redis.acknowledge() before it where entries are done"
            )
        if not isinstance(stage, Transform):
            raise wanted(what, stage)
        if stage.around is None:
            return self._and(*stage._stages, Stage(stage._stages[-1].label, factory=_Gathered))
        name = stage._stages[-1].label
        judging = Stage(name, factory=lambda: _Judging(self._goes_on))
        return self._and(*(made._replace(label=name) for made in stage.around(carrying)._stages), judging)

    def meeting(self, tail: Writable[Any, Any]) -> tuple[Readable[Any], Writable[Any, Any]]:
        """Give the source and the sink to run: this one's items are carried, and so a sink must know of receipts."""
        if not isinstance(tail, StoringWritable):
            raise _endless(self)
        return Readable[Any].of(*self._carried), Writable[Any, Any].of(tail.storing)

    def _and(self, *stages: Stage) -> CarryingReadable:
        return CarryingReadable.carried(*self._carried, *stages, goes_on=self._goes_on)


class StoringWritable(Writable[Any, int]):
    """A `Writable` that can also store carried items, and settle their receipts then."""

    __slots__ = ("storing",)

    storing: Stage


class Acknowledge(Transform[Any, Any]):
    """The place in a chain where entries are done."""

    __slots__ = ()


async def acknowledge_each(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
    """Take items from their receipts, which are settled when the items were sent on."""
    async for items in source.batches():
        if not all(type(item) is Carried for item in items):
            raise TypeError("acknowledge() stands behind redis.readable(), and behind what can be followed from there")
        await output.send_many([item.value for item in items])
        for item in items:
            item.receipt.settle()


def _endless(readable: Readable[Any]) -> TypeError:
    return TypeError(
        f"where are entries of {readable!r} done? Pipe it into redis.writable(), which stores what comes of them, or "
        "through redis.acknowledge(): behind that, what a failure loses is lost"
    )
