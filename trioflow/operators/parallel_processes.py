"""An operator that makes many calls at once in worker processes, for CPU-bound functions.

Rule 1: a run starts its processes when it has work for them, and ends them before it ends.
Rule 2: when a process dies, only the item it was working on fails. The other items of its batch are tried again.
"""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_plain
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage, Wrap
from trioflow._core.labels import label, name_of
from trioflow._core.makers import differing
from trioflow._core.streams import Transform
from trioflow._core.typevars import T, U
from trioflow._core.workers import Trips, Workers, processor_count
from trioflow.io._worker_main import CALLING, STOP, packed
from trioflow.io.worker_process import Child, failure_of, pickled, start_child, told_end

TRIP: Final = 0.005  # seconds of work to send to a process at once; the transfer itself takes a twentieth of that
LAST_WORDS: Final = 1.0  # seconds that a process may take to exit after it has closed its socket

# Seconds of work; results, or None if the items could not be unpickled; failures by index.
_Answer: TypeAlias = tuple[float, list[Any] | None, dict[int, tuple[bytes, str]]]


def map_in_processes(
    fn: Callable[[T], U],
    *,
    workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    kill_on_cancel: bool = True,
) -> Transform[T, U]:
    """Yield `fn(item)` for each item, called in processes, with up to `workers` calls at once.

    Use it for CPU-bound Python functions. The function, the items and the results are pickled. The function is pickled
    once, when you make the transform; one that another process cannot import, such as a lambda, is refused right then.
    Items that are ready go to a process in batches that take about 5 ms: a transfer costs a quarter of a millisecond, and
    starting a process 50 ms. Keep your program's entry point below `if __name__ == "__main__":`, because the processes
    import its main module.

    Emits when: the calls of a batch have returned and, if `ordered`, the calls for all earlier items have too.
    Waits when: every worker has a batch that is being worked on, or that waits for its turn or for the reader.
    Ends when: the source has ended and all results have been sent; by then the processes have ended too.
    On cancel: the processes are killed, whatever they are doing. With `kill_on_cancel=False` the stage waits for the
        running calls, one for each worker, and starts no others. The same happens when a call fails.
    Holds: a batch for each worker, at most 256 items, both as objects and pickled.

    Args:
        fn: A plain function that can be pickled.
        workers: How many processes to use; None for the number of cores this process may use.
        ordered: Whether to yield results in the order of the items; if False, as soon as each is ready.
        retries: How often to retry an item whose process died while working on it.
        kill_on_cancel: Whether cancellation kills running calls.

    Raises:
        TypeError: `fn` is not callable, is a coroutine function or cannot be sent to another process, or a number is
            not an int. While running: an item or a result cannot be pickled.
        ValueError: `workers` is below 1, or `retries` is below 0.
        trio.BrokenResourceError: while running, a process died while it called `fn`. Like an exception that `fn` raises,
            this is the failure of one item, so `on_item_error` can skip it.

    Example:
        >>> run(
        ...     from_iterable(["a", "b"])
        ...     .pipe(map_in_processes(str.upper, workers=1))
        ...     .pipe(collect())
        ... )
        ['A', 'B']
    """
    check_plain("map_in_processes", fn, "; use map_async")
    count = processor_count() if workers is None else check_count("workers", workers, 1)
    check_count("retries", retries, 0)
    target = partial(pickled, "map_in_processes expects a function", fn)
    options = differing(ordered=(ordered, True), retries=(retries, 0), kill_on_cancel=(kill_on_cancel, True))

    def make(wrap: Wrap | None, body: bytes) -> Stage:
        async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
            works = [_ProcessTrips(fn, body, wrap, retries=retries, is_killed=kill_on_cancel) for _ in range(count)]
            try:
                await Workers(source, output, ordered=ordered).run(works)
            finally:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        for work in works:
                            nursery.start_soon(work.end)

        return Stage(label("map_in_processes", fn, workers=count, **options), function=run)

    def rewrapped(wrap: Wrap) -> Stage:
        return make(wrap, target(True))

    return Transform._of(make(None, target(False))._replace(rewrapped=rewrapped))


