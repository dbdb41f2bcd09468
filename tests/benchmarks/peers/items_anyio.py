"""anyio, on asyncio or Trio: a task per stage, joined by memory object streams."""

import sys
from typing import Any

import anyio
from measure import is_kept, plus_one, repeated, twice


async def numbers(count: int, output: Any) -> None:
    async with output:
        for number in range(count):
            await output.send(number)


async def increased(source: Any, output: Any) -> None:
    async with source, output:
        async for item in source:
            await output.send(plus_one(item))


async def doubled(source: Any, output: Any) -> None:
    async with source, output:
        async for item in source:
            await output.send(twice(item))


async def kept(source: Any, output: Any) -> None:
    async with source, output:
        async for item in source:
            if is_kept(item):
                await output.send(item)


async def integers(count: int) -> list[int]:
    channels = [anyio.create_memory_object_stream[int](256) for _ in range(4)]
    async with anyio.create_task_group() as group:
        group.start_soon(numbers, count, channels[0][0])
        group.start_soon(increased, channels[0][1], channels[1][0])
        group.start_soon(doubled, channels[1][1], channels[2][0])
        group.start_soon(kept, channels[2][1], channels[3][0])
        async with channels[3][1] as source:
            return [item async for item in source]


anyio.run(repeated, integers, int(sys.argv[2]), float(sys.argv[3]), backend=sys.argv[1])
