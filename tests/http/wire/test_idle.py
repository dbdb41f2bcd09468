"""Who has rested for too long, on a clock of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioflow.http.wire.idle import Rests


class Guest:
    """Notes when it was told to end."""

    def __init__(self) -> None:
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(trio.current_time())


@asynccontextmanager
async def resting(limit: float) -> AsyncIterator[Rests]:
    rests = Rests(limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rests.run)
        await wait_all_tasks_blocked()
        yield rests
        nursery.cancel_scope.cancel()


async def test_each_is_told_once_and_at_its_own_time(autojump_clock: MockClock) -> None:
    guests = [Guest(), Guest(), Guest()]
    async with resting(10) as rests:
        start = trio.current_time()
        for guest in guests:
            rests.begin(guest)
            await trio.sleep(1)
        await trio.sleep(100)

    assert [[at - start for at in guest.expired] for guest in guests] == [[10], [11], [12]]


async def test_who_goes_on_in_time_is_not_told_and_rests_anew(autojump_clock: MockClock) -> None:
    guest, other = Guest(), Guest()
    async with resting(10) as rests:
        start = trio.current_time()
        rests.begin(other)
        for _ in range(5):
            rests.begin(guest)
            await trio.sleep(9)
            rests.end(guest)
        assert not guest.expired
        rests.begin(guest)
        await trio.sleep(100)
        rests.end(guest)

    assert [at - start for at in guest.expired] == [55]
    assert [at - start for at in other.expired] == [10]


async def test_who_begins_after_all_have_gone_is_told_too(autojump_clock: MockClock) -> None:
    guests = [Guest(), Guest()]
    async with resting(10) as rests:
        for guest in guests:
            rests.begin(guest)
            await trio.sleep(50)

    assert [len(guest.expired) for guest in guests] == [1, 1]
