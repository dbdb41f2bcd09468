"""Any flow of any operators, with any faults, cancelled at any moment, slow on any side: what must hold of its run.

A flow is a tree: sources are its leaves, stages and joins its branches. Beside the readable it makes, each part tells what
should come out of it, and how many items it may hold. test_faults does the same for what stands beneath all operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Boom, passes, tasks

PATIENCE = 100_000  # seconds, of a clock that jumps: a flow that is stuck reaches it at once
SUBSTITUTES = 2  # items that come in place of a failure


class Item:
    """An item with a number, and how many of them there are."""

    __slots__ = ("n",)

    alive: ClassVar[int] = 0

    def __init__(self, n: int) -> None:
        Item.alive += 1
        self.n = n

    def __del__(self) -> None:
        Item.alive -= 1


@dataclass
class World:
    """What the parts of one flow tell of themselves."""

    opened: int = 0
    closed: Counter[int] = field(default_factory=Counter)
    raised: list[Boom] = field(default_factory=list)  # by whom nobody deals with it
    dealt: list[Boom] = field(default_factory=list)  # where somebody does
    most: int = 0  # items alive at once
    numbers: int = 0

    def take_numbers(self, count: int) -> range:
        self.numbers += count
        return range(self.numbers - count, self.numbers)

    def fail(self, *, is_dealt: bool) -> None:
        failure = Boom(len(self.raised), is_dealt)
        (self.dealt if is_dealt else self.raised).append(failure)
        raise failure

    @asynccontextmanager
    async def resource(self, faults: Faults, *, is_dealt: bool) -> AsyncIterator[None]:
        """Be something that is opened, and closed after a while, which may fail."""
        self.opened += 1
        me = self.opened
        try:
            yield
        finally:
            self.closed[me] += 1
            with trio.CancelScope(shield=True):
                await passes(faults.closing)
            if faults.fails_in_closing:
                self.fail(is_dealt=is_dealt)


@dataclass
class Part:
    """What a part of a flow makes: a readable, what should come out of it, and how much it may hold."""

    readable: tf.Readable[Item]
    expected: list[int]  # in this order, where it is exact; else these, in any order
    count: int | None  # how many of them; None where that is left to chance
    holds: float  # items, beside what channels and batches do
    stages: int = 1
    is_exact: bool = True


@dataclass(frozen=True)
class Faults:
    """How a part of a flow misbehaves."""

    fails_at: int  # the item; above all counts: never
    pause: int  # seconds for each item
    closing: int  # shielded scheduler passes
    fails_in_closing: bool


NO_FAULTS = Faults(10**9, 0, 0, False)


@dataclass(frozen=True)
class Source:
    kind: str
    count: int
    faults: Faults
    guard: str  # who deals with its failure

    def make(self, world: World) -> Part:
        numbers = world.take_numbers(self.count)
        is_dealt = self.guard != "nobody"
        if self.guard == "retry":
            readable = tf.retry(lambda position: self.run(world, numbers[position:], position), attempts=50)
            return Part(readable, [*numbers], self.count, 0, 2)
        readable = self.run(world, numbers, 0)
        if self.guard == "nobody":
            return Part(readable, [*numbers], self.count, 0)
        given = numbers[: self.faults.fails_at]
        substitutes = world.take_numbers(SUBSTITUTES) if self.faults.fails_in_closing or len(given) < self.count else ()
        readable = readable.pipe(tf.recover(lambda failure: [Item(n) for n in substitutes]))
        assert is_dealt
        return Part(readable, [*given, *substitutes], len(given) + len(substitutes), SUBSTITUTES, 2)

    def run(self, world: World, numbers: range, position: int) -> tf.Readable[Item]:
        faults = self.faults
        is_dealt = self.guard != "nobody"
        attempt = 0

        def items() -> Iterator[Item]:
            for n in numbers:
                if n - numbers.start + position == faults.fails_at and not (self.guard == "retry" and position):
                    world.fail(is_dealt=is_dealt)
                item = Item(n)
                world.most = max(world.most, Item.alive)
                yield item

        async def channel(output: tf.SendChannel[Item]) -> None:
            nonlocal attempt
            attempt += 1
            is_last = self.guard == "retry" and (position or attempt > 1 or faults.fails_at >= self.count)
            async with world.resource(NO_FAULTS if is_last else faults, is_dealt=is_dealt):
                for item in items():
                    if faults.pause:
                        await trio.sleep(faults.pause)
                    await output.send(item)

        @tf.readable
        async def generator() -> AsyncIterator[Item]:
            async with world.resource(faults, is_dealt=is_dealt):
                for item in items():
                    yield item
                    await trio.sleep(faults.pause)

        if self.kind == "plain" and self.guard == "nobody":
            return tf.from_iterable(_Iterable(items))
        if self.kind == "generator" and self.guard == "nobody":
            return generator()
        return tf.Readable(channel)


@dataclass
class _Iterable:
    make: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.make()


def around(
    split: Callable[[tf.Readable[Any]], AbstractAsyncContextManager[tuple[tf.Readable[Any], ...]]],
    join: Callable[..., tf.Readable[Any]],
) -> tf.Transform[Any, Any]:
    """Split what comes and join the branches."""

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
        part.readable = part.readable.pipe(transform)
        part.stages += 1
        return part

    def look(self, world: World, item: Item, *, is_dealt: bool = False) -> Item:
        if item.n % 50 == self.faults.fails_at:
            world.fail(is_dealt=is_dealt)
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
        part.count = None if part.count is None else min(part.count, self.n)
        return tf.take(self.n)

    def _generator(self, world: World, part: Part) -> Any:
        @tf.transform
        async def stage(items: AsyncIterable[Item]) -> AsyncIterator[Item]:
            async with world.resource(self.faults, is_dealt=False):
                async for item in items:
                    yield self.look(world, item)
                    await trio.sleep(self.faults.pause)

        return stage()

    def _channels(self, world: World, part: Part) -> Any:
        async def stage(source: tf.ReceiveChannel[Item], output: tf.SendChannel[Item]) -> None:
            async with world.resource(self.faults, is_dealt=False):
                async for item in source:
                    await trio.sleep(self.faults.pause)
                    await output.send(self.look(world, item))

        return tf.Transform(stage)

    def _workers(self, world: World, part: Part, *, ordered: bool = True) -> Any:
        async def step(item: Item) -> Item:
            async with world.resource(self.faults, is_dealt=False):
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
        part.holds += 5 * (self.n + 1)  # a channel holds lists, each of so many
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
        return tf.timeout(PATIENCE / 2).pipe(tf.keep_alive(PATIENCE / 3, Item(-1)))

    def _dropping(self, world: World, part: Part) -> Any:
        part.expected = [n for n in part.expected if n % 50 != self.faults.fails_at]
        part.count = len(part.expected) if part.is_exact else None
        part.holds += 24
        return tf.on_item_error(tf.map(lambda item: self.look(world, item, is_dealt=True)), "drop")

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
        count = None if None in counts else sum(part.count or 0 for part in parts)
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
            shortest = min((part.count for part in parts if part.count is not None), default=0)
            count = None if None in counts else shortest * len(parts)
            if is_exact:
                together = [part.expected[i] for i in range(shortest) for part in parts]
        holds = sum(part.holds for part in parts)
        return Part(readable, together, count, holds, 2 + sum(part.stages + 2 for part in parts), is_exact)


def _put(turn: Iterator[int], together: list[int]) -> bool:
    for n in turn:
        together.append(n)
        return True
    return False


def faults(most: int) -> st.SearchStrategy[Faults]:
    return st.builds(
        Faults,
        fails_at=st.one_of(st.just(10**9), st.just(10**9), st.integers(0, most)),
        pause=st.sampled_from([0, 0, 1]),
        closing=st.integers(0, 2),
        fails_in_closing=st.integers(0, 19).map(lambda n: n == 19),
    )


KINDS = sorted(name[1:] for name in vars(Stage) if name[0] == "_" and name[1] != "_")
SOURCES = st.builds(
    Source,
    kind=st.sampled_from(["plain", "generator", "channel"]),
    count=st.sampled_from([0, 1, 5, 12, 60]),
    faults=faults(12),
    guard=st.sampled_from(["nobody", "nobody", "nobody", "retry", "recover"]),
)
FLOWS: st.SearchStrategy[Any] = st.recursive(
    SOURCES,
    lambda flows: st.one_of(
        st.builds(Stage, kind=st.sampled_from(KINDS), source=flows, n=st.integers(0, 4), faults=faults(49)),
        st.builds(
            Join,
            kind=st.sampled_from(["merge", "concat", "interleave", "zip"]),
            sources=st.lists(flows, min_size=1, max_size=3),
        ),
    ),
    max_leaves=4,
)


def booms_in(exc: BaseException | None) -> list[Boom]:
    """Give all failures in `exc`, and those in whose cleanup they were raised."""
    if exc is None:
        return []
    parts = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    found = [boom for part in (*parts, exc.__context__) for boom in booms_in(part)]
    return [*found, exc] if isinstance(exc, Boom) else found


def others_in(exc: BaseException | None) -> list[BaseException]:
    """Give all that is raised and is no failure of ours."""
    if exc is None or isinstance(exc, Boom):
        return []
    if isinstance(exc, BaseExceptionGroup):
        return [other for part in exc.exceptions for other in others_in(part)]
    return [exc]


@settings(max_examples=400, deadline=None)
@given(
    flow=FLOWS,
    mode=st.sampled_from(["run", "read", "leave", "stop reading"]),
    capacity=st.sampled_from([1, 2, 16]),
    pause=st.sampled_from([0, 0, 1, 5]),
    cancel=st.one_of(st.none(), st.none(), st.integers(0, 80), st.floats(0.5, 60)),
    leave_after=st.integers(0, 12),
)
def test_any_flow_keeps_its_promises(
    flow: Any, mode: str, capacity: int, pause: int, cancel: float | None, leave_after: int
) -> None:
    world = World()
    got: list[int] = []
    raised: list[BaseException] = []
    result: list[str] = []
    begun = Item.alive
    part: Part = flow.make(world)
    fixed = Item.alive - begun

    async def sink(items: tf.ReceiveChannel[Item]) -> str:
        async for item in items:
            got.append(item.n)
            await trio.sleep(pause)
        return "the end"

    async def consume() -> str:
        if mode == "run":
            return await tf.pipeline(part.readable, tf.Writable(sink), capacity=capacity)
        async with part.readable.open(capacity=capacity) as receive:
            async for item in receive:
                got.append(item.n)
                await trio.sleep(pause)
                if len(got) == leave_after:
                    if mode == "leave":
                        return "left"
                    if mode == "stop reading":
                        await trio.sleep(PATIENCE / 9)
        return "the end"

    async def main() -> None:
        before = tasks()
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                async def stop() -> None:
                    if isinstance(cancel, float):
                        await trio.sleep(cancel)
                    else:
                        await passes(cancel or 0)
                    scope.cancel()

                if cancel is not None:
                    nursery.start_soon(stop)
                with scope:
                    try:
                        result.append(await consume())
                    except Exception as exc:  # noqa: BLE001 - looked at below
                        raised.append(exc)
                nursery.cancel_scope.cancel()
        assert result or raised or scope.cancelled_caught  # a Cancelled is not swallowed
        assert tasks() == before  # R2

    trio.run(main, clock=MockClock(autojump_threshold=0))
    exc = raised[0] if raised else None
    seen = booms_in(exc)

    assert others_in(exc) == []  # nothing but what stages have raised (R11),
    assert {*seen} <= {*world.raised, *world.dealt}
    assert {*world.raised} <= {*seen}  # all of it (R17),
    assert len({*map(id, seen)} & {*map(id, world.raised)}) == len(world.raised)  # the very objects
    assert [world.closed[n + 1] for n in range(world.opened)] == [1] * world.opened  # R2
    if part.is_exact:
        assert got == part.expected[: len(got)]  # R8
    else:
        assert not Counter(got) - Counter(part.expected)
    if result == ["the end"] and not seen:
        assert part.count is None or len(got) == part.count
    bound = part.holds + (part.stages + 1) * (4 * capacity + 4) + fixed
    assert world.most - begun <= bound, f"{world.most - begun} items alive, where {bound} are the most"  # R7
    event(f"{mode}: {'raised' if raised else result[0] if result else 'cancelled'}")
