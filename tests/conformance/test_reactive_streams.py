"""The Reactive Streams rules, by their numbers, that are not already proved elsewhere.

There, demand is a number that a reader requests; here it is the room in the channel before the reader.
"""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, passes


@pytest.mark.parametrize("capacity", [1, 3, 256])
async def test_RS_1_1_a_source_makes_only_as_many_items_as_there_is_room_for_and_one_in_hand(capacity: int) -> None:
    source = Source(itertools.count())

    async with source.readable.open(capacity=capacity) as receive:
        for taken in range(5):
            await wait_all_tasks_blocked()
            assert source.sent <= taken + capacity
            await receive.receive()


async def test_RS_1_3_a_sink_handles_one_item_at_a_time_even_with_several_senders() -> None:
    at_work = most = 0

    async def work(n: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await passes(2)
        at_work -= 1

    await tf.merge(*[Source(range(9)).readable for _ in range(3)]).pipe(tf.for_each(work))

    assert most == 1


async def test_RS_1_5_an_empty_source_signals_its_end_and_nothing_else() -> None:
    sink = Sink()

    assert await tf.empty().pipe(sink.writable) == "result"
    assert (sink.got, sink.how) == ([], "the end")


@pytest.mark.parametrize("shape", ["all at once", "one by one", "to the end"])
async def test_RS_1_11_every_branch_gets_the_same_items_in_the_same_order(shape: str) -> None:
    source = Source(range(30))
    got: list[list[int]] = [[], [], []]

    async def read(branch: tf.Readable[int], i: int) -> None:
        async with branch.open(capacity=1) as receive:
            if shape == "all at once":
                while len(got[i]) < 30:
                    got[i] += await receive.receive_many()
            elif shape == "one by one":
                for _ in range(30):
                    got[i].append(await receive.receive())
                    await passes(i)
            else:
                got[i] += [item async for item in receive]

    async with tf.broadcast(source.readable, 3, capacity=2) as branches, trio.open_nursery() as nursery:
        for i, branch in enumerate(branches):
            nursery.start_soon(read, branch, i)

    assert got == [[*range(30)]] * 3
    assert source.ended == 1


async def test_RS_2_8_items_on_their_way_to_a_reader_that_leaves_are_freed() -> None:
    freed = []

    class Item:
        def __del__(self) -> None:
            freed.append(1)

    async with Source(iter(Item, None), then=None).readable.open(capacity=4) as receive:
        await receive.receive()
        await wait_all_tasks_blocked()
        held = receive.statistics().used

    gc.collect()
    assert held == 4
    assert len(freed) == 1 + held + 1  # the one it received, those on their way, and one in the source's hand


async def test_RS_2_9_an_end_arrives_without_demand() -> None:
    source = Source([])

    async with source.readable.open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        assert source.ended == 1
        with pytest.raises(trio.EndOfChannel):
            receive.receive_nowait()


async def test_RS_2_10_a_failure_arrives_without_demand() -> None:
    failure = Boom()

    async with Source([], then=failure).readable.open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        with pytest.raises(Boom) as caught:
            receive.receive_nowait()

    assert caught.value is failure


def plain(depth: int) -> tf.Readable[int]:
    readable = tf.from_iterable(range(9))
    for _ in range(depth):
        readable = readable.pipe(tf.map(lambda n: n + 1))
    return readable


@tf.transform
async def added(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for n in items:
        yield n + 1


def generators(depth: int) -> tf.Readable[int]:
    readable = tf.from_iterable(range(9))
    for _ in range(depth):
        readable = readable.pipe(added())
    return readable


def nested(depth: int) -> tf.Readable[int]:
    readable = tf.from_iterable(range(9))
    for _ in range(depth):
        readable = tf.concat(readable.pipe(tf.map(lambda n: n + 1)))
    return readable


@pytest.mark.parametrize(("make", "depth"), [(plain, 2000), (generators, 300), (nested, 50)])
async def test_RS_3_3_a_long_chain_does_not_exceed_the_recursion_limit(make: Any, depth: int) -> None:
    assert await make(depth).pipe(tf.collect()) == [n + depth for n in range(9)]


async def test_RS_3_3_many_empty_sources_in_a_row_do_not_exceed_the_recursion_limit() -> None:
    assert await tf.concat(*[tf.empty()] * 2000, tf.from_iterable([1])).pipe(tf.collect()) == [1]


async def test_RS_3_9_a_demand_of_less_than_one_item_is_refused() -> None:
    send, receive = tf.open_channel[int]()
    send.send_nowait(1)

    for limit in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            await receive.receive_many(limit)
    for capacity in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            tf.from_iterable([1]).open(capacity=capacity)

    assert await receive.receive_many(1) == [1]


async def test_RS_3_13_a_reader_that_has_left_is_freed() -> None:
    class Reader:
        def __init__(self) -> None:
            self.got: list[int] = []

        async def run(self, source: tf.ReceiveChannel[int]) -> None:
            self.got.append(await source.receive())

    source = Source(itertools.count())
    async with tf.broadcast(source.readable, 2, capacity=1) as (a, b):
        reader = Reader()
        await a.pipe(tf.Writable(reader.run))
        assert reader.got == [0]
        gone = weakref.ref(reader)
        del reader
        gc.collect()

        assert await b.pipe(tf.take(5)).pipe(tf.collect()) == [0, 1, 2, 3, 4]
        assert gone() is None


async def test_RS_3_17_demand_can_be_unbounded() -> None:
    source = Source(range(10_000))

    async with source.readable.open(capacity=math.inf) as receive:
        await wait_all_tasks_blocked()
        assert source.ended == 1
        assert len(await receive.receive_many()) == 10_000


async def test_RS_4_2_a_failure_is_recovered_from_or_passed_on_at_once() -> None:
    failing = tf.concat(tf.from_iterable([1]), tf.failed(Boom()))

    assert await failing.pipe(tf.recover(lambda failure: [2])).pipe(tf.collect()) == [1, 2]
    with pytest.raises(Boom):
        await failing.pipe(tf.recover(lambda failure: [2], on=LookupError)).pipe(tf.collect())
