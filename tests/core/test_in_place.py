"""A reader that lets the sender's task handle the items."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from trioflow._core import in_place
from trioflow._core.in_place import left_by
from trioflow._core.one_by_one import one_by_one

PAUSE = 0.002  # longer than it takes until the next item is handled in place


class Refused(ValueError):
    pass


class Reader:
    """Reads a channel, and records which task handled each batch. It does not handle one with a negative number."""

    def __init__(self, source: tf.ReceiveChannel[int]) -> None:
        self.source = source
        self.batches: list[list[int]] = []
        self.tasks: list[trio.lowlevel.Task] = []
        self.left: list[int] = []
        self.task: trio.lowlevel.Task | None = None

    def handle(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.tasks.append(trio.lowlevel.current_task())
        if 13 in items:
            raise Refused("13 is refused")
        return [item for item in items if item < 0]

    async def read(self) -> None:
        self.task = trio.lowlevel.current_task()
        async for left in left_by(self.source, self.handle):
            await trio.lowlevel.checkpoint()
            self.left += left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(in_place, "perf_counter", lambda: now[0])
    return now


async def test_an_item_after_a_pause_is_handled_by_the_task_that_sends_it(
    nursery: trio.Nursery, clock: list[float]
) -> None:
    send, receive = tf.open_channel[int](4)
    reader = Reader(receive)
    nursery.start_soon(reader.read)
    await wait_all_tasks_blocked()
    for n in range(3):
        clock[0] += PAUSE
        await send.send(n)
        assert reader.batches[n:] == [[n]]
    assert set(reader.tasks) == {trio.lowlevel.current_task()}
    assert send.statistics().used == 0
    assert send.statistics().items == 3
    send.close()


async def test_a_sender_that_does_not_pause_gets_its_items_handled_in_batches(
    nursery: trio.Nursery, clock: list[float]
) -> None:
    send, receive = tf.open_channel[int](1000)
    reader = Reader(receive)
    nursery.start_soon(reader.read)
    await wait_all_tasks_blocked()
    for n in range(10):
        await send.send(n)
    await wait_all_tasks_blocked()
    assert reader.batches == [[0], list(range(1, 10))]
    assert reader.tasks == [trio.lowlevel.current_task(), reader.task]
    send.close()


async def test_an_item_that_cannot_be_handled_at_once_is_left_to_the_reader_and_later_ones_wait(
    nursery: trio.Nursery, clock: list[float]
) -> None:
    send, receive = tf.open_channel[int](4)
    reader = Reader(receive)
    nursery.start_soon(reader.read)
    await wait_all_tasks_blocked()
    for n in (1, -2, 3):
        clock[0] += PAUSE
        send.send_nowait(n)
    assert reader.batches == [[1], [-2]]
    await wait_all_tasks_blocked()
    assert (reader.batches, reader.left) == ([[1], [-2], [3]], [-2])
    clock[0] += PAUSE
    send.send_nowait(4)
    assert reader.batches[-1] == [4]
    send.close()


@pytest.mark.parametrize("pauses", [True, False])
async def test_an_exception_while_handling_is_raised_in_the_reader_and_not_in_the_sender(
    pauses: bool, clock: list[float]
) -> None:
    send, receive = tf.open_channel[int](4)
    reader = Reader(receive)

    async def send_both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read)
            await wait_all_tasks_blocked()
            await send.send(1)
            clock[0] += PAUSE if pauses else 0
            await send.send(13)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await send_both()
    assert [str(exc) for exc in caught.value.exceptions] == ["13 is refused"]
    assert reader.tasks[-1] is (trio.lowlevel.current_task() if pauses else reader.task)
    send.close()


async def test_R17_an_exception_while_handling_is_not_lost_if_the_reader_was_cancelled_too(clock: list[float]) -> None:
    send, receive = tf.open_channel[int](4)
    scope = trio.CancelScope()
    raised: list[Exception] = []

    def lose(items: list[int]) -> list[int]:
        scope.cancel()
        raise trio.BrokenResourceError("the client has gone")

    async def read() -> None:
        with scope:
            try:
                async for _ in left_by(receive, lose):
                    pass
            except trio.BrokenResourceError as exc:
                raised.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await send.send(1)
    assert [str(exc) for exc in raised] == ["the client has gone"]
    send.close()


async def test_R16_a_reader_that_was_cancelled_handles_nothing_more(nursery: trio.Nursery) -> None:
    send, receive = tf.open_channel[int](4)
    reader = Reader(receive)
    scope = trio.CancelScope()

    async def read() -> None:
        with scope:
            await reader.read()

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    scope.cancel()
    send.send_nowait(1)
    await wait_all_tasks_blocked()
    assert reader.batches == []
    assert receive.receive_nowait() == 1
    send.close()


async def test_a_reader_that_takes_items_late_handles_one_at_a_time(nursery: trio.Nursery, clock: list[float]) -> None:
    send, receive = tf.open_channel[int](4)
    reader = Reader(one_by_one(receive))
    nursery.start_soon(reader.read)
    await wait_all_tasks_blocked()
    await send.send_many([1, -2, 3])
    assert reader.batches == [[1], [-2]]
    assert send.statistics().used == 1
    await wait_all_tasks_blocked()
    assert reader.batches == [[1], [-2], [3]]
    send.close()


async def test_a_sender_of_more_than_there_is_room_for_goes_on_when_its_first_items_were_handled_in_place(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(in_place, "perf_counter", itertools.count().__next__)  # a second passes after each item
    send, receive = tf.open_channel[int](4)
    reader = Reader(receive)
    await send.send_many(range(20, 24))
    nursery.start_soon(send.send_many, range(24, 30))
    await wait_all_tasks_blocked()
    nursery.start_soon(reader.read)
    with trio.fail_after(5):
        await send.send_many(range(30, 40))
        await wait_all_tasks_blocked()
        await send.send_many(range(40, 50))
    assert [item for batch in reader.batches for item in batch] == [*range(20, 50)]
    send.close()


async def test_clones_get_an_item_in_the_order_in_which_they_wait(nursery: trio.Nursery, clock: list[float]) -> None:
    send, receive = tf.open_channel[int](4)
    first, second = Reader(receive), Reader(receive.clone())
    nursery.start_soon(first.read)
    await wait_all_tasks_blocked()
    nursery.start_soon(second.read)
    await wait_all_tasks_blocked()
    await send.send(-1)
    await send.send(2)
    await wait_all_tasks_blocked()
    assert (first.batches, second.batches) == ([[-1]], [[2]])
    send.close()


async def test_an_exception_while_handling_leaves_no_reference_cycle(nursery: trio.Nursery, clock: list[float]) -> None:
    send, receive = tf.open_channel[int](4)
    failures: list[weakref.ref[Exception]] = []

    async def read() -> None:
        try:
            await Reader(receive).read()
        except Refused as exc:
            failures.append(weakref.ref(exc))

    gc.collect()
    gc.disable()
    try:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await send.send(13)
        await wait_all_tasks_blocked()
        assert [failure() for failure in failures] == [None]
    finally:
        gc.enable()
    send.close()


@given(
    items=st.lists(st.integers(-3, 12), max_size=40),
    pauses=st.lists(st.booleans(), min_size=40, max_size=40),
    yields=st.lists(st.booleans(), min_size=40, max_size=40),
    sizes=st.lists(st.integers(1, 9), min_size=40, max_size=40),
    capacity=st.integers(1, 8),
)
def test_every_item_is_handled_once_and_in_order(
    items: list[int], pauses: list[bool], yields: list[bool], sizes: list[int], capacity: int
) -> None:
    async def main() -> None:
        send, receive = tf.open_channel[int](capacity)
        reader = Reader(receive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read)
            with send, trio.fail_after(5):
                start = 0
                for size, pause, lets_run in zip(sizes, pauses, yields, strict=True):
                    now[0] += PAUSE if pause else 0
                    part = items[start : start + size]
                    if size > 1:
                        await send.send_many(part)
                    else:
                        for item in part:
                            await send.send(item)
                    start += size
                    if lets_run:
                        await trio.lowlevel.checkpoint()
        assert [item for batch in reader.batches for item in batch] == items
        assert reader.left == [item for item in items if item < 0]

    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "perf_counter", lambda: now[0])
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
