"""aiostream: its own map and filter, its merge, and operators that are async generators."""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator

from aiostream import pipable_operator, pipe, stream, streamcontext
from measure import is_kept, plus_one, repeated, twice


async def integers(count: int) -> list[int]:
    numbers = stream.iterate(range(count))
    return await (numbers | pipe.map(plus_one) | pipe.map(twice) | pipe.filter(is_kept) | pipe.list())


async def merged(count: int) -> list[int]:
    both = stream.merge(stream.iterate(range(0, count, 2)), stream.iterate(range(1, count, 2)))
    return await (both | pipe.map(plus_one) | pipe.map(twice) | pipe.filter(is_kept) | pipe.list())


@pipable_operator
async def increased(source: AsyncIterable[int]) -> AsyncIterator[int]:
    async with streamcontext(source) as items:
        async for item in items:
            yield plus_one(item)


@pipable_operator
async def doubled(source: AsyncIterable[int]) -> AsyncIterator[int]:
    async with streamcontext(source) as items:
        async for item in items:
            yield twice(item)


@pipable_operator
async def kept(source: AsyncIterable[int]) -> AsyncIterator[int]:
    async with streamcontext(source) as items:
        async for item in items:
            if is_kept(item):
                yield item


async def generators(count: int) -> list[int]:
    numbers = stream.iterate(range(count))
    return await (numbers | increased.pipe() | doubled.pipe() | kept.pipe() | pipe.list())


jobs = {"integers": integers, "merge": merged, "generators": generators}
asyncio.run(repeated(jobs[sys.argv[1]], int(sys.argv[2]), float(sys.argv[3])))
