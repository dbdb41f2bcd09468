"""Ours: a pipeline of many tasks without items."""

import sys
from typing import Any

import trio
from measure import once_each

import trioflow as tf


@tf.readable
async def nothing(output: Any) -> None:
    pass


@tf.transform
async def passed(source: Any, output: Any) -> None:
    async for item in source:
        await output.send(item)


@tf.writable
async def counted(source: Any) -> int:
    count = 0
    async for _ in source:
        count += 1
    return count


async def one() -> int:
    return await tf.pipeline((), tf.count())


async def several() -> int:
    return await tf.pipeline(nothing(), *(passed() for _ in range(stages - 2)), counted())


stages = int(sys.argv[1])
trio.run(once_each, one if stages == 1 else several, int(sys.argv[2]))
