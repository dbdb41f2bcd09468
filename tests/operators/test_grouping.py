"""Items gathered into lists and tuples: what is special to each operator."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Source
from trioflow.operators.grouping import _Batch, _Window


async def test_a_batch_is_sent_when_its_first_item_has_waited_long_enough(autojump_clock: MockClock) -> None:
    async def slowly(output: tf.SendChannel[int]) -> None:
        for n, pause in enumerate([1, 2, 10, 1, 1, 1, 1]):
            await trio.sleep(pause)
            await output.send(n)

    got = []
    async with tf.Readable(slowly).pipe(tf.batch(3, within=5)).open() as receive:
        async for items in receive:
            got.append((items, trio.current_time()))

    assert [items for items, _ in got] == [[0, 1], [2, 3, 4], [5, 6]]
    assert [at for _, at in got] == pytest.approx([6, 15, 17])


async def test_a_batch_never_sends_an_empty_list(autojump_clock: MockClock) -> None:
    quiet = Source([], then=None)

    with trio.move_on_after(100):
        async with quiet.readable.pipe(tf.batch(2, within=1)).open() as receive:
            pytest.fail(f"an empty source gave {await receive.receive()}")
    assert await tf.from_iterable([]).pipe(tf.batch(2, within=1)).pipe(tf.collect()) == []


@pytest.mark.parametrize("operator", [_Batch(1000), _Window(1000, 1000)])
def test_unfinished_groups_are_added_to_in_place(operator: _Batch | _Window) -> None:
    held = operator._items
    for n in range(999):
        assert list(operator.feed([n])) == []

    assert operator._items is held  # a copy for each feed would take quadratic time
    [group] = operator.feed([999])
    assert list(group) == [*range(1000)]


async def test_a_batch_without_a_time_limit_waits_for_its_size_or_the_end() -> None:
    assert await tf.from_iterable(range(3)).pipe(tf.batch(2, within=math.inf)).pipe(tf.collect()) == [[0, 1], [2]]


async def test_a_batch_is_timed_from_its_first_item_and_not_from_the_last_batch(autojump_clock: MockClock) -> None:
    async def bursts(output: tf.SendChannel[int]) -> None:
        await trio.sleep(3)
        await output.send(0)
        await trio.sleep(100)
        await output.send(1)
        await output.send(2)
        await trio.sleep_forever()

    got = []
    async with tf.Readable(bursts).pipe(tf.batch(10, within=5)).open() as receive:
        for _ in range(2):
            got.append((await receive.receive(), trio.current_time()))

    assert [items for items, _ in got] == [[0], [1, 2]]
    assert [at for _, at in got] == pytest.approx([8, 108])


async def test_a_full_batch_is_sent_without_waiting(autojump_clock: MockClock) -> None:
    async with Source(range(4), then=None).readable.pipe(tf.batch(2, within=60)).open() as receive:
        assert await receive.receive() == [0, 1]
        assert await receive.receive() == [2, 3]
    assert trio.current_time() == 0


async def test_R7_a_timed_batch_holds_no_more_than_its_size(autojump_clock: MockClock) -> None:
    source = Source(range(100))
    async with source.readable.pipe(tf.batch(5, within=60)).open(capacity=1):
        await wait_all_tasks_blocked()

        assert source.sent <= 5 + 5 + 1  # a list received, a list in hand, an item in the channel


@settings(max_examples=60)
@given(
    count=st.integers(0, 30), size=st.integers(1, 8), step=st.integers(1, 10), capacity=st.sampled_from([1, 2, 7, 256])
)
async def test_windows_are_slices_of_the_items(count: int, size: int, step: int, capacity: int) -> None:
    items = list(range(count))

    got = await tf.pipeline(Source(items).readable, tf.window(size, step=step), tf.collect(), capacity=capacity)

    assert got == [tuple(items[at : at + size]) for at in range(0, count - size + 1, step)]


async def test_pairwise_gives_the_pairs_of_itertools_pairwise() -> None:
    items = [None, False, 0, "", b"", None]

    got = await tf.pipeline(items, tf.pairwise(), tf.collect(), capacity=1)

    assert got == list(itertools.pairwise(items))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.batch(0), ValueError, "size must be at least 1, got 0"),
        (lambda: tf.batch("2"), TypeError, "size must be an int, got '2'"),
        (lambda: tf.batch(2, within=0), ValueError, "within must be above 0, got 0"),
        (lambda: tf.batch(2, within="soon"), TypeError, "within must be a number, got 'soon'"),
        (lambda: tf.window(0), ValueError, "size must be at least 1, got 0"),
        (lambda: tf.window(1, step=0), ValueError, "step must be at least 1, got 0"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.window(2, step=3)) == "<Transform window(2, step=3)>"
    assert repr(tf.pairwise().pipe(tf.window(2))) == "<Transform pairwise() | window(2)>"
