"""Operators that pass on some of the items: what is special to each."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Source


async def is_small(n: int) -> bool:
    await trio.lowlevel.checkpoint()
    return n < 4


@pytest.mark.parametrize("n", [0, 1, 300])
async def test_take_ends_its_source_at_once(n: int) -> None:
    source = Source(itertools.count(), then=None)

    assert await source.readable.pipe(tf.take(n)).pipe(tf.map(abs)).pipe(tf.count()) == n
    assert source.ended == 1


@pytest.mark.parametrize("fn", [lambda n: n < 3, is_small], ids=["plain", "async"])
async def test_R9_take_while_ends_its_source_at_once(fn: Any) -> None:
    source = Source(itertools.count(), then=None)

    got = await source.readable.pipe(tf.take_while(fn)).pipe(tf.collect())

    assert got == list(range(len(got)))
    assert source.ended == 1


async def test_R9_take_until_ends_a_quiet_source_at_once(autojump_clock: MockClock) -> None:
    event = trio.Event()
    source = Source([1, 2], then=None)

    async with trio.open_nursery() as nursery:

        async def set_later() -> None:
            await trio.sleep(1)
            event.set()

        nursery.start_soon(set_later)
        assert await source.readable.pipe(tf.take_until(event)).pipe(tf.collect()) == [1, 2]

    assert trio.current_time() == 1
    assert source.ended == 1


async def test_take_until_ends_with_its_source_and_raises_a_failure_of_its_event() -> None:
    class Broken:
        async def wait(self) -> None:
            await trio.testing.wait_all_tasks_blocked()
            raise failure

    failure = ValueError("no")
    assert await tf.pipeline([1, 2], tf.take_until(trio.Event()), tf.collect()) == [1, 2]
    with pytest.raises(ValueError, match="no") as caught:
        await tf.ticks(60).pipe(tf.take_until(Broken())).pipe(tf.drain())
    assert caught.value is failure


async def test_take_while_does_not_call_its_function_after_the_first_false() -> None:
    asked: list[int] = []

    def ask(n: int) -> bool:
        asked.append(n)
        return n < 2

    assert await tf.from_iterable(range(9)).pipe(tf.take_while(ask)).pipe(tf.collect()) == [0, 1]
    assert asked == [0, 1, 2]


async def test_drop_while_does_not_call_its_function_after_the_first_false() -> None:
    asked: list[int] = []

    def ask(n: int) -> bool:
        asked.append(n)
        return n < 2

    assert await tf.from_iterable(range(5)).pipe(tf.drop_while(ask)).pipe(tf.collect()) == [2, 3, 4]
    assert asked == [0, 1, 2]


async def test_R7_distinct_remembers_a_limited_number_of_keys_and_evicts_the_least_recently_seen() -> None:
    items = ["a", "b", "a", "c", "a", "b"]  # when c arrives, b is the least recently seen

    assert await tf.pipeline(items, tf.distinct(remember=2), tf.collect()) == ["a", "b", "c", "b"]


async def test_distinct_names_an_item_that_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable") as caught:
        await tf.pipeline([[1]], tf.distinct(), tf.collect())
    assert caught.value.__notes__ == ["in stage 2 of 3: distinct()"]


async def test_changes_compares_but_hashes_nothing() -> None:
    assert await tf.pipeline([[1], [1], [2]], tf.changes(), tf.collect()) == [[1], [2]]


async def test_R18_none_and_false_are_ordinary_items() -> None:
    items = [None, None, False, 0, "", None]

    assert await tf.pipeline(items, tf.changes(), tf.collect()) == [None, False, "", None]
    assert await tf.pipeline(items, tf.distinct(), tf.collect()) == [None, False, ""]
    assert await tf.pipeline(items, tf.take_while(lambda item: not item), tf.count()) == 6


@settings(max_examples=60)
@given(
    items=st.lists(st.integers(0, 5), max_size=30),
    limit=st.integers(0, 5),
    capacity=st.sampled_from([1, 2, 7, 256]),
)
async def test_the_capacity_does_not_change_the_result(items: list[int], limit: int, capacity: int) -> None:
    async def through(*stages: tf.Transform[Any, Any]) -> Any:
        return await tf.pipeline(Source(items).readable, *stages, tf.collect(), capacity=capacity)

    def ask(n: int) -> bool:
        return n < limit

    assert await through(tf.take_while(ask)) == list(itertools.takewhile(ask, items))
    assert await through(tf.drop_while(ask)) == list(itertools.dropwhile(ask, items))
    assert await through(tf.distinct()) == list(dict.fromkeys(items))
    assert await through(tf.changes()) == [key for key, _ in itertools.groupby(items)]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.take(-1), ValueError, "n must be at least 0, got -1"),
        (lambda: tf.take_until(3), TypeError, "take_until expects an event with a `wait` method, got 3"),
        (lambda: tf.take_while(3), TypeError, "take_while expects a function, got 3"),
        (lambda: tf.take_while(abs, inclusive=2), TypeError, "inclusive must be a bool, got 2"),
        (lambda: tf.drop_while(3), TypeError, "drop_while expects a function, got 3"),
        (lambda: tf.distinct(3), TypeError, "distinct expects a function, got 3"),
        (lambda: tf.distinct(remember=0), ValueError, "remember must be at least 1, got 0"),
        (lambda: tf.distinct(remember="all"), TypeError, "remember must be an int or math.inf, got 'all'"),
        (lambda: tf.changes("x"), TypeError, "changes expects a function, got 'x'"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("make", [tf.take_while, tf.drop_while, tf.distinct, tf.changes])
async def test_a_plain_function_that_returns_a_coroutine_is_refused(make: Any) -> None:
    chain = make(lambda n: is_small(n))
    with pytest.raises(TypeError, match="returned a coroutine; pass the async function itself"):
        await tf.pipeline([1, 2, 3], chain, tf.collect())


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.distinct(str.lower, remember=9)) == "<Transform distinct(lower, remember=9)>"
    assert repr(tf.take_while(is_small, inclusive=True)) == "<Transform take_while(is_small, inclusive=True)>"
    assert repr(tf.changes()) == "<Transform changes()>"
