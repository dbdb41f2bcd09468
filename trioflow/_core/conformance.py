"""The cases of `trioflow.testing`: sources, readers and blocks that end, leave, fail or cancel, and what must follow.

Rule 1: each case makes a new value, has a time limit, and afterwards checks that nothing is left running or open.
Rule 2: every message starts with the number of the broken rule.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio
from trio.testing import wait_all_tasks_blocked

from trioflow._core.block import block
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import Stage
from trioflow._core.errors import note
from trioflow._core.pipeline import as_readable, pipeline
from trioflow._core.streams import Readable, Writable

CAPACITIES: Final = (1, 2, 256)
PASSES: Final = 24  # a run is cancelled after 0, 1, ..., PASSES - 1 scheduler passes
UNKNOWN: Final[Any] = object()


class _Failure(Exception):
    """Raised on purpose by a source, a reader or a block of the kit."""


class Check:
    """One call of the kit: its cases, and the state of the current case."""

    def __init__(self, factory: Callable[[], Any], kind: Any, limit: float) -> None:
        self._factory = factory
        self._kind = kind
        self._limit = limit
        self._running = 0  # how many of the kit's sources are running
        self._is_over = False  # something has failed, or the run was cancelled
        self._is_late = False  # after that, the kit's reader received an item or an end
        self._has_returned = False  # after that, a stage of the value returned

    @block
    async def case(self, name: str, unraised: str = "") -> AsyncGenerator[Any, None]:
        """Yield a new value to a block that must end in time and leave nothing; if `unraised` names a rule, not raise."""
        self._running = 0
        self._is_over = self._is_late = self._has_returned = False
        tasks = _tasks()
        value = self._factory()
        if not isinstance(value, self._kind):
            raise TypeError(f"the factory must return a {self._kind.__name__}, got {value!r}")
        _demand(_tasks() == tasks, f"R1: {value!r} started a task when it was made")
        descriptors = _descriptors()
        try:
            with trio.move_on_after(self._limit) as scope:
                *rest, last = value._stages
                yield self._kind._of(*rest, self._watched(last))
        except Exception as exc:
            _demand(not unraised or isinstance(exc, AssertionError), f"{unraised}: {name}: it raised {exc!r}", exc)
            note(exc, f"in the case: {name}")
            raise
        _demand(not scope.cancelled_caught, f"R16: {name}: it did not end within {self._limit:g} s")
        _demand(not self._running, f"R9: {name}: the run returned before the source's finally block had run")
        _demand(_tasks() == tasks, f"R2: {name}: tasks are left running: {_tasks() - tasks}")
        if _descriptors() - descriptors:
            gc.collect()  # garbage closes its descriptors, and is reported by its own ResourceWarning
            left = [os.readlink(f"/proc/self/fd/{number}") for number, *_ in _descriptors() - descriptors]
            _demand(not left, f"R2: {name}: left open: {', '.join(left)}")

    def _watched(self, stage: Stage) -> Stage:
        """Record when `stage` returns; a synchronous stage returns only at the end, so it needs no recording."""
        if (function := stage.function) is None:
            return stage

        async def run(*ends: Any) -> Any:
            result = await function(*ends)
            self._has_returned = self._has_returned or self._is_over
            return result

        return stage._replace(function=run)

    def source(
        self,
        items: Sequence[Any],
        failure: BaseException | None = None,
        *,
        ends: bool = False,
        one_by_one: bool = False,
    ) -> Readable[Any]:
        """Return a source of `items` that then raises `failure`, ends, or sleeps forever."""

        async def source(output: SendChannel[Any]) -> None:
            self._running += 1
            try:
                if one_by_one:
                    for item in items:
                        await output.send(item)
                        await trio.lowlevel.checkpoint()
                else:
                    await output.send_many(list(items))
                if failure is not None:
                    self._is_over = True
                    raise failure
                if not ends:
                    await trio.sleep_forever()
            finally:
                self._running -= 1

        return Readable(source)

    def feeds(self, items: Sequence[Any], *, is_stream: bool = False) -> Iterator[tuple[str, Any]]:
        """Yield each way to send `items` in, after its name."""
        yield "of a plain iterable", list(items)
        yield "in one batch", self.source(items, ends=True)
        yield "one by one", self.source(items, ends=True, one_by_one=True)
        if is_stream and items:
            whole = items[0][:0].join(items)
            singles = [whole[i : i + 1] for i in range(len(whole))]
            yield "joined", [whole]
            yield "cut into chunks of length 1", singles
            yield "with empty chunks between", [chunk for single in singles for chunk in (single, whole[:0])]

    def reader(self, enough: float = math.inf, failure: BaseException | None = None) -> Writable[Any, Any]:
        """Return a sink that returns what it received, or raises `failure`, after `enough` items or at the end."""

        async def reader(source: ReceiveChannel[Any]) -> list[Any]:
            got: list[Any] = []
            if not enough:
                await wait_all_tasks_blocked()
            else:
                async for item in source:
                    self._is_late = self._is_late or self._is_over
                    got.append(item)
                    if len(got) >= enough:
                        break
                else:
                    self._is_late = self._is_late or self._is_over
            if failure is not None:
                self._is_over = True
                raise failure
            return got

        return Writable(reader)

    def run(
        self, feed: Any, value: Any, reader: Writable[Any, Any] | None = None, *, capacity: float = 256
    ) -> Coroutine[Any, Any, Any]:
        """Run `value` after `feed`, unless that is None, and before a reader, unless `value` is a sink."""
        tail = None if self._kind is Writable else reader or self.reader()
        stages: list[Any] = [stage for stage in (feed, value, tail) if stage is not None]
        return pipeline(*stages, capacity=capacity)

    async def result(self, how: str, feed: Any, expected: Any, capacity: float, enough: float = math.inf) -> Any:
        case = f"{how}, capacity {capacity:g}"
        async with self.case(case) as value:
            got = await self.run(feed, value, self.reader(enough), capacity=capacity)
        return _same("R3" if self._kind is Writable else "R6", case, got, expected)

    async def item_by_item(self, items: Any, expected: Any) -> None:
        case = "read item by item"
        async with self.case(case) as value, _opened(items, value) as receive:
            _same("R8", case, [item async for item in receive], expected)

    async def block_sends(self, items: Sequence[Any]) -> None:
        async with self.case("sent item by item") as value, value.open(capacity=1) as send:
            try:
                for item in items:
                    await send.send(item)
            except trio.BrokenResourceError:
                pass  # the sink needs no more items
        failure = _Failure("of the block")

        async def fail(value: Writable[Any, Any]) -> None:
            async with value.open() as send:
                await send.send_many(items)
                self._is_over = True
                raise failure

        async with self.case("a block that fails") as value:
            # A block is not a stage, so no note names it.
            await self._raises("a block that fails", failure, fail(value), is_noted=False)

    async def reader_leaves(self, items: Sequence[Any] | None, *, enough: int = 0) -> None:
        def feed() -> Any:
            return None if items is None else self.source(items)

        async with self.case("left before the first item", "R9") as value, _opened(feed(), value):
            pass
        async with self.case("left in the middle", "R9") as value, _opened(feed(), value) as receive:
            await wait_all_tasks_blocked()
            with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
                receive.receive_nowait()
        async with self.case("a reader that stops", "R9") as value:
            await self.run(feed(), value, self.reader(enough))
        failure = _Failure("of the reader")
        async with self.case("a reader that fails") as value:
            await self._raises("a reader that fails", failure, self.run(feed(), value, self.reader(enough, failure)))

    async def source_fails(self, items: Sequence[Any]) -> None:
        for count in sorted({0, len(items) // 2, len(items)}):
            case = f"a source that fails after {count} items"
            failure = _Failure("of the source")
            async with self.case(case) as value:
                await self._raises(case, failure, self.run(self.source(items[:count], failure), value))
            _demand(not self._is_late, f"R12: {case}: the reader received an item or an end after the failure")

    async def _raises(
        self, case: str, failure: BaseException, run: Coroutine[Any, Any, Any], *, is_noted: bool = True
    ) -> None:
        """Await `run`, which must raise `failure` itself, unless the run ends before the failure is raised."""
        try:
            await run
        except Exception as exc:  # noqa: BLE001 - reported below
            _demand(exc is failure, f"R11: {case}: the run raised {exc!r}, not the original exception object", exc)
            notes = getattr(exc, "__notes__", [])
            _demand(
                not is_noted or any("in stage" in note for note in notes),
                f"R11: {case}: no note on the exception names the stage",
            )
        else:
            _demand(not self._is_over, f"R11: {case}: the run returned as if nothing had failed")
        if self._kind is Writable:
            _demand(not self._has_returned, f"R13: {case}: the sink treated the failure as the end")

    async def cancelled(self, items: Sequence[Any] | None) -> None:
        for passes in range(PASSES):
            case = f"cancelled after {passes} scheduler passes"
            async with self.case(case) as value:
                feed = None if items is None else self.source(items)
                await self._cancels(case, self.run(feed, value), functools.partial(_pass, passes))
        if items is not None:
            case = "cancelled while it waits for items"
            async with self.case(case) as value:
                await self._cancels(case, self.run(self.source(items), value), wait_all_tasks_blocked)
            _demand(not self._has_returned, f"R11: {case}: the stage swallowed its Cancelled and returned")

    async def cancelled_in_send(self) -> None:
        case = "cancelled while it waits for a reader"
        waiting = 0
        async with self.case(case, "R11") as value:
            with trio.CancelScope() as scope:
                async with value.open(capacity=1) as receive:
                    await wait_all_tasks_blocked()
                    waiting = receive.statistics().tasks_waiting_send
                    self._is_over = True
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        _demand(not (waiting and self._has_returned), f"R11: {case}: the stage swallowed its Cancelled and returned")

    async def _cancels(self, case: str, run: Coroutine[Any, Any, Any], when: Callable[[], Awaitable[None]]) -> None:
        scope = trio.CancelScope()
        wrong: BaseException | None = None

        async def cancel() -> None:
            await when()
            self._is_over = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            try:
                with scope:
                    await run
            except Exception as exc:  # noqa: BLE001 - reported below
                wrong = exc
            nursery.cancel_scope.cancel()
        _demand(wrong is None, f"R11: {case}: it raised {wrong!r}", wrong)

    async def run_again(self, items: Any, expected: Any, enough: float = math.inf) -> None:
        """Run one value twice, and twice at the same time; a value that can run only once may refuse (R4)."""
        case = "run a second time"
        async with self.case(case) as value:
            await self.run(items, value, self.reader(enough))
            with contextlib.suppress(trio.ClosedResourceError):
                _same("R4", case, await self.run(items, value, self.reader(enough)), expected)
        case = "run twice at the same time"
        results: list[Any] = []

        async def run(value: Any) -> None:
            with contextlib.suppress(trio.ClosedResourceError):
                results.append(await self.run(items, value, self.reader(enough)))

        async with self.case(case) as value, trio.open_nursery() as nursery:
            nursery.start_soon(run, value)
            nursery.start_soon(run, value)
        _demand(bool(results), f"R4: {case}: both runs raised ClosedResourceError")
        for result in results:
            _same("R4", case, result, expected)

    async def bound(self, items: Sequence[Any], expected: Any, holds: int) -> None:
        """Offer far more items than the value may hold, and check how many it takes."""
        case, capacity, taken = "a reader that does not read", 8, 0
        shrinks = len(items) / len(expected) if expected and isinstance(expected, list) else 1
        # Two channels, a batch taken and a batch to send, and one item in the source.
        most = holds + 2 * capacity + math.ceil(2 * capacity * shrinks) + 1

        async def endless(output: SendChannel[Any]) -> None:
            nonlocal taken
            for item in itertools.islice(itertools.cycle(items), most + 1):
                await output.send(item)
                taken += 1
            await trio.sleep_forever()

        async with self.case(case) as value, Readable(endless).pipe(value).open(capacity=capacity):
            await wait_all_tasks_blocked()
        _demand(taken <= most, f"R7: {case}: more than {most} items were taken from the source")


def _demand(is_kept: bool, complaint: str, cause: BaseException | None = None) -> None:  # noqa: FBT001
    if not is_kept:
        raise AssertionError(complaint) from cause


def _same(rule: str, case: str, got: Any, want: Any) -> Any:
    """Return `got`, which must equal `want`; if `want` is bytes or a str, join the chunks of `got` first."""
    if isinstance(want, (bytes, str)) and isinstance(got, list):
        got = want[:0].join(got)
    _demand(want is UNKNOWN or got == want, f"{rule}: {case}: got {got!r}, expected {want!r}")
    return got


def _opened(feed: Any, value: Any) -> AbstractAsyncContextManager[ReceiveChannel[Any]]:
    """Open `value` after `feed`, unless that is None."""
    readable: Readable[Any] = value if feed is None else as_readable(feed).pipe(value)
    return readable.open(capacity=1)


async def _pass(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def _tasks() -> set[trio.lowlevel.Task]:
    """Return all tasks of the program."""
    root = trio.lowlevel.current_root_task()
    found: set[trio.lowlevel.Task] = set()
    left = [] if root is None else [root]
    while left:
        task = left.pop()
        found.add(task)
        left += (child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found


def _descriptors() -> set[tuple[int, int, int]]:
    """Return all open descriptors, with the device and inode of each, on systems that list them."""
    found: set[tuple[int, int, int]] = set()
    with contextlib.suppress(FileNotFoundError):
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                status = os.fstat(number)
            except OSError:  # the descriptor that listed the directory
                continue
            found.add((number, status.st_dev, status.st_ino))
    return found
