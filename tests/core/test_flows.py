"""Random flows of any operators, with faults, cancellations and slow sides: what holds of every run.

A flow is a tree: sources are its leaves, stages and joins its branches. Each part makes a readable, and says what it
should emit and how many items it may hold. test_faults does the same for the engine below the operators.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Boom, failures_in, passes, tasks

PATIENCE = 20_000  # seconds on a mock clock, which only a flow that never ends reaches
SUBSTITUTES = 2  # items that replace a failure


class Item:
    """An item with a number; the class counts how many are alive."""

    __slots__ = ("n",)

    alive: ClassVar[int] = 0

    def __init__(self, n: int) -> None:
        Item.alive += 1
        self.n = n

    def __del__(self) -> None:
        Item.alive -= 1


@dataclass
class World:
    """What the parts of one flow report."""

    opened: int = 0
    closed: Counter[int] = field(default_factory=Counter)
    raised: list[Boom] = field(default_factory=list)  # failures that nothing handles
    handled: list[Boom] = field(default_factory=list)  # failures that a `retry` or `recover` handles
    failed_at: float = math.inf
    most: int = 0  # items alive at once
    numbers: int = 0

    def take_numbers(self, count: int) -> range:
        self.numbers += count
        return range(self.numbers - count, self.numbers)

    def fail(self, *, is_handled: bool) -> None:
        failure = Boom(len(self.raised), is_handled)
        (self.handled if is_handled else self.raised).append(failure)
        if not is_handled:
            self.failed_at = min(self.failed_at, trio.current_time())
        raise failure

    @asynccontextmanager
    async def resource(self, faults: Faults, *, is_handled: bool) -> AsyncIterator[None]:
        """Stand for a resource: opened, and closed after some scheduler passes, which may fail."""
        self.opened += 1
        me = self.opened
        try:
            yield
        finally:
            self.closed[me] += 1
            with trio.CancelScope(shield=True):
                await passes(faults.closing)
            if faults.fails_in_closing:
                self.fail(is_handled=is_handled)


@dataclass
class Part:
    """What a part of a flow makes: a readable, what it should emit, and how much it may hold."""

    readable: tf.Readable[Item]
    expected: list[int]  # in this order if `is_exact`, else in any order
    count: int | None  # how many of them; None if that varies
    holds: float = 0  # items, in addition to channels and batches
    stages: int = 1
    is_exact: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Faults:
    """How a part of a flow misbehaves."""

    fails_at: int  # the number of the item; NEVER is above all counts
    pause: int  # seconds for each item
    closing: int  # shielded scheduler passes
    fails_in_closing: bool


NEVER = 10**9
NO_FAULTS = Faults(NEVER, 0, 0, fails_in_closing=False)


@dataclass(frozen=True)
class Source:
    kind: str
    count: int
    faults: Faults
    guard: str  # what handles its failure
    ends: bool  # if not, it sleeps forever after its items

    def make(self, world: World) -> Part:
        numbers = world.take_numbers(self.count)
        readable = self.run(world, numbers, self.faults)
        if self.guard == "nobody":
            return Part(readable, [*numbers], self.count, ends=self.ends)
        if self.guard == "retry":
            attempts = itertools.chain([self.faults], itertools.repeat(NO_FAULTS))
            readable = tf.retry(lambda delivered: self.run(world, numbers[delivered.items :], next(attempts)))
            return Part(readable, [*numbers], self.count, stages=2, ends=self.ends)
        given = numbers[: self.faults.fails_at]
        has_failed = len(given) < self.count or (self.ends and self.faults.fails_in_closing)
        substitutes = world.take_numbers(SUBSTITUTES) if has_failed else ()
        readable = readable.pipe(tf.recover(lambda failure: [Item(n) for n in substitutes]))
        expected = [*given, *substitutes]
        return Part(readable, expected, len(expected), SUBSTITUTES, 2, ends=self.ends or has_failed)

    def run(self, world: World, numbers: range, faults: Faults) -> tf.Readable[Item]:
        is_handled = self.guard != "nobody"

        def items() -> Iterator[Item]:
            for n in numbers:
                if n - numbers.start == faults.fails_at:
                    world.fail(is_handled=is_handled)
                item = Item(n)
                world.most = max(world.most, Item.alive)
                yield item

        async def channel(output: tf.SendChannel[Item]) -> None:
            async with world.resource(faults, is_handled=is_handled):
                for item in items():
                    if faults.pause:
                        await trio.sleep(faults.pause)
                    await output.send(item)
                if not self.ends:
                    await trio.sleep_forever()

        @tf.readable
        async def generator() -> AsyncIterator[Item]:
            async with world.resource(faults, is_handled=is_handled):
                for item in items():
                    yield item
                    await trio.sleep(faults.pause)
                if not self.ends:
                    await trio.sleep_forever()

        if self.kind == "plain" and self.ends and not is_handled:
            return tf.from_iterable(Iterable(items))
        if self.kind == "generator":
            return generator()
        return tf.Readable(channel)


@dataclass
class Iterable:
    make: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.make()


def around(
    split: Callable[[tf.Readable[Any]], AbstractAsyncContextManager[tuple[tf.Readable[Any], ...]]],
    join: Callable[..., tf.Readable[Any]],
) -> tf.Transform[Any, Any]:
    """Split the items and join the branches."""

    async def run(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
        async with split(tf.from_iterable(source)) as branches, join(*branches).open(capacity=1) as receive:
            async for item in receive:
                await output.send(item)

    return tf.Transform(run)


@dataclass(frozen=True)
class Stage:
    kind: str
    source: Any
    n: int
    faults: Faults

    def make(self, world: World) -> Part:
        part: Part = self.source.make(world)
        transform = getattr(self, f"_{self.kind}")(world, part)
        if not part.ends and self.kind not in ("map", "map_slowly", "generator", "channels", "filter"):
            part.count = None  # it may hold some items back forever
        part.readable = part.readable.pipe(transform)
        part.stages += 1
        return part

    def look(self, world: World, item: Item, *, is_handled: bool = False) -> Item:
        if item.n % 50 == self.faults.fails_at:
            world.fail(is_handled=is_handled)
        return item

    def _map(self, world: World, part: Part) -> Any:
        return tf.map(lambda item: self.look(world, item))

    def _map_slowly(self, world: World, part: Part) -> Any:
        async def step(item: Item) -> Item:
            await trio.sleep(self.faults.pause)
            return self.look(world, item)

        return tf.map(step)

    def _filter(self, world: World, part: Part) -> Any:
        part.expected = [n for n in part.expected if n % (self.n + 1)]
        part.count = len(part.expected) if part.is_exact else None
        return tf.filter(lambda item: item.n % (self.n + 1))

    def _take(self, world: World, part: Part) -> Any:
        part.expected = part.expected[: self.n] if part.is_exact else part.expected
        part.ends = part.ends or self.n == 0 or (part.count is not None and part.count >= self.n)
        part.count = None if part.count is None else min(part.count, self.n)
        return tf.take(self.n)

    def _generator(self, world: World, part: Part) -> Any:
        @tf.transform
        async def stage(items: AsyncIterable[Item]) -> AsyncIterator[Item]:
            async with world.resource(self.faults, is_handled=False):
                async for item in items:
                    yield self.look(world, item)
                    await trio.sleep(self.faults.pause)

        return stage()

    def _channels(self, world: World, part: Part) -> Any:
        async def stage(source: tf.ReceiveChannel[Item], output: tf.SendChannel[Item]) -> None:
            async with world.resource(self.faults, is_handled=False):
                async for item in source:
                    await trio.sleep(self.faults.pause)
                    await output.send(self.look(world, item))

        return tf.Transform(stage)

    def _workers(self, world: World, part: Part, *, ordered: bool = True) -> Any:
        async def step(item: Item) -> Item:
            async with world.resource(self.faults, is_handled=False):
                await trio.sleep(self.faults.pause * (item.n % 3))
                return self.look(world, item)

        part.holds += self.n + 1
        return tf.map_async(step, concurrency=self.n + 1, ordered=ordered)

    def _unordered(self, world: World, part: Part) -> Any:
        part.is_exact = part.is_exact and self.n == 0
        return self._workers(world, part, ordered=False)

    def _batch(self, world: World, part: Part) -> Any:
        part.holds += 2 * (self.n + 1)
        return tf.batch(self.n + 1).pipe(tf.flatten())

    def _batch_within(self, world: World, part: Part) -> Any:
        part.stages += 1
        part.holds += 5 * (self.n + 1)  # a channel holds five lists of so many items
        return tf.batch(self.n + 1, within=1.5).pipe(tf.flat_map(list))

    def _throttle(self, world: World, part: Part) -> Any:
        return tf.throttle(2, burst=self.n + 1)

    def _delay(self, world: World, part: Part) -> Any:
        part.holds += self.n + 3
        return tf.delay(1.5, capacity=self.n + 1)

    def _buffer(self, world: World, part: Part) -> Any:
        part.holds += 2 * self.n + 2
        return tf.buffer(self.n + 1)

    def _patient(self, world: World, part: Part) -> Any:
        part.stages += 1
        return tf.timeout(2 * PATIENCE).pipe(tf.keep_alive(2 * PATIENCE, lambda: Item(-1)))

    def _dropping(self, world: World, part: Part) -> Any:
        part.expected = [n for n in part.expected if n % 50 != self.faults.fails_at]
        part.count = len(part.expected) if part.is_exact else None
        part.holds += 24
        return tf.on_item_error(tf.map(lambda item: self.look(world, item, is_handled=True)), "drop")

    def _groups(self, world: World, part: Part) -> Any:
        part.is_exact = False
        part.stages += 6
        part.holds += (self.n + 1) * 3 + 8
        grouped = tf.group_by(lambda item: item.n % (self.n + 1), groups=self.n + 1, capacity=1)
        return grouped.pipe(tf.flat_map_merge(lambda pair: pair[1], concurrency=self.n + 1))

    def _flat_map_merge(self, world: World, part: Part) -> Any:
        part.is_exact = False
        part.stages += 2
        part.holds += 3 * (self.n + 1)
        return tf.flat_map_merge(lambda item: [item], concurrency=self.n + 1)

    def _broadcast(self, world: World, part: Part) -> Any:
        part.expected = [n for n in part.expected for _ in range(2)]
        part.count = None if part.count is None else 2 * part.count
        part.stages += 6
        both = around(lambda readable: tf.broadcast(readable, 2, capacity=self.n + 1), tf.zip)
        part.holds += 4 * self.n + 4
        return both.pipe(tf.flatten())

    def _partition(self, world: World, part: Part) -> Any:
        part.is_exact = False
        part.stages += 6
        part.holds += 4 * self.n + 4
        return around(
            lambda readable: tf.partition(readable, lambda item: item.n % 2, 2, capacity=self.n + 1), tf.merge
        )

    def _balance(self, world: World, part: Part) -> Any:
        part.is_exact = False
        part.stages += 6
        part.holds += 4 * self.n + 4
        return around(lambda readable: tf.balance(readable, 2, capacity=self.n + 1), tf.merge)


@dataclass(frozen=True)
class Join:
    kind: str
    sources: list[Any]

    def make(self, world: World) -> Part:
        parts: list[Part] = [source.make(world) for source in self.sources]
        is_exact = all(part.is_exact for part in parts)
        counts = [part.count for part in parts]
        ends = all(part.ends for part in parts)
        count = None if None in counts or not ends else sum(part.count or 0 for part in parts)
        together = [n for part in parts for n in part.expected]
        readables = [part.readable for part in parts]
        readable: tf.Readable[Any]
        if self.kind == "merge":
            readable, is_exact = tf.merge(*readables), is_exact and len(parts) == 1
        elif self.kind == "concat":
            readable = tf.concat(*readables)
        elif self.kind == "interleave":
            readable = tf.interleave(*readables)
            if is_exact:
                turns = [iter(part.expected) for part in parts]
                together = []
                while turns:
                    turns = [turn for turn in turns if _put(turn, together)]
        else:
            readable = tf.zip(*readables).pipe(tf.flatten())
            count = None if None in counts or not ends else min(part.count or 0 for part in parts) * len(parts)
            if is_exact:
                tuples = zip(*[part.expected for part in parts], strict=False)
                together = [n for each in tuples for n in each]
        holds = sum(part.holds for part in parts)
        return Part(readable, together, count, holds, 2 + sum(part.stages + 2 for part in parts), is_exact, ends)


def _put(turn: Iterator[int], together: list[int]) -> bool:
    for n in turn:
        together.append(n)
        return True
    return False


FAULTS = st.builds(
    Faults,
    fails_at=st.one_of(st.just(NEVER), st.integers(0, 49)),
    pause=st.sampled_from([0, 0, 1]),
    closing=st.integers(0, 2),
    fails_in_closing=st.booleans(),
)
NONE = st.builds(Faults, st.just(NEVER), st.sampled_from([0, 0, 1]), st.integers(0, 2), st.just(False))
SOME = st.one_of(*[NONE] * 6, FAULTS)
DEALT = FAULTS.map(lambda faults: dataclasses.replace(faults, fails_at=faults.fails_at % 13))
KINDS = sorted(name[1:] for name in vars(Stage) if name[0] == "_" and name[1] != "_")
JOINS = ["merge", "concat", "interleave", "zip"]


def flows(faults: st.SearchStrategy[Faults], ends: st.SearchStrategy[bool]) -> st.SearchStrategy[Any]:
    """Return a strategy for flows: sources with stages, joined or not, with more stages after that."""
    kinds, counts = st.sampled_from(["plain", "generator", "channel"]), st.sampled_from([0, 1, 5, 12, 60])
    guards = st.sampled_from(["retry", "recover"])
    sources = st.one_of(
        *[st.builds(Source, kinds, counts, faults, st.just("nobody"), ends)] * 3,
        st.builds(Source, kinds, counts, DEALT, guards, ends),
    )
    stages = st.tuples(st.sampled_from(KINDS), st.integers(0, 4), faults)

    def chains(flows: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
        return st.builds(grown, flows, st.lists(stages, max_size=most))

    joins = st.builds(Join, st.sampled_from(JOINS), st.lists(chains(sources, 2), min_size=1, max_size=3))
    return chains(st.one_of(sources, joins), 3)


def grown(flow: Any, stages: list[tuple[str, int, Faults]]) -> Any:
    for kind, n, faults in stages:
        flow = Stage(kind, flow, n, faults)
    return flow


def others_in(exc: BaseException | None) -> list[BaseException]:
    """Return the exceptions in `exc` that are not failures of this module."""
    if exc is None or isinstance(exc, Boom):
        return []
    if isinstance(exc, BaseExceptionGroup):
        return [other for part in exc.exceptions for other in others_in(part)]
    return [exc]


class Trial:
    """One run of a flow: how it is consumed, and how it ended."""

    def __init__(self, flow: Any, mode: str, capacity: int, pause: int, cancel: float | None, enough: int) -> None:
        self.mode = mode
        self.capacity = capacity
        self.pause = pause
        self.cancel = cancel
        self.enough = enough
        self.world = World()
        self.begun = Item.alive
        self.part: Part = flow.make(self.world)
        self.got: list[int] = []
        self.raised: Exception | None = None
        self.result = ""
        self.stopped_at = math.inf  # when the reader stopped, or the run was cancelled
        self.ended_at = 0.0
        self.is_timed_out = False

    async def sink(self, items: tf.ReceiveChannel[Item]) -> str:
        if self.mode == "enough" and not self.enough:
            return "enough"
        async for item in items:
            self.got.append(item.n)
            del item  # or this frame would hold one more
            await trio.sleep(self.pause)
            if self.mode in ("enough", "leave") and len(self.got) == self.enough:
                self.stopped_at = trio.current_time()
                return "enough"
            if self.mode == "stop reading" and len(self.got) == self.enough:
                await trio.sleep(PATIENCE / 2)
        return "the end"

    async def consume(self) -> str:
        if self.mode in ("run", "enough"):
            return await tf.pipeline(self.part.readable, tf.Writable(self.sink), capacity=self.capacity)
        async with self.part.readable.open(capacity=self.capacity) as receive:
            if self.mode == "stop reading" and not self.enough:
                await trio.sleep(PATIENCE / 2)
            return await self.sink(receive)

    async def main(self) -> None:
        before = tasks()
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def stop() -> None:
                if isinstance(self.cancel, float):
                    await trio.sleep(self.cancel)
                else:
                    await passes(self.cancel or 0)
                self.stopped_at = min(self.stopped_at, trio.current_time())
                scope.cancel()

            if self.cancel is not None:
                nursery.start_soon(stop)
            with scope, trio.move_on_after(PATIENCE) as patience:
                try:
                    self.result = await self.consume()
                except Exception as exc:  # noqa: BLE001 - looked at below
                    self.raised = exc
            self.ended_at = trio.current_time()
            self.is_timed_out = patience.cancelled_caught
            assert self.result or self.raised or self.is_timed_out or scope.cancelled_caught
            nursery.cancel_scope.cancel()
        assert tasks() == before  # R2

    def run(self) -> None:
        clock = MockClock(autojump_threshold=0)
        trio.run(self.main, clock=clock)

    @property
    def bound(self) -> float:
        """Return how many items may be alive: a channel and a batch around each stage, and what stages declare (R7)."""
        return self.part.holds + (self.part.stages + 1) * (3 * self.capacity + 3)


@pytest.mark.slow
@settings(max_examples=500)
@given(
    flow=flows(SOME, st.integers(0, 9).map(lambda n: n < 9)),
    mode=st.sampled_from(["run", "run", "read", "enough", "leave", "stop reading"]),
    capacity=st.sampled_from([1, 2, 16]),
    pause=st.sampled_from([0, 0, 1, 5]),
    cancel=st.one_of(st.none(), st.none(), st.integers(0, 80), st.floats(0.5, 60)),
    enough=st.integers(0, 12),
)
def test_any_flow_follows_the_rules(
    flow: Any, mode: str, capacity: int, pause: int, cancel: float | None, enough: int
) -> None:
    trial = Trial(flow, mode, capacity, pause, cancel, enough)
    world, part, got = trial.world, trial.part, trial.got

    trial.run()

    seen = failures_in(trial.raised)
    assert others_in(trial.raised) == []  # only what stages have raised (R11),
    assert {*seen} <= {*world.raised, *world.handled}  # the very objects,
    assert {*world.raised} <= {*seen}  # and all of them (R17)
    assert [world.closed[n + 1] for n in range(world.opened)] == [1] * world.opened  # R2
    if part.is_exact:
        assert got == part.expected[: len(got)]  # R8
    else:
        assert not Counter(got) - Counter(part.expected)
    if trial.result == "the end":
        assert part.count is None or len(got) == part.count  # a cancellation or a failure is not mistaken for the end
    assert not (trial.is_timed_out and part.ends)  # nothing is stuck,
    assert not trial.ended_at > trial.stopped_at  # a flow that was left or cancelled ends at once (R9, R16),
    if mode != "stop reading":
        assert not trial.ended_at > world.failed_at + pause  # and so does one that has failed (R11)
    assert world.most - trial.begun <= trial.bound  # R7
    ended = "raised" if trial.raised else trial.result or ("quiet" if trial.is_timed_out else "cancelled")
    event(f"{mode}: {ended}")


@pytest.mark.slow
@settings(max_examples=400)
@given(
    flow=flows(NONE, st.just(True)),
    capacity=st.sampled_from([1, 2, 16]),
    pause=st.sampled_from([0, 0, 1]),
)
def test_any_flow_without_faults_emits_everything_expected(flow: Any, capacity: int, pause: int) -> None:
    trial = Trial(flow, "run", capacity, pause, None, 0)

    trial.run()

    assert trial.result == "the end"
    if trial.part.is_exact:
        assert trial.got == trial.part.expected
    else:
        assert not Counter(trial.got) - Counter(trial.part.expected)
    assert trial.part.count is None or len(trial.got) == trial.part.count
    assert trial.world.raised == []


@settings(max_examples=150)
@given(
    kind=st.sampled_from([*KINDS, *JOINS]),
    then=st.sampled_from(KINDS),
    n=st.integers(0, 4),
    capacity=st.sampled_from([1, 2, 8]),
    enough=st.integers(0, 3),
)
def test_R7_a_flow_that_nobody_reads_holds_no_more_than_its_parts_declare(
    kind: str, then: str, n: int, capacity: int, enough: int
) -> None:
    source = Source("channel", 400, NO_FAULTS, "nobody", ends=True)
    flow: Any = Stage(kind, source, n, NO_FAULTS) if kind in KINDS else Join(kind, [source, source])
    trial = Trial(Stage(then, flow, n, NO_FAULTS), "stop reading", capacity, 0, 9000.0, enough)

    trial.run()

    assert trial.world.most - trial.begun <= trial.bound
