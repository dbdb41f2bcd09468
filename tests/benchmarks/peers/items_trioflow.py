"""Ours: integers through plain functions, fused, also while an inspector is on; two sources merged; three async generators."""

import json
import sys
from collections.abc import AsyncIterable, AsyncIterator

import trio
from measure import is_kept, plus_one, repeated, twice

import trioflow as tf


async def integers(count: int) -> list[int]:
    source = tf.from_iterable(range(count))
    return await source.pipe(tf.map(plus_one)).pipe(tf.map(twice)).pipe(tf.filter(is_kept)).pipe(tf.collect())


async def merged(count: int) -> list[int]:
    both = tf.merge(tf.from_iterable(range(0, count, 2)), tf.from_iterable(range(1, count, 2)))
    return await both.pipe(tf.map(plus_one)).pipe(tf.map(twice)).pipe(tf.filter(is_kept)).pipe(tf.collect())


@tf.transform
async def increased(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for item in items:
        yield plus_one(item)


@tf.transform
async def doubled(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for item in items:
        yield twice(item)


@tf.transform
async def kept(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for item in items:
        if is_kept(item):
            yield item


async def generators(count: int) -> list[int]:
    return await tf.from_iterable(range(count)).pipe(increased()).pipe(doubled()).pipe(kept()).pipe(tf.collect())


jobs = {"integers": integers, "inspected": integers, "merge": merged, "generators": generators}


async def main(program: str, count: int, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        if program == "inspected":
            inspector = await nursery.start(inspect)
            nursery.start_soon(look, inspector)
        await repeated(jobs[program], count, seconds)
        nursery.cancel_scope.cancel()


async def inspect(task_status: trio.TaskStatus[tf.Inspector]) -> None:
    async with tf.inspect() as inspector:
        task_status.started(inspector)
        await trio.sleep_forever()


async def look(inspector: tf.Inspector) -> None:
    """Look twice a second, as the page does."""
    while True:
        json.dumps([run.as_dict() for run in inspector.runs()])
        await trio.sleep(0.5)


for public in tf.__all__:
    getattr(tf, public)  # trioflow imports a module when it is first used, which is not part of the work
trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
