"""R18 and R19: every value is an item, and a channel may have several senders and receivers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Consumer, passing, passing_on

EMPTY: list[Any] = [None, b"", "", 0, False, 0.0, (), [], {}, StopIteration(), Ellipsis]


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_R18_empty_values_are_ordinary_items(consume: Consumer) -> None:
    async def same(item: Any) -> Any:
        return item

    chain = (
        tf.from_iterable(EMPTY)
        .pipe(passing())
        .pipe(tf.map(lambda item: item))
        .pipe(tf.Transform(passing_on))
        .pipe(tf.map(same))
        .pipe(tf.batch(2))
        .pipe(tf.flat_map(list))
        .pipe(tf.tap(same))
        .pipe(tf.scan(lambda state, item: item, "state"))
        .pipe(tf.filter(lambda item: True))
    )

    got = await consume(chain)

    assert got
    assert all(one is other for one, other in zip(got, EMPTY, strict=False))
    assert len(got) == len(EMPTY) or consume in CONSUMERS[2:]


@pytest.mark.parametrize("item", [None, b"", 0, False, ""])
async def test_R18_an_empty_first_item_is_not_the_end(item: Any) -> None:
    assert await tf.from_iterable([item, 1]).pipe(tf.first()) is item
    assert await tf.from_iterable([item]).pipe(tf.first(default="none")) is item
    assert await tf.from_iterable([item]).pipe(tf.count()) == 1


async def test_R19_a_channel_ends_when_its_last_sender_closes() -> None:
    send, receive = tf.open_channel[str]()
    other = send.clone()

    send.send_nowait("from one")
    send.close()
    other.send_nowait("from the other")
    assert [receive.receive_nowait(), receive.receive_nowait()] == ["from one", "from the other"]
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    other.close()

    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


async def test_R19_each_item_goes_to_one_receiver_and_senders_stop_with_the_last() -> None:
    send, receive = tf.open_channel[int](4)
    other = receive.clone()
    got: dict[str, list[int]] = {"one": [], "other": []}

    async def take(name: str, end: tf.ReceiveChannel[int]) -> None:
        async with end:
            async for item in end:
                got[name].append(item)
                await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "one", receive)
        nursery.start_soon(take, "other", other)
        await send.send_many(range(20))
        send.close()

    assert sorted(got["one"] + got["other"]) == list(range(20))
    assert min(map(len, got.values())) > 5
    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(1)


async def test_R19_statistics_count_items_bytes_waiting_tasks_peak_and_dropped_items() -> None:
    send, receive = tf.open_channel[bytes](3)
    copy = send.clone()

    async with trio.open_nursery() as nursery:
        await send.send_many([bytes(5000), b"x"])
        nursery.start_soon(copy.send, b"waits")
        await wait_all_tasks_blocked()

        statistics = receive.statistics()
        assert (statistics.used, statistics.peak, statistics.capacity) == (3, 3, 3)
        assert (statistics.items, statistics.bytes) == (2, 5001)
        assert (statistics.tasks_waiting_send, statistics.tasks_waiting_receive) == (1, 0)
        assert (statistics.open_send_channels, statistics.open_receive_channels) == (2, 1)
        assert await receive.receive_many() == [bytes(5000), b"x"]
        assert await receive.receive() == b"waits"
        nursery.start_soon(receive.receive)
        await wait_all_tasks_blocked()
        assert receive.statistics().tasks_waiting_receive == 1
        send.send_nowait(b"")

    send.send_nowait(b"left")
    receive.close()
    assert (send.statistics().items, send.statistics().dropped, send.statistics().discarded) == (5, 0, 1)
