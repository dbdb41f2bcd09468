"""Follows each entry through a chain, and acknowledges it when everything made of it is stored.

Rule 1: an item travels with the receipt of the entry that it is made of. A transform that treats each item by itself is
    rebuilt around a function that passes the receipt on; one that passes items on unchanged, also in lists, is followed
    too. Any other could hold, mix or drop items unseen, so it is refused when it is piped.
Rule 2: if a function returns nothing for an item, the entry is done when the function returns.
Rule 3: if a function fails, a stage after it raises its exception, or gives the entry back and continues.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import is_async
from trioflow._core.engine import Stage
from trioflow._core.fused import Operator


class Receipt:
    """Counts what is still to be stored of one entry, or of several; then calls `done`, or `failed` instead."""

    __slots__ = ("_done", "_failed", "is_lost", "left")

    def __init__(
        self,
        done: Callable[[], object],
        failed: Callable[[Exception, bool], object],
        is_lost: Callable[[], Awaitable[bool]],
    ) -> None:
        self._done = done
        self._failed = failed
        self.is_lost = is_lost  # asks whether another receiver has the entry by now
        self.left = 1

    def settle(self) -> None:
        """Note that one item of it is stored."""
        self.left -= 1
        if self.left == 0:
            self._done()

    def fail(self, error: Exception, *, together: bool = False) -> None:
        """Note that it cannot be stored, perhaps because of other items in the same call.

        Harmless when repeated, and final.
        """
        self.left = -1
        self._failed(error, together)


@dataclass(slots=True, eq=False)
class Carried:
    """An item and its receipt. If a function returned many items, iterate over it for all of them."""

    value: Any
    receipt: Receipt
    failure: Exception | None = None

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
    """Return a function of carried items for a function of items."""
    if is_async(fn):

        async def call_and_wait(carried: Carried) -> Carried:
            try:
                return Carried(await fn(carried.value), carried.receipt)
            except Exception as exc:  # noqa: BLE001 - the stage after it raises it
                return Carried(None, carried.receipt, exc)

        return call_and_wait

    def call(carried: Carried) -> Any:
        try:
            given = fn(carried.value)
        except Exception as exc:  # noqa: BLE001 - the stage after it raises it
            return Carried(None, carried.receipt, exc)
        # The transform refuses a coroutine.
        return given if inspect.iscoroutine(given) else Carried(given, carried.receipt)

    return call


class _Judging(Operator[Any, Any]):
    """Raises the exception of a function, or gives the entry back and skips it."""

    def __init__(self, goes_on: bool) -> None:  # noqa: FBT001 - called by the line below the class
        self._goes_on = goes_on

    def feed(self, items: list[Carried]) -> Iterator[Carried]:
        for item in items:
            if item.failure is None:
                yield item
                continue
            item.receipt.fail(item.failure)
            if not self._goes_on:
                raise item.failure


class _Gathered(Operator[Any, Any]):
    """Turns a list of carried items into a carried list."""

    def feed(self, items: list[Any]) -> list[Any]:
        return [_gathered(item) if isinstance(item, (list, tuple)) else item for item in items]


def _gathered(items: Sequence[Carried]) -> Carried:
    receipts = [item.receipt for item in items]

    def done() -> None:
        for receipt in receipts:
            receipt.settle()

    def failed(error: Exception, together: bool) -> None:  # noqa: FBT001 - as in Receipt
        for receipt in receipts:
            receipt.fail(error, together=together or len(receipts) > 1)

    async def is_lost() -> bool:
        return all([await receipt.is_lost() for receipt in receipts])

    return Carried([item.value for item in items], Receipt(done, failed, is_lost))


def followed(stages: Sequence[Stage], is_complete: bool, *, goes_on: bool) -> list[Stage]:  # noqa: FBT001 - a Stage's `follow`
    """Return the stages to run for a chain that begins with `redis.readable`: its items carry their receipts.

    Raises:
        TypeError: an item cannot be followed through a stage, or the chain is complete and has no place where entries
            are acknowledged.
    """
    source, *rest = stages
    made = [source]
    for number, stage in enumerate(rest, 1):
        if stage.function is acknowledge_each:
            return [*made, *rest[number - 1 :]]
        if isinstance(stage.function, Storing):
            return [*made, stage._replace(function=stage.function.carried)]
        if stage.rewrapped is not None:
            judging = Stage(stage.label, factory=lambda: _Judging(goes_on))
            made += [stage.rewrapped(carrying)._replace(label=stage.label), judging]
        elif stage.passes_on:
            made += [stage, Stage(stage.label, factory=_Gathered)]
        elif is_complete and number == len(rest):
            break
        else:
            raise TypeError(
                f"an entry of Redis cannot be followed through {stage.label()}, which may hold, mix or drop items; "
                "put redis.acknowledge() before it. Entries are acknowledged when everything made of them is stored, "
                "and can be followed through map, filter, flat_map, tap, map_async, map_in_threads, "
                "batch(size, within=seconds), throttle and delay"
            )
    if is_complete:
        raise TypeError(
            f"nothing acknowledges the entries of {source.label()}; pipe it into redis.writable(), which acknowledges "
            "what it has stored, or through redis.acknowledge(), after which a failure loses them"
        )
    return made


@dataclass(frozen=True)
class Storing:
    """The function of a sink that stores items, and of one that stores carried items and settles their receipts."""

    plain: Callable[[ReceiveChannel[Any]], Awaitable[int]]
    carried: Callable[[ReceiveChannel[Carried]], Awaitable[int]]

    def __call__(self, source: ReceiveChannel[Any]) -> Awaitable[int]:
        """Store items that have no receipt."""
        return self.plain(source)


async def acknowledge_each(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
    """Take items from their receipts, and settle those when the items are sent on."""
    async for items in source._batches_for(output):
        if not all(type(item) is Carried for item in items):
            raise TypeError(
                "acknowledge() must come after redis.readable(), with only stages between them that an entry can be "
                "followed through"
            )
        await output.send_many([item.value for item in items])
        for item in items:
            item.receipt.settle()
