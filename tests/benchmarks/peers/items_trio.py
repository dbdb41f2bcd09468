"""Trio alone: a task per stage, joined by memory channels; for a merge, two sources send to clones of one channel."""

import sys
from collections.abc import Iterable

import trio
from measure import is_kept, plus_one, repeated, twice


async def numbers(count: Iterable[int], output: trio.MemorySendChannel[int]) -> None:
    async with output:
        for number in count:
            await output.send(number)


async def increased(source: trio.MemoryReceiveChannel[int], output: trio.MemorySendChannel[int]) -> None:
    async with source, output:
        async for item in source:
            await output.send(plus_one(item))


async def doubled(source: trio.MemoryReceiveChannel[int], output: trio.MemorySendChannel[int]) -> None:
    async with source, output:
        async for item in source:
            await output.send(twice(item))


async def kept(source: trio.MemoryReceiveChannel[int], output: trio.MemorySendChannel[int]) -> None:
    async with source, output:
        async for item in source:
            if is_kept(item):
                await output.send(item)


async def integers(count: int) -> list[int]:
    channels = [trio.open_memory_channel[int](256) for _ in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(numbers, range(count), channels[0][0])
        nursery.start_soon(increased, channels[0][1], channels[1][0])
        nursery.start_soon(doubled, channels[1][1], channels[2][0])
        nursery.start_soon(kept, channels[2][1], channels[3][0])
        async with channels[3][1] as source:
            return [item async for item in source]


async def merged(count: int) -> list[int]:
    send, receive = trio.open_memory_channel[int](256)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(numbers, range(0, count, 2), send.clone())
        nursery.start_soon(numbers, range(1, count, 2), send)
        async with receive as source:
            doubles = [twice(plus_one(item)) async for item in source]
            return [item for item in doubles if is_kept(item)]


jobs = {"integers": integers, "merge": merged}
trio.run(repeated, jobs[sys.argv[1]], int(sys.argv[2]), float(sys.argv[3]))
