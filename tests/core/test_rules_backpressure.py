"""R5 to R7: what a channel holds, who waits, and that nothing grows."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Source

KIB = 1024


async def test_R5_a_channel_holds_256_objects_or_1_MiB_of_bytes() -> None:
    for item in (None, "x" * 9000, bytes(4 * KIB), bytearray(1), memoryview(b"")):
        send, receive = tf.open_channel[Any]()
        for _ in range(256):
            send.send_nowait(item)

        with pytest.raises(trio.WouldBlock):
            send.send_nowait(item)
        assert send.statistics().used == send.statistics().items == 256
        receive.close()
        send.close()


@pytest.mark.parametrize(
    ("item", "weight"),
    [
        (b"", 1),
        (bytes(4096), 1),
        (bytes(4097), 2),
        (bytearray(8192), 2),
        (memoryview(bytes(8193)), 3),
        (memoryview(bytes(8200)).cast("Q"), 3),
        ("x" * 10000, 1),
        ([bytes(10000)], 1),
    ],
)
def test_R5_an_item_weighs_1_and_bytes_weigh_1_for_each_4_KiB_rounded_up(item: Any, weight: int) -> None:
    send, receive = tf.open_channel[Any](100)

    send.send_nowait(item)
    assert send.statistics().used == weight
    receive.receive_nowait()
    assert send.statistics().used == 0


async def test_R5_an_item_heavier_than_the_capacity_is_admitted_only_to_an_empty_channel() -> None:
    send, receive = tf.open_channel[bytes](2)
    heavy = bytes(100 * KIB)

    send.send_nowait(b"light")
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(heavy)
    assert receive.receive_nowait() == b"light"
    send.send_nowait(heavy)
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(b"")
    assert receive.receive_nowait() == heavy


@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(0, 30000), max_size=30))
async def test_R5_a_channel_never_holds_more_than_its_capacity_except_for_one_heavy_item(
    capacity: int, sizes: list[int]
) -> None:
    send, receive = tf.open_channel[bytes](capacity)
    held = 0

    async def sending() -> None:
        with send:
            for size in sizes:
                await send.send(bytes(size))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sending)
        got = []
        async for chunk in receive:
            await wait_all_tasks_blocked()
            held = max(held, receive.statistics().used)
            got.append(len(chunk))

    assert got == sizes
    heaviest = max((-(-size // 4096) or 1 for size in sizes), default=0)
    assert held <= max(capacity, heaviest)
    assert receive.statistics().peak <= max(capacity, heaviest)


async def test_R6_a_slow_reader_stops_the_source() -> None:
    source = Source(itertools.count())

    async with source.readable.open(capacity=2):
        await wait_all_tasks_blocked()

        assert source.sent == 2  # and the third is in the source's hand


async def test_R6_a_slow_reader_stops_a_plain_iterable() -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with tf.from_iterable(endless()).pipe(tf.map(str)).open(capacity=5) as receive:
        await wait_all_tasks_blocked()
        assert taken <= 5 + 1

        assert [await receive.receive() for _ in range(50)] == [str(n) for n in range(1, 51)]
        await wait_all_tasks_blocked()
        assert taken <= 50 + 5 + 1


@pytest.mark.parametrize("capacity", [1, 3, 256, math.inf])
async def test_R6_the_capacity_does_not_change_the_result(capacity: float) -> None:
    @tf.transform
    async def doubled(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item
            yield item

    got = await tf.pipeline(range(700), tf.map(lambda n: n + 1), doubled(), tf.drop(3), tf.collect(), capacity=capacity)

    assert got == [n for n in range(1, 701) for _ in range(2)][3:]


@pytest.mark.parametrize(
    ("overflow", "kept", "dropped"),
    [("drop_oldest", [3, 4], 3), ("drop_newest", [0, 1], 3)],
)
async def test_R6_items_that_an_overflow_policy_drops_are_counted(overflow: Any, kept: list[int], dropped: int) -> None:
    send, receive = tf.open_channel[int](2, overflow=overflow)

    with send:
        for n in range(5):
            await send.send(n)

    assert [n async for n in receive] == kept
    assert receive.statistics().dropped == dropped


async def test_R6_a_channel_can_fail_when_full_instead_of_waiting() -> None:
    send, receive = tf.open_channel[int](1, overflow="fail")
    await send.send(1)

    with pytest.raises(BufferError, match="the channel is full: it holds 1 of 1"):
        await send.send(2)
    assert await receive.receive() == 1


@pytest.mark.parametrize("stages", [1, 4])
async def test_R7_a_chain_holds_the_sum_of_its_capacities_and_batches(stages: int) -> None:
    async def passing(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async for item in source:
            await output.send(item)

    source = Source(itertools.count())
    readable = source.readable
    for _ in range(stages):
        readable = readable.pipe(tf.Transform(passing))

    async with readable.open(capacity=3):
        await wait_all_tasks_blocked()

        assert source.sent == (stages + 1) * 3 + stages  # in the channels, and one in each stage's hand


@pytest.mark.parametrize("between", [0, 1, 2])
async def test_R7_a_batch_within_one_task_holds_no_more_bytes_than_a_channel_would(between: int) -> None:
    held = most = 0

    def chunks() -> Iterator[Any]:
        nonlocal held, most
        for n in range(200):
            yield from range(between)
            held += 64 * KIB
            most = max(most, held)
            yield bytes(64 * KIB) if n else b""

    def work(item: Any) -> None:
        nonlocal held
        held -= 64 * KIB if isinstance(item, bytes) else 0

    await tf.pipeline(chunks(), tf.for_each(work))

    assert held == 0
    assert most <= 1024 * KIB + 64 * KIB


async def test_R7_an_endless_iterable_in_a_flat_map_is_read_piece_by_piece() -> None:
    taken = 0

    def endless(start: int) -> Any:
        nonlocal taken
        for n in itertools.count(start):
            taken += 1
            yield n

    async with tf.from_iterable([5]).pipe(tf.flat_map(endless)).pipe(tf.map(str)).open(capacity=4) as receive:
        await wait_all_tasks_blocked()
        assert taken <= 2 * 4

        assert [await receive.receive() for _ in range(3)] == ["5", "6", "7"]


@pytest.mark.parametrize(("item", "weight"), [(1, 1), (b"x" * 8192, 2)])
@pytest.mark.parametrize("kind", ["generators", "operators", "forwarding stages", "timeouts", "dead letters"])
async def test_R5_the_items_between_a_generator_and_another_stage_never_weigh_more_than_the_capacity(
    item: int | bytes, weight: int, kind: str
) -> None:
    made = 0

    @tf.readable
    async def endless() -> AsyncIterator[int | bytes]:
        nonlocal made
        while True:
            made += 1
            yield item

    @tf.transform
    async def passing(items: AsyncIterable[int | bytes]) -> AsyncIterator[int | bytes]:
        async for each in items:
            yield each

    others = {
        "generators": passing,
        "operators": lambda: tf.map(lambda each: each),
        "forwarding stages": lambda: tf.progress(file=io.StringIO()),
        "timeouts": lambda: tf.timeout(3600),
        "dead letters": lambda: tf.on_item_error(tf.map(lambda each: each), tf.drain()),  # two stages
    }
    channels = 16 if kind == "dead letters" else 11
    readable = endless()
    for _ in range(5):
        readable = readable.pipe(passing()).pipe(others[kind]())

    async with readable.open(capacity=8) as receive:
        for received in range(30):
            await wait_all_tasks_blocked()
            assert made - received <= channels * 8 // weight + channels  # in the channels, and one in each stage's hand
            await receive.receive()


async def test_R5_items_sent_to_another_channel_wait_only_in_the_channels() -> None:
    source = Source(itertools.count())
    send, receive = tf.open_channel[int](8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(tf.pipeline, source.readable, tf.to_channel(send), capacity=8))
        for received in range(30):
            await wait_all_tasks_blocked()
            assert source.sent - received <= 2 * 8 + 2
            await receive.receive()
        nursery.cancel_scope.cancel()


async def test_R5_sources_that_run_inside_a_stage_hold_no_batch_between_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = Source(itertools.count())
    readable = source.readable
    for _ in range(5):
        readable = tf.merge(tf.concat(readable))

    async with readable.open(capacity=8) as receive:
        for received in range(30):
            await wait_all_tasks_blocked()
            assert source.sent - received <= 21 * 8 + 21
            await receive.receive()


async def test_R5_items_on_their_way_to_a_generator_count_against_the_capacity(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tf.transform
    async def slow(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            await trio.sleep(1)
            yield item

    source = Source(itertools.count())

    async with source.readable.pipe(slow()).open(capacity=4) as receive:
        for received in range(20):
            await trio.sleep_until(received + 0.5)
            assert source.sent == received + 1 + 4  # one in the stage's hand, and the channel is refilled at once
            await receive.receive()
