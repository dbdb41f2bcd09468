"""What tests of streams share: a source that records its runs, and the four ways to consume a readable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf

Consumer: TypeAlias = Callable[[tf.Readable[Any]], Awaitable[list[Any]]]


class Boom(Exception):
    """A failure made by a test."""


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


async def passes(count: int) -> None:
    """Let the scheduler pass `count` times."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


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
