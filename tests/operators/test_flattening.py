"""flat_map_merge and switch_map: how many sources run, what they emit, and how they end together."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Source, passes

NUMBERS = range(9)


def thrice(n: int) -> tf.Readable[int]:
    return tf.repeat(n, 3)


async def slowly(n: int) -> AsyncIterator[int]:
    for _ in range(3):
        await trio.sleep(1)
        yield n


class Inner:
    """Makes a source of each item, which ends as `then` says, and remembers all of them."""

    def __init__(self, then: Any = "end") -> None:
        self.then = then
        self.made: dict[int, Source] = {}

    def __call__(self, n: int) -> tf.Readable[int]:
        self.made[n] = Source([n, n], then=self.then)
        return self.made[n].readable

    @property
    def running(self) -> list[int]:
        return [n for n, source in self.made.items() if source.started > source.ended]


BOTH: list[Callable[..., tf.Transform[Any, Any]]] = [tf.flat_map_merge, tf.switch_map]


@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize("operator", BOTH)
async def test_R9_with_every_consumer_each_source_that_was_started_has_ended(operator: Any, consume: Consumer) -> None:
    source, inner = Source(NUMBERS), Inner()

    await consume(source.readable.pipe(operator(inner)))

    assert source.started == source.ended == 1
    assert inner.running == []


async def test_no_more_sources_run_at_once_than_allowed_and_their_items_are_interleaved(
    autojump_clock: MockClock,
) -> None:
    inner = Inner(then=None)

    async with Source(itertools.count()).readable.pipe(tf.flat_map_merge(inner, concurrency=3)).open() as receive:
        await wait_all_tasks_blocked()
        assert inner.running == [0, 1, 2]
        assert sorted(receive.receive_many_nowait()) == [0, 0, 1, 1, 2, 2]


async def test_the_sources_made_of_items_run_concurrently(autojump_clock: MockClock) -> None:
    got = await tf.pipeline(range(10), tf.flat_map_merge(slowly, concurrency=5), tf.collect())

    assert sorted(got) == sorted([*range(10)] * 3)
    assert trio.current_time() == 6


async def test_switch_map_ends_the_old_source_when_a_new_item_arrives(autojump_clock: MockClock) -> None:
    inner = Inner(then=None)
    events: list[tuple[float, list[int]]] = []

    async def items(output: tf.SendChannel[int]) -> None:
        for n in range(3):
            await output.send(n)
            await trio.sleep(1)
            events.append((trio.current_time(), inner.running))

    with trio.move_on_after(10):
        await tf.Readable(items).pipe(tf.switch_map(inner)).pipe(tf.collect())

    assert events == [(1, [0]), (2, [1]), (3, [2])]
    assert inner.running == []


async def test_switch_map_continues_its_last_source_after_its_input_has_ended(autojump_clock: MockClock) -> None:
    assert await tf.pipeline([1, 2], tf.switch_map(slowly), tf.collect()) == [2, 2, 2]


async def test_a_slow_reader_does_not_keep_switch_map_from_the_newest_item(autojump_clock: MockClock) -> None:
    inner = Inner(then=None)

    async with (
        tf.ticks(1)
        .pipe(tf.enumerate())
        .pipe(tf.map(lambda pair: pair[0]))
        .pipe(tf.switch_map(lambda n: tf.repeat(n)))
        .open(capacity=1) as receive
    ):
        await trio.sleep(10.5)
        got = [await receive.receive() for _ in range(5)]

    assert got[-1] == 10
    assert inner.made == {}


@pytest.mark.parametrize("operator", BOTH)
async def test_R11_a_source_that_fails_ends_all_others_and_its_own_exception_is_raised(operator: Any) -> None:
    failure = Boom()
    inner, source = Inner(then=None), Source([0, 1, 2], then=None)

    def fail_last(n: int) -> tf.Readable[int]:
        return Source(then=failure).readable if n == 2 else inner(n)

    with pytest.raises(Boom) as caught:
        await source.readable.pipe(operator(fail_last)).pipe(tf.collect())

    assert caught.value is failure
    assert failure.__notes__[0] == "in stage 1 of 1: run()"
    assert failure.__notes__[1].startswith(f"in stage 2 of 3: {operator.__name__}(fail_last")
    assert source.ended == 1
    assert inner.running == []


@pytest.mark.parametrize("operator", BOTH)
async def test_R11_a_function_that_fails_ends_everything(operator: Any) -> None:
    failure, source = Boom(), Source([1], then=None)

    def fail(n: int) -> tf.Readable[int]:
        raise failure

    with pytest.raises(Boom) as caught:
        await source.readable.pipe(operator(fail)).pipe(tf.collect())

    assert caught.value is failure
    assert source.ended == 1


@pytest.mark.parametrize("operator", BOTH)
async def test_R16_a_cancellation_ends_every_running_source(operator: Any, autojump_clock: MockClock) -> None:
    inner = Inner(then=None)

    with trio.move_on_after(1) as scope:
        await Source(range(3), then=None).readable.pipe(operator(inner)).pipe(tf.collect())

    assert scope.cancelled_caught
    assert inner.running == []


@pytest.mark.parametrize("operator", BOTH)
async def test_R4_one_value_can_run_twice_at_the_same_time(operator: Any) -> None:
    chain = tf.from_iterable([1]).pipe(operator(thrice))
    results: list[list[int]] = []

    async def run() -> None:
        results.append(await chain.pipe(tf.collect()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)

    assert results == [[1, 1, 1]] * 2


@pytest.mark.parametrize("operator", BOTH)
async def test_R18_no_item_is_mistaken_for_the_end(operator: Any) -> None:
    for item in (None, b"", "", 0, False):
        assert await tf.pipeline([item], operator(lambda item: [item, item]), tf.collect()) == [item, item]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.flat_map_merge(3), "flat_map_merge expects a function, got 3"),
        (
            lambda: tf.flat_map_merge(passes),
            "a plain function, got the coroutine function passes",
        ),
        (lambda: tf.flat_map_merge(thrice, concurrency=0), "concurrency must be at least 1, got 0"),
        (lambda: tf.switch_map(None), "switch_map expects a function, got None"),
        (lambda: tf.switch_map(passes), "a plain function, got the coroutine function passes"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize("operator", BOTH)
@pytest.mark.parametrize(
    ("fn", "complaint"),
    [
        (lambda n: n, "a stream must begin with a Readable, an iterable, a channel or a byte stream, got int 1"),
        (lambda n: passes(n), ": the function returned a coroutine"),
    ],
)
async def test_a_function_that_does_not_return_a_source_is_refused(operator: Any, fn: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        await tf.pipeline([1], operator(fn), tf.collect())


@settings(max_examples=30)
@given(
    plan=st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=8),
    concurrency=st.integers(1, 4),
    capacity=st.sampled_from([1, 2, 256]),
)
def test_no_item_is_lost_and_the_items_of_each_source_keep_their_order(
    plan: list[list[int]], concurrency: int, capacity: int
) -> None:
    async def paced(n: int) -> AsyncIterator[tuple[int, int]]:
        for i, delay in enumerate(plan[n]):
            await trio.sleep(delay)
            yield n, i

    async def main() -> None:
        stage = tf.flat_map_merge(paced, concurrency=concurrency)
        got = await tf.pipeline(range(len(plan)), stage, tf.collect(), capacity=capacity)
        for n in range(len(plan)):
            assert [i for m, i in got if m == n] == [*range(len(plan[n]))]
        assert len(got) == sum(map(len, plan))

    trio.run(main, clock=MockClock(autojump_threshold=0))
