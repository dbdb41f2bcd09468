"""R16 and R17: a cancel scope ends a run at once and loses no failure; every task yields."""

from __future__ import annotations

import itertools
import operator
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, Turns, passes, passing, passing_on, tasks


async def test_R16_a_cancelled_run_ends_at_once(autojump_clock: MockClock) -> None:
    source, sink = Source([1], then=None), Sink()

    with trio.move_on_after(5) as scope:
        await source.readable.pipe(passing()).pipe(tf.map(str)).pipe(sink.writable)

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5)
    assert (source.ended, sink.got, sink.how) == (1, ["1"], "Cancelled")


async def fused(source: Source, sink: Sink) -> None:
    await tf.pipeline(range(6), tf.map(str), tf.tap(sink.got.append), tf.drain(), capacity=2)


async def in_tasks(source: Source, sink: Sink) -> None:
    await tf.pipeline(source.readable, tf.Transform(passing_on), tf.map(str), sink.writable, capacity=2)


async def in_generators(source: Source, sink: Sink) -> None:
    await tf.pipeline(source.readable, passing(), tf.map(str), passing(), sink.writable, capacity=2)


async def taken(source: Source, sink: Sink) -> None:
    await tf.pipeline(source.readable, passing(), tf.take(6), tf.map(str), sink.writable, capacity=1)


async def written(source: Source, sink: Sink) -> None:
    async with tf.map(str).pipe(sink.writable).open(capacity=2) as send:
        for n in range(6):
            await send.send(n)


async def opened(source: Source, sink: Sink) -> None:
    async with source.readable.pipe(passing()).pipe(tf.map(str)).open(capacity=2) as receive:
        await tf.from_iterable(receive).pipe(sink.writable)


@pytest.mark.parametrize("shape", [fused, in_tasks, in_generators, taken, written, opened])
async def test_R16_cancelled_after_any_scheduler_pass_a_run_closes_everything_and_has_emitted_a_prefix(
    shape: Callable[[Source, Sink], Awaitable[None]],
) -> None:
    before = tasks()
    for count in range(500):
        source, sink = Source(range(6)), Sink()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, count, scope)
                await shape(source, sink)
                nursery.cancel_scope.cancel()

        assert source.started == source.ended
        assert sink.got == [str(n) for n in range(len(sink.got))]
        assert tasks() == before
        if not scope.cancelled_caught:
            break
        assert sink.how in ("Cancelled", "the end", "not run", "HangUp")
    assert count > 2
    assert len(sink.got) == 6


async def cancel_after(count: int, scope: trio.CancelScope) -> None:
    await passes(count)
    scope.cancel()


async def test_R16_a_shielded_stage_gets_an_error_at_its_next_channel_call() -> None:
    told = []

    async def shielded(output: tf.SendChannel[int]) -> None:
        with trio.CancelScope(shield=True):
            try:
                for n in itertools.count():
                    await output.send(n)
            except trio.BrokenResourceError as exc:
                told.append(str(exc))
                raise

    with trio.CancelScope() as scope:
        async with tf.Readable(shielded).pipe(tf.Transform(passing_on)).open(capacity=1):
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert len(told) == 1


async def test_R16_closing_twice_is_harmless() -> None:
    send, receive = tf.open_channel[int]()
    near, far = memory_stream_pair()
    duplex = tf.Duplex.from_stream(near)

    for _ in range(2):
        send.close()
        receive.close()
        await send.aclose()
        await receive.aclose()
        await duplex.aclose()

    assert send.statistics().open_send_channels == 0
    assert send.statistics().open_receive_channels == 0
    assert await far.receive_some() == b""


async def test_R16_a_duplex_in_the_middle_is_closed_when_the_run_is_cancelled() -> None:
    near, far = memory_stream_pair()

    with trio.CancelScope() as scope:
        async with tf.from_iterable([b"x"]).pipe(tf.Duplex.from_stream(near)).open():
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert await far.receive_some() == b"x"
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"y")


