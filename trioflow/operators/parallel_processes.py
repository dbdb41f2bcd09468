"""Many calls at once in processes of our own, for what keeps a core busy.

Rule 1: a run starts its processes when it has work for them, and none of them outlives it.
Rule 2: of a batch whose process has died, the one item that was worked on is to blame; the others are called again.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_plain
from trioflow._core.crew import open_crew
from trioflow._core.engine import Stage, Wrap
from trioflow._core.labels import label, name_of
from trioflow._core.makers import differing
from trioflow._core.streams import Transform
from trioflow._core.typevars import T, U
from trioflow._core.workers import Batches, Workers
from trioflow.io._worker_main import CALLING, STOP, packed
from trioflow.io.worker_process import Child, failure_of, pickled, start_child, told_end

TRIP: Final = 0.005  # seconds of work that a trip to a process should carry; the trip itself takes a twentieth of that
LAST_WORDS: Final = 1.0  # seconds in which a process that has closed its socket may end


def map_in_processes(
    fn: Callable[[T], U],
    *,
    workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    kill_on_cancel: bool = True,
) -> Transform[T, U]:
    """Give `fn(item)` for each item, called in processes, up to `workers` calls at once.

    For functions in Python that compute. Function, items and results are pickled: what another process cannot find,
    such as a lambda, is refused at once, and the function is as it was then. What is ready is carried by the batch, as
    many items as take about five milliseconds: a trip costs a quarter of one, and starting a process 50. A program that
    does this keeps what it runs below `if __name__ == "__main__":`, because its processes import it.

    Emits when: the calls of a batch have returned and, where `ordered`, those for all items before it have.
    Waits when: all workers have a batch that is being worked on, or waits for its turn or for the reader.
    Ends when: the source has ended and all results were given; the processes have ended then, too.
    On cancel: the processes are killed, whatever they are doing; or with `kill_on_cancel=False` the calls in progress
        are waited for, one for each worker, and no other is begun. So it is when one fails.
    Holds: a batch for each worker, at most 256 items, as objects and pickled.

    Args:
        fn: A plain function that can be pickled.
        workers: How many processes to use; None for as many as there are cores to run on.
        ordered: Give results in the order of the items; False gives them as they come.
        retries: How often to call again for an item whose process has died under it.
        kill_on_cancel: Whether a cancellation kills calls in progress.

    Raises:
        TypeError: `fn` cannot be called, is a coroutine function or cannot be sent to another process, or a number is
            not an int. Running it: an item or a result cannot be pickled.
        ValueError: `workers` is below 1, or `retries` below 0.
        trio.BrokenResourceError: running it, a process has died while it called `fn`. The failure of that item, as what
            `fn` raises is: `on_item_error` goes on with the next one.

    Example:
        >>> run(
        ...     from_iterable(["a", "b"])
        ...     .pipe(map_in_processes(str.upper, workers=1))
        ...     .pipe(collect())
        ... )
        ['A', 'B']
    """
    check_plain("map_in_processes", fn, ": use map_async")
    count = len(os.sched_getaffinity(0)) if workers is None else check_count("workers", workers, 1)
    check_count("retries", retries, 0)
    target = partial(pickled, "map_in_processes wants a function", fn)
    options = differing(ordered=(ordered, True), retries=(retries, 0), kill_on_cancel=(kill_on_cancel, True))

    def make(wrap: Wrap | None, body: bytes) -> Stage:
        async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
            works = [_Trips(fn, body, wrap, retries=retries, is_killed=kill_on_cancel) for _ in range(count)]
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


class _Trips(Batches):
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
        self._page: Any = None  # shared with the process: what it is doing is known also when it has died

    async def __call__(self, items: list[Any]) -> list[Any]:
        if self._wrap is None:
            return await self._call(items)
        # What is wrapped stays here: the process is sent what the function is to be given, and each result comes back as
        # if it had been called here.
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
        except Exception as exc:  # noqa: BLE001 - by whatever cannot be sent
            if len(items) == 1:
                return [self._settle(exc)]
            return [result for item in items for result in await self._call([item])]
        died: Counter[int] = Counter()
        while True:
            child = self._child
            if child is None:
                child = self._child = await self._start()
            self._page[CALLING] = self._page[STOP] = 0
            try:
                answer = await self._ask(child, request)
            except trio.BrokenResourceError:
                number = self._page[CALLING]
                status = await self._bury(child)
            else:
                return self._taken(items, *answer)
            died[number] += 1
            if number and died[number] > self._retries:  # 0: it has died at rest, nothing was called
                item = items[number - 1]
                failure = self._settle(self._death(item, status))
                return [*await self._call(items[: number - 1]), failure, *await self._call(items[number:])]

    def _taken(
        self, items: list[Any], spent: float, results: list[Any], failures: dict[int, tuple[bytes, str]]
    ) -> list[Any]:
        self.learn(spent, len(items))
        for index, failure in failures.items():
            results[index] = self._settle(failure_of(failure))
        return results

    async def _ask(self, child: Child, request: bytes) -> Any:
        self._is_busy = True
        if self._is_killed:
            answer = await self._exchange(child, request)
        else:
            answer = None
            async with open_crew() as crew:
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
        """Raise a failure, or give what stands for it."""
        if self._wrap is None:
            raise failure
        return _Raising(failure)

    def _death(self, item: Any, status: int | None) -> trio.BrokenResourceError:
        call = label(name_of(self._fn), item)()
        return trio.BrokenResourceError(f"the worker process {told_end(status)} while it called {call}")

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

    async def _bury(self, child: Child) -> int:
        self._child, self._is_busy = None, False
        return await child.end(LAST_WORDS)

    async def end(self) -> None:
        """End the process: kindly if it rests."""
        if self._child is not None:
            await (self._child.end(0) if self._is_busy else self._child.end())


class _Raising:
    """A function that raises what has been raised in the process."""

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    def __call__(self, item: Any) -> NoReturn:
        raise self._failure


def _give(result: Any, item: Any) -> Any:
    return result
