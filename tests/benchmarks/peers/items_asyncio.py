"""asyncio alone: a task per stage, joined by queues."""

import asyncio
import sys
from typing import Any

from measure import is_kept, plus_one, repeated, twice

END: Any = object()


async def numbers(count: int, output: asyncio.Queue[int]) -> None:
    for number in range(count):
        await output.put(number)
    await output.put(END)


async def increased(source: asyncio.Queue[int], output: asyncio.Queue[int]) -> None:
    while (item := await source.get()) is not END:
        await output.put(plus_one(item))
    await output.put(END)


async def doubled(source: asyncio.Queue[int], output: asyncio.Queue[int]) -> None:
    while (item := await source.get()) is not END:
        await output.put(twice(item))
    await output.put(END)


async def kept(source: asyncio.Queue[int], output: asyncio.Queue[int]) -> None:
    while (item := await source.get()) is not END:
        if is_kept(item):
            await output.put(item)
    await output.put(END)


async def integers(count: int) -> list[int]:
    queues: list[asyncio.Queue[int]] = [asyncio.Queue(256) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        group.create_task(numbers(count, queues[0]))
        group.create_task(increased(queues[0], queues[1]))
        group.create_task(doubled(queues[1], queues[2]))
        group.create_task(kept(queues[2], queues[3]))
        items = []
        while (item := await queues[3].get()) is not END:
            items.append(item)
    return items


asyncio.run(repeated(integers, int(sys.argv[1]), float(sys.argv[2])))