class _ProcessTrips(Trips):
    """Calls `fn` in a process for a batch of items."""

    def __init__(
        self, fn: Callable[[Any], Any], target: bytes, wrap: Wrap | None, *, retries: int, is_killed: bool
    ) -> None:
        super().__init__(TRIP)
        self._fn = fn
        self._target = target
        self._wrap = wrap
        self._retries = retries
        self._is_killed = is_killed
        self._child: Child | None = None
        self._is_busy = False
        self._page: Any = None  # memory shared with the process, so that we know what it was doing when it died

    async def __call__(self, items: list[Any]) -> list[Any]:
        if self._wrap is None:
            return await self._call(items)
        # The wrapper stays in this process: the other one gets only what the function is called with, and the wrapper
        # gets each result as if the function had been called here.
        results: list[Any] = []
        places: list[int] = []
        given: list[Any] = []
        for place, item in enumerate(items):
            known = len(given)
            results.append(self._wrap(given.append)(item))
            if len(given) > known:
                places.append(place)
        for place, result in zip(places, await self._call(given), strict=True):
            results[place] = self._wrap(result if isinstance(result, _Raising) else partial(_give, result))(
                items[place]
            )
        return results

    async def _call(self, items: list[Any]) -> list[Any]:
        if not items:
            return []
        try:
            request = packed(items)
        except Exception as exc:  # noqa: BLE001 - pickling may raise anything
            return await self._singly(items, exc)
        died: Counter[int] = Counter()
        while True:
            child = self._child
            if child is None:
                child = self._child = await self._start()
            self._page[CALLING] = self._page[STOP] = 0
            try:
                answer: _Answer = await self._ask(child, request)
            except trio.BrokenResourceError:
                number = self._page[CALLING]
                self._child, self._is_busy = None, False
                status = await child.end(LAST_WORDS)
            else:
                spent, results, failures = answer
                if results is None:
                    return await self._singly(items, failure_of(failures[0]))
                self.learn(spent, len(items))
                for index, failure in failures.items():
                    results[index] = self._settle(failure_of(failure))
                return results
            died[number] += 1
            if number and died[number] > self._retries:  # 0: it died while idle, before it called anything
                call = label(name_of(self._fn), items[number - 1])()
                told = f"the worker process {told_end(status)} while it called {call}"
                failure = self._settle(trio.BrokenResourceError(told))
                return [*await self._call(items[: number - 1]), failure, *await self._call(items[number:])]

    async def _singly(self, items: list[Any], failure: BaseException) -> list[Any]:
        """Call with each item by itself, as one of them cannot be sent; if there is only one, that is its failure."""
        if len(items) == 1:
            return [self._settle(failure)]
        return [result for item in items for result in await self._call([item])]

    async def _ask(self, child: Child, request: bytes) -> Any:
        self._is_busy = True
        if self._is_killed:
            answer = await self._exchange(child, request)
        else:
            answer = None
            async with Crew() as crew:
                crew.start(self._stop_at_cancel)
                with trio.CancelScope(shield=True):
                    answer = await self._exchange(child, request)
                self._is_busy = False
                crew.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
        self._is_busy = False
        return answer

    async def _exchange(self, child: Child, request: bytes) -> Any:
        await child.send(request)
        return await child.receive()

    async def _stop_at_cancel(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._page[STOP] = 1

    def _settle(self, failure: BaseException) -> Any:
        """Raise a failure or, if calls are wrapped, return a function that raises it."""
        if self._wrap is None:
            raise failure
        return _Raising(failure)

    async def _start(self) -> Child:
        with tempfile.TemporaryFile() as file:
            file.truncate(mmap.PAGESIZE)
            self._page = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("i")
            child = await start_child("calls", self._target, page=file.fileno())
        try:
            failure = await child.receive()
        except trio.BrokenResourceError as exc:
            status = await child.end(LAST_WORDS)
            raise trio.BrokenResourceError(f"the worker process {told_end(status)} before it was ready") from exc
        except BaseException:
            await child.end(0)
            raise
        if failure is not None:
            await child.end()
            raise failure_of(failure)
        return child

    async def end(self) -> None:
        """End the process; kill it if it is busy."""
        if self._child is not None:
            await (self._child.end(0) if self._is_busy else self._child.end())


@dataclass(frozen=True)
class _Raising:
    """A function that raises again what was raised in the process."""

    failure: BaseException

    def __call__(self, item: Any) -> NoReturn:
        raise self.failure


def _give(result: Any, item: Any) -> Any:
    return result
