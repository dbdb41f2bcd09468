"""The processes of the checker, which are killed and stopped. Each writes a line to NOTES for everything it does.

    python -m tests.redis.parts sender URL STREAM NOTES SEED PRODUCER STOP POISON
    python -m tests.redis.parts receiver URL STREAM NOTES SEED
    python -m tests.redis.parts chain URL STREAM NOTES SEED RESULTS

A sender ends when there is a file STOP. Its items are its name and 0, 1, 2 ...; if it is
started again, it continues after those that are stored.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import IO

import trio

import trioflow as tf
from trioflow import redis

LEASE = 1.0  # seconds
CAPACITY = 200
TRIES = 4


class Notes:
    """A file to which several processes append whole lines."""

    def __init__(self, path: str, stream: str) -> None:
        self._file: IO[str] = Path(path).open("a", buffering=1)  # noqa: SIM115 - as long as the process
        self._stream = stream

    def add(self, what: str, item: str, entry: str = "-") -> None:
        self._file.write(f"{time.monotonic():.6f} {what} {self._stream} {item} {entry}\n")


def do(item: str, times: int = 1) -> None:
    """Fail or die if the item is of that kind."""
    if item.endswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if item.endswith("fails") and times == 1:
        raise ValueError(item)


async def sender(url: str, stream: str, notes: Notes, dice: random.Random, name: str, stop: str, poison: str) -> None:
    async with redis.open_sender(url, stream, producer=name, capacity=CAPACITY) as send:
        numbers = count(send.stored)

        def next_item() -> str:
            n = next(numbers)
            return f"{name}:{n}" + (":poison" if poison == "1" and n % 400 == 399 else ":fails" if n % 50 == 49 else "")

        async def send_one() -> None:
            item = next_item()
            await send.send(item)
            notes.add("stored", item)

        while not Path(stop).exists():  # noqa: ASYNC240 - a microsecond
            match dice.choice(["one", "many", "at once"]):
                case "one":
                    await send_one()
                case "many":
                    items = [next_item() for _ in range(dice.randint(1, 20))]
                    await send.send_many(items)
                    for item in items:
                        notes.add("stored", item)
                case _:
                    async with trio.open_nursery() as nursery:
                        for _ in range(dice.randint(2, 10)):
                            nursery.start_soon(send_one)
            await trio.sleep(dice.uniform(0, 0.05))


async def receiver(url: str, stream: str, notes: Notes, dice: random.Random) -> None:
    async def work(delivery: redis.Delivery[str]) -> None:
        async with delivery:
            notes.add("begun", delivery.value, delivery.id)
            await trio.sleep(dice.uniform(0, 0.01))
            do(delivery.value, delivery.times)
            notes.add("done", delivery.value, delivery.id)

    async with redis.open_receiver(url, stream, group="g", prefetch=8, lease=LEASE, tries=TRIES) as receive:
        async for delivery in receive:
            try:
                await work(delivery)
            except ValueError:
                pass


async def chain(url: str, stream: str, notes: Notes, dice: random.Random, results: str) -> None:
    async def work(item: str) -> str:
        notes.add("begun", item)
        await trio.sleep(dice.uniform(0, 0.01))
        do(item, dice.choice([1, 2, 2, 2]))  # a chain does not know how often the item was tried
        return item

    jobs = redis.readable(url, stream, group="g", prefetch=8, lease=LEASE, tries=TRIES, on_error="return")
    await jobs.pipe(tf.map_async(work, concurrency=4)).pipe(
        redis.writable(url, results, lease=LEASE, capacity=CAPACITY)
    )


async def main(role: str, url: str, stream: str, notes: str, seed: str, *more: str) -> None:
    parts = {"sender": sender, "receiver": receiver, "chain": chain}
    await parts[role](url, stream, Notes(notes, stream), random.Random(seed), *more)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
