"""Trio alone: a nursery with many tasks, which return at once, or are joined by channels without items."""

import sys
from typing import Any

import trio
from measure import once_each


async def returns() -> None:
    pass


async def alone() -> int:
    async with trio.open_nursery() as nursery:
        for _ in range(stages):
            nursery.start_soon(returns)
    return 0


async def nothing(output: Any) -> None:
    with output:
        pass


async def passed(source: Any, output: Any) -> None:
    with source, output:
        async for item in source:
            await output.send(item)


async def counted(source: Any, counts: list[int]) -> None:
    count = 0
    with source:
        async for _ in source:
            count += 1
    counts.append(count)


async def joined() -> int:
    counts: list[int] = []
    channels = [trio.open_memory_channel[Any](256) for _ in range(max(stages - 1, 1))]
    async with trio.open_nursery() as nursery:
        if stages == 1:
            channels[0][0].close()
        else:
            nursery.start_soon(nothing, channels[0][0])
        for i in range(1, stages - 1):
            nursery.start_soon(passed, channels[i - 1][1], channels[i][0])
        nursery.start_soon(counted, channels[-1][1], counts)
    return counts[0]


stages = int(sys.argv[2])
trio.run(once_each, {"alone": alone, "joined": joined}[sys.argv[1]], int(sys.argv[3]))