async def test_R17_every_channel_call_delivers_cancellation() -> None:
    send, receive = tf.open_channel[int](8)
    await send.send_many([0, 1, 2, 3])
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: send.send(1),
        lambda: send.send_many([1]),
        lambda: send.send_many([]),
        receive.receive,
        receive.receive_many,
        lambda: anext(receive),
        lambda: anext(receive.batches()),
    ]

    for call in calls:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught

    assert receive.statistics().used == 4
    assert await receive.receive_many() == [0, 1, 2, 3]


@pytest.mark.parametrize("capacity", [1, 4, 256])
async def test_R17_a_task_yields_at_least_once_every_capacity_items(capacity: int) -> None:
    send, receive = tf.open_channel[int](capacity)
    ticks = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticks.take)
        for n in range(1000):
            await send.send(n)
            assert await receive.receive() == n
        nursery.cancel_scope.cancel()

    assert ticks.count >= 1000 // capacity


async def test_R17_a_task_without_channels_yields_about_twice_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    beats = [now]

    def numbers() -> Iterator[int]:
        nonlocal now
        for n in range(100_000):
            now += 0.1e-6
            yield n

    async def beat() -> None:
        while True:
            beats.append(now)
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trioflow._core.fused.perf_counter", lambda: now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await tf.pipeline(numbers(), tf.count())
        nursery.cancel_scope.cancel()

    # A batch takes up to 0.2 ms, and Trio may run the one task last in a pass and first in the next.
    assert 0.0005 <= max(after - before for before, after in itertools.pairwise(beats)) <= 2 * 0.0009
    assert len(beats) >= 5


