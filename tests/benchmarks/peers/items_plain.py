"""The limits: nested generators, nested async generators, and Python's own map and filter; no event loop at all."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from measure import drive, is_kept, plus_one, repeated, twice, waiting


def mapped(fn: Callable[[int], int], items: Iterable[int]) -> Iterator[int]:
    for item in items:
        yield fn(item)


def filtered(fn: Callable[[int], bool], items: Iterable[int]) -> Iterator[int]:
    for item in items:
        if fn(item):
            yield item


def generators(count: int) -> list[int]:
    return list(filtered(is_kept, mapped(twice, mapped(plus_one, range(count)))))


def builtin(count: int) -> list[int]:
    return list(filter(is_kept, map(twice, map(plus_one, range(count)))))


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def increased(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield plus_one(item)


async def doubled(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield twice(item)


async def kept(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        if is_kept(item):
            yield item


async def async_generators(count: int) -> list[int]:
    return [item async for item in kept(doubled(increased(numbers(count))))]


jobs = {"generators": waiting(generators), "builtin": waiting(builtin), "async_generators": async_generators}
drive(repeated, jobs[sys.argv[1]], int(sys.argv[2]), float(sys.argv[3]))
