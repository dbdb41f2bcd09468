"""What tests of streams share: stages, tasks and sources that record what happens, and the four ways to consume a readable."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests import called

Consumer: TypeAlias = Callable[[tf.Readable[Any]], Awaitable[list[Any]]]


class Boom(Exception):
    """A failure made by a test."""


@tf.transform
async def passing(items: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for item in items:
        yield item


async def passing_on(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
    async for item in source:
        await output.send(item)


def failures_in(exc: BaseException | None) -> list[Boom]:
    """Return all failures in `exc`, and those in flight when one was raised in a cleanup."""
    if exc is None:
        return []
    parts = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    found = [boom for part in (*parts, exc.__context__) for boom in failures_in(part)]
    return [*found, exc] if isinstance(exc, Boom) else found


class Turns:
    """Counts how often a task that does nothing else gets its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


class Source:
    """A source of `items`, which then ends, raises, or sleeps forever if `then` is None; it counts its runs."""

    def __init__(self, items: Iterable[Any] = (), then: BaseException | str | None = "end") -> None:
        self.items = items
        self.then = then
        self.sent = 0
        self.started = 0
        self.ended = 0

    async def run(self, output: tf.SendChannel[Any]) -> None:
        self.started += 1
        try:
            for item in self.items:
                await output.send(item)
                self.sent += 1
            if self.then is None:
                await trio.sleep_forever()
            if isinstance(self.then, BaseException):
                raise self.then
        finally:
            self.ended += 1

    @property
    def readable(self) -> tf.Readable[Any]:
        return tf.Readable(self.run)


class Sink:
    """A sink that records what it got, and how it ended."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.how = "not run"

    async def run(self, source: tf.ReceiveChannel[Any]) -> str:
        self.how = "running"
        try:
            async for item in source:
                self.got.append(item)
        except BaseException as exc:
            self.how = type(exc).__name__
            raise
        self.how = "the end"
        return "result"

    @property
    def writable(self) -> tf.Writable[Any, str]:
        return tf.Writable(self.run)


async def to_the_end(readable: tf.Readable[Any]) -> list[Any]:
    got: list[Any] = await readable.pipe(tf.collect())
    return got


async def item_by_item(readable: tf.Readable[Any]) -> list[Any]:
    async with readable.open(capacity=1) as receive:
        return [item async for item in receive]


async def left_early(readable: tf.Readable[Any]) -> list[Any]:
    async with readable.open(capacity=1) as receive:
        async for item in receive:
            return [item]
    return []


async def cancelled(readable: tf.Readable[Any]) -> list[Any]:
    got: list[Any] = []
    with trio.CancelScope() as scope:
        async with readable.open(capacity=1) as receive:
            async for item in receive:
                got.append(item)
                if len(got) == 2:
                    await wait_all_tasks_blocked()
                    scope.cancel()
    return got


CONSUMERS: list[Consumer] = [to_the_end, item_by_item, left_early, cancelled]


def tasks() -> set[trio.lowlevel.Task]:
    """Return all tasks, to check that none is left."""
    found: set[trio.lowlevel.Task] = set()
    root = trio.lowlevel.current_root_task()
    left = [] if root is None else [root]
    while left:
        task = left.pop()
        found.add(task)
        left += (child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found


async def through(chunks: Any, *transforms: tf.Transform[Any, Any], capacity: float = 256) -> list[Any]:
    got: list[Any] = await tf.pipeline(Source(chunks).readable, *transforms, tf.collect(), capacity=capacity)
    return got


def timed(arrivals: Iterable[tuple[float, Any]], end: float, stage: tf.Transform[Any, Any]) -> list[tuple[float, Any]]:
    """Send each item at its time, and the end; return what comes out, and when."""
    got: list[tuple[float, Any]] = []

    async def source(output: tf.SendChannel[Any]) -> None:
        for at, item in arrivals:
            await trio.sleep_until(at)
            await output.send(item)
        await trio.sleep_until(end)

    async def main() -> None:
        async with tf.Readable(source).pipe(stage).open() as receive:
            async for item in receive:
                got.append((pytest.approx(trio.current_time()), item))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return got


async def passes(count: int) -> None:
    """Let the scheduler pass `count` times."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def wait_until_cancelled() -> None:
    """Wait, in a thread, until a cancellation has reached it, which may be after `cancel` has returned to it."""

    def is_cancelled() -> bool:
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            return True
        return False

    called.wait_until(is_cancelled)


async def serve(
    readable: Callable[[tf.Readable[Any]], tf.Readable[Any]], items: Any, expected: Any, consume: Consumer
) -> None:
    """Check that the stages after a source emit what is expected and end the source, however they are consumed."""
    source = Source(items)

    got = await consume(readable(source.readable))

    if isinstance(expected, (bytes, str)):
        assert expected.startswith(expected[:0].join(got))
        assert expected == expected[:0].join(got) or consume in CONSUMERS[2:]
    else:
        assert got == expected[: len(got)]
        assert len(got) == len(expected) or consume in CONSUMERS[2:]
    assert source.started == source.ended == 1


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def steps_of(run: Any) -> int:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await run
    trio.lowlevel.remove_instrument(steps)
    return steps.count


class _CancelAt(trio.abc.Instrument):
    """Cancels `scope` before the step `last` of all tasks."""

    def __init__(self, last: int, scope: trio.CancelScope) -> None:
        self.left = last
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def cancelled_at_each_step(run: Callable[[], Awaitable[object]]) -> None:
    """Run it again and again, each time cancelled one step of a task later, until it ends before that."""
    last = 0
    has_ended = False
    while not has_ended:
        last += 1
        with trio.CancelScope() as scope:
            at = _CancelAt(last, scope)
            trio.lowlevel.add_instrument(at)
            try:
                await run()
            finally:
                trio.lowlevel.remove_instrument(at)
        has_ended = at.left > 0
