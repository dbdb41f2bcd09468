"""A program with a bottleneck for the inspector: `look_up` takes one order at a time. It ends at SIGTERM.

With TRIOFLOW_INSPECT=127.0.0.1:0 in its environment, it prints the address of its page.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

import trioflow as tf


@tf.readable
async def orders() -> AsyncIterator[bytes]:
    for number in range(1_000_000):
        yield b"order %06d" % number
        await trio.sleep(0.001)


async def look_up(order: bytes) -> bytes:
    await trio.sleep(0.01)
    return order + b", found\n"


async def wait_for_a_price(number: int) -> int:
    await trio.sleep(0.05)
    return number


def parse(text: str) -> int:
    return int(text)


def named(text: str) -> str:
    return text


async def main() -> None:
    named.__name__ = "<img src=x onerror=alert(1)>"  # the name of a function must be shown as text
    await tf.pipeline(["a"], tf.map(named), tf.drain())
    async with trio.open_nursery() as nursery:
        found = orders().pipe(tf.map(bytes.upper)).pipe(tf.map_async(look_up, concurrency=1)).pipe(tf.lines())
        nursery.start_soon(lambda: tf.pipeline(found, tf.batch(10), tf.drain(), capacity=64))
        await trio.sleep(0.1)
        nursery.start_soon(lambda: tf.pipeline(range(10**6), tf.map_async(wait_for_a_price), tf.drain(), capacity=16))
        await tf.pipeline(range(20_000), tf.map(str), tf.count())
        with contextlib.suppress(ValueError):
            await tf.pipeline(["1", "2", "three"], tf.map(parse), tf.drain())


trio.run(main)
