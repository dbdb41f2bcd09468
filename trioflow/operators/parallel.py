"""Operators that make many calls at once, in tasks or in threads, with a fixed number of workers, not one task an item."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_function, check_plain
from trioflow._core.labels import name_of
from trioflow._core.makers import differing, per_item, task
from trioflow._core.streams import Transform
from trioflow._core.typevars import T, U
from trioflow._core.workers import Trips, Workers

TRIP: Final = 0.002  # seconds of work to send to a thread at once; the hand-over itself takes a tenth of that


def map_async(fn: Callable[[T], Awaitable[U]], *, concurrency: int = 8, ordered: bool = True) -> Transform[T, U]:
    """Yield `await fn(item)` for each item, with up to `concurrency` calls at once.

    Emits when: a call has returned and, if `ordered`, the calls for all earlier items have too.
    Waits when: `concurrency` calls are running or have results that wait for their turn or for the reader.
    Ends when: the source has ended and all results have been sent.
    On cancel: the running calls are cancelled and their items lost. The same happens when a call fails.
    Holds: `concurrency` items or results.

    Args:
        fn: A coroutine function, or a plain function that returns an awaitable.
        concurrency: How many calls may run at once.
        ordered: Whether to yield results in the order of the items; if False, as soon as each is ready.

    Raises:
        TypeError: `fn` is not callable or does not return an awaitable, or `concurrency` is not an int.
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
            raise TypeError(f"map_async expects an async function, but {name_of(fn)} returned {awaitable!r}; use map")
        return [await awaitable]

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        await Workers(source, output, ordered=ordered).run(itertools.repeat(call, concurrency))

    return per_item(
        task(run, "map_async", fn, concurrency=concurrency, **differing(ordered=(ordered, True))),
        partial(map_async, concurrency=concurrency, ordered=ordered),
        one,
    )


def map_in_threads(fn: Callable[[T], U], *, workers: int = 4, ordered: bool = True) -> Transform[T, U]:
    """Yield `fn(item)` for each item, called in threads, with up to `workers` calls at once.

    Use it for functions that block, or that compute and release the GIL. Items that are ready go to a thread in batches
    that take about two milliseconds, because handing over a batch costs a tenth of that.

    Emits when: the calls of a batch have returned and, if `ordered`, the calls for all earlier items have too.
    Waits when: every worker has a batch that is being worked on, or that waits for its turn or for the reader.
    Ends when: the source has ended and all results have been sent.
    On cancel: running calls cannot be cancelled. The stage waits for them, one for each worker, and starts no others.
    Holds: a batch for each worker, at most 256 items.

    Args:
        fn: A plain function, safe to call in several threads at once.
        workers: How many threads to use at once.
        ordered: Whether to yield results in the order of the items; if False, as soon as each is ready.

    Raises:
        TypeError: `fn` is not callable or is a coroutine function, or `workers` is not an int.
        ValueError: `workers` is below 1.

    Example:
        >>> run(from_iterable(["a", "b"]).pipe(map_in_threads(str.upper)).pipe(collect()))
        ['A', 'B']
    """
    check_plain("map_in_threads", fn, "; use map_async")
    check_count("workers", workers, 1)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        limiter = trio.CapacityLimiter(workers)
        await Workers(source, output, ordered=ordered).run([_ThreadTrips(fn, limiter) for _ in range(workers)])

    return per_item(
        task(run, "map_in_threads", fn, workers=workers, **differing(ordered=(ordered, True))),
        partial(map_in_threads, workers=workers, ordered=ordered),
        fn,
    )


class _ThreadTrips(Trips):
    """Calls `fn` in a thread for a batch of items."""

    def __init__(self, fn: Callable[[Any], Any], limiter: trio.CapacityLimiter) -> None:
        super().__init__(TRIP)
        self._fn = fn
        self._limiter = limiter

    async def __call__(self, items: list[Any]) -> list[Any]:
        spent, results, failure = await trio.to_thread.run_sync(self._call_each, items, limiter=self._limiter)
        if failure is not None:
            raise failure
        self.learn(spent, len(items))
        return results

    def _call_each(self, items: list[Any]) -> tuple[float, list[Any], Exception | None]:
        began = perf_counter()
        results: list[Any] = []
        for item in items:
            trio.from_thread.check_cancelled()
            try:
                results.append(self._fn(item))
            except Exception as exc:  # noqa: BLE001 - raised in the task: Trio would assign to it, which fails for a frozen exception
                return perf_counter() - began, results, exc
            if inspect.iscoroutine(results[-1]):
                results[-1].close()
                raise TypeError(
                    f"map_in_threads expects a plain function, but {name_of(self._fn)} returned a coroutine; "
                    "use map_async"
                )
        return perf_counter() - began, results, None
