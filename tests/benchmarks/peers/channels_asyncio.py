"""Tasks that put and get single items over one queue of asyncio: as many of one kind as of the other."""

import asyncio
import sys
from collections.abc import Iterable

from measure import is_kept, plus_one, repeated, twice

tasks = int(sys.argv[1])


async def put(numbers: Iterable[int], queue: asyncio.Queue[int | None]) -> None:
    for number in numbers:
        await queue.put(plus_one(number))
    await queue.put(None)


async def take(queue: asyncio.Queue[int | None], items: list[int]) -> None:
    while (item := await queue.get()) is not None:
        if is_kept(double := twice(item)):
            items.append(double)


async def shared(count: int) -> list[int]:
    items: list[int] = []
    queue: asyncio.Queue[int | None] = asyncio.Queue(256)
    async with asyncio.TaskGroup() as group:
        for start in range(tasks):
            group.create_task(put(range(start, count, tasks), queue))
            group.create_task(take(queue, items))
    return items


asyncio.run(repeated(shared, int(sys.argv[2]), float(sys.argv[3])))
