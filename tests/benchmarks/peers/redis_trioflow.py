"""Ours: bounded, each item stored once, acknowledged."""

import sys
from functools import partial

import trio
from redis_halves import MESSAGE, Sender, begin, run

from trioflow import redis

port, batch, count = map(int, sys.argv[1:4])
url = f"redis://127.0.0.1:{port}"


async def send() -> None:
    async with redis.open_sender(url, "bench", capacity=max(batch * 4, 100), encode=bytes) as sender:
        begin()
        for _ in range(count // batch):
            await sender.send_many([MESSAGE] * batch)


async def receive() -> None:
    got = 0
    async with redis.open_receiver(url, "bench", group="g", prefetch=batch * 2, decode=bytes) as deliveries:
        sender = Sender()
        sender.go()
        async for several in deliveries.batches():
            for delivery in several:
                assert len(delivery.value) == len(MESSAGE)
                delivery.done()
            got += len(several)
        sender.tell(got)


run(partial(trio.run, send), partial(trio.run, receive))
