"""Generators as stages: their items are collected, up to the room that the reader has, and passed on in time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf


async def test_R6_a_reader_that_takes_little_at_a_time_makes_a_generator_that_suspends_wait() -> None:
    @tf.readable
    async def in_bursts() -> AsyncIterator[int]:
        for number in range(60):
            yield number
            if number % 6 == 5:
                await trio.lowlevel.checkpoint()

    received = []
    async with in_bursts().open(capacity=8) as receive:
        await wait_all_tasks_blocked()
        async for number in receive:
            received.append(number)
            await wait_all_tasks_blocked()
            assert receive.statistics().used <= 8

    assert received == list(range(60))


async def test_yielded_items_are_passed_on_as_soon_as_the_generator_suspends() -> None:
    @tf.readable
    async def three_then_sleep() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await trio.sleep_forever()

    async with three_then_sleep().open() as receive:
        assert [await receive.receive() for _ in range(3)] == [0, 1, 2]


@settings(max_examples=60)
@given(
    items=st.lists(st.one_of(st.integers(), st.binary(max_size=9), st.sampled_from([b"x" * 4097, b"x" * 99_999]))),
    pauses=st.sets(st.integers(0, 40)),
    capacity=st.integers(1, 40),
    at_once=st.integers(1, 12),
)
def test_capacity_pauses_and_pace_do_not_change_what_generators_emit(
    items: list[int | bytes], pauses: set[int], capacity: int, at_once: int
) -> None:
    @tf.transform
    async def pausing(source: AsyncIterable[int | bytes]) -> AsyncIterator[int | bytes]:
        count = 0
        async for item in source:
            yield item
            count += 1
            if count in pauses:
                await trio.lowlevel.checkpoint()

    async def main() -> list[int | bytes]:
        received: list[int | bytes] = []
        async with tf.from_iterable(items).pipe(pausing()).pipe(pausing()).open(capacity=capacity) as receive:
            while True:
                await trio.lowlevel.checkpoint()
                try:
                    received += await receive.receive_many(at_once)
                except trio.EndOfChannel:
                    return received

    assert trio.run(main) == items


async def test_R12_a_generator_gets_no_buffered_item_after_another_stage_has_failed() -> None:
    given: list[int] = []

    @tf.transform
    async def slow(items: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        async for item in items:
            given.append(item)
            yield item
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()

    @tf.writable
    async def broken(items: tf.ReceiveChannel[int]) -> None:
        await items.receive()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await tf.from_iterable(range(100)).pipe(slow()).pipe(broken())
    assert given == [0]


@example(ways=["for", *["many"] * 6, "two", "receive"], capacity=7)
@given(
    ways=st.lists(st.sampled_from(["for", "receive", "many", "two", "nowait"]), max_size=30), capacity=st.integers(1, 9)
)
def test_however_a_generator_receives_no_item_is_lost_or_repeated(ways: list[str], capacity: int) -> None:
    @tf.transform
    async def mixed(items: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        for way in ways:
            try:
                if way == "for":
                    async for item in items:
                        yield item
                        break
                elif way == "receive":
                    yield await items.receive()
                elif way == "nowait":
                    yield items.receive_nowait()
                else:
                    for item in await items.receive_many(2 if way == "two" else None):
                        yield item
            except trio.WouldBlock:
                pass
            except trio.EndOfChannel:
                return
        async for item in items:
            yield item

    async def main() -> list[int]:
        return await tf.pipeline(range(50), mixed(), tf.collect(), capacity=capacity)

    assert trio.run(main) == list(range(50))


async def test_several_tasks_of_a_generator_can_receive_from_its_source() -> None:
    @tf.transform
    async def by_three(items: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        received: list[int] = []

        async def take() -> None:
            async for item in items:
                received.append(item)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(take)
        for item in sorted(received):
            yield item

    assert await tf.pipeline(range(500), by_three(), tf.collect()) == list(range(500))


async def test_a_generator_can_continue_receiving_after_one_of_its_loops_was_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tf.readable
    async def every_two_seconds() -> AsyncIterator[int]:
        for number in range(4):
            await trio.sleep(2)
            yield number

    @tf.transform
    async def by_five_seconds(items: AsyncIterable[int]) -> AsyncIterator[list[int]]:
        while True:
            received: list[int] = []
            with trio.move_on_after(5) as scope:
                async for item in items:
                    received.append(item)
            yield received
            if not scope.cancelled_caught:
                return

    assert await every_two_seconds().pipe(by_five_seconds()).pipe(tf.collect()) == [[0, 1], [2, 3]]


async def test_R8_a_loop_that_is_cancelled_inside_another_does_not_end_the_items_of_a_generator(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tf.readable
    async def three_at_a_time() -> AsyncIterator[int]:
        for number in range(8):
            await trio.sleep(0 if number % 3 else 2)
            yield number

    @tf.transform
    async def by_pauses(items: AsyncIterable[int]) -> AsyncIterator[list[int]]:
        async for item in items:
            received = [item]
            with trio.move_on_after(1):
                async for after in items:
                    received.append(after)
            yield received

    assert await three_at_a_time().pipe(by_pauses()).pipe(tf.collect()) == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_R8_a_cancelled_anext_does_not_end_the_items_of_a_generator(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tf.readable
    async def every_two_seconds() -> AsyncIterator[int]:
        for number in range(3):
            await trio.sleep(2)
            yield number

    @tf.transform
    async def waiting_for_each(items: AsyncIterable[int]) -> AsyncIterator[int | str]:
        each = aiter(items)
        while True:
            got: int | str = "late"
            with trio.move_on_after(1.5):
                try:
                    got = await anext(each)
                except StopAsyncIteration:
                    return
            yield got

    got = await every_two_seconds().pipe(waiting_for_each()).pipe(tf.collect())

    assert got == ["late", 0, "late", 1, "late", 2]


async def test_every_kind_of_loop_of_a_generator_gets_all_items() -> None:
    @tf.transform
    async def in_lists(items: AsyncIterable[int]) -> AsyncIterator[list[int]]:
        yield [await anext(aiter(items))]
        async for item in items:
            yield [item]
            break
        yield [item async for item in aiter(items) if item < 5]
        yield [item async for item in items]

    got = await tf.from_iterable(range(5)).pipe(in_lists()).pipe(tf.collect())

    assert got == [[0], [1], [2, 3, 4], []]


@pytest.mark.parametrize("at_once", [1, 4])  # item by item from the channel, or everything that it holds
async def test_a_generator_that_has_closed_its_source_takes_nothing_from_a_clone(at_once: int) -> None:
    @tf.readable
    async def four(output: tf.SendChannel[int]) -> None:
        for start in range(0, 4, at_once):
            await output.send_many(range(start, start + at_once))

    @tf.transform
    async def closing(items: tf.ReceiveChannel[int]) -> AsyncIterator[int | str]:
        with items.clone() as clone:
            try:
                async for item in items:
                    yield item
                    items.close()
            except trio.ClosedResourceError:
                yield "closed"
            async for item in clone:
                yield item

    assert await four().pipe(closing()).pipe(tf.collect()) == [0, "closed", 1, 2, 3]


async def test_a_loop_that_a_generator_hands_to_another_task_gets_everything() -> None:
    @tf.transform
    async def elsewhere(items: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        received: list[int] = []
        loop = aiter(items)

        async def take() -> None:
            received.extend([item async for item in loop])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
        for item in received:
            yield item

    assert await tf.pipeline(range(50), elsewhere(), tf.collect(), capacity=4) == list(range(50))


async def test_R5_a_heavy_item_that_arrives_during_a_generators_loop_counts_until_the_generator_gets_it() -> None:
    send, receive = tf.open_channel[int | bytes](capacity=8)
    weights = []

    @tf.transform
    async def weighing(source: tf.ReceiveChannel[int | bytes]) -> AsyncIterator[int | bytes]:
        async for item in source:
            weights.append(source.statistics().used)
            if item == 1:
                send.send_nowait(b"x" * 4096 * 3)
                send.send_nowait(3)
                weights.append(source.statistics().used)
            if item == 3:
                send.close()
            yield item

    send.send_nowait(1)
    send.send_nowait(2)

    got = await tf.pipeline(receive, weighing(), tf.collect())

    assert got == [1, 2, b"x" * 4096 * 3, 3]
    assert weights == [1, 5, 4, 1, 0]


@pytest.mark.parametrize("item", [1, b"light", b"x" * 5000])
async def test_R17_a_generator_whose_reader_always_has_room_lets_other_tasks_run_every_256_items(
    item: int | bytes,
) -> None:
    made = 0

    @tf.readable
    async def never_waiting() -> AsyncIterator[int | bytes]:
        nonlocal made
        while made < 5_000:
            made += 1
            yield item

    async with never_waiting().open(capacity=math.inf) as receive:
        assert await receive.receive() == item
        assert made <= 3 * 256
