"""A flow of the items 0, 1, 2 ... from a sender to two receivers in this process, and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from tests.redis.server import PATIENCE, until
from trioflow import redis

LEASE = 0.6


@dataclass
class Counts:
    """Counts the items 0, 1, 2 ..., each of which should be sent, stored and done once."""

    sent: list[Any] = field(default_factory=list)
    delivered: Counter[Any] = field(default_factory=Counter)
    done: Counter[Any] = field(default_factory=Counter)
    dead: int = 0

    def check(self, fault: str, *, dead: int = 0) -> None:
        """Print the row of the table, and check that nothing is lost."""
        lost = set(self.sent) - set(self.done)
        twice = sum(count - 1 for count in self.done.values())
        row = (len(self.sent), len(self.delivered), self.delivered.total(), self.done.total(), twice, self.dead)
        print("|", " | ".join([fault, *map(str, row), str(len(lost) - self.dead)]), "|")
        assert len(self.sent) == len(set(self.sent))
        assert set(self.done) <= set(self.sent)
        assert set(self.delivered) == set(self.sent)  # all items were stored
        assert (self.dead, len(lost)) == (dead, dead)

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.done.values())


async def send(
    url: str, counts: Counts, count: int, *, capacity: int = 20, pause: float = 0.0, wait_replicas: int = 0
) -> None:
    async with redis.open_sender(url, "jobs", capacity=capacity, producer="p", wait_replicas=wait_replicas) as sender:
        for n in range(count):
            await sender.send(n)
            counts.sent.append(n)
            await trio.sleep(pause)


async def work(url: str, counts: Counts, *, pause: float = 0.0, prefetch: int = 4, lease: float = LEASE) -> None:
    async with redis.open_receiver(url, "jobs", group="g", prefetch=prefetch, lease=lease) as receive:
        async for delivery in receive:
            async with delivery:
                counts.delivered[delivery.value] += 1
                await trio.sleep(pause)
                counts.done[delivery.value] += 1


@asynccontextmanager
async def flow(
    url: str, counts: Counts, count: int, *, pause: float = 0.0, wait_replicas: int = 0
) -> AsyncGenerator[None, None]:
    """Send and work while the block runs; leave when the stream has ended."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: send(url, counts, count, pause=pause, wait_replicas=wait_replicas))
            for _ in range(2):
                nursery.start_soon(lambda: work(url, counts, pause=pause * 2))
            yield


async def until_some(counts: Counts, least: int) -> None:
    await until(lambda: counts.done.total() >= least)
