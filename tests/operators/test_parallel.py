"""Concurrent calls: never more than allowed, in order if requested, and ended by the first that fails."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source, Turns, passes, wait_until_cancelled


async def double(n: int) -> int:
    await passes(n % 3)
    return n * 2


def double_in_thread(n: int) -> int:
    return n * 2


UNORDERED: list[Callable[[], tf.Transform[Any, Any]]] = [
    lambda: tf.map_async(double, ordered=False),
    lambda: tf.map_in_threads(double_in_thread, ordered=False),
]


@pytest.mark.parametrize("make", UNORDERED)
async def test_unordered_yields_every_result(make: Callable[[], tf.Transform[Any, Any]]) -> None:
    got = await tf.pipeline(range(1000), make(), tf.collect())

    assert sorted(got) == [n * 2 for n in range(1000)]


class Calls:
    """A coroutine function that waits until a test finishes its call, and counts calls."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.done: dict[int, trio.Event] = {}
        self.cancelled: list[int] = []

    async def __call__(self, n: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.done[n] = trio.Event()
        try:
            await self.done[n].wait()
        except trio.Cancelled:
            self.cancelled.append(n)
            raise
        finally:
            self.running -= 1
        return n

    async def finish(self, *numbers: int) -> None:
        for n in numbers:
            self.done[n].set()
        await wait_all_tasks_blocked()


async def test_R6_there_are_never_more_calls_and_waiting_results_than_the_concurrency() -> None:
    calls = Calls()
    numbers = Source(itertools.count())

    async with numbers.readable.pipe(tf.map_async(calls, concurrency=4)).open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        assert sorted(calls.done) == [0, 1, 2, 3]
        await calls.finish(1, 2, 3)
        assert sorted(calls.done) == [
            0,
            1,
            2,
            3,
        ]  # three results wait for the first call, so no call is started that would add to them
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()
        await calls.finish(0)
        got = []
        for _ in range(4):
            got.append(await receive.receive())
        await wait_all_tasks_blocked()

        assert got == [0, 1, 2, 3]
        assert sorted(calls.done)[4:] == [4, 5, 6, 7]
        assert calls.most == 4


async def test_unordered_emits_each_result_as_it_is_ready_and_starts_the_next_call() -> None:
    calls = Calls()
    numbers = Source(itertools.count())

    async with numbers.readable.pipe(tf.map_async(calls, concurrency=2, ordered=False)).open() as receive:
        await wait_all_tasks_blocked()
        for n in range(1, 6):
            await calls.finish(n)
            assert receive.receive_nowait() == n
        assert sorted(calls.done) == [0, 1, 2, 3, 4, 5, 6]
        assert calls.most == 2


async def test_R11_the_first_failure_cancels_the_other_calls_and_is_raised_itself() -> None:
    calls, failure = Calls(), Boom()

    async def fail_third(n: int) -> int:
        if n == 2:
            await wait_all_tasks_blocked()
            raise failure
        return await calls(n)

    source = Source(itertools.count())
    with pytest.raises(Boom) as caught:
        await source.readable.pipe(tf.map_async(fail_third, concurrency=4)).pipe(tf.collect())

    assert caught.value is failure
    assert failure.__notes__ == ["in stage 2 of 3: map_async(fail_third, concurrency=4)"]
    assert sorted(calls.cancelled) == [0, 1, 3]
    assert source.ended == 1


async def test_R11_two_calls_that_fail_raise_a_group() -> None:
    async def fail(n: int) -> int:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom(n)

    async def fail_first(n: int) -> int:
        if n:
            return await fail(n)
        await wait_all_tasks_blocked()
        raise Boom(n)

    with pytest.raises(ExceptionGroup, match="3 tasks of one stage failed") as caught:
        await tf.pipeline(range(3), tf.map_async(fail_first), tf.collect())

    assert sorted(exc.args[0] for exc in caught.value.exceptions) == [0, 1, 2]
    assert all(type(exc) is Boom for exc in caught.value.exceptions)


async def test_results_emitted_before_a_failure_arrive(autojump_clock: MockClock) -> None:
    got: list[int] = []

    async def fail_late(n: int) -> int:
        await trio.sleep(n)
        if n == 5:
            raise Boom
        return n

    with pytest.raises(Boom):
        await tf.pipeline(range(9), tf.map_async(fail_late), tf.for_each(got.append))

    assert got == [0, 1, 2, 3, 4]


async def test_calls_run_concurrently(autojump_clock: MockClock) -> None:
    async def wait(n: int) -> int:
        await trio.sleep(1)
        return n

    got = await tf.pipeline(range(100), tf.map_async(wait, concurrency=10), tf.collect())

    assert got == list(range(100))
    assert trio.current_time() == pytest.approx(10)


@settings(max_examples=40)
@given(
    delays=st.lists(st.integers(0, 5), max_size=30),
    concurrency=st.integers(1, 9),
    capacity=st.sampled_from([1, 2, 256]),
)
def test_results_keep_the_order_of_the_items_however_long_each_call_takes(
    delays: list[int], concurrency: int, capacity: int
) -> None:
    running = most = 0

    async def call(pair: tuple[int, int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(pair[1])
        running -= 1
        return pair[0]

    async def main() -> None:
        pairs = list(enumerate(delays))
        got = await tf.pipeline(pairs, tf.map_async(call, concurrency=concurrency), tf.collect(), capacity=capacity)
        assert got == list(range(len(delays)))
        assert most <= concurrency

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_R18_no_item_is_mistaken_for_the_end() -> None:
    items = [None, b"", "", 0, False]

    async def same(item: Any) -> Any:
        return item

    assert await tf.pipeline(items, tf.map_async(same), tf.collect()) == items
    assert await tf.pipeline(items, tf.map_in_threads(lambda item: item), tf.collect()) == items


async def test_R4_one_value_can_run_twice_at_the_same_time() -> None:
    both = tf.from_iterable(range(50)).pipe(tf.map_async(double)).pipe(tf.map_in_threads(double_in_thread))
    results: list[list[int]] = []

    async def run() -> None:
        results.append(await both.pipe(tf.collect()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)

    assert results == [[n * 4 for n in range(50)]] * 2


@pytest.mark.parametrize("ordered", [True, False])
async def test_R17_a_call_that_fails_while_the_run_is_cancelled_is_not_lost(
    ordered: bool,
) -> None:
    source, cleanup = Boom("source"), Boom("cleanup")

    async def call(n: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise cleanup

    async def failing(output: tf.SendChannel[int]) -> None:
        await output.send(1)
        await wait_all_tasks_blocked()
        raise source

    with pytest.raises(ExceptionGroup) as caught:
        await tf.Readable(failing).pipe(tf.map_async(call, concurrency=2, ordered=ordered)).pipe(tf.drain())

    assert {*caught.value.exceptions} == {source, cleanup}


async def test_R17_a_function_that_never_waits_lets_other_tasks_run() -> None:
    ticks = Turns()

    async def same(n: int) -> int:
        return n

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticks.take)
        count = await tf.pipeline(range(5000), tf.map_async(same), tf.count())
        nursery.cancel_scope.cancel()

    assert count == 5000
    assert ticks.count > 5000 / 256


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.map_async(3), "map_async expects a function, got 3"),
        (lambda: tf.map_async(double, concurrency=2.5), "concurrency must be an int, got 2.5"),
        (lambda: tf.map_async(double, concurrency=0), "concurrency must be at least 1, got 0"),
        (lambda: tf.map_in_threads(None), "map_in_threads expects a function, got None"),
        (
            lambda: tf.map_in_threads(double),
            "map_in_threads expects a plain function, got the coroutine function double; use map_async",
        ),
        (lambda: tf.map_in_threads(len, workers=0), "workers must be at least 1, got 0"),
        (lambda: tf.map_in_threads(len, workers="4"), "workers must be an int, got '4'"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        (tf.map_async(len), "map_async expects an async function, but len returned 1; use map"),
        (
            tf.map_in_threads(lambda text: double(len(text)), workers=1),
            "a plain function, but <lambda> returned a coroutine",
        ),
    ],
)
async def test_a_function_of_the_wrong_kind_is_refused_at_its_first_call(stage: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        await tf.pipeline(["a", "b"], stage, tf.collect())


async def test_calls_run_in_several_threads_but_never_more_than_workers() -> None:
    running: set[int] = set()
    most = 0
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=60)

    def call(n: int) -> int:
        nonlocal most
        with lock:
            running.add(n)
            most = max(most, len(running))
        if n < 2:
            both.wait()  # at least two threads
        with lock:
            running.remove(n)
        return n

    got = await tf.pipeline(range(20), tf.map_in_threads(call, workers=2), tf.collect())

    assert got == list(range(20))
    assert most == 2


async def test_a_failure_in_a_thread_is_raised_itself_and_no_other_call_is_started() -> None:
    calls: list[int] = []
    failure = Boom()

    def fail(n: int) -> int:
        calls.append(n)
        if n == 5:
            raise failure
        return n

    with pytest.raises(Boom) as caught:
        await tf.pipeline(range(1000), tf.map_in_threads(fail, workers=1), tf.drain())

    assert caught.value is failure
    assert calls == [0, 1, 2, 3, 4, 5]


async def test_R16_when_cancelled_it_waits_for_the_calls_in_progress_and_starts_no_other() -> None:
    may_end = threading.Event()
    begun: list[int] = []

    def call(n: int) -> int:
        begun.append(n)
        if n == 500:
            trio.from_thread.run_sync(scope.cancel)
            wait_until_cancelled()
            assert may_end.wait(60)
        return n

    def end() -> None:
        time.sleep(0)
        may_end.set()

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, end)
        with scope:
            await tf.pipeline(range(1000), tf.map_in_threads(call, workers=1), tf.drain())

    assert scope.cancelled_caught
    assert begun[-1] == 500


async def test_quick_calls_are_batched_and_slow_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1  # at the beginning and the end of each trip to a thread
        return now

    async def trips(items: int, seconds: float) -> float:
        def call(n: int) -> None:
            nonlocal now
            now += seconds

        before = looks
        await tf.pipeline(range(items), tf.map_in_threads(call, workers=1), tf.drain())
        return (looks - before) / 2

    monkeypatch.setattr("trioflow.operators.parallel.perf_counter", clock)

    assert await trips(3000, 0.000_01) < 100
    assert await trips(100, 0.003) == 100


@pytest.mark.parametrize("ordered", [True, False])
async def test_workers_are_started_only_as_they_are_needed(ordered: bool) -> None:
    async def slowly(item: int) -> int:
        await trio.testing.wait_all_tasks_blocked()
        return item

    started = 0

    class Counting(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            nonlocal started
            started += 1

    numbers = tf.from_iterable(range(5))
    counting = Counting()
    trio.lowlevel.add_instrument(counting)
    try:
        assert sorted(
            await numbers.pipe(tf.map_async(slowly, concurrency=10**9, ordered=ordered)).pipe(tf.collect())
        ) == [*range(5)]
        assert sorted(await numbers.pipe(tf.flat_map_merge(lambda n: [n], concurrency=10**9)).pipe(tf.collect())) == [
            *range(5)
        ]
    finally:
        trio.lowlevel.remove_instrument(counting)

    assert started < 40
