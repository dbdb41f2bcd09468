"""The queue of a sender, with a fake server: which item goes with which call, whatever is cancelled or lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trioflow.redis.answers import Later, Lost, Refused
from trioflow.redis.client import Client
from trioflow.redis.options import SenderOptions
from trioflow.redis.scripts import Script
from trioflow.redis.send_queue import BYTES_PER_CALL, ITEMS_PER_CALL, Call, Sending
from trioflow.redis.sender_scripts import ADD
from trioflow.redis.sending import RedisSender


class FakeServer:
    """Does what ADD does. `before` and `after` are called with the number of the call, and may raise or wait."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, ...]] = []
        self.items: list[bytes] = []
        self.stored = 0
        self.room = 10**9
        self.before: Callable[[int], Any] = lambda n: None
        self.after: Callable[[int], Any] = lambda n: None
        self.keys = self
        self.seconds = 0.0

    async def run(self, script: Script, *args: Any, shield: bool = False) -> int:
        assert script is ADD
        _, _, _, _, number, _, _, *items = args
        n = len(self.calls)
        self.calls.append(tuple(items))
        with trio.CancelScope(shield=shield):
            await trio.sleep(self.seconds)
        self.before(n)
        done = 0
        for this, item in enumerate(items, number):
            if this > self.stored:
                if self.room == 0:
                    break
                self.items.append(item)
                self.room -= 1
                self.stored = this
            done += 1
        self.after(n)
        return done

    async def run_until_done(self, script: Script, *args: Any) -> int:
        return 1

    async def call(self, *command: Any, within: float) -> None:
        await trio.sleep(1)
        self.room += 3

    def sender(self) -> RedisSender[str]:
        client = cast("Client", self)
        return RedisSender(
            SenderOptions("redis://host", "jobs", capacity=9, producer="p", encode=str.encode, idempotency_window=1),
            [client, client],
        )


@pytest.fixture
def server() -> FakeServer:
    server = FakeServer()
    server.seconds = 1.0
    return server


def raising(exc: Exception, *, at: int) -> Callable[[int], None]:
    def run(n: int) -> None:
        if n == at:
            raise exc

    return run


async def start(nursery: trio.Nursery, sender: RedisSender[str], items: str, got: list[str]) -> None:
    """Start a task for each item; all but the first wait for their turn."""

    async def send(item: str) -> None:
        await sender.send(item)
        got.append(item)

    for item in items:
        nursery.start_soon(send, item)
        await wait_all_tasks_blocked()


async def test_items_sent_at_the_same_time_go_with_the_next_call_in_order(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    sender, sent = server.sender(), list[str]()
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "abcd", sent)

    assert server.calls == [(b"a",), (b"b", b"c", b"d")]
    assert sorted(sent) == list("abcd")
    assert sender.stored == 4


async def test_a_send_cancelled_before_its_turn_sends_nothing(server: FakeServer, autojump_clock: MockClock) -> None:
    sender, sent = server.sender(), list[str]()
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "a", sent)
        async with trio.open_nursery() as cancelled:
            await start(cancelled, sender, "b", sent)
            await start(nursery, sender, "c", sent)
            cancelled.cancel_scope.cancel()

    assert server.items == [b"a", b"c"]
    assert sent == ["a", "c"]


async def test_a_send_cancelled_while_its_item_is_in_another_tasks_call_has_sent(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    sender, sent = server.sender(), list[str]()
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "ab", sent)
        async with trio.open_nursery() as cancelled:
            await start(cancelled, sender, "c", sent)
            await trio.sleep(1.5)
            cancelled.cancel_scope.cancel()

    assert server.calls == [(b"a",), (b"b", b"c")]
    assert sorted(sent) == ["a", "b", "c"]


