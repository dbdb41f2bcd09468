"""Ours: integers through plain functions, fused; and through three async generators."""

import sys
from collections.abc import AsyncIterable, AsyncIterator

import trio
from measure import is_kept, plus_one, repeated, twice

import trioflow as tf


async def integers(count: int) -> list[int]:
    source = tf.from_iterable(range(count))
    return await source.pipe(tf.map(plus_one)).pipe(tf.map(twice)).pipe(tf.filter(is_kept)).pipe(tf.collect())


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


trio.run(repeated, {"integers": integers, "generators": generators}[sys.argv[1]], int(sys.argv[2]), float(sys.argv[3]))
