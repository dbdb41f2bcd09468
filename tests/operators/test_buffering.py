"""Buffers and queues: what they hold, what they drop and count, and who gets an error."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Consumer, Source, passes

NUMBERS = range(9)


async def test_R5_a_full_buffer_makes_its_source_wait() -> None:
    source = Source(itertools.count())

    async with source.readable.pipe(tf.buffer(50)).open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        assert 50 <= source.sent <= 56
        assert [await receive.receive() for _ in range(100)] == [*range(100)]


async def test_R6_drop_oldest_drops_and_counts_the_oldest_and_the_reader_gets_the_newest() -> None:
    newest = tf.buffer(3, overflow="drop_oldest")
    source = Source(range(100), then=None)

    async with source.readable.pipe(newest).open() as receive:
        await wait_all_tasks_blocked()
        given = receive.receive_many_nowait()  # nothing more was passed on before the reader took the first
        held = [await receive.receive() for _ in range(3)]

    assert len(given) == 1
    assert held == [97, 98, 99]
    assert newest.dropped == 100 - 1 - 3


async def test_R6_drop_newest_drops_and_counts_the_newest() -> None:
    oldest = tf.buffer(3, overflow="drop_newest")

    async with Source(range(100), then=None).readable.pipe(oldest).open() as receive:
        got: list[int] = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                await wait_all_tasks_blocked()
                got.append(receive.receive_nowait())

    assert got[:3] == [0, 1, 2]
    assert 3 <= len(got) <= 4
    assert oldest.dropped == 100 - len(got)


async def test_R6_a_buffer_can_fail_when_it_is_full() -> None:
    source = Source(itertools.count())

    async def run() -> None:
        async with source.readable.pipe(tf.buffer(2, overflow="fail")).open() as receive:
            await wait_all_tasks_blocked()
            await receive.receive()

    with pytest.raises(BufferError, match="the channel is full: it holds 2 of 2") as caught:
        await run()

    assert caught.value.__notes__ == ["in stage 2 of 2: buffer(2, overflow='fail')"]
    assert source.ended == 1


async def test_R4_the_dropped_items_of_simultaneous_runs_are_counted_together() -> None:
    newest = tf.buffer(1, overflow="drop_oldest")
    numbers = tf.from_iterable(range(100))
    counts: list[int] = []

    async def run() -> None:
        counts.append(len(await numbers.pipe(newest).pipe(tf.collect())))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)

    assert newest.dropped == 200 - sum(counts)


async def test_R5_a_buffer_weighs_bytes() -> None:
    source = Source(itertools.repeat(bytes(40_960)))

    async with source.readable.pipe(tf.buffer(20)).open(capacity=10):
        await wait_all_tasks_blocked()

    assert source.sent <= 1 + 1 + 2 + 1 + 1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.buffer(0), "capacity must be at least 1, got 0"),
        (lambda: tf.buffer("1"), "capacity must be an int or math.inf, got '1'"),
        (lambda: tf.buffer(1, overflow="spill"), "overflow must be 'wait', 'drop_oldest', 'drop_newest' or 'fail'"),
        (lambda: tf.buffer(True), "capacity must be an int or math.inf, got True"),
        (lambda: tf.queue(-1), "capacity must be at least 1, got -1"),
        (lambda: tf.queue(1, overflow="wait"), "overflow must be 'drop_newest' or 'drop_oldest', got 'wait'"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


def filled(items: Any) -> tf.queue[Any]:
    queue = tf.queue[Any](100)
    for item in items:
        assert queue.offer(item) == "accepted"
    queue.close()
    return queue


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_a_queue_works_with_every_consumer(consume: Consumer) -> None:
    queue = filled(NUMBERS)

    got = await consume(queue)

    assert got == [*NUMBERS][: len(got)]
    assert queue.offer(1) == "closed"


async def test_R18_no_item_is_mistaken_for_the_end() -> None:
    items = [None, b"", "", 0, False]

    assert await filled(items).pipe(tf.collect()) == items
    assert await tf.from_iterable(items).pipe(tf.buffer(2)).pipe(tf.collect()) == items


async def test_R4_a_queue_runs_once() -> None:
    queue = filled([1])
    assert await queue.pipe(tf.collect()) == [1]

    with pytest.raises(trio.ClosedResourceError, match="this queue can only run once, and has already run"):
        await queue.pipe(tf.collect())


async def test_offer_returns_what_became_of_the_item() -> None:
    queue = tf.queue[int](2)

    assert [queue.offer(n) for n in range(4)] == ["accepted", "accepted", "dropped", "dropped"]
    assert queue.dropped == 2
    async with queue.open() as receive:
        assert await receive.receive() == 0
        await wait_all_tasks_blocked()
        assert queue.offer(5) == "accepted"
        queue.close()
        queue.close()
        assert queue.offer(6) == "closed"
        assert [item async for item in receive] == [1, 5]
    assert queue.dropped == 2


async def test_a_queue_can_drop_the_oldest_items() -> None:
    queue = tf.queue[Any](3, overflow="drop_oldest")

    assert {queue.offer(n) for n in range(10)} == {"accepted"}
    assert queue.offer(bytes(4096 * 2)) == "accepted"
    queue.close()

    assert queue.dropped == 9
    assert await queue.pipe(tf.collect()) == [9, bytes(4096 * 2)]


async def test_R5_an_item_heavier_than_the_capacity_is_accepted_only_by_an_empty_queue() -> None:
    queue = tf.queue[bytes](2)

    assert queue.offer(bytes(100_000)) == "accepted"
    assert queue.offer(b"x") == "dropped"


async def test_R9_a_queue_is_closed_when_its_reader_leaves() -> None:
    queue = tf.queue[int]()

    async with queue.open():
        assert queue.offer(1) == "accepted"
    assert queue.offer(2) == "closed"
    with pytest.raises(trio.ClosedResourceError, match="this queue is closed, or its reader has left"):
        await queue.send(3)


async def test_R6_send_waits_for_room_in_the_order_of_the_senders() -> None:
    queue = tf.queue[int](1)

    async def send(n: int) -> None:
        await queue.send(n)

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(send, n)
            await wait_all_tasks_blocked()
        assert queue.offer(9) == "dropped"
        async with queue.open(capacity=1) as receive:
            assert [await receive.receive() for _ in range(5)] == [*range(5)]


async def test_R17_a_cancelled_send_sends_nothing() -> None:
    queue = tf.queue[int](1)
    await queue.send(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.send, 2)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await queue.send(3)
    queue.close()

    assert scope.cancelled_caught
    assert await queue.pipe(tf.collect()) == [1]


@pytest.mark.parametrize("how", ["close", "leave"])
async def test_a_waiting_sender_gets_an_error_when_the_queue_closes(how: str) -> None:
    queue = tf.queue[int](1)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await queue.send(3)

    async with trio.open_nursery() as nursery, queue.open():
        for n in range(2):  # one item is on its way to the reader
            await queue.send(n)
            await wait_all_tasks_blocked()
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if how == "close":
            queue.close()
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
    assert queue.offer(3) == "closed"


async def test_threads_can_offer_items_and_wake_a_sleeping_reader() -> None:
    queue = tf.queue[int](1000)

    def offer(start: int) -> None:
        for n in range(start, start + 100):
            assert queue.offer(n) == "accepted"

    def offer_all() -> None:
        threads = [threading.Thread(target=offer, args=(start,)) for start in range(0, 500, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        queue.close()

    got: list[int] = []
    async with trio.open_nursery() as nursery, queue.open() as receive:
        await wait_all_tasks_blocked()
        nursery.start_soon(trio.to_thread.run_sync, offer_all)
        got = [item async for item in receive]

    assert sorted(got) == [*range(500)]
    assert [n for n in got if n < 100] == [*range(100)]


async def test_callbacks_can_offer_items() -> None:
    queue = tf.queue[int]()
    token = trio.lowlevel.current_trio_token()

    async with queue.open() as receive:
        await wait_all_tasks_blocked()
        token.run_sync_soon(queue.offer, 1)
        assert await receive.receive() == 1
        token.run_sync_soon(queue.close)
        assert [item async for item in receive] == []


def test_offering_after_the_run_has_finished_is_harmless() -> None:
    queue = tf.queue[int]()

    async def main() -> None:
        with trio.move_on_after(0):
            await queue.pipe(tf.collect())

    trio.run(main)

    assert queue.offer(1) == "closed"


def test_a_thread_that_closes_a_queue_whose_run_has_finished_is_harmless() -> None:
    queue = tf.queue[int](1)

    async def main() -> None:
        await queue.send(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.send, 2)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    queue.close()

    assert queue.offer(1) == "closed"


async def test_a_queue_delivers_a_pushed_item_at_once(autojump_clock: MockClock) -> None:
    queue = tf.queue[float](4)
    got: list[float] = []

    async def push() -> None:
        for n in range(5):
            await trio.sleep(n)
            assert queue.offer(trio.current_time()) == "accepted"
        queue.close()

    async def note(time: float) -> None:
        got.append(trio.current_time() - time)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await queue.pipe(tf.for_each(note))

    assert got == [0] * 5


@settings(max_examples=40)
@given(
    paces=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=25),
    capacity=st.integers(1, 5),
    overflow=st.sampled_from(["wait", "drop_oldest", "drop_newest"]),
)
def test_at_any_pace_every_item_arrives_in_order_or_is_counted_as_dropped(
    paces: list[tuple[int, int]], capacity: int, overflow: Any
) -> None:
    async def produce(output: tf.SendChannel[int]) -> None:
        for n, (pause, _) in enumerate(paces):
            await trio.sleep(pause)
            await output.send(n)

    async def main() -> None:
        got: list[int] = []

        async def slowly(n: int) -> None:
            await trio.sleep(paces[n][1])
            got.append(n)

        stage = tf.buffer(capacity, overflow=overflow)
        await tf.Readable(produce).pipe(stage).pipe(tf.for_each(slowly))
        assert got == sorted(set(got))
        assert len(got) + stage.dropped == len(paces)
        assert stage.dropped == 0 or overflow != "wait"
        if overflow == "drop_oldest" and paces:
            assert got[-1] == len(paces) - 1
        await passes(1)

    trio.run(main, clock=MockClock(autojump_threshold=0))
