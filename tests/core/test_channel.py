"""Channels: one item or many, with and without waiting, cancelled, closed, cloned and overflowing."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, steps_of


async def test_items_come_out_in_the_order_they_went_in() -> None:
    send, receive = tf.open_channel[int](4)

    await send.send(1)
    send.send_nowait(2)
    await send.send_many(iter([3, 4]))

    assert await receive.receive() == 1
    assert receive.receive_nowait() == 2
    assert await receive.receive_many() == [3, 4]


async def test_each_end_shows_what_the_channel_holds_and_whether_the_end_is_closed() -> None:
    send, receive = tf.open_channel[bytes](16)

    await send.send(bytes(8193))
    send.close()

    assert (repr(send), repr(receive)) == ("<SendChannel 3 of 16, closed>", "<ReceiveChannel 3 of 16>")
    assert repr(tf.open_channel(math.inf)[0]) == "<SendChannel 0 of inf>"


def test_the_ends_of_a_channel_are_trio_channels() -> None:
    pair = tf.open_channel[int](math.inf)

    assert type(pair) is tuple
    assert isinstance(pair[0], trio.abc.SendChannel)
    assert isinstance(pair[1], trio.abc.ReceiveChannel)


async def test_receive_many_takes_what_is_buffered_up_to_its_limit() -> None:
    send, receive = tf.open_channel[int](10)
    await send.send_many(range(5))

    assert await receive.receive_many(2) == [0, 1]
    assert await receive.receive_many(100) == [2, 3, 4]
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        await receive.receive_many(0)


async def test_receive_many_waits_only_while_the_buffer_is_empty() -> None:
    send, receive = tf.open_channel[int](10)
    got = []

    async def take() -> None:
        got.append(await receive.receive_many())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        assert got == []
        await send.send(1)

    assert got == [[1]]


async def test_send_many_sends_as_room_allows_and_keeps_the_order() -> None:
    send, receive = tf.open_channel[int](3)
    got = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send_many, range(10))
        await wait_all_tasks_blocked()
        assert receive.statistics().used == 3
        for _ in range(10):
            got.append(await receive.receive())

    assert got == list(range(10))


async def test_send_many_weighs_heavy_items_one_by_one() -> None:
    send, receive = tf.open_channel[bytes](2)
    chunks = [bytes(5000), b"x", bytes(100_000), b"", bytes(4096)]
    got, used = [], []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send_many, chunks)
        for _ in chunks:
            await wait_all_tasks_blocked()
            used.append(receive.statistics().used)
            got.append(await receive.receive())

    assert got == chunks
    assert used == [2, 1, 25, 2, 1]


async def test_send_many_nowait_sends_all_or_none() -> None:
    send, receive = tf.open_channel[bytes](3)

    send.send_many_nowait([b"a", b"b"])
    with pytest.raises(trio.WouldBlock):
        send.send_many_nowait([b"c", b"d"])
    send.send_many_nowait([])
    assert await receive.receive_many() == [b"a", b"b"]
    send.send_many_nowait([bytes(100_000)])  # an empty channel admits it, although it is too heavy
    with pytest.raises(trio.WouldBlock):
        send.send_many_nowait([b"e"])


async def test_nowait_calls_raise_would_block() -> None:
    send, receive = tf.open_channel[int](1)

    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    send.send_nowait(1)
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(2)
    assert receive.receive_nowait() == 1


async def test_nowait_calls_do_not_overtake_waiting_tasks() -> None:
    send, receive = tf.open_channel[int](1)
    send.send_nowait(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 2)
        await wait_all_tasks_blocked()
        assert receive.receive_nowait() == 1
        with pytest.raises(trio.WouldBlock):
            send.send_nowait(3)

    assert await receive.receive() == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive.receive)
        await wait_all_tasks_blocked()
        send.send_nowait(4)
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()


async def test_send_many_nowait_does_not_overtake_a_woken_sender() -> None:
    send, receive = tf.open_channel[int](1)
    send.send_nowait(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 2)
        await wait_all_tasks_blocked()
        assert receive.receive_nowait() == 1
        with pytest.raises(trio.WouldBlock):
            send.send_many_nowait([3])

    assert receive.receive_nowait() == 2


async def test_send_receive_and_aclose_are_checkpoints() -> None:
    send, receive = tf.open_channel[int](1)

    with assert_checkpoints():
        await send.send(1)
    with assert_checkpoints():
        await receive.receive()
    with assert_checkpoints():
        await send.aclose()
    with assert_checkpoints():
        await receive.aclose()


# Closing


async def test_a_closed_end_raises_closed_resource_error() -> None:
    send, receive = tf.open_channel[int]()
    other_send, other_receive = send.clone(), receive.clone()
    send.close()
    receive.close()

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: send.send(1),
        lambda: send.send_many([1]),
        lambda: send.send_many([b"x"]),
        receive.receive,
        receive.receive_many,
        lambda: anext(receive),
    ]
    for call in calls:
        with pytest.raises(trio.ClosedResourceError, match=r"this (send|receive) channel is closed"):
            await call()
    plain: list[Callable[[], object]] = [
        lambda: send.send_nowait(1),
        lambda: send.send_many_nowait([1]),
        receive.receive_nowait,
        send.clone,
        receive.clone,
    ]
    for ask in plain:
        with pytest.raises(trio.ClosedResourceError):
            ask()
    await other_send.send(1)
    assert await other_receive.receive() == 1


async def test_closing_an_end_wakes_the_task_that_waits_on_it() -> None:
    send, receive = tf.open_channel[int](1)
    woken = []

    async def wait(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except trio.ClosedResourceError as exc:
            woken.append(type(exc))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, receive.receive)
        await wait_all_tasks_blocked()
        receive.clone()
        receive.close()
        await wait_all_tasks_blocked()
        assert woken == [trio.ClosedResourceError]
        send.send_nowait(1)
        nursery.start_soon(wait, lambda: send.send(2))
        nursery.start_soon(wait, lambda: send.send_many([2, 3]))
        await wait_all_tasks_blocked()
        send.close()

    assert woken == [trio.ClosedResourceError] * 3


async def test_when_the_last_sender_closes_all_waiting_receivers_get_the_end() -> None:
    send, receive = tf.open_channel[int](1)
    ended = []

    async def wait() -> None:
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()
        ended.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        other = send.clone()
        other.close()
        await wait_all_tasks_blocked()
        assert ended == []
        send.close()

    assert ended == [1, 1, 1]


async def test_when_the_last_receiver_closes_waiting_senders_get_an_error_and_the_buffer_is_discarded() -> None:
    send, receive = tf.open_channel[int](2)
    told = []

    async def wait(item: int) -> None:
        with pytest.raises(trio.BrokenResourceError, match="the last reader of this channel has closed"):
            await send.send(item)
        told.append(item)

    await send.send_many([1, 2])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 3)
        nursery.start_soon(wait, 4)
        await wait_all_tasks_blocked()
        receive.close()

    assert sorted(told) == [3, 4]
    assert (send.statistics().discarded, send.statistics().used) == (2, 0)


async def test_several_waiting_receivers_get_the_last_items_and_then_the_end() -> None:
    """Two items, a closed clone and the end in one tick, with four tasks waiting: none is lost, every task wakes."""
    for _ in range(20):  # Trio runs tasks in random order
        send, receive = tf.open_channel[int](4)
        got: list[object] = []

        async def wait(got: list[object] = got, receive: tf.ReceiveChannel[int] = receive) -> None:
            try:
                got.append(await receive.receive())
            except trio.EndOfChannel:
                got.append("end")

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            send.clone().close()
            await send.send_many([1, 2])
            send.close()

        assert sorted(map(str, got)) == ["1", "2", "end", "end"]


async def test_leaving_a_with_block_closes_its_end() -> None:
    send, receive = tf.open_channel[int]()

    other_send, other_receive = send.clone(), receive.clone()
    with receive, send:
        pass
    async with other_receive, other_send:
        assert (send.statistics().open_send_channels, send.statistics().open_receive_channels) == (1, 1)

    assert (send.statistics().open_send_channels, send.statistics().open_receive_channels) == (0, 0)


async def test_an_aborted_channel_drops_its_buffer_and_breaks_both_ends() -> None:
    send, receive = tf.open_channel[int](2)
    cause = Boom()
    told = []
    other = send.clone()

    async def wait() -> None:
        try:
            await other.send(3)
        except trio.BrokenResourceError as exc:
            told.append(exc.__cause__)

    await send.send_many([1, 2])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        send.abort(cause)
        send.abort(ValueError("too late"))
        send.close()

    assert told == [cause]
    with pytest.raises(trio.BrokenResourceError, match="the sender has failed") as caught:
        await receive.receive()
    assert caught.value.__cause__ is cause
    assert (receive.statistics().used, receive.statistics().discarded) == (0, 2)


# Cancelling


@pytest.mark.parametrize("many", [False, True])
async def test_a_cancelled_send_sends_nothing(many: bool) -> None:
    send, receive = tf.open_channel[int](1)
    send.send_nowait(1)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send.send_many, [2]) if many else nursery.start_soon(send.send, 2)
            await wait_all_tasks_blocked()
            scope.cancel()

    assert receive.receive_nowait() == 1
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    assert send.statistics().tasks_waiting_send == 0


async def test_a_cancelled_receive_takes_nothing() -> None:
    send, receive = tf.open_channel[int](1)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive.receive)
            nursery.start_soon(receive.receive_many)
            await wait_all_tasks_blocked()
            scope.cancel()

    assert send.statistics().tasks_waiting_receive == 0
    send.send_nowait(1)
    assert receive.receive_nowait() == 1


async def test_a_receive_cancelled_in_the_tick_that_wakes_it_takes_nothing() -> None:
    send, receive = tf.open_channel[int](1)
    got = []

    async def take(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await receive.receive())

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, first)
        await wait_all_tasks_blocked()
        nursery.start_soon(take, second)
        await wait_all_tasks_blocked()
        send.send_nowait(1)  # wakes the first
        first.cancel()
        await wait_all_tasks_blocked()

        assert first.cancelled_caught
        assert got == [1]  # the first passes the wake-up on to the second


async def test_a_send_cancelled_in_the_tick_that_wakes_it_sends_nothing() -> None:
    send, receive = tf.open_channel[str](1)
    send.send_nowait("held")
    sent = []

    async def put(item: str, scope: trio.CancelScope) -> None:
        with scope:
            await send.send(item)
            sent.append(item)

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, "first", first)
        await wait_all_tasks_blocked()
        nursery.start_soon(put, "second", second)
        await wait_all_tasks_blocked()
        assert receive.receive_nowait() == "held"  # wakes the first
        first.cancel()

    assert sent == ["second"]
    assert receive.receive_nowait() == "second"


async def test_an_abort_in_the_tick_that_wakes_a_receiver_overtakes_the_item() -> None:
    send, receive = tf.open_channel[int](1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken, receive)
        await wait_all_tasks_blocked()
        send.send_nowait(1)
        send.abort()


async def expect_broken(receive: tf.ReceiveChannel[int]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await receive.receive()


# Fairness


async def test_receivers_are_served_first_come_first_served() -> None:
    send, receive = tf.open_channel[int](8)
    served: list[tuple[int, int]] = []

    async def take(name: int) -> None:
        served.append((name, await receive.receive()))

    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(take, name)
            await wait_all_tasks_blocked()
        for item in range(5):
            await send.send(item)

    assert sorted(served, key=lambda pair: pair[1]) == [(n, n) for n in range(5)]


@pytest.mark.parametrize("attempt", range(10))  # Trio runs tasks in random order
async def test_closing_a_clone_does_not_let_anyone_overtake(attempt: int) -> None:
    send, receive = tf.open_channel[int](4)
    served = []

    async def take(name: int) -> None:
        served.append((name, await receive.receive()))

    async with trio.open_nursery() as nursery:
        for name in range(3):
            nursery.start_soon(take, name)
            await wait_all_tasks_blocked()
        send.send_nowait(0)
        send.clone().close()
        await wait_all_tasks_blocked()
        assert served == [(0, 0)]
        await send.send_many([1, 2])

    assert sorted(served) == [(0, 0), (1, 1), (2, 2)]


async def test_senders_are_served_first_come_first_served() -> None:
    send, receive = tf.open_channel[int](1)
    send.send_nowait(-1)

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(send.send, n)
            await wait_all_tasks_blocked()
        got = []
        for _ in range(6):
            got.append(await receive.receive())
            receive.clone().close()

    assert got == [-1, 0, 1, 2, 3, 4]


async def test_a_sender_goes_ahead_of_those_that_wait_only_if_there_is_room_for_them_too() -> None:
    send, receive = tf.open_channel[str](4)
    await send.send_many("abcd")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, "waits")
        nursery.start_soon(send.send, "waits")
        await wait_all_tasks_blocked()
        assert receive.receive_nowait() == "a"
        assert receive.receive_nowait() == "b"
        with pytest.raises(trio.WouldBlock):
            send.send_nowait("new")
        assert receive.receive_nowait() == "c"
        send.send_nowait("new")
        with pytest.raises(trio.WouldBlock):
            send.send_many_nowait(["newer"])

    assert await receive.receive_many() == ["d", "new", "waits", "waits"]


async def test_a_reader_goes_ahead_of_those_that_wait_only_if_there_are_items_for_them_too() -> None:
    send, receive = tf.open_channel[int](8)
    got: list[int] = []

    async def take() -> None:
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        await send.send_many([1, 2])
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()
        send.send_nowait(3)
        assert receive.receive_nowait() == 1
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()
        with pytest.raises(trio.WouldBlock):
            receive.receive_many_nowait()

    assert got == [2, 3]


@pytest.mark.parametrize("count", [2, 8, 100])
async def test_tasks_that_send_and_receive_single_items_do_not_switch_for_each(count: int) -> None:
    send, receive = tf.open_channel[int]()
    got: list[int] = []

    async def put(start: int) -> None:
        for n in range(start, 10_000, count):
            await send.send(n)

    async def take() -> None:
        async for n in receive:
            got.append(n)

    async def all_of_them() -> None:
        async with trio.open_nursery() as readers:
            for _ in range(count):
                readers.start_soon(take)
            async with send, trio.open_nursery() as senders:
                for start in range(count):
                    senders.start_soon(put, start)

    assert await steps_of(all_of_them()) < 5000
    assert sorted(got) == list(range(10_000))


async def test_a_heavy_item_is_not_starved_by_light_ones() -> None:
    send, receive = tf.open_channel[bytes](4)
    heavy = bytes(4 * 4096)
    await send.send_many([b"0", b"1"])
    got = []

    async def light(name: bytes) -> None:
        for _ in range(5):
            await send.send(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, heavy)
        await wait_all_tasks_blocked()
        nursery.start_soon(light, b"a")
        nursery.start_soon(light, b"b")
        await wait_all_tasks_blocked()
        assert receive.statistics().used == 2  # there would be room for light ones
        for _ in range(13):
            got.append(await receive.receive())

    assert got.index(heavy) == 2


# Overflow


async def test_a_heavy_item_drops_as_many_old_ones_as_it_needs() -> None:
    send, receive = tf.open_channel[bytes](3, overflow="drop_oldest")

    await send.send_many([b"a", b"b", b"c", bytes(5000)])

    assert await receive.receive_many() == [b"c", bytes(5000)]
    assert receive.statistics().dropped == 2


async def test_nowait_follows_the_overflow_policy() -> None:
    dropping, newest = tf.open_channel[int](1, overflow="drop_newest")
    failing, oldest = tf.open_channel[int](1, overflow="fail")

    for send in (dropping, failing):
        send.send_nowait(1)
    dropping.send_nowait(2)
    with pytest.raises(BufferError, match="the channel is full: it holds 1 of 1"):
        failing.send_nowait(2)

    assert newest.receive_nowait() == oldest.receive_nowait() == 1


async def test_a_full_channel_says_that_an_item_is_too_heavy_for_the_rest() -> None:
    send, _ = tf.open_channel[bytes](4, overflow="fail")
    send.send_nowait(bytes(10_000))

    with pytest.raises(BufferError, match=r"it holds 3 of 4, and this item weighs 2, 1 for each 4 KiB$"):
        send.send_nowait(bytes(5000))


# Leaks


def test_a_sender_that_is_never_closed_warns_in_development_mode() -> None:
    program = "import trioflow as tf\nsend, receive = tf.open_channel()\ndel send\n"

    done = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=True)

    assert "ResourceWarning: " in done.stderr
    assert "was never closed, so its readers never see the end" in done.stderr


def test_an_unreferenced_channel_is_freed_without_the_garbage_collector() -> None:
    class Item:
        freed = False

        def __del__(self) -> None:
            Item.freed = True

    gc.disable()
    try:
        send, receive = tf.open_channel[Item]()
        send.send_nowait(Item())
        send.close()
        del send, receive
        assert Item.freed
    finally:
        gc.enable()


# Everything at once

STEPS = st.sampled_from(["send", "send many", "wait", "cancel", "clone", "close"])


@settings(max_examples=150)
@given(data=st.data(), capacity=st.integers(1, 5), senders=st.integers(1, 3), receivers=st.integers(1, 3))
async def test_in_any_interleaving_each_item_arrives_once_and_in_order_within_the_capacity(
    data: st.DataObject, capacity: int, senders: int, receivers: int
) -> None:
    """Senders and receivers take random steps, are cancelled after a random number of scheduler passes, and close."""
    send, receive = tf.open_channel[tuple[int, int]](capacity)
    sent: list[tuple[int, int]] = []
    uncertain: set[tuple[int, int]] = set()  # items of a cancelled send_many: the first few were sent, or none
    got: list[tuple[int, int]] = []
    most = 0

    async def passing(count: int) -> None:
        nonlocal most
        for _ in range(count):
            await trio.lowlevel.checkpoint()
            most = max(most, receive.statistics().used)

    async def sender(name: int, end: tf.SendChannel[tuple[int, int]], steps: list[tuple[str, int]]) -> None:
        count = 0
        with end:
            for step, size in steps:
                items = [(name, count + i) for i in range(size)] if step == "send many" else [(name, count)]
                count += len(items)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        if step == "cancel":
                            nursery.start_soon(cancel_after, size, scope)
                        if step == "send many":
                            uncertain.update(items)
                            await end.send_many(items)
                            uncertain.difference_update(items)
                            sent.extend(items)
                        elif step == "clone":
                            with end.clone() as clone:
                                await clone.send(items[0])
                            sent.extend(items)
                        elif step != "wait":
                            await end.send(items[0])
                            sent.extend(items)
                        else:
                            await passing(size)
                        nursery.cancel_scope.cancel()

    async def receiver(end: tf.ReceiveChannel[tuple[int, int]], steps: list[tuple[str, int]], *, stays: bool) -> None:
        with end:
            try:
                for step, size in steps:
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            if step == "cancel":
                                nursery.start_soon(cancel_after, size, scope)
                            if step == "send many":
                                got.extend(await end.receive_many(size or None))
                            elif step == "wait":
                                await passing(size)
                            else:
                                got.append(await end.receive())
                            nursery.cancel_scope.cancel()
                while stays:
                    got.append(await end.receive())
            except* trio.EndOfChannel:
                pass

    async def cancel_after(count: int, scope: trio.CancelScope) -> None:
        await passing(count)
        scope.cancel()

    steps = st.lists(st.tuples(STEPS, st.integers(0, 6)), max_size=8)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for name in range(senders):
                nursery.start_soon(sender, name, send.clone(), data.draw(steps))
            for n in range(receivers):
                take = receiver(receive.clone(), data.draw(steps), stays=n == 0)
                nursery.start_soon(lambda take=take: take)
            send.close()

    assert len(got) == len(set(got))
    assert set(got) - uncertain == set(sent) - uncertain
    assert set(sent) <= set(got)
    if receivers == 1:
        for name in range(senders):
            mine = [item for item in got if item[0] == name]
            assert mine == sorted(mine)
    statistics = receive.statistics()
    assert max(most, statistics.peak) <= capacity
    assert (statistics.used, statistics.tasks_waiting_send, statistics.tasks_waiting_receive) == (0, 0, 0)


async def test_on_wanted_is_called_when_a_reader_starts_to_wait() -> None:
    send, receive = tf.open_channel[int](capacity=2)
    told: list[str] = []
    receive._buffer.on_wanted = lambda: told.append("wanted")
    send.send_nowait(1)

    async with trio.open_nursery() as nursery:
        assert await receive.receive() == 1
        assert told == []
        nursery.start_soon(receive.receive)
        await wait_all_tasks_blocked()
        assert told == ["wanted"]
        send.send_nowait(2)
        send.close()
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()

    assert told == ["wanted"]


async def test_senders_of_batches_take_turns_bufferful_by_bufferful_not_item_by_item() -> None:
    send, receive = tf.open_channel[str](8)

    async with trio.open_nursery() as nursery, receive:
        for name in "abc":
            nursery.start_soon(send.send_many, [name] * 80)
        await wait_all_tasks_blocked()
        got = [item for _ in range(30) for item in await receive.receive_many()]

    assert sorted(got) == sorted("abc" * 80)
    assert len(list(itertools.groupby(got))) <= 30


@pytest.mark.parametrize("item", [1, bytes(20_000)])
async def test_a_sender_can_wait_until_everything_has_been_received(item: Any) -> None:
    send, receive = tf.open_channel[Any](3)
    seen: list[str] = []

    async def wait() -> None:
        await send._wait_empty()
        seen.append("empty")

    await send._wait_empty()
    await send.send(item)
    with contextlib.suppress(trio.WouldBlock):
        send.send_nowait(item)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not seen
        while send.statistics().used:
            await receive.receive()
        await wait_all_tasks_blocked()
        assert seen == ["empty"]

        await send.send(item)
        nursery.start_soon(expect_the_reader_to_have_left, send._wait_empty)
        await wait_all_tasks_blocked()
        receive.close()


async def expect_the_reader_to_have_left(call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(trio.BrokenResourceError, match="the last reader of this channel has closed"):
        await call()


async def test_R17_waiting_until_everything_has_been_received_can_be_cancelled() -> None:
    send, receive = tf.open_channel[int](3)
    await send.send(1)

    with trio.CancelScope() as scope:
        scope.cancel()
        await send._wait_empty()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send._wait_empty)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert scope.cancelled_caught
    assert await receive.receive() == 1
    assert send.statistics().tasks_waiting_send == 0


def test_the_ends_of_a_channel_have_no_public_names_but_those_that_users_call() -> None:
    both = {"aclose", "clone", "close", "statistics"}
    send, receive = tf.open_channel[int]()

    with send, receive:
        sending = {name for name in dir(send) if not name.startswith("_")}
        receiving = {name for name in dir(receive) if not name.startswith("_")}

    assert sending - both == {
        "abort", "room", "send", "send_many", "send_many_nowait", "send_nowait", "wait_for_room",
    }  # fmt: skip
    assert receiving - both == {"batches", "receive", "receive_many", "receive_many_nowait", "receive_nowait"}
