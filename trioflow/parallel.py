"""Many calls at once: a fixed crew of workers, never a task for each item.

Rule 1: what has been taken from the source and not yet sent on is in a worker's hands: nothing else is held.
Rule 2: in order means exact: a worker whose result is not next keeps it, and takes nothing more, until it was sent.
Rule 3: whoever has the next result sends all that follow it without a gap, in one batch.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, TypeVar

import trio
from trio.lowlevel import ParkingLot

from trioflow._buffer import DEFAULT_CAPACITY
from trioflow._channel import ReceiveChannel, SendChannel
from trioflow._checks import check_count, check_function, is_async
from trioflow._crew import open_crew
from trioflow._names import name_of
from trioflow._operators import differing, each, task
from trioflow._streams import Transform

T = TypeVar("T")
U = TypeVar("U")

TRIP: Final = 0.002  # seconds of work that a trip to a thread should carry; the trip itself takes a tenth of that

Work = Callable[[list[Any]], Awaitable[list[Any]]]


def map_async(fn: Callable[[T], Awaitable[U]], *, concurrency: int = 8, ordered: bool = True) -> Transform[T, U]:
    """Give `await fn(item)` for each item, with up to `concurrency` calls at once.

    Emits when: a call has returned and, where `ordered`, those for all items before it have.
    Waits when: `concurrency` items are being worked on or have results that wait for their turn or for the reader.
    Ends when: the source has ended and all results were given.
    On cancel: the calls in progress are cancelled, their items lost; so it is when one fails.
    Holds: `concurrency` items or results.

    Args:
        fn: A coroutine function, or a plain one that returns an awaitable.
        concurrency: How many calls there may be at once.
        ordered: Give results in the order of the items; False gives them as they come.

    Raises:
        TypeError: `fn` cannot be called or does not return an awaitable, or `concurrency` is not an int.
        ValueError: `concurrency` is below 1.

    Example:
        >>> async def square(n: int) -> int:
        ...     await trio.sleep(0.01 / n)
        ...     return n * n
        >>> run(from_iterable([1, 2, 3]).pipe(map_async(square, concurrency=2)).pipe(collect()))
        [1, 4, 9]
    """
    check_function("map_async", fn)
    check_count("concurrency", concurrency, 1)

    async def one(item: Any) -> Any:
        return (await call([item]))[0]

    async def call(items: list[Any]) -> list[Any]:
        awaitable = fn(items[0])
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"map_async wants a function to await, but {name_of(fn)} gave {awaitable!r}: use map")
        return [await awaitable]

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        await _Workers(source, output, ordered=ordered).run(concurrency, lambda: call)

    return each(
        task(run, "map_async", fn, concurrency=concurrency, **differing(ordered=(ordered, True))),
        lambda wrap: map_async(wrap(one), concurrency=concurrency, ordered=ordered),
    )


def map_in_threads(fn: Callable[[T], U], *, workers: int = 4, ordered: bool = True) -> Transform[T, U]:
    """Give `fn(item)` for each item, called in threads, up to `workers` calls at once.

    For functions that block, or compute and let go of the GIL. What is ready is carried by the batch, as many items
    as take about two milliseconds: a trip to a thread costs a tenth of that.

    Emits when: the calls of a batch have returned and, where `ordered`, those for all items before it have.
    Waits when: all workers have a batch that is being worked on, or waits for its turn or for the reader.
    Ends when: the source has ended and all results were given.
    On cancel: the calls in progress cannot be cancelled, and are waited for, one for each worker; no other is begun.
    Holds: a batch for each worker, at most 256 items.

    Args:
        fn: A plain function, safe to call in several threads at once.
        workers: How many threads to use at once.
        ordered: Give results in the order of the items; False gives them as they come.

    Raises:
        TypeError: `fn` cannot be called or is a coroutine function, or `workers` is not an int.
        ValueError: `workers` is below 1.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(map_in_threads(str.upper)).pipe(collect()))
        ['A', 'B']
    """
    if is_async(check_function("map_in_threads", fn)):
        raise TypeError(
            f"map_in_threads wants a plain function, but {name_of(fn)} is a coroutine function: use map_async"
        )
    check_count("workers", workers, 1)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        limiter = trio.CapacityLimiter(workers)
        await _Workers(source, output, ordered=ordered).run(workers, lambda: _Trips(fn, limiter))

    return each(
        task(run, "map_in_threads", fn, workers=workers, **differing(ordered=(ordered, True))),
        lambda wrap: map_in_threads(wrap(fn), workers=workers, ordered=ordered),
    )


class _Trips:
    """Calls `fn` in a thread for a batch of items, and learns how large a batch should be."""

    def __init__(self, fn: Callable[[Any], Any], limiter: trio.CapacityLimiter) -> None:
        self._fn = fn
        self._limiter = limiter
        self.size = 1

    async def __call__(self, items: list[Any]) -> list[Any]:
        spent, results = await trio.to_thread.run_sync(self._call_each, items, limiter=self._limiter)
        if spent > TRIP:
            self.size = max(self.size // 2, 1)
        elif spent < TRIP / 2 and len(items) == self.size:
            self.size = min(self.size * 2, DEFAULT_CAPACITY)
        return results

    def _call_each(self, items: list[Any]) -> tuple[float, list[Any]]:
        began = perf_counter()
        results: list[Any] = []
        for item in items:
            trio.from_thread.check_cancelled()
            results.append(self._fn(item))
            if inspect.iscoroutine(results[-1]):
                results[-1].close()
                raise TypeError(
                    f"map_in_threads wants a plain function, but {name_of(self._fn)} gave a coroutine: use map_async"
                )
        return perf_counter() - began, results


class _Turn:
    """A worker's place in the order: what it has to give, and who waits until that is sent."""

    __slots__ = ("results", "sent")

    def __init__(self) -> None:
        self.results: list[Any] | None = None
        self.sent: trio.Event | None = None


