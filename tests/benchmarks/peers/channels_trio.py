"""Tasks that send and receive single items over one channel, trioflow's or Trio's: as many senders as readers."""

import sys
from collections.abc import Iterable

import trio
from measure import is_kept, plus_one, repeated, twice

import trioflow as tf

library, tasks = sys.argv[1], int(sys.argv[2])


async def put(numbers: Iterable[int], send: trio.abc.SendChannel[int]) -> None:
    async with send:
        for number in numbers:
            await send.send(plus_one(number))


async def take(receive: trio.abc.ReceiveChannel[int], items: list[int]) -> None:
    async with receive:
        async for item in receive:
            if is_kept(double := twice(item)):
                items.append(double)


async def shared(count: int) -> list[int]:
    items: list[int] = []
    send, receive = tf.open_channel[int](256) if library == "trioflow" else trio.open_memory_channel[int](256)
    async with trio.open_nursery() as nursery, send, receive:
        for start in range(tasks):
            nursery.start_soon(put, range(start, count, tasks), send.clone())
            nursery.start_soon(take, receive.clone(), items)
    return items


trio.run(repeated, shared, int(sys.argv[3]), float(sys.argv[4]))
