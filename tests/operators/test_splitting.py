"""One readable for several readers: which gets what, which waits for which, and what happens when one leaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Source, passes, tasks

Split = Callable[..., AbstractAsyncContextManager[tuple[Any, ...]]]


def by_parity(readable: tf.Readable[int], count: int, **options: Any) -> Any:
    return tf.partition(readable, lambda n: n % count, count, **options)


SPLITS: list[Split] = [tf.broadcast, tf.balance, by_parity]


async def collect_all(branches: tuple[tf.Readable[Any], ...]) -> list[list[Any]]:
    """Read all branches side by side."""
    results: list[list[Any]] = [[] for _ in branches]

    async def read(i: int) -> None:
        results[i] = await branches[i].pipe(tf.collect())

    async with trio.open_nursery() as nursery:
        for i in range(len(branches)):
            nursery.start_soon(read, i)
    return results


async def test_broadcast_sends_every_item_to_each_branch() -> None:
    async with tf.broadcast(tf.from_iterable(range(1000)), 3) as branches:
        results = await collect_all(branches)

    assert results == [[*range(1000)]] * 3


async def test_partition_sends_each_item_to_the_branch_that_its_function_returns() -> None:
    async with tf.partition(tf.from_iterable(range(1000)), lambda n: n % 3, 3) as branches:
        results = await collect_all(branches)

    assert results == [[*range(i, 1000, 3)] for i in range(3)]


async def test_balance_sends_each_item_to_one_branch() -> None:
    async with tf.balance(tf.from_iterable(range(1000)), 3) as branches:
        results = await collect_all(branches)

    assert sorted(itertools.chain(*results)) == [*range(1000)]
    assert all(result == sorted(result) for result in results)
    assert all(len(result) > 100 for result in results)


@pytest.mark.parametrize(
    "stage", [tf.buffer(1), tf.take_until(trio.Event()), tf.monitor(), tf.progress(silent=True)], ids=repr
)
async def test_balance_works_if_each_branch_begins_with_a_stage_that_passes_items_on(
    stage: tf.Transform[int, int], autojump_clock: MockClock
) -> None:
    source = tf.from_iterable(range(5)).pipe(tf.throttle(1))
    async with tf.balance(source, 2) as (a, b):
        assert sorted(await tf.merge(a.pipe(stage), b.pipe(stage)).pipe(tf.collect())) == [*range(5)]


async def test_balance_sends_few_items_to_a_slow_reader(autojump_clock: MockClock) -> None:
    taken = {"quick": 0, "slow": 0}

    async def work(branch: tf.Readable[int], name: str, pace: float) -> None:
        async with branch.open() as receive:
            async for _ in receive:
                taken[name] += 1
                await trio.sleep(pace)

    async with tf.balance(tf.from_iterable(range(110)), 2) as (a, b), trio.open_nursery() as nursery:
        nursery.start_soon(work, a, "quick", 1)
        nursery.start_soon(work, b, "slow", 10)

    assert taken["slow"] == pytest.approx(10, abs=2)
    assert sum(taken.values()) == 110


@pytest.mark.parametrize("split", SPLITS)
async def test_R18_no_item_is_mistaken_for_the_end(split: Split) -> None:
    items = [None, b"", "", 0, False]

    if split is by_parity:
        split = lambda readable, count: tf.partition(readable, lambda item: 0, count)  # noqa: E731
    async with split(tf.from_iterable(items), 2) as branches:
        a, b = await collect_all(branches)

    assert a == items or split is tf.balance
    assert len(a) + len(b) == (10 if split is tf.broadcast else 5)


@pytest.mark.parametrize("split", SPLITS)
async def test_an_empty_source_gives_empty_branches(split: Split) -> None:
    async with split(tf.empty(), 2) as branches:
        assert await collect_all(branches) == [[], []]


@pytest.mark.parametrize("split", SPLITS)
async def test_R1_nothing_starts_before_the_block_is_entered(split: Split) -> None:
    source = Source(range(3))

    block = split(source.readable, 2)
    await wait_all_tasks_blocked()
    assert source.started == 0
    async with block:
        await wait_all_tasks_blocked()
        assert source.started == 1

    assert source.ended == 1


@pytest.mark.parametrize("split", SPLITS)
async def test_R4_a_branch_runs_once(split: Split) -> None:
    async with split(tf.empty(), 1) as (branch,):
        assert await branch.pipe(tf.collect()) == []
        with pytest.raises(trio.ClosedResourceError, match="a branch can only run once, and has already run"):
            await branch.pipe(tf.collect())


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("consume", CONSUMERS)
async def test_a_branch_works_with_every_consumer(split: Split, consume: Consumer) -> None:
    source, before = Source(range(9)), tasks()

    async with split(source.readable, 1) as (branch,):
        got = await consume(branch)

    assert got == [*range(9)][: len(got)]
    assert len(got) == 9 or consume in CONSUMERS[2:]
    assert source.started == source.ended == 1
    assert tasks() == before


async def test_R5_a_slow_branch_of_a_broadcast_holds_back_all_branches() -> None:
    source = Source(itertools.count())
    got: list[int] = []

    async with tf.broadcast(source.readable, 2, capacity=4) as (fast, slow), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: fast.pipe(tf.for_each(got.append)))
        await wait_all_tasks_blocked()
        assert got == [0, 1, 2, 3, 4]  # four wait for the slow reader, and a fifth is in the source's hand
        assert slow.statistics().used == slow.statistics().peak == 4
        assert source.sent <= 10
        async with slow.open(capacity=1) as receive:
            assert await receive.receive() == 0
            await wait_all_tasks_blocked()
            assert 5 < len(got) <= 5 + 5  # a batch of four has moved into a channel with room for one
        nursery.cancel_scope.cancel()


async def test_R5_large_chunks_stay_within_the_capacity_and_a_reader_of_both_branches_does_not_deadlock() -> None:
    chunks = [bytes(size) for size in (10, 20_000, 1, 100_000, 4096, 0, 5)] * 3

    async with tf.broadcast(tf.from_iterable(chunks), 2, capacity=3) as (a, b):
        pairs = await tf.zip(a, b, strict=True).pipe(tf.collect())

    assert pairs == [(chunk, chunk) for chunk in chunks]


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("split", [tf.broadcast, by_parity])
async def test_branches_can_be_read_in_turn(split: Split, capacity: int) -> None:
    got: list[int] = []

    async with (
        split(tf.from_iterable(range(100)), 2, capacity=capacity) as (a, b),
        a.open(capacity=1) as first,
        b.open(capacity=1) as second,
    ):
        async for item in first:
            got += [item, await second.receive()]

    assert got == ([n for n in range(100) for _ in "ab"] if split is tf.broadcast else [*range(100)])


@pytest.mark.parametrize("split", [tf.broadcast, tf.balance])
async def test_R9_a_branch_whose_reader_leaves_is_removed_and_the_others_continue(split: Split) -> None:
    async with split(tf.from_iterable(range(2000)), 3) as (gone, never_opened, kept):
        async with never_opened.open():
            pass
        results: list[list[int]] = []

        async def read() -> None:
            results.append(await kept.pipe(tf.collect()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            assert len(await gone.pipe(tf.take(3)).pipe(tf.collect())) == 3

    lost = 0 if split is tf.broadcast else 2000 - len(results[0])
    assert results[0] == sorted(results[0])
    assert len(results[0]) + lost == 2000
    assert lost < 1000


async def test_R9_items_for_a_branch_whose_reader_has_left_are_skipped() -> None:
    async with tf.partition(tf.from_iterable(range(2000)), lambda n: n % 2, 2, capacity=4) as (even, odd):
        assert await odd.pipe(tf.take(1)).pipe(tf.collect()) == [1]
        assert await even.pipe(tf.collect()) == [*range(0, 2000, 2)]


@pytest.mark.parametrize("split", [tf.broadcast, by_parity])
async def test_R9_a_reader_can_leave_its_branch_while_the_source_waits_for_it(split: Split) -> None:
    async with split(tf.from_iterable(range(100)), 2, capacity=2) as (slow, kept):
        results: list[list[int]] = []

        async def read() -> None:
            results.append(await kept.pipe(tf.collect()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async with slow.open(capacity=1):
                await wait_all_tasks_blocked()
                assert not results

    assert results == [[*range(100)] if split is tf.broadcast else [*range(1, 100, 2)]]


@pytest.mark.parametrize("split", SPLITS)
async def test_R9_when_all_readers_have_left_a_quiet_source_is_ended(split: Split) -> None:
    source = Source([0, 1, 2, 3], then=None)

    async with split(source.readable, 2) as branches:
        for branch in branches:
            await branch.pipe(tf.take(1)).pipe(tf.collect())
        await wait_all_tasks_blocked()
        assert source.ended == 1


@pytest.mark.parametrize("split", SPLITS)
async def test_R11_a_source_that_fails_ends_the_block_which_raises_the_same_exception(split: Split) -> None:
    failure = Boom()
    sinks = [0, 0]
    ended: list[int] = []

    async def read(i: int, branch: tf.Readable[int]) -> None:
        async def sink(source: tf.ReceiveChannel[int]) -> None:
            async for _ in source:
                sinks[i] += 1
            ended.append(i)

        await branch.pipe(tf.Writable(sink))

    async def fail(output: tf.SendChannel[int]) -> None:
        await output.send_many([0, 1, 2, 3])
        await wait_all_tasks_blocked()
        raise failure

    async def run() -> None:
        async with split(tf.Readable(fail), 2) as branches, trio.open_nursery() as nursery:
            for i, branch in enumerate(branches):
                nursery.start_soon(read, i, branch)

    with pytest.raises(Boom) as caught:
        await run()

    assert caught.value is failure
    name = "partition" if split is by_parity else split.__name__
    assert failure.__notes__ == ["in stage 1 of 1: fail()", f"in {name}(<Readable fail()>)"]
    assert sum(sinks) >= 4
    assert ended == []  # no branch took the failure for the end (R12)


@pytest.mark.parametrize("split", SPLITS)
async def test_R11_a_reader_outside_the_block_gets_the_failure_too(split: Split) -> None:
    failure = Boom()
    may_fail = trio.Event()

    async def fail(output: tf.SendChannel[int]) -> None:
        await may_fail.wait()
        raise failure

    async def read(branch: tf.Readable[int]) -> None:
        with pytest.raises(Boom) as caught:
            await branch.pipe(tf.collect())
        assert caught.value is failure

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            async with split(tf.Readable(fail), 1) as (branch,):
                nursery.start_soon(read, branch)
                await wait_all_tasks_blocked()
                may_fail.set()
                await trio.sleep_forever()

        with pytest.raises(Boom) as caught:
            await run()
        assert caught.value is failure


@pytest.mark.parametrize("split", SPLITS)
async def test_R11_a_reader_whose_failure_is_handled_counts_as_one_that_has_left(split: Split) -> None:
    async def fail(item: int) -> None:
        raise Boom

    async with split(tf.from_iterable(range(100)), 2) as (bad, good):
        with pytest.raises(Boom):
            await bad.pipe(tf.for_each(fail))
        got = await good.pipe(tf.collect())

    assert got == [*range(100)] if split is tf.broadcast else len(got) >= 50


@pytest.mark.parametrize("split", SPLITS)
async def test_a_failure_in_the_block_ends_everything_and_is_raised_itself(split: Split) -> None:
    source, failure = Source(itertools.count()), Boom()

    async def run() -> None:
        async with split(source.readable, 2):
            await wait_all_tasks_blocked()
            raise failure

    with pytest.raises(Boom) as caught:
        await run()

    assert caught.value is failure
    assert source.ended == 1


@pytest.mark.parametrize("split", SPLITS)
async def test_R11_a_block_and_a_source_that_fail_raise_a_group(split: Split) -> None:
    source = Source(then=Boom("source"))

    async def run() -> None:
        async with split(source.readable, 2):
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("block")

    with pytest.raises(ExceptionGroup) as caught:
        await run()

    assert {exc.args[0] for exc in caught.value.exceptions} == {"block", "source"}


@pytest.mark.parametrize("split", SPLITS)
async def test_R16_a_cancelled_block_ends_the_source(split: Split, autojump_clock: MockClock) -> None:
    source = Source([1], then=None)

    with trio.move_on_after(1) as scope:
        async with split(source.readable, 2) as (a, _):
            await a.pipe(tf.collect())

    assert scope.cancelled_caught
    assert source.ended == 1


@pytest.mark.parametrize("split", SPLITS)
async def test_R13_a_branch_read_after_its_block_raises_an_error_that_says_so(split: Split) -> None:
    async with split(Source(itertools.count()).readable, 1) as (branch,):
        pass

    with pytest.raises(trio.BrokenResourceError, match=r"the block of \w+\(<Readable run\(\)>\) was left"):
        await branch.pipe(tf.collect())


async def test_R6_each_branch_can_have_its_own_policy() -> None:
    source = tf.from_iterable(range(10))

    policies: Any = ["wait", "drop_oldest", "drop_newest"]
    async with tf.broadcast(source, 3, capacity=3, overflow=policies) as (waits, newest, oldest):
        assert await waits.pipe(tf.collect()) == [*range(10)]
        assert (newest.statistics().dropped, oldest.statistics().dropped) == (7, 7)
        assert await newest.pipe(tf.collect()) == [7, 8, 9]
        assert await oldest.pipe(tf.collect()) == [0, 1, 2]


async def test_R6_if_all_branches_drop_the_source_never_waits() -> None:
    source = Source(range(1000))

    async with tf.broadcast(source.readable, 2, capacity=2, overflow="drop_oldest") as (a, b):
        await wait_all_tasks_blocked()
        assert source.ended == 1
        assert await tf.zip(a, b).pipe(tf.collect()) == [(998, 998), (999, 999)]


async def test_R6_a_full_branch_with_the_fail_policy_ends_everything() -> None:
    with pytest.raises(BufferError, match="the channel is full: it holds 2 of 2") as caught:
        async with tf.broadcast(tf.from_iterable(range(10)), 2, capacity=2, overflow=["fail", "wait"]) as (_, b):
            await b.pipe(tf.collect())

    assert caught.value.__notes__ == ["in broadcast(<Readable from_iterable(range(0, 10))>)"]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: tf.broadcast([1], 2),
            r"broadcast expects a Readable, got list \[1\]; write tf.from_iterable\(...\) around it",
        ),
        (lambda: tf.broadcast(tf.empty(), 0), "count must be at least 1, got 0"),
        (lambda: tf.broadcast(tf.empty(), 2.0), "count must be an int, got 2.0"),
        (lambda: tf.broadcast(tf.empty(), 2, capacity=0), "capacity must be at least 1, got 0"),
        (lambda: tf.broadcast(tf.empty(), 2, overflow="spill"), "overflow must be 'wait', 'drop_oldest'"),
        (lambda: tf.broadcast(tf.empty(), 2, overflow=["wait"]), "or one for each of 2 branches, got"),
        (lambda: tf.partition(tf.empty(), 3, 2), "partition expects a function, got 3"),
        (lambda: tf.partition(tf.empty(), passes, 2), "partition expects a plain function, got the coroutine function"),
        (lambda: tf.partition(tf.empty(), id, -1), "count must be at least 1, got -1"),
        (lambda: tf.balance(tf.empty, 2), "balance expects a Readable, got the function empty; call it first"),
        (lambda: tf.balance(tf.empty(), 2, capacity="2"), "capacity must be an int or math.inf, got '2'"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize("index", [2, -1, "0", None, 0.5])
async def test_a_number_without_a_branch_is_refused(index: Any) -> None:
    with pytest.raises(ValueError, match="partition: key must return an int from 0 to 1, got "):
        async with tf.partition(tf.from_iterable([1]), lambda item: index, 2):
            await trio.sleep_forever()


@settings(max_examples=40)
@given(
    items=st.lists(st.integers(0, 99) | st.binary(max_size=3).map(lambda chunk: chunk * 3000), max_size=30),
    count=st.integers(1, 4),
    capacity=st.sampled_from([1, 2, 3, 256]),
    enough=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    paces=st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
def test_each_reader_of_a_broadcast_gets_its_items_whatever_the_others_do(
    items: list[Any], count: int, capacity: int, enough: list[int], paces: list[int]
) -> None:
    async def main() -> None:
        source = Source(items)
        got: list[list[Any]] = [[] for _ in range(count)]

        async def read(i: int, branch: tf.Readable[Any]) -> None:
            async def slowly(item: Any) -> None:
                await trio.sleep(paces[i])
                got[i].append(item)

            await branch.pipe(tf.take(enough[i])).pipe(tf.for_each(slowly))

        async with tf.broadcast(source.readable, count, capacity=capacity) as branches, trio.open_nursery() as nursery:
            for i, branch in enumerate(branches):
                nursery.start_soon(read, i, branch)

        assert got == [items[:most] for most in enough[:count]]
        assert source.started == source.ended == 1

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("split", [tf.broadcast, lambda numbers, count: tf.partition(numbers, lambda n: n % 2, count)])
async def test_an_error_names_the_full_branch_that_nobody_reads_if_the_reader_of_another_waits(
    split: Any, autojump_clock: MockClock
) -> None:
    with pytest.raises(trio.TooSlowError, match=r"^\w+\[1\]: not read for 30 s") as caught:
        async with split(tf.from_iterable(range(10_000)), 2) as (read, _):
            await read.pipe(tf.collect())

    assert str(caught.value).endswith("read them at the same time, or open the one that you do not need and leave it")


async def test_reading_a_full_branch_can_start_late_if_no_other_reader_waits(autojump_clock: MockClock) -> None:
    async with tf.broadcast(tf.from_iterable(range(1000)), 2) as (first, second), trio.open_nursery() as nursery:
        await trio.sleep(1000)
        nursery.start_soon(lambda: first.pipe(tf.drain()))
        await trio.sleep(29)

        assert await second.pipe(tf.count()) == 1000


async def test_a_branch_that_is_read_slowly_is_not_an_error(autojump_clock: MockClock) -> None:
    async def slowly(number: int) -> None:
        await trio.sleep(100)

    async with tf.broadcast(tf.from_iterable(range(9)), 2, capacity=1) as (quick, slow), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: quick.pipe(tf.drain()))

        await slow.pipe(tf.for_each(slowly))
