"""Moving all items of one channel to another, as `merge`, `to_channel` and `buffer` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import passes, steps_of
from trioflow._core.buffer import weight_of
from trioflow._core.moving import forward
from trioflow._core.one_by_one import OneByOne, one_by_one


async def move_until_broken(
    source: tf.ReceiveChannel[int], output: tf.SendChannel[int], raised: list[Exception]
) -> None:
    try:
        await forward(source, output)
    except trio.BrokenResourceError as exc:
        raised.append(exc)


@pytest.mark.parametrize("count", [2, 8])
async def test_sources_that_are_merged_take_turns_with_batches_and_not_with_single_items(count: int) -> None:
    each = 10_000 // count
    merged = tf.merge(*(tf.from_iterable(range(each)) for _ in range(count)))
    assert await steps_of(merged.pipe(tf.count())) < 1000


async def test_runs_that_send_to_one_channel_take_turns_with_batches() -> None:
    send, receive = tf.open_channel[int]()

    async def run(send: tf.SendChannel[int]) -> None:
        await tf.from_iterable(range(5000)).pipe(tf.to_channel(send))

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, send.clone())
            nursery.start_soon(run, send)
            assert await tf.from_iterable(receive).pipe(tf.count()) == 10_000

    assert await steps_of(both()) < 1000


async def test_an_item_stays_in_its_channel_until_there_is_room_in_the_other(nursery: trio.Nursery) -> None:
    given, source = tf.open_channel[int](4)
    output, taken = tf.open_channel[int](2)
    scope = trio.CancelScope()

    async def move() -> None:
        with scope:
            await forward(source, output)

    given.send_many_nowait([1, 2, 3, 4])
    nursery.start_soon(move)
    await wait_all_tasks_blocked()
    assert (source.statistics().used, output.statistics().used) == (2, 2)
    scope.cancel()
    await wait_all_tasks_blocked()
    assert source.receive_many_nowait() == [3, 4]
    assert taken.receive_many_nowait() == [1, 2]


async def test_R9_a_move_that_waits_for_room_ends_when_the_reader_leaves(nursery: trio.Nursery) -> None:
    given, source = tf.open_channel[int](4)
    output, taken = tf.open_channel[int](1)
    raised: list[Exception] = []
    given.send_many_nowait([1, 2])
    nursery.start_soon(move_until_broken, source, output, raised)
    await wait_all_tasks_blocked()
    taken.close()
    await wait_all_tasks_blocked()
    assert [str(exc) for exc in raised] == ["the last reader of this channel has closed"]
    assert source.receive_nowait() == 2


async def test_R12_a_failure_overtakes_items_that_wait_to_be_moved(nursery: trio.Nursery) -> None:
    given, source = tf.open_channel[int](4)
    output, taken = tf.open_channel[int](1)
    raised: list[Exception] = []
    given.send_many_nowait([1, 2])
    nursery.start_soon(move_until_broken, source, output, raised)
    await wait_all_tasks_blocked()
    given.abort()
    assert taken.receive_nowait() == 1
    await wait_all_tasks_blocked()
    assert [str(exc) for exc in raised] == ["the sender has failed"]
    assert taken.statistics().used == 0


async def test_several_readers_of_a_channel_that_is_moved_share_its_items(nursery: trio.Nursery) -> None:
    given, source = tf.open_channel[int](8)
    output, taken = tf.open_channel[int](1)
    nursery.start_soon(forward, one_by_one(source.clone()), output)
    given.send_many_nowait([1, 2, 3])
    await wait_all_tasks_blocked()
    assert source.receive_many_nowait() == [2, 3]
    assert taken.receive_nowait() == 1
    given.send_nowait(4)
    given.close()
    await wait_all_tasks_blocked()
    assert taken.receive_nowait() == 4


@pytest.mark.parametrize("kind", [tf.ReceiveChannel, OneByOne])
async def test_two_moves_from_one_channel_share_its_items(
    kind: type[tf.ReceiveChannel[int]], nursery: trio.Nursery
) -> None:
    given, source = tf.open_channel[int](8)
    output, taken = tf.open_channel[int](8)
    for _ in range(2):
        nursery.start_soon(forward, kind(source._buffer), output)
    await wait_all_tasks_blocked()
    for n in range(3):
        given.send_nowait(n)
        await passes(10)
        assert taken.receive_nowait() == n
    given.close()


ITEMS = st.one_of(st.integers(), st.binary(max_size=3), st.integers(1, 5).map(lambda pages: bytes(pages * 4096)))


@given(
    sources=st.lists(st.lists(ITEMS, max_size=20), min_size=1, max_size=3),
    capacities=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    yields=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_every_item_is_moved_once_in_order_and_within_the_capacity(
    sources: Sequence[Sequence[Any]], capacities: tuple[int, int], yields: list[bool]
) -> None:
    inside, outside = capacities

    async def main() -> None:
        output, taken = tf.open_channel[tuple[int, Any] | Any](outside)
        got: list[Any] = []

        async def give(items: Sequence[Any], send: tf.SendChannel[Any]) -> None:
            with send:
                for item in items:
                    await send.send(item)

        async def move(source: tf.ReceiveChannel[Any], send: tf.SendChannel[Any]) -> None:
            with source, send:
                await forward(source, send)

        async with trio.open_nursery() as nursery:
            for items in sources:
                send, source = tf.open_channel[Any](inside)
                nursery.start_soon(give, items, send)
                nursery.start_soon(move, source, output.clone())
            output.close()
            for lets_run in (*yields, *[True] * 100):
                try:
                    got.append(await taken.receive())
                except trio.EndOfChannel:
                    break
                if lets_run:
                    await trio.lowlevel.checkpoint()
        every = [item for items in sources for item in items]
        assert sorted(map(repr, got)) == sorted(map(repr, every))
        if len(sources) == 1:
            assert got == every
        assert output.statistics().peak <= max([outside, *map(weight_of, every)])

    trio.run(main)
