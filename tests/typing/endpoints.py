"""The types of endpoints, of bytes and text, and of what observes runs, also through lambdas."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import trio
import trio.testing

import trioflow as tf
from trioflow.testing import check_transform

# Files and standard streams
assert_type(tf.read_file("a.log"), tf.Readable[bytes])
assert_type(tf.read_file(Path("a.log"), start=2, stop=9, follow=False), tf.Readable[bytes])
assert_type(tf.read_file("a.log").pipe(tf.map(lambda chunk: chunk.hex())), tf.Readable[str])
assert_type(tf.write_file("a.log", append=True), tf.Writable[bytes, int])
assert_type(tf.stdin(), tf.Readable[bytes])
assert_type(tf.stdout(), tf.Writable[bytes | str, int])

# Text and compression
assert_type(tf.decode("latin-1"), tf.Transform[bytes, str])
assert_type(tf.encode(end="\n"), tf.Transform[str, bytes])
assert_type(tf.gzip(level=9), tf.Transform[bytes, bytes])
assert_type(tf.gunzip(max_output=99), tf.Transform[bytes, bytes])
assert_type(tf.stdin().pipe(tf.decode()).pipe(tf.map(lambda text: text.upper())), tf.Readable[str])
assert_type(tf.encode().pipe(tf.write_file("a.log")), tf.Writable[str, int])
tf.stdin().pipe(tf.encode())  # type: ignore[arg-type]
tf.from_iterable("a").pipe(tf.write_file("a.log"))  # type: ignore[arg-type, unused-coroutine]

# Endpoints
assert_type(tf.connect_tcp("localhost", 80), tf.Duplex[bytes, bytes])
assert_type(tf.connect_tls("localhost", 443, https_compatible=True), tf.Duplex[bytes, bytes])
assert_type(tf.connect_unix(Path("socket")), tf.Duplex[bytes, bytes])
assert_type(tf.process(["sort", Path("a.log")]), tf.Duplex[bytes, bytes])
assert_type(tf.process(["sort"]).pipe(tf.map(lambda chunk: len(chunk))), tf.Readable[int])
assert_type(tf.from_iterable([b"a"]).pipe(tf.process(["sort"])), tf.Readable[bytes])
tf.from_iterable([1]).pipe(tf.process(["sort"]))  # type: ignore[arg-type]
tf.connect_tcp("localhost", "80")  # type: ignore[arg-type]

# Observing. A monitor is assigned to a name before its items are known, so it yields Any.
watching = tf.monitor("here")

assert_type(tf.from_iterable([1]).pipe(watching), tf.Readable[Any])
assert_type(tf.from_iterable([1]).pipe(tf.progress(9, silent=True)), tf.Readable[int])


async def inspected() -> None:
    async with tf.inspect(keep=10) as inspector:
        assert_type(await tf.pipeline(["a"], tf.collect(), monitor=inspector), list[str])
        assert_type(inspector, tf.Inspector)
        assert_type(inspector.runs(), tuple[tf.RunSnapshot, ...])
        tf.inspect(10)  # type: ignore[call-arg]
    with tf.trace() as tracing:
        assert_type(tracing, tf.Tracing)


# Decorators, without parameters
@tf.readable
async def numbers(stop: int) -> AsyncIterator[int]:
    for n in range(stop):
        yield n


@tf.transform
async def doubled(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for n in items:
        yield 2 * n


@tf.writable
async def total(items: AsyncIterable[int]) -> int:
    return sum([n async for n in items])


async def runs() -> None:
    assert_type(await numbers(9).pipe(doubled()).pipe(total()), int)
    assert_type(await tf.read_file("a.log").pipe(tf.stdout()), int)
    near, _ = trio.testing.memory_stream_pair()
    assert_type(tf.to_stream(near), tf.Writable[bytes, int])
    send, receive = tf.open_channel[str](2)
    assert_type(send, tf.SendChannel[str])
    assert_type(tf.from_iterable(receive).pipe(tf.map(lambda text: len(text))), tf.Readable[int])
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(tf.serve_tcp, echo, 0)
        print(listeners)
    async with tf.connect_unix("socket").open() as stream:
        assert_type(stream, trio.abc.HalfCloseableStream)


async def echo(duplex: tf.Duplex[bytes, bytes]) -> None:
    assert_type(await duplex.pipe(tf.map(lambda chunk: chunk.upper())).pipe(duplex.writable), object)


# The kit: what comes out is a list of items, or the bytes or text that they join to.
async def prove() -> None:
    await check_transform(tf.gzip, [b"a"], b"packed")
    await check_transform(tf.gzip, [b"a"], [b"packed"])
    await check_transform(tf.decode, [b"a"], "a")
    await check_transform(lambda: tf.map(len), [b"a"], [1])
    await check_transform(doubled, [1], [2])
    await check_transform(tf.gzip, ["a"], b"packed")  # type: ignore[arg-type]
