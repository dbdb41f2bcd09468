"""The decorators keep the types of items and the parameters of the caller, however the source is annotated."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import assert_type

import trioflow as tf


@tf.transform
async def numbered(lines: AsyncIterable[str], start: int = 1) -> AsyncIterator[str]:
    async for line in lines:
        yield f"{start} {line}"


@tf.transform
async def lengths(lines: tf.ReceiveChannel[str]) -> AsyncIterator[int]:
    async for line in lines:
        yield len(line)


@tf.transform
async def parsed(lines: tf.ReceiveChannel[str], numbers: tf.SendChannel[int], base: int) -> None:
    async for line in lines:
        await numbers.send(int(line, base))


@tf.writable
async def longest(lines: AsyncIterable[str], least: int) -> int:
    return max([len(line) async for line in lines], default=least)


@tf.writable
async def first_line(lines: tf.ReceiveChannel[str]) -> str:
    return await lines.receive()


assert_type(numbered(start=2), tf.Transform[str, str])
assert_type(lengths(), tf.Transform[str, int])
assert_type(parsed(base=10), tf.Transform[str, int])
assert_type(longest(0), tf.Writable[str, int])
assert_type(first_line(), tf.Writable[str, str])

numbered("2")  # type: ignore[arg-type]
parsed()  # type: ignore[call-arg]
longest(least=None)  # type: ignore[arg-type]
tf.from_iterable([1]).pipe(lengths())  # type: ignore[arg-type]
