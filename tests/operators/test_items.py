"""The per-item operators: what is special to each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom


async def later(item: Any) -> Any:
    """Make a coroutine function that waits."""
    await trio.lowlevel.checkpoint()
    return item


async def add_later(total: int, n: int) -> int:
    await trio.lowlevel.checkpoint()
    return total + n


@settings(max_examples=40)
@given(
    items=st.lists(st.integers(0, 9), max_size=40),
    chain=st.lists(st.sampled_from(["map", "filter", "flat_map", "take", "drop", "scan", "batch"]), max_size=5),
    numbers=st.lists(st.integers(0, 6), min_size=5, max_size=5),
    waits=st.lists(st.booleans(), min_size=5, max_size=5),
    capacity=st.sampled_from([1, 2, 7, 256]),
)
async def test_a_chain_gives_the_same_as_plain_python(
    items: list[int], chain: list[str], numbers: list[int], waits: list[bool], capacity: int
) -> None:
    def maybe(function: Callable[..., Any], wait: bool) -> Callable[..., Any]:
        async def waiting(*args: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return function(*args)

        return waiting if wait else function

    expected: list[int] = items
    stages: list[tf.Transform[Any, Any]] = []
    for name, n, wait in zip(chain, numbers, waits, strict=False):
        match name:
            case "map":
                stages.append(tf.map(maybe(n.__add__, wait)))
                expected = [item + n for item in expected]
            case "filter":
                stages.append(tf.filter(maybe(n.__le__, wait)))
                expected = [item for item in expected if n <= item]
            case "flat_map":
                stages.append(tf.flat_map(maybe(lambda item, n=n: [item] * n, wait)))
                expected = [item for item in expected for _ in range(n)]
            case "take":
                stages.append(tf.take(n))
                expected = expected[:n]
            case "drop":
                stages.append(tf.drop(n))
                expected = expected[n:]
            case "scan":
                stages.append(tf.scan(maybe(lambda total, item: total + item, wait), n))
                expected = list(itertools.accumulate(expected, initial=n))[1:]
            case _:
                size = n + 1
                stages.append(tf.batch(size).pipe(tf.map(maybe(sum, wait))))
                expected = [sum(expected[i : i + size]) for i in range(0, len(expected), size)]

    assert await tf.pipeline(items, *stages, tf.collect(), capacity=capacity) == expected


# What is special to each


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: tf.map(lambda n: later(n)), "map"),
        (lambda: tf.filter(lambda n: later(n)), "filter"),
        (lambda: tf.flat_map(lambda n: later(n)), "flat_map"),
        (lambda: tf.tap(lambda n: later(n)), "tap"),
        (lambda: tf.scan(lambda state, n: later(n), 0), "scan"),
    ],
)
async def test_a_plain_function_that_returns_a_coroutine_is_refused_with_advice_to_pass_the_coroutine_function(
    make: Callable[[], tf.Transform[Any, Any]], name: str
) -> None:
    message = f"{name}: the function returned a coroutine; pass the async function itself"
    for chain in (
        make(),
        tf.batch(3).pipe(tf.flat_map(list)).pipe(make()),
    ):  # also after an operator that emits several items at once
        with pytest.raises(TypeError, match=message) as caught:
            await tf.from_iterable(range(3)).pipe(chain).pipe(tf.drain())
        assert f": {name}(" in caught.value.__notes__[0]


def stop(*args: Any) -> Any:
    raise StopIteration


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.map(stop),
        lambda: tf.filter(stop),
        lambda: tf.flat_map(stop),
        lambda: tf.tap(stop),
        lambda: tf.scan(stop, 0),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
async def test_a_stop_iteration_raised_by_a_function_is_an_error_and_not_the_end(
    make: Callable[[], tf.Transform[Any, Any]], before: int
) -> None:
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await tf.from_iterable(range(before + 1)).pipe(tf.drop(before)).pipe(make()).pipe(tf.collect())


async def test_an_async_function_is_called_for_one_item_at_a_time() -> None:
    seen = []

    async def see(n: int) -> int:
        seen.append(n)
        return n

    async with tf.from_iterable(range(100)).pipe(tf.map(see)).open(capacity=1) as receive:
        assert await receive.receive() == 0
        await wait_all_tasks_blocked()

    assert seen == [0, 1, 2]  # one received, one in the channel, one in hand


async def test_a_plain_function_is_called_only_for_as_many_items_as_there_is_room() -> None:
    seen: list[int] = []

    async with tf.from_iterable(range(1000)).pipe(tf.tap(seen.append)).open(capacity=3):
        await wait_all_tasks_blocked()

    assert len(seen) <= 4


async def test_filter_uses_the_truth_value_of_any_object() -> None:
    assert await tf.pipeline([[], [0], None, "x", 0.0, 2], tf.filter(lambda item: item), tf.collect()) == [[0], "x", 2]


async def test_take_closes_a_generator_in_a_flat_map_before_it() -> None:
    closed = []

    def endless(n: int) -> Any:
        try:
            while True:
                yield n
        finally:
            closed.append(n)

    chain = tf.from_iterable(itertools.count(1)).pipe(tf.flat_map(endless)).pipe(tf.take(2))

    assert await chain.pipe(tf.collect()) == [1, 1]
    assert closed == [1]


class Closable:
    """An endless iterator that counts how often it was closed."""

    closed = 0

    def __iter__(self) -> Closable:
        return self

    def __next__(self) -> int:
        return 7

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_flat_map_closes_an_iterator_that_is_left(is_coroutine: bool) -> None:
    made = Closable()

    async def later(n: int) -> Closable:
        return made

    call: Any = later if is_coroutine else lambda n: made

    assert await tf.from_iterable([1]).pipe(tf.flat_map(call)).pipe(tf.take(2)).pipe(tf.collect()) == [7, 7]
    assert made.closed == 1


async def test_flat_map_closes_an_async_generator_that_is_left() -> None:
    closed = []

    async def endless(n: int) -> AsyncIterator[int]:
        try:
            while True:
                yield n
        finally:
            closed.append(n)

    assert await tf.from_iterable([7]).pipe(tf.flat_map(endless)).pipe(tf.take(2)).pipe(tf.collect()) == [7, 7]
    assert closed == [7]


async def test_the_error_for_an_item_that_starmap_cannot_spread_names_no_class_of_ours() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    for fn in (lambda a, b: a + b, add):
        with pytest.raises(TypeError, match=r"after \* must be an iterable, not int") as caught:
            await tf.pipeline([1], tf.starmap(fn), tf.drain())
        assert "_Checked" not in str(caught.value)  # Python before 3.15 names what is called


async def test_flat_map_refuses_what_it_cannot_iterate() -> None:
    for fn in (lambda n: n, later):
        with pytest.raises(TypeError, match="'int' object is not iterable") as caught:
            await tf.from_iterable([1]).pipe(tf.flat_map(fn)).pipe(tf.collect())
        assert ": flat_map(" in caught.value.__notes__[0]


async def test_an_endless_flat_map_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_endless)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            scope.cancel()

    assert scope.cancelled_caught


async def drain_endless() -> None:
    await tf.from_iterable([0]).pipe(tf.flat_map(itertools.count)).pipe(tf.drain())


async def test_tap_calls_its_function_before_it_passes_the_item_on() -> None:
    seen: list[int] = []

    def look(n: int) -> None:
        seen.append(n)
        if n == 2:
            raise Boom

    with pytest.raises(Boom):
        await tf.from_iterable(range(5)).pipe(tf.tap(look)).pipe(tf.collect())
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (tf.map(str.upper), "<Transform map(upper)>"),
        (tf.take(3).pipe(tf.batch(2)), "<Transform take(3) | batch(2)>"),
        (tf.batch(2, within=0.5), "<Transform batch(2, within=0.5)>"),
        (tf.scan(add_later, 0), "<Transform scan(add_later, 0)>"),
        (tf.drop(1), "<Transform drop(1)>"),
    ],
)
def test_the_repr_of_a_stage_is_the_call_that_made_it(stage: object, text: str) -> None:
    assert repr(stage) == text
