"""group_by: no item is lost, no group gets stuck, and no more groups are open than allowed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source, passes


def parity(n: int) -> int:
    return n % 2


async def gather(pair: tuple[Any, tf.Readable[Any]]) -> tuple[Any, list[Any]]:
    key, readable = pair
    return key, await readable.pipe(tf.collect())


async def test_each_key_has_a_readable_of_its_items_in_their_order() -> None:
    got = await tf.pipeline(range(1000), tf.group_by(parity), tf.map_async(gather), tf.collect())

    assert got == [(0, [*range(0, 1000, 2)]), (1, [*range(1, 1000, 2)])]


async def test_R18_no_item_is_mistaken_for_the_end() -> None:
    items = [None, b"", "", 0]

    got = await tf.pipeline(items, tf.group_by(lambda item: item), tf.map_async(gather), tf.collect())

    assert got == [(item, [item]) for item in items]


async def test_an_empty_source_has_no_groups() -> None:
    assert await tf.empty().pipe(tf.group_by(parity)).pipe(tf.collect()) == []


async def test_R7_the_least_recently_used_group_is_ended_when_there_are_too_many() -> None:
    got = await tf.pipeline(
        [1, 2, 1, 3, 2, 1], tf.group_by(lambda n: n, groups=2), tf.map_async(gather), tf.collect(), capacity=1
    )

    assert got == [(1, [1, 1]), (2, [2]), (3, [3]), (2, [2]), (1, [1])]


@pytest.mark.slow
async def test_as_many_groups_as_are_read_at_once_never_deadlock(autojump_clock: MockClock) -> None:
    def tally(pair: tuple[int, tf.Readable[int]]) -> tf.Readable[tuple[int, int]]:
        return pair[1].pipe(tf.map(lambda n: (pair[0], n)))

    with trio.fail_after(60):
        got = await tf.pipeline(
            range(3000),
            tf.group_by(lambda n: n * n % 101, groups=4, capacity=2),
            tf.flat_map_merge(tally, concurrency=4),
            tf.collect(),
            capacity=1,
        )

    assert sorted(n for _, n in got) == [*range(3000)]
    assert all(key == n * n % 101 for key, n in got)


async def test_an_idle_group_is_ended_and_its_key_can_get_a_new_group(autojump_clock: MockClock) -> None:
    async def items(output: tf.SendChannel[str]) -> None:
        for pause, item in [(0, "a"), (1, "b"), (1, "b"), (1, "b"), (5, "a")]:
            await trio.sleep(pause)
            await output.send(item)
        await trio.sleep(5)

    ended: list[tuple[str, float]] = []

    async def note(pair: tuple[str, tf.Readable[str]]) -> list[str]:
        _, got = await gather(pair)
        ended.append((pair[0], trio.current_time()))
        return got

    grouped = tf.Readable(items).pipe(tf.group_by(lambda item: item, idle=2))
    got = await grouped.pipe(tf.map_async(note)).pipe(tf.collect())

    assert got == [["a"], ["b", "b", "b"], ["a"]]
    assert ended == [("a", 2), ("b", 5), ("a", 10)]


async def test_R5_a_full_group_that_nobody_reads_stops_the_source() -> None:
    source = Source(itertools.count())

    async with source.readable.pipe(tf.group_by(parity, capacity=3)).open(capacity=2) as receive:
        await wait_all_tasks_blocked()
        assert source.sent <= 2 * 3 + 1 + 2 + 2
        (_, even), (_, odd) = [await receive.receive() for _ in range(2)]
        async with even.open(capacity=1) as evens, odd.open(capacity=1) as odds:
            for n in range(0, 100, 2):
                assert await evens.receive() == n
                assert await odds.receive() == n + 1


async def test_an_error_names_a_full_group_that_nobody_reads(
    autojump_clock: MockClock,
) -> None:
    async def one_after_the_other(pair: tuple[int, tf.Readable[int]]) -> int:
        return await pair[1].pipe(tf.count())

    for sink in (tf.for_each(one_after_the_other), tf.for_each(lambda pair: None)):
        with pytest.raises(trio.TooSlowError, match=r"^group\([01]\): not read for 30 s"):
            await tf.pipeline(range(2000), tf.group_by(parity), sink)


async def test_R9_items_for_a_reader_that_has_left_are_skipped() -> None:
    async def only_odd(pair: tuple[int, tf.Readable[int]]) -> int:
        return await pair[1].pipe(tf.take(1000 if pair[0] else 1)).pipe(tf.count())

    got = await tf.pipeline(range(2000), tf.group_by(parity, capacity=2), tf.map_async(only_odd), tf.collect())

    assert got == [1, 1000]


async def test_R9_when_the_reader_of_group_by_leaves_its_open_groups_end_without_an_error(
    autojump_clock: MockClock,
) -> None:
    source = Source([0, 1, 2, 3], then=None)

    with trio.fail_after(5):
        chain = source.readable.pipe(tf.group_by(parity)).pipe(tf.take(2)).pipe(tf.map_async(gather))
        got = await chain.pipe(tf.collect())

    assert [key for key, _ in got] == [0, 1]
    assert source.ended == 1


async def test_R4_a_group_runs_once() -> None:
    (pair,) = await tf.pipeline([1], tf.group_by(parity), tf.collect())

    assert await pair[1].pipe(tf.collect()) == [1]
    with pytest.raises(trio.ClosedResourceError, match="can only run once"):
        await pair[1].pipe(tf.collect())


@pytest.mark.parametrize("where", ["source", "key", "group"])
async def test_R11_a_failure_of_any_part_ends_everything_and_is_raised_itself(where: str) -> None:
    failure = Boom()
    source = Source([0, 1], then=failure if where == "source" else None)

    def fail(n: int) -> int:
        if n and where == "key":
            raise failure
        return n

    async def read(pair: tuple[int, tf.Readable[int]]) -> None:
        await pair[1].pipe(tf.for_each(use))

    def use(n: int) -> None:
        if n and where == "group":
            raise failure

    with pytest.raises(Boom) as caught:
        await source.readable.pipe(tf.group_by(fail)).pipe(tf.map_async(read)).pipe(tf.drain())

    assert caught.value is failure
    assert source.ended == 1


async def test_R13_a_group_read_after_its_run_was_cancelled_is_broken_and_not_ended(autojump_clock: MockClock) -> None:
    pairs: list[Any] = []

    with trio.move_on_after(1):
        await Source([0, 1], then=None).readable.pipe(tf.group_by(parity)).pipe(tf.for_each(pairs.append))

    with pytest.raises(trio.BrokenResourceError, match="the sender has failed"):
        await gather(pairs[0])


async def test_a_key_that_is_not_hashable_is_refused() -> None:
    with pytest.raises(TypeError, match="unhashable type") as caught:
        await tf.pipeline([1], tf.group_by(lambda n: [n]), tf.collect())

    assert caught.value.__notes__ == ["in stage 2 of 3: group_by(<lambda>)"]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.group_by(3), "group_by expects a function, got 3"),
        (lambda: tf.group_by(passes), "group_by expects a plain function, got the coroutine function passes"),
        (lambda: tf.group_by(parity, groups=0), "groups must be at least 1, got 0"),
        (lambda: tf.group_by(parity, idle=0), "idle must be above 0, got 0"),
        (lambda: tf.group_by(parity, capacity=0.5), "capacity must be an int or math.inf, got 0.5"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@settings(max_examples=30)
@given(
    items=st.lists(st.integers(0, 200), max_size=60),
    keys=st.integers(1, 6),
    groups=st.integers(1, 4),
    capacity=st.integers(1, 3),
)
def test_no_item_is_lost_and_the_items_of_each_key_keep_their_order(
    items: list[int], keys: int, groups: int, capacity: int
) -> None:
    async def main() -> None:
        stage = tf.group_by(lambda n: n % keys, groups=groups, capacity=capacity)
        read = tf.map_async(gather, concurrency=groups, ordered=False)
        got = await tf.pipeline(items, stage, read, tf.collect(), capacity=capacity)
        for key in range(keys):
            of_key = [n for k, part in got if k == key for n in part]
            assert of_key == [n for n in items if n % keys == key]
        assert all(part for _, part in got)

    trio.run(main, clock=MockClock(autojump_threshold=0))
