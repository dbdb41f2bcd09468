"""R6: a stage that drops passes on only what its reader is ready to take, so that the reader gets fresh items."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioflow as tf

CAPACITY = 4
PERIOD = 1.0  # of the reader; items arrive ten times as often

Place = Callable[[], AbstractAsyncContextManager[tf.Readable[float]]]


@tf.readable
async def moments() -> AsyncIterator[float]:
    while True:
        yield trio.current_time()
        await trio.sleep(PERIOD / 10)


@tf.transform
async def a_generator(items: AsyncIterable[float]) -> AsyncIterator[float]:
    async for item in items:
        yield item


@tf.transform
async def a_function(items: tf.ReceiveChannel[float], output: tf.SendChannel[float]) -> None:
    async for item in items:
        await output.send(item)


def of(make: Callable[[], tf.Readable[float]]) -> Place:
    @asynccontextmanager
    async def place() -> AsyncGenerator[tf.Readable[float], None]:
        yield make()

    return place


@asynccontextmanager
async def branch() -> AsyncGenerator[tf.Readable[float], None]:
    async with (
        tf.broadcast(moments(), 2, capacity=CAPACITY, overflow=["wait", "drop_oldest"]) as (quick, slow),
        trio.open_nursery() as nursery,
    ):

        async def read() -> None:
            await quick.pipe(tf.drain())

        nursery.start_soon(read)
        yield slow
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def subscriber() -> AsyncGenerator[tf.Readable[float], None]:
    async with tf.hub(moments()) as hub:
        yield hub.subscribe(capacity=CAPACITY, overflow="drop_oldest")


@asynccontextmanager
async def queue() -> AsyncGenerator[tf.Readable[float], None]:
    pushed = tf.queue[float](CAPACITY, overflow="drop_oldest")
    async with trio.open_nursery() as nursery:

        async def push() -> None:
            await moments().pipe(tf.for_each(pushed.offer))

        nursery.start_soon(push)
        yield pushed
        nursery.cancel_scope.cancel()


def dropping() -> tf.Readable[float]:
    return moments().pipe(tf.buffer(CAPACITY, overflow="drop_oldest"))


PLACES: dict[str, Place] = {
    "buffer": of(dropping),
    "broadcast": branch,
    "hub": subscriber,
    "queue": queue,
    "sample": of(lambda: moments().pipe(tf.sample(PERIOD / 5))),
    "debounce": of(lambda: moments().pipe(tf.debounce(PERIOD / 20))),
    "switch_map": of(lambda: moments().pipe(tf.switch_map(lambda moment: [moment]))),
    "ticks": of(lambda: tf.ticks(PERIOD / 10)),
    "merge of one that drops": of(lambda: tf.merge(dropping())),
    "retry of one that drops": of(lambda: tf.retry(dropping())),
    "recover after one that drops": of(lambda: dropping().pipe(tf.recover(lambda failure: []))),
}
WAYS: dict[str, list[tf.Transform[Any, Any]]] = {
    "directly": [],
    "by a map": [tf.map(lambda item: item)],
    "by a generator": [a_generator()],
    "by a function, a map and a generator": [a_function(), tf.map(lambda item: item), a_generator()],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
async def test_R6_items_that_a_slow_reader_gets_from_a_stage_that_drops_are_fresh(
    place: str, way: str, autojump_clock: MockClock
) -> None:
    ages: list[float] = []
    async with PLACES[place]() as readable:
        for stage in WAYS[way]:
            readable = readable.pipe(stage)
        async with readable.open() as receive:
            async for moment in receive:
                ages.append(trio.current_time() - moment)
                if len(ages) == 60:
                    break
                await trio.sleep(PERIOD)

    channels = len(WAYS[way]) + (2 if "one that drops" in place else 1)  # after the place
    assert max(ages) < (CAPACITY + channels + 1) * PERIOD


Inside = Callable[[tf.Readable[float]], tf.Readable[Any]]
INSIDES: dict[str, Inside] = {
    "merge": lambda readable: tf.merge(readable, tf.empty()),
    "merge_sorted": lambda readable: tf.merge_sorted(readable, tf.empty()),
    "concat": lambda readable: tf.concat(readable, tf.empty()),
    "interleave": lambda readable: tf.interleave(readable, tf.empty()),
    "zip": lambda readable: tf.zip(readable, readable),
    "zip_latest": lambda readable: tf.zip_latest(readable, readable),
    "retry": tf.retry,
    "switch_map": lambda readable: tf.from_iterable([0]).pipe(tf.switch_map(lambda _: readable)),
    "merge in a merge": lambda readable: tf.merge(tf.merge(readable)),
}


@pytest.mark.parametrize("inside", INSIDES)
async def test_R6_inside_another_stage_only_the_channels_after_one_that_drops_have_capacity_1(
    inside: str, autojump_clock: MockClock
) -> None:
    before, after = set(), set()

    @tf.readable
    async def source(output: tf.SendChannel[float]) -> None:
        before.add(output.statistics().capacity)
        await output.send(1.0)

    @tf.transform
    async def looking(items: tf.ReceiveChannel[float], output: tf.SendChannel[float]) -> None:
        after.update({items.statistics().capacity, output.statistics().capacity})
        async for item in items:
            await output.send(item)

    readable = INSIDES[inside](source().pipe(tf.sample(PERIOD)).pipe(looking()))
    await tf.pipeline(readable, tf.collect(), capacity=20)

    assert (before, after) == ({20}, {1})


async def test_R6_keep_alive_items_do_not_queue_up_before_a_busy_reader(autojump_clock: MockClock) -> None:
    async def quietly(item: int) -> int:
        await trio.sleep(10)
        return item

    received: list[int] = []
    async with tf.from_iterable([0]).pipe(tf.map_async(quietly)).pipe(tf.keep_alive(0.01, -1)).open() as receive:
        async for item in receive:
            received.append(item)
            await trio.sleep(PERIOD)

    assert received[-1] == 0
    assert len(received) <= 10 / PERIOD + 3  # far fewer than one for each hundredth of a second


async def test_R6_a_buffer_after_a_stage_that_drops_still_holds_its_capacity(autojump_clock: MockClock) -> None:
    async with dropping().pipe(tf.buffer(20)).open() as receive:
        await trio.sleep(100)
        items = [await receive.receive() for _ in range(20)]

    assert max(items) < 20 * PERIOD