class _Workers:
    """A crew between two channels: each takes items, works on them, and sees that its results are sent."""

    def __init__(self, source: ReceiveChannel[Any], output: SendChannel[Any], *, ordered: bool) -> None:
        self._source = source
        self._output = output
        self._ordered = ordered
        self._turns: deque[_Turn] = deque()  # in the order of the items; as long as there are workers, at most
        self._is_sending = False
        self._is_taking = False
        self._idle = ParkingLot()

    async def run(self, count: int, make_work: Callable[[], Work]) -> None:
        async with open_crew() as crew:
            for _ in range(count):
                crew.start(self._work, make_work())

    async def _work(self, work: Work) -> None:
        while True:
            try:
                items = await self._take(getattr(work, "size", 1))
            except trio.EndOfChannel:
                return
            if self._ordered:
                turn = _Turn()
                self._turns.append(turn)  # nobody else has run since the items were taken
                turn.results = await work(items)
                await self._send_in_turn(turn)
            else:
                await self._output.send_many(await work(items))

    async def _take(self, most: int) -> list[Any]:
        # One waits at the channel, and calls the next when it has taken. Were all to queue there, none could go on with
        # what is ready without giving way to the others: a function that never waits would run at a tenth of the pace.
        while self._is_taking:
            await self._idle.park()
        self._is_taking = True
        try:
            return await self._source.receive_many(most)
        finally:
            self._is_taking = False
            self._idle.unpark()

    async def _send_in_turn(self, turn: _Turn) -> None:
        if self._is_sending or self._turns[0] is not turn:
            turn.sent = trio.Event()
            await turn.sent.wait()
            return
        self._is_sending = True
        while self._turns and self._turns[0].results is not None:
            ready: list[_Turn] = []
            results: list[Any] = []
            for next_turn in self._turns:
                if next_turn.results is None:
                    break
                ready.append(next_turn)
                results += next_turn.results
            await self._output.send_many(results)
            for sent in ready:
                self._turns.popleft()
                if sent.sent is not None:
                    sent.sent.set()
        self._is_sending = False