async def test_a_slow_item_among_many_quick_ones_does_not_keep_batches_small(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    looks = 0  # at the clock: two for each batch

    def clock() -> float:
        nonlocal looks
        looks += 1
        return now

    def work(lines: list[str]) -> int:
        nonlocal now
        now += 0.1
        return len(lines)

    monkeypatch.setattr("trioflow._core.fused.perf_counter", clock)
    # The chunks are larger than a portion of `lines`, so most batches are pieces of one lazy result.
    counts = await tf.pipeline([b"\n" * 50_000] * 2, tf.lines(), tf.batch(5000), tf.map(work), tf.collect())

    assert counts == [5000] * 20
    assert looks < 2 * 100_000 / 50


async def test_R17_a_task_with_small_channels_yields_once_for_each_batch() -> None:
    source = iter(range(100))
    left = [100]

    async def look() -> None:
        while True:
            left.append(operator.length_hint(source))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await tf.pipeline(source, tf.count(), capacity=4)
        nursery.cancel_scope.cancel()

    assert max(before - after for before, after in itertools.pairwise(left)) <= 2 * 4


ENDLESS = {
    "a sink that only counts": lambda: tf.from_iterable(itertools.count()).pipe(tf.drain()),
    "a filter that drops all": lambda: tf.from_iterable(itertools.count()).pipe(tf.filter(lambda n: False)).pipe(tf.drain()),
    "a filter behind a channel": lambda: Source(itertools.count()).readable.pipe(tf.filter(lambda n: False)).pipe(tf.drain()),
    "an endless flat_map": lambda: (
        tf.from_iterable([0]).pipe(tf.flat_map(itertools.count)).pipe(tf.filter(lambda n: False)).pipe(tf.drain())
    ),
    "a flat_map that gives nothing": lambda: tf.from_iterable(itertools.count()).pipe(tf.flat_map(lambda n: ())).pipe(tf.drain()),
    "a flat_map behind an endless one": lambda: (
        tf.from_iterable([0]).pipe(tf.flat_map(itertools.count)).pipe(tf.flat_map(lambda n: ())).pipe(tf.drain())
    ),
    "a batch that is never full": lambda: (
        tf.from_iterable(itertools.repeat(())).pipe(tf.flat_map(list)).pipe(tf.batch(10)).pipe(tf.drain())
    ),
    "a generator that drops all": lambda: tf.from_iterable(itertools.count()).pipe(dropping()).pipe(tf.drain()),
}  # fmt: skip


@tf.transform
async def dropping(items: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for item in items:
        if item == "never":
            yield item


@pytest.mark.parametrize("case", ENDLESS)
async def test_R17_a_busy_run_lets_others_run_and_can_be_cancelled(case: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            ticks += 1
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await ENDLESS[case]()

    assert ticks == 20


async def turns_beside(
    run: Callable[[Callable[[int], int]], Awaitable[object]], cost: float, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """Return when another task had its turns beside `run(work)`, by a clock that each call of `work` moves by `cost`."""
    now = 0.0
    turns: list[float] = []

    def work(n: int) -> int:
        nonlocal now
        now += cost
        return n

    async def beat() -> None:
        while True:
            turns.append(now)
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trioflow._core.fused.perf_counter", lambda: now)
    monkeypatch.setattr("trioflow._core.channel_end.perf_counter", lambda: now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await run(work)
        nursery.cancel_scope.cancel()
    return [0.0, *turns, now]


def delays(turns: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(turns)]


@pytest.mark.parametrize("cost", [1e-6, 40e-6, 0.5e-3, 1.2e-3])
@pytest.mark.parametrize("head", ["iterable", "channel"])
@pytest.mark.parametrize("tail", ["a sink in their task", "a channel", "a channel for one item of 20"])
async def test_R17_busy_synchronous_operators_delay_other_tasks_by_10_ms_at_most(
    cost: float, head: str, tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(work: Callable[[int], int]) -> None:
        after: dict[str, tf.Transform[int, int]] = {
            "a sink in their task": tf.flat_map(lambda n: [work(n)]),
            "a channel": passing(),
            "a channel for one item of 20": tf.filter(lambda n: n % 20 == 0).pipe(passing()),
        }
        numbers = tf.from_iterable(range(5000))
        if head == "channel":
            numbers = numbers.pipe(passing())
        await numbers.pipe(tf.map(work)).pipe(tf.filter(work)).pipe(after[tail]).pipe(tf.drain())

    turns = await turns_beside(run, cost, monkeypatch)

    assert turns[-1] > 5000 * cost
    assert max(delays(turns)) <= 0.010


def loops(work: Callable[[int], int]) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return runs of 2,000 items in which a loop that never waits calls `work` for each."""
    numbers = tf.from_iterable(range(2000)).pipe(passing())

    @tf.readable
    async def source() -> AsyncIterator[int]:
        for n in range(2000):
            yield work(n)

    @tf.transform
    async def transform(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            yield work(item)

    @tf.transform
    async def choosing(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            if work(item) % 100 == 0:
                yield item

    @tf.writable
    async def sink(items: AsyncIterable[int]) -> None:
        async for item in items:
            work(item)

    async def function(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async for item in source:
            await output.send(work(item))

    async def call(item: int) -> int:
        return work(item)

    async def opened() -> None:
        async with numbers.open() as items:
            async for item in items:
                work(item)

    async def channel() -> None:
        send, receive = tf.open_channel[int](256)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, send)
            async for item in receive:
                work(item)

    async def fill(send: tf.SendChannel[int]) -> None:
        async with send:
            for n in range(2000):
                await send.send(n)

    return {
        "a source": lambda: source().pipe(tf.drain()),
        "a transform": lambda: numbers.pipe(transform()).pipe(tf.drain()),
        "a transform that drops most items": lambda: numbers.pipe(choosing()).pipe(tf.drain()),
        "a sink": lambda: numbers.pipe(sink()),
        "a function of two channels": lambda: numbers.pipe(tf.Transform(function)).pipe(tf.drain()),
        "a coroutine function": lambda: numbers.pipe(tf.map(call)).pipe(tf.drain()),
        "calls at once": lambda: numbers.pipe(tf.map_async(call)).pipe(tf.drain()),
        "for_each": lambda: numbers.pipe(tf.for_each(call)),
        "an opened stream": opened,
        "a channel": channel,
    }


@pytest.mark.parametrize("cost", [1e-6, 40e-6, 0.5e-3, 10e-3])
@pytest.mark.parametrize("loop", loops(lambda n: n))
async def test_R17_a_busy_loop_delays_other_tasks_by_4_ms_and_2_items_at_most_once_its_pace_is_known(
    loop: str, cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = await turns_beside(lambda work: loops(work)[loop](), cost, monkeypatch)

    assert turns[-1] == pytest.approx(2000 * cost)
    # Between two turns of the other task, the loop may have two, and notice the end of one after twice as many items.
    assert max(delays(turns)) < max(0.0041, 16.1 * cost) + 2 * cost
    assert max(delays([time for time in turns if time > 100 * cost])) < 0.0041 + 2 * cost


async def test_R17_an_exception_in_flight_is_not_lost_to_a_cancellation() -> None:
    scope = trio.CancelScope()

    async def fail(*args: object) -> Any:
        scope.cancel()
        raise Boom

    async def aclose(end: object) -> None:
        await trio.lowlevel.checkpoint()

    def made(kind: Any, *names: str) -> Any:
        return type("End", (kind,), {"aclose": aclose, **dict.fromkeys(names, fail)})()

    runs: list[Callable[[], Awaitable[object]]] = [
        lambda: tf.from_iterable(made(trio.abc.ReceiveChannel, "receive")).pipe(tf.collect()),
        lambda: tf.from_iterable(made(trio.abc.ReceiveStream, "receive_some")).pipe(tf.collect()),
        lambda: tf.from_iterable([1]).pipe(tf.to_channel(made(trio.abc.SendChannel, "send"))),
        lambda: tf.from_iterable([b"x"]).pipe(
            tf.to_stream(made(trio.abc.SendStream, "send_all", "wait_send_all_might_not_block"))
        ),
    ]
    for run in runs:
        scope = trio.CancelScope()
        with pytest.raises(Boom), scope:
            await run()


async def test_R17_a_failure_in_the_cleanup_of_a_cancelled_run_is_raised() -> None:
    async def failing(output: tf.SendChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom

    async def run(readable: tf.Readable[int]) -> None:
        await readable.pipe(tf.collect())

    async def opened(readable: tf.Readable[int]) -> None:
        async with readable.open():
            await trio.sleep_forever()

    for consume in (run, opened):
        async with trio.open_nursery() as nursery:
            with pytest.raises(Boom), trio.CancelScope() as scope:  # noqa: PT012
                nursery.start_soon(cancel_when_blocked, scope)
                await consume(tf.Readable(failing).pipe(passing()))


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_R17_a_failure_after_the_block_saw_the_cancellation_is_raised() -> None:
    """The shielded block gets an error that says the run was stopped; the failure comes later, as another object."""

    async def fails_late(output: tf.SendChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked(0.01)
            raise Boom

    with pytest.raises(Boom), trio.CancelScope() as scope:  # noqa: PT012
        async with tf.Readable(fails_late).pipe(tf.Transform(passing_on)).open() as receive:
            await wait_all_tasks_blocked()
            scope.cancel()
            with trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):
                await receive.receive()


async def test_R17_a_block_whose_sink_hung_up_does_not_hide_the_cancellation() -> None:
    async def lingering(source: tf.ReceiveChannel[int]) -> None:
        source.close()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            async with tf.Writable(lingering).open() as send:
                await trio.lowlevel.checkpoint()
                await send.send(1)
            pytest.fail("the sink was cancelled, yet the block was left as if it had returned")

    assert scope.cancelled_caught


@pytest.mark.parametrize("how", ["awaited", "merged", "read", "written"])
async def test_R11_a_run_of_several_tasks_that_is_cancelled_raises_cancelled_itself_and_no_group(how: str) -> None:
    async def use() -> None:
        stages = Source([], then=None).readable.pipe(tf.Transform(passing_on)).pipe(tf.Transform(passing_on))
        if how == "awaited":
            await stages.pipe(tf.drain())
        elif how == "merged":
            await tf.merge(stages, stages, stages).pipe(tf.drain())
        elif how == "read":
            async with stages.open() as items:
                await items.receive()
        else:
            async with tf.Transform(passing_on).pipe(tf.Transform(passing_on)).pipe(tf.drain()).open():
                await trio.sleep_forever()

    raised: list[BaseException] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def run() -> None:
                try:
                    await use()
                except BaseException as exc:
                    raised.append(exc)
                    raise

            await wait_all_tasks_blocked()
            scope.cancel()
    assert [type(exc) for exc in raised] == [trio.Cancelled]
