"""Generators as stages: what they yield is gathered, within what their reader has room for, and handed on in time."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import trio
from hypothesis import given, settings
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


async def test_what_was_yielded_is_handed_on_the_moment_the_generator_suspends() -> None:
    @tf.readable
    async def three_then_sleep() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await trio.sleep_forever()

    async with three_then_sleep().open() as receive:
        assert [await receive.receive() for _ in range(3)] == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.one_of(st.integers(), st.binary(max_size=9), st.sampled_from([b"x" * 4097, b"x" * 99_999]))),
    pauses=st.sets(st.integers(0, 40)),
    capacity=st.integers(1, 40),
    at_once=st.integers(1, 12),
)
def test_no_capacity_pause_or_pace_changes_what_comes_out_of_generators(
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