async def test_a_send_cancelled_in_a_call_without_room_for_it_sends_nothing(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    sender, sent = server.sender(), list[str]()
    server.room = 2
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "ab", sent)
        async with trio.open_nursery() as cancelled:
            await start(cancelled, sender, "c", sent)
            await start(nursery, sender, "d", sent)
            await trio.sleep(1.5)
            cancelled.cancel_scope.cancel()

    assert server.items == [b"a", b"b", b"d"]
    assert sent == ["a", "b", "d"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_call_without_an_answer_is_repeated_unchanged_for_those_that_still_wait(
    server: FakeServer, autojump_clock: MockClock, moment: str
) -> None:
    sender, sent = server.sender(), list[str]()
    setattr(server, moment, raising(Lost("no answer", 1.0), at=1))
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "a", sent)
        async with trio.open_nursery() as cancelled:
            await start(cancelled, sender, "b", sent)
            await start(nursery, sender, "c", sent)
            await trio.sleep(2.5)  # the first sender waits before it repeats its call
            cancelled.cancel_scope.cancel()
        await start(nursery, sender, "d", sent)

    assert server.calls[1:] == [(b"b", b"c"), (b"b", b"c"), (b"d",)]
    assert server.items == [b"a", b"b", b"c", b"d"]
    assert sent == ["a", "c", "d"]


@pytest.mark.parametrize("error", [Lost("no answer", 1.0), Refused("NOPERM"), trio.BrokenResourceError("for too long")])
async def test_numbers_that_may_have_been_used_are_not_used_again(
    server: FakeServer, autojump_clock: MockClock, error: Exception
) -> None:
    sender = server.sender()
    server.after = raising(Lost("no answer", 1.0), at=0)
    server.before = raising(error, at=1)
    with trio.move_on_after(3):
        try:
            await sender.send_many(["a", "b"])
        except trio.BrokenResourceError:
            pass
    assert sender.stored == 2

    await sender.send("c")

    assert server.items[-1] == b"c"
    assert sender.stored == 3


async def test_a_repeated_call_that_was_not_carried_out_includes_items_sent_in_the_meantime(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    sender, sent = server.sender(), list[str]()
    server.before = raising(Later("OOM", 1.0), at=0)
    async with trio.open_nursery() as nursery:
        await start(nursery, sender, "abc", sent)

    assert server.calls == [(b"a",), (b"a", b"b", b"c")]


async def test_closing_waits_for_earlier_sends_and_refuses_later_ones(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    sender, sent = server.sender(), list[str]()
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            await start(nursery, sender, "ab", sent)
            nursery.start_soon(sender.aclose)
            await wait_all_tasks_blocked()
            await start(nursery, sender, "c", sent)

    assert server.items == [b"a", b"b"]
    with pytest.raises(trio.ClosedResourceError):
        await sender.send_many([])


@pytest.mark.parametrize("seed", range(10))
async def test_many_cancellations_and_losses_store_nothing_twice_and_lose_nothing(
    server: FakeServer, autojump_clock: MockClock, seed: int
) -> None:
    dice = random.Random(seed)
    sender, sent, cancelled = server.sender(), list[str](), list[str]()

    def lose(n: int) -> None:
        if dice.random() < 0.2:
            raise Lost("no answer", 0.5)

    def refuse_or_lose(n: int) -> None:
        if dice.random() < 0.2:
            raise Later("BUSY", 0.5)
        lose(n)

    async def send(name: int) -> None:
        for n in range(6):
            items = [f"{name}.{n}.{i}" for i in range(dice.choice([1, 1, 1, 4]))]
            with trio.move_on_after(dice.choice([0.3, 1.2, 3, 100])):
                await sender.send_many(items)
                sent.extend(items)
                continue
            cancelled.extend(items)
            await trio.sleep(dice.random())

    server.before, server.after, server.room = refuse_or_lose, lose, 20
    async with trio.open_nursery() as nursery:
        for name in range(8):
            nursery.start_soon(partial(send, name))

    counts = Counter(item.decode() for item in server.items)
    assert set(counts.values()) == {1}
    assert set(sent) <= set(counts) <= set(sent) | set(cancelled)
    assert sender.stored >= len(counts)
    for name in range(8):
        own = [item for item in counts if item.startswith(f"{name}.")]
        assert own == sorted(own)
    assert not sender._queue._queue


@given(st.lists(st.integers(0, BYTES_PER_CALL * 2), max_size=12), st.integers(0, 11))
@settings(max_examples=50)
def test_a_call_carries_at_least_one_item_and_no_more_than_the_limit(sizes: list[int], start: int) -> None:
    items = [b"x" * size for size in sizes]
    if start >= len(items):
        return

    sending = Sending(items)
    sending.start = start
    part = Call([sending]).items

    assert part == items[start : start + len(part)]
    assert 1 <= len(part) <= ITEMS_PER_CALL
    assert len(part) == 1 or sum(map(len, part)) <= BYTES_PER_CALL
