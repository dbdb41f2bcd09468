"""Hubs: what each subscriber gets as others join and leave, which one makes others wait, and how a hub ends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source


@given(
    items=st.lists(st.integers(), max_size=600),
    capacities=st.lists(st.integers(1, 300), min_size=1, max_size=4),
)
def test_subscribers_from_the_beginning_get_everything(items: list[int], capacities: list[int]) -> None:
    async def main() -> list[list[int]]:
        results: list[list[int]] = [[] for _ in capacities]

        async def read(at: int) -> None:
            results[at] = await numbers.subscribe(capacity=capacities[at]).pipe(tf.collect())

        async with (
            tf.hub(tf.from_iterable(items), start_after=len(capacities)) as numbers,
            trio.open_nursery() as nursery,
        ):
            for at in range(len(capacities)):
                nursery.start_soon(read, at)
        return results

    assert trio.run(main) == [items] * len(capacities)


async def test_a_subscriber_gets_the_items_sent_after_it_joined(autojump_clock: MockClock) -> None:
    ticks = tf.ticks(1).pipe(tf.enumerate()).pipe(tf.map(lambda pair: pair[0]))
    async with tf.hub(ticks) as numbers:
        await trio.sleep(2.5)
        assert numbers.subscribers == 0
        assert await numbers.subscribe().pipe(tf.take(2)).pipe(tf.collect()) == [3, 4]
        await trio.sleep(2.5)
        assert await numbers.subscribe().pipe(tf.first()) == 7


async def test_each_run_of_a_subscription_joins_again(autojump_clock: MockClock) -> None:
    async with tf.hub(tf.ticks(1)) as times:
        subscription = times.subscribe()
        first = await subscription.pipe(tf.first())
        assert await subscription.pipe(tf.first()) > first


async def test_a_hub_shows_its_source_and_how_many_subscribe() -> None:
    async with tf.hub(tf.ticks(1)) as news:
        assert repr(news) == "<Hub hub(<Readable ticks(1)>), 0 subscribers>"


async def test_a_slow_subscriber_that_drops_delays_no_other(autojump_clock: MockClock) -> None:
    got: list[int] = []

    async def slow(n: int) -> None:
        got.append(n)
        await trio.sleep(1)

    numbers = tf.ticks(0.01).pipe(tf.enumerate()).pipe(tf.map(lambda pair: pair[0])).pipe(tf.take(300))
    async with tf.hub(numbers, start_after=2) as feed, trio.open_nursery() as nursery:
        dropping = feed.subscribe(capacity=2, overflow="drop_oldest")
        nursery.start_soon(lambda: dropping.pipe(tf.for_each(slow)))
        assert await feed.subscribe().pipe(tf.count()) == 300
        assert trio.current_time() < 3.1
        nursery.cancel_scope.cancel()
    assert got[0] == 0
    assert len(got) < 5


async def test_R6_a_slow_subscriber_that_waits_sets_the_pace() -> None:
    made = 0

    async def eager(output: tf.SendChannel[int]) -> None:
        nonlocal made
        while True:
            made += 1
            await output.send(made)

    async with (
        tf.hub(tf.Readable(eager), start_after=1) as numbers,
        numbers.subscribe(capacity=2).open(capacity=2) as receive,
    ):
        assert await receive.receive() == 1
        await wait_all_tasks_blocked()
        before = made
        await wait_all_tasks_blocked()
        assert made == before < 1000


async def test_R6_of_two_that_wait_the_one_with_less_room_sets_the_pace_for_both() -> None:
    source = Source(itertools.count())

    async with (
        tf.hub(source.readable, start_after=2) as numbers,
        numbers.subscribe(capacity=1).open(capacity=1) as narrow,
        numbers.subscribe(capacity=100).open(capacity=100) as wide,
    ):
        await wait_all_tasks_blocked()
        ahead = wide.statistics().items - narrow.statistics().items

    assert 0 <= ahead <= 2


async def test_no_item_is_taken_before_as_many_have_joined_as_start_after_says() -> None:
    async with tf.hub(tf.from_iterable(range(5)), start_after=2) as numbers, numbers.subscribe().open() as one:
        await wait_all_tasks_blocked()
        async with numbers.subscribe().open() as other:
            got = [[item async for item in each] for each in (one, other)]

    assert got == [[*range(5)]] * 2


async def test_a_full_subscriber_with_the_fail_policy_fails_alone() -> None:
    send, receive = tf.open_channel[int](100)
    async with tf.hub(tf.from_iterable(receive), start_after=2) as numbers, trio.open_nursery() as nursery:
        results: list[int] = []

        async def read_all() -> None:
            results.extend(await numbers.subscribe().pipe(tf.collect()))

        async def read_slowly() -> None:
            async with numbers.subscribe(capacity=1, overflow="fail").open(capacity=1) as failing:
                await wait_all_tasks_blocked()
                await send.send_many(range(9))
                await wait_all_tasks_blocked()
                send.close()
                async for _ in failing:
                    pass

        nursery.start_soon(read_all)
        with pytest.raises(BufferError, match="the channel is full"):
            await read_slowly()
    assert results == [*range(9)]
    assert numbers.subscribers == 0


async def test_R2_a_subscriber_with_one_stage_after_it_runs_as_one_task() -> None:
    async def sink(source: tf.ReceiveChannel[int]) -> list[int]:
        assert trio.lowlevel.current_task() is this
        assert not this.child_nurseries
        return [item async for item in source]

    async with tf.hub(tf.from_iterable([1, 2]), start_after=1) as numbers:
        this = trio.lowlevel.current_task()
        before = len(this.child_nurseries)

        async def read() -> None:
            nonlocal this
            this = trio.lowlevel.current_task()
            assert await numbers.subscribe().pipe(tf.Writable(sink)) == [1, 2]

        assert before  # the hub's own
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
async def test_R11_a_failing_source_cancels_a_subscriber_that_waits_for_something_else(overflow: Any) -> None:
    failure = Boom()
    may_fail = trio.Event()

    @tf.readable
    async def source() -> AsyncIterator[int]:
        yield 1
        await may_fail.wait()
        raise failure

    async def sink(items: tf.ReceiveChannel[int]) -> None:
        assert await items.receive() == 1
        may_fail.set()
        await trio.sleep_forever()

    async def read() -> None:
        with pytest.raises(Boom) as caught:
            await numbers.subscribe(overflow=overflow).pipe(tf.Writable(sink))
        told.append(caught.value)

    async def run(nursery: trio.Nursery) -> None:
        nonlocal numbers
        async with tf.hub(source(), start_after=1) as numbers:
            nursery.start_soon(read)
            await trio.sleep_forever()

    numbers: tf.Hub[int]
    told: list[BaseException] = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(Boom):
            await run(nursery)

    assert told == [failure]
    assert any(note.startswith("in stage 1 of 2: hub(") for note in failure.__notes__)


async def test_R11_a_sink_that_fails_in_its_cleanup_after_its_channel_was_aborted_raises_both() -> None:
    async def sink(items: tf.ReceiveChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("the clean-up failed")

    send, receive = tf.open_channel[int]()

    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(BaseExceptionGroup) as caught:
                await tf.from_iterable(receive).pipe(tf.Writable(sink))
            assert [type(failure).__name__ for failure in caught.value.exceptions] == ["HangUp", "OSError"]

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        send.abort(Boom())


async def test_R9_an_abort_of_the_source_after_its_reader_was_cancelled_is_not_raised() -> None:
    send, receive = tf.open_channel[int]()

    async def slow_to_end(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        try:
            async for item in source:
                await output.send(item)
        finally:
            with trio.CancelScope(shield=True):
                send.abort(Boom())
                await wait_all_tasks_blocked()

    await send.send(1)

    assert await tf.from_iterable(receive).pipe(tf.Transform(slow_to_end)).pipe(tf.first()) == 1


async def test_receive_many_from_a_subscriber_that_drops_returns_one_item() -> None:
    got: list[list[int]] = []

    async def sink(source: tf.ReceiveChannel[int]) -> None:
        await wait_all_tasks_blocked()
        got.append(await source.receive_many())
        got.append(source.receive_many_nowait())
        got.extend([batch async for batch in source.batches()])

    async with tf.hub(tf.from_iterable(range(5)), start_after=1) as numbers:
        await numbers.subscribe(capacity=3, overflow="drop_oldest").pipe(tf.Writable(sink))

    assert got == [[2], [3], [4]]


async def test_a_monitor_sees_a_subscription_as_a_stage() -> None:
    monitor = tf.monitor()
    async with tf.hub(tf.from_iterable([1, 2]), start_after=1) as numbers:
        await tf.pipeline(numbers.subscribe(), tf.map(lambda n: n), tf.drain(), monitor=monitor)
        seen = [(stage.name, stage.items) for stage in monitor.snapshot().stages]

    assert seen[0] == ("hub(<Readable from_iterable([1, 2])>).subscribe()", 2)
    assert len(seen) == 3


async def test_R9_a_subscriber_that_leaves_is_removed_and_the_others_continue() -> None:
    async with tf.hub(tf.from_iterable(range(1000)), start_after=2) as numbers, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: numbers.subscribe().pipe(tf.first()))
        assert await numbers.subscribe().pipe(tf.count()) == 1000


async def test_a_subscriber_that_leaves_a_quiet_hub_is_removed_at_once() -> None:
    send, receive = tf.open_channel[int]()
    async with send, tf.hub(tf.from_iterable(receive)) as numbers:
        for _ in range(3):
            async with numbers.subscribe().open():
                await wait_all_tasks_blocked()
                assert numbers.subscribers == 1
            assert numbers.subscribers == 0


async def test_a_full_subscriber_that_leaves_delays_no_other() -> None:
    async with tf.hub(tf.from_iterable(range(1000)), start_after=2) as numbers, trio.open_nursery() as nursery:
        counts: list[int] = []

        async def count() -> None:
            counts.append(await numbers.subscribe().pipe(tf.count()))

        nursery.start_soon(count)
        async with numbers.subscribe(capacity=1).open(capacity=1):
            await wait_all_tasks_blocked()  # the others wait for this one, which does not read
            assert counts == []
    assert counts == [1000]


async def test_R11_the_block_and_every_subscriber_raise_the_exception_of_a_failing_source() -> None:
    failure = Boom("source")
    told: list[BaseException] = []

    async def read(subscription: tf.Readable[Any]) -> None:
        try:
            await subscription.pipe(tf.drain())
        except Boom as exc:
            told.append(exc)

    async def run(nursery: trio.Nursery) -> None:
        async with tf.hub(tf.failed(failure), start_after=1) as nothing:
            nursery.start_soon(read, nothing.subscribe())
            subscriptions.append(nothing.subscribe())
            await trio.sleep_forever()

    subscriptions: list[tf.Readable[Any]] = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(Boom) as caught:
            await run(nursery)
    await read(subscriptions[0])  # one that joins too late gets it too

    assert caught.value is failure
    assert told == [failure, failure]


async def test_a_subscriber_after_the_end_ends_at_once() -> None:
    async with tf.hub(tf.from_iterable([1, 2])) as numbers:
        await wait_all_tasks_blocked()
        assert await numbers.subscribe().pipe(tf.collect()) == []


async def test_R13_leaving_the_block_breaks_its_subscribers_instead_of_ending_them(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, tf.hub(tf.ticks(1)) as times:
        subscription = times.subscribe()
        caught: list[Any] = []

        async def read() -> None:
            try:
                await subscription.pipe(tf.drain())
            except trio.BrokenResourceError as exc:
                caught.append(exc)

        nursery.start_soon(read)
        await trio.sleep(2.5)
    assert "the block of hub(" in str(caught[0])
    with pytest.raises(trio.BrokenResourceError, match="was left"):
        await subscription.pipe(tf.drain())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tf.hub([1]), TypeError, "hub expects a Readable"),  # type: ignore[arg-type]
        (lambda: tf.hub(tf.empty(), start_after=-1), ValueError, "start_after must be at least 0"),
    ],
)
def test_R1_wrong_arguments_are_refused_at_once(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


async def test_R1_a_subscription_checks_its_arguments_at_once() -> None:
    async with tf.hub(tf.empty()) as nothing:
        with pytest.raises(ValueError, match="capacity must be at least 1"):
            nothing.subscribe(capacity=0)
        with pytest.raises(ValueError, match="overflow must be"):
            nothing.subscribe(overflow="explode")  # type: ignore[arg-type]
