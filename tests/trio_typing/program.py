"""A user's program, checked by an older mypy with trio-typing installed; never run.

Lambdas get their types through `pipe`, and what must fail is marked: the check is strict, so an unneeded mark fails too.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import assert_type

import trio

import trioflow as tf
from trioflow import ReceiveChannel, SendChannel, http


@tf.readable
async def ticks(interval: float) -> AsyncIterator[float]:
    while True:
        yield trio.current_time()
        await trio.sleep(interval)


@tf.readable
async def words(output: SendChannel[str], count: int) -> None:
    for number in range(count):
        await output.send(str(number))


@tf.transform
async def numbered(lines: AsyncIterable[str], start: int = 1) -> AsyncIterator[str]:
    async for line in lines:
        yield f"{start:6} {line}"
        start += 1


@tf.transform
async def sizes(source: ReceiveChannel[str], output: SendChannel[int]) -> None:
    async with trio.open_nursery() as nursery:
        async for word in source:
            nursery.start_soon(output.send, len(word))


@tf.writable
async def show(lines: AsyncIterable[str]) -> int:
    shown = 0
    async for line in lines:
        print(line)
        shown += 1
    return shown


async def pipes() -> None:
    doubled = (
        tf.from_iterable([1, 2]).pipe(tf.map(lambda number: number * 2)).pipe(tf.filter(lambda number: number > 2))
    )
    assert_type(doubled, tf.Readable[int])
    assert_type(await doubled.pipe(tf.collect()), list[int])
    assert_type(await words(3).pipe(numbered(start=10)).pipe(show()), int)
    assert_type(words(3).pipe(sizes()), tf.Readable[int])
    assert_type(ticks(0.5).pipe(tf.map(lambda moment: f"{moment}")), tf.Readable[str])
    assert_type(tf.map(str.upper).pipe(show()), tf.Writable[str, int])
    await doubled.pipe(show())  # type: ignore[arg-type]


async def live() -> None:
    send, receive = tf.open_channel[str](capacity=16)
    assert_type(receive, ReceiveChannel[str])
    async with trio.open_nursery() as nursery, send, receive:
        nursery.start_soon(send.send, "one")
        assert_type(await receive.receive(), str)
        await send.send(1)  # type: ignore[arg-type]

    async with words(3).open(capacity=2) as lines:
        async for line in lines:
            assert_type(line, str)

    async with show().open() as output:
        await output.send("one")


async def foreign() -> None:
    # Trio's own ends at the ends of a pipeline, as the stubs type them.
    send, receive = trio.open_memory_channel[int](1)
    await tf.pipeline(receive, tf.map(lambda number: number + 1), send)
    assert_type(await tf.pipeline(words(3), numbered(), show()), int)


async def as_trios_own(send: SendChannel[str], receive: ReceiveChannel[str]) -> None:
    outward: trio.abc.SendChannel[str] = send
    inward: trio.abc.ReceiveChannel[str] = receive
    async with outward, inward:
        await outward.send(await inward.receive())


async def handler(request: http.Request, response: http.Response) -> None:
    assert_type(request.body, tf.Readable[bytes])
    response.headers["content-type"] = "text/plain"
    await request.body.pipe(tf.map(bytes.upper)).pipe(response)


def misread(chunks: tf.Readable[bytes]) -> None:
    # A lambda given through the overloaded `pipe`: mypy before 1.18 reads it once without its context.
    upper = chunks.pipe(tf.map(lambda chunk: chunk.upper()))
    assert_type(upper, tf.Readable[bytes])


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(http.serve, handler, port=0))
        print(urls)


trio.run(pipes)
trio.run(serve)
