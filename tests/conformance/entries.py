"""The table of all public names: how the kit and the four consumers check each stage, or where else it is tested.

A name may have several entries, "name" and "name: variant"; both go through the same checks, here and nowhere else.
A stage that cannot pass a check by its nature still has to pass the others, and its entry says why.
"""

from __future__ import annotations

import gzip
import itertools
import math
import random
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import brotli
import trio
from trio.testing import memory_stream_pair

import trioflow as tf
from tests import called
from tests.consumers import Boom, Source
from tests.cutting import in_twos

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NUMBERS = [*range(9)]
DOUBLED = [2 * n for n in NUMBERS]
TEXT = "añb\n\nc" * 9
BYTES = TEXT.encode()
AGAIN = [1, 1, 2, 1, 3, 3, 2]
WORDS = ["a", "A", "b", "a", "B"]
TEXTS = ["a b", "", "c"]
LOG = "GET /\r\n\nPOST /é\n\r\r\n€ no end"
LOG_LINES = ["GET /", "", "POST /é", "\r", "€ no end"]
LOG_KEPT = ["GET /\r\n", "\n", "POST /é\n", "\r\r\n", "€ no end"]
MIXED = "a\rb\r\nc\n\r\r\nd"
CRLF = "GET /\r\n\r\nno end"
VALUES = [{"é": [1, None]}, "a\nb\u2028", None, 0, False, [], 1.5]
JSON = '{"é":[1,null]}\n"a\\nb\u2028"\nnull\n0\nfalse\n[]\n1.5\n'
FRAMES = [b"one", b"", b"four", b"x" * 300]
WIRE = b"".join(struct.pack(">I", len(frame)) + frame for frame in FRAMES)
LITTLE_WIRE = b"".join(struct.pack("<H", len(frame)) + frame for frame in FRAMES)
NOISE = random.Random(2000).randbytes(2000)

# Names that are not stages, or not stages that can run repeatedly, and where they are tested.
ELSEWHERE = {
    **dict.fromkeys(
        [
            "Branch",
            "Buffered",
            "ChannelStatistics",
            "CsvFormat",
            "Delivered",
            "Digest",
            "Hub",
            "Inspector",
            "Monitor",
            "Offered",
            "Overflow",
            "Restart",
            "RunSnapshot",
            "Snapshot",
            "StageSnapshot",
            "Tracing",
        ],
        "a type to annotate with",
    ),
    "ByteBuffer": "it does no I/O: test_bytebuffer",
    "Duplex": "a class: the functions that make it are below",
    "Readable": "a class: the functions that make it are below",
    "ReceiveChannel": "a live end: test_channel",
    "SendChannel": "a live end: test_channel",
    "Transform": "a class: the functions that make it are below",
    "Writable": "a class: the functions that make it are below",
    "buffered": "it reads an open readable: test_reading",
    "inspect": "it watches runs: test_inspecting",
    "open_channel": "it returns live ends: test_channel",
    "pipeline": "it runs stages, those of the kit too: test_streams",
    "readable": "a decorator: test_decorators",
    "connect_tls": "it cannot end one direction, so its server has to know: test_sockets_tls",
    "serve_tcp": "a server: test_sockets",
    "stdin": "a process has only one, for one run at a time: test_stdio",
    "trace": "it watches runs: test_tracing",
    "transform": "a decorator: test_decorators",
    "writable": "a decorator: test_decorators",
}


@dataclass(frozen=True)
class Entry:
    """How to make a stage, what to send in, what it must emit, and how much it may hold.

    Attributes:
        timed: It waits only on Trio's clock, so it runs on a mock clock.
        slow: Each run starts a worker process.
        but: Which check it is exempt from, and why.
    """

    make: Callable[[], Any]
    items: Any = ()
    expected: Any = None
    is_stream: bool = False
    holds: int | None = None
    timed: bool = False
    slow: bool = False
    but: str = ""


Join: TypeAlias = "Callable[..., tf.Readable[Any]]"


def later(function: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
    """Make a coroutine function that waits, and then does what `function` does."""

    async def wait(item: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(item)

    return wait


async def double(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * n


async def double_out_of_step(n: int) -> int:
    for _ in range(n % 3):
        await trio.lowlevel.checkpoint()
    return 2 * n


class Doubler:
    """An object with an async `__call__`."""

    async def __call__(self, n: int) -> int:
        return await double(n)


async def add_later(total: int, n: int) -> int:
    await trio.lowlevel.checkpoint()
    return total + n


async def words_of(text: str) -> AsyncIterator[str]:
    for word in text.split():
        await trio.lowlevel.checkpoint()
        yield word


def halves(n: int) -> tuple[int, int] | None:
    return (n, n // 2) if n else None


def half(n: int) -> int:
    if n % 2:
        raise Boom(n)
    return n // 2


def below_six(n: int) -> bool:
    half(n)
    return n < 6


def twice(n: int) -> Any:
    yield n
    half(n)
    yield n


async def twice_one_by_one(n: int) -> AsyncIterator[int]:
    for one in twice(n):
        await trio.lowlevel.checkpoint()
        yield one


half_later = later(half)
TWICE = [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
# Transforms that on_item_error can wrap: each fails for every odd number.
FALLIBLE: dict[str, tuple[Callable[[], tf.Transform[int, Any]], list[int]]] = {
    "map": (lambda: tf.map(half), [0, 1, 2, 3, 4]),
    "map async": (lambda: tf.map(half_later), [0, 1, 2, 3, 4]),
    "filter": (lambda: tf.filter(below_six), [0, 2, 4]),
    "filter async": (lambda: tf.filter(later(below_six)), [0, 2, 4]),
    "flat_map": (lambda: tf.flat_map(twice), TWICE),
    "flat_map async": (lambda: tf.flat_map(later(lambda n: list(twice(n)))), TWICE),
    "flat_map generator": (lambda: tf.flat_map(twice_one_by_one), TWICE),
    "map_async": (lambda: tf.map_async(half_later, concurrency=3), [0, 1, 2, 3, 4]),
    "map_async plain": (lambda: tf.map_async(lambda n: half_later(n), concurrency=3), [0, 1, 2, 3, 4]),
    "map_in_threads": (lambda: tf.map_in_threads(half, workers=1), [0, 1, 2, 3, 4]),
    "tap": (lambda: tf.tap(half), [0, 2, 4, 6, 8]),
    "tap async": (lambda: tf.tap(half_later), [0, 2, 4, 6, 8]),
}


def failing_after(*counts: int) -> tuple[Callable[[tf.Delivered], tf.Readable[int]], list[int]]:
    """Make a function that resumes the numbers up to 9: its attempts fail after `counts` items, the next one ends."""
    asked: list[int] = []

    def begin(delivered: tf.Delivered) -> tf.Readable[int]:
        start = delivered.items
        asked.append(start)
        if len(asked) > len(counts):
            return Source(range(start, 9)).readable
        return Source(range(start, start + counts[len(asked) - 1]), then=Boom(len(asked))).readable

    return begin, asked


def filled(items: list[Any]) -> tf.Readable[Any]:
    source = tf.queue[Any](99)
    for item in items:
        assert source.offer(item) == "accepted"
    source.close()
    return source


def endless() -> tf.Readable[int]:
    return Source(itertools.count()).readable


def strict_zip(*readables: tf.Readable[Any]) -> tf.Readable[Any]:
    return tf.zip(*readables, strict=True)


JOINS: dict[str, Join] = {
    "concat": tf.concat,
    "interleave": tf.interleave,
    "merge": tf.merge,
    "merge_sorted": tf.merge_sorted,
    "zip": tf.zip,
    "zip: strict": strict_zip,
    "zip_latest": tf.zip_latest,
}


def balanced() -> tf.Readable[int]:
    """Make a source of the items of two branches read at once: which branch gets which item varies."""

    async def run(output: tf.SendChannel[int]) -> None:
        async with tf.balance(tf.from_iterable(NUMBERS), 2) as branches:
            await output.send_many(sorted(await tf.merge(*branches).pipe(tf.collect())))

    return tf.Readable(run)


def around(
    split: Callable[[tf.Readable[Any]], AbstractAsyncContextManager[tuple[tf.Readable[Any], ...]]],
    join: Callable[..., tf.Readable[Any]],
) -> Callable[[], tf.Transform[Any, Any]]:
    """Make a transform that splits its items and joins the branches."""

    async def run(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
        async with split(tf.from_iterable(source)) as branches, join(*branches).open() as receive:
            async for items in receive.batches():
                await output.send_many(items)

    return lambda: tf.Transform(run)


def subscribed() -> tf.Transform[Any, Any]:
    """Make a transform whose items pass through a hub to its only subscriber."""

    async def run(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
        async with tf.hub(tf.from_iterable(source), start_after=1) as feed, feed.subscribe().open() as receive:
            async for items in receive.batches():
                await output.send_many(items)

    return tf.Transform(run)


def sent() -> tf.Writable[Any, int]:
    send, _ = tf.open_channel[Any](99)
    return tf.to_channel(send)


def written() -> tf.Writable[bytes, int]:
    near, _ = memory_stream_pair()
    return tf.to_stream(near)


def packed(data: bytes) -> bytes:
    """Return what `gzip` must make of `data`: a member whose header has no time."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def raw_deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def zstd_packed(data: bytes) -> bytes:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
    return compressor.compress(data) + compressor.flush()


def fives(whole: bytes) -> list[bytes]:
    return [whole[at : at + 5] for at in range(0, len(whole), 5)]


CHUNKS = fives(BYTES)
MEMBER = gzip.compress(BYTES, mtime=0)

DISTINCT = "R7: it takes everything if all items have been seen before"
SOURCES = {
    "balance": Entry(balanced, expected=NUMBERS, but="R12 and R7: the test reads the branches: test_splitting"),
    "concat": Entry(lambda: tf.concat(tf.from_iterable([0, 1]), tf.empty(), tf.from_iterable([2])), expected=[0, 1, 2]),
    "empty": Entry(tf.empty, expected=[]),
    "failed": Entry(
        lambda: tf.failed(Boom()).pipe(tf.recover(lambda failure: ())),
        expected=[],
        but="it only fails, so it is recovered here",
    ),
    "from_iterable": Entry(lambda: tf.from_iterable(range(9)), expected=NUMBERS),
    "interleave": Entry(
        lambda: tf.interleave(*map(tf.from_iterable, ([1, 4, 6, 7], [2, 5], [3]))), expected=[*range(1, 8)]
    ),
    "merge": Entry(
        lambda: tf.merge(tf.from_iterable(NUMBERS)),
        expected=NUMBERS,
        but="with two sources any order is right: test_flows",
    ),
    "merge_sorted": Entry(lambda: tf.merge_sorted(tf.from_iterable([0, 2]), tf.from_iterable([1])), expected=[0, 1, 2]),
    "queue": Entry(lambda: filled(NUMBERS), expected=NUMBERS),
    "queue: of nothing": Entry(lambda: filled([]), expected=[]),
    "read_file": Entry(lambda: tf.read_file("given", chunk_size=5), expected=CHUNKS),
    "recover": Entry(
        lambda: Source(NUMBERS, then=Boom()).readable.pipe(tf.recover(lambda failure: [9])),
        expected=[*NUMBERS, 9],
        but="R12: items sent before a handled failure arrive first (docs/contributing/rules.md)",
    ),
    "repeat": Entry(lambda: tf.repeat(None), but="endless: its first three items are compared"),
    "repeat: a few times": Entry(lambda: tf.repeat(None, 4), expected=[None] * 4),
    "repeat: never": Entry(lambda: tf.repeat("x", 0), expected=[]),
    "retry": Entry(lambda: tf.retry(failing_after(2, 0, 3)[0]), expected=NUMBERS, timed=True, but="R12: as recover"),
    "retry: of what never fails": Entry(lambda: tf.retry(Source(NUMBERS).readable), expected=NUMBERS),
    "ticks": Entry(
        lambda: tf.ticks(1).pipe(tf.map(lambda at: None)), timed=True, but="endless, and the times differ in each run"
    ),
    "unfold": Entry(lambda: tf.unfold(halves, 9), expected=[9, 4, 2, 1]),
    "unfold: async": Entry(lambda: tf.unfold(later(halves), 9), expected=[9, 4, 2, 1]),
    "unfold: endless": Entry(lambda: tf.unfold(lambda n: (n, n + 1), 0)),
    "unfold: of nothing": Entry(lambda: tf.unfold(halves, 0), expected=[]),
    "zip": Entry(lambda: tf.zip(tf.from_iterable("ab"), tf.from_iterable(["ab"])), expected=[("ab", "ab")]),
    "zip: of one": Entry(lambda: tf.zip(tf.from_iterable([1, 2])), expected=[(1,), (2,)]),
    "zip: strict": Entry(lambda: strict_zip(*map(tf.from_iterable, ([1, 2], [3, 4]))), expected=[(1, 3), (2, 4)]),
    "zip_latest": Entry(lambda: tf.zip_latest(tf.from_iterable([1, 2])), expected=[(1,), (2,)]),
}
for name, join in JOINS.items():
    named = f"{name}," if ":" in name else f"{name}:"
    SOURCES[f"{named} of none"] = Entry(join, expected=[])
    SOURCES[f"{named} of empty ones"] = Entry(lambda join=join: join(tf.empty(), tf.empty()), expected=[])
    SOURCES[f"{named} of endless ones"] = Entry(lambda join=join: join(endless(), endless()))

TRANSFORMS = {
    "batch": Entry(lambda: tf.batch(4), NUMBERS, [[0, 1, 2, 3], [4, 5, 6, 7], [8]], holds=4),
    "batch: even": Entry(lambda: tf.batch(3), NUMBERS, [[0, 1, 2], [3, 4, 5], [6, 7, 8]], holds=4),
    "batch: of nothing": Entry(lambda: tf.batch(2).pipe(tf.map(double)), [], [], holds=4),
    "batch: of one": Entry(lambda: tf.batch(1), NUMBERS, [[n] for n in NUMBERS], holds=4),
    "batch: within": Entry(
        lambda: tf.batch(4, within=60), NUMBERS, [[0, 1, 2, 3], [4, 5, 6, 7], [8]], holds=4, timed=True
    ),
    "broadcast": Entry(around(lambda readable: tf.broadcast(readable, 2), tf.zip), NUMBERS, [(n, n) for n in NUMBERS]),
    "brotli": Entry(tf.brotli, CHUNKS, brotli.compress(BYTES, quality=5), is_stream=True),
    "brotli: and back": Entry(lambda: tf.brotli().pipe(tf.unbrotli()), CHUNKS, BYTES, is_stream=True),
    "buffer": Entry(lambda: tf.buffer(4), NUMBERS, NUMBERS, holds=12),
    "buffer: dropping new ones": Entry(
        lambda: tf.buffer(1000, overflow="drop_newest"), NUMBERS, NUMBERS, but="R7: it takes everything"
    ),
    "buffer: dropping old ones": Entry(
        lambda: tf.buffer(1000, overflow="drop_oldest"), NUMBERS, NUMBERS, but="R7: it takes everything"
    ),
    "buffer: failing": Entry(lambda: tf.buffer(1000, overflow="fail"), NUMBERS, NUMBERS, but="R7: it fails"),
    "buffer: large": Entry(lambda: tf.buffer(1000), NUMBERS, NUMBERS, holds=2004),
    "buffer: of nothing": Entry(lambda: tf.buffer(4), [], [], holds=12),
    "buffer: of one": Entry(lambda: tf.buffer(1), NUMBERS, NUMBERS, holds=6),
    "changes": Entry(tf.changes, AGAIN, [1, 2, 1, 3, 2], holds=4),
    "changes: by key": Entry(lambda: tf.changes(str.lower), WORDS, ["a", "b", "a", "B"], holds=4),
    "changes: by key, async": Entry(lambda: tf.changes(later(str.lower)), WORDS, ["a", "b", "a", "B"], holds=4),
    "connect_tcp": Entry(
        lambda: tf.passthrough().pipe(tf.connect_tcp("127.0.0.1", int(Path("port").read_text()))),
        CHUNKS,
        BYTES,
        is_stream=True,
    ),
    "connect_unix": Entry(lambda: tf.passthrough().pipe(tf.connect_unix("echo")), CHUNKS, BYTES, is_stream=True),
    "csv_rows": Entry(tf.csv_rows, [(1, "a"), ("b,", None)], b'1,a\r\n"b,",\r\n', holds=4),
    "debounce": Entry(
        lambda: tf.debounce(1), NUMBERS, [8], timed=True, but="R7: it takes everything from an endless source"
    ),
    "decode": Entry(tf.decode, in_twos(LOG.encode()), LOG, is_stream=True, holds=4),
    "decode: gb18030": Entry(
        lambda: tf.decode("gb18030"), in_twos(LOG.encode("gb18030")), LOG, is_stream=True, holds=4
    ),
    "decode: utf-16": Entry(lambda: tf.decode("utf-16"), in_twos(LOG.encode("utf-16")), LOG, is_stream=True, holds=4),
    "decode: wrong bytes": Entry(
        lambda: tf.decode(errors="replace"), [b"a\xff", b"b\xc3"], "a\ufffdb\ufffd", is_stream=True, holds=4
    ),
    "deflate": Entry(tf.deflate, CHUNKS, zlib.compress(BYTES), is_stream=True),
    "deflate: and back": Entry(lambda: tf.deflate().pipe(tf.inflate()), CHUNKS, BYTES, is_stream=True),
    "deflate: raw": Entry(lambda: tf.deflate(raw=True), CHUNKS, raw_deflated(BYTES), is_stream=True),
    "delay": Entry(lambda: tf.delay(1), NUMBERS, NUMBERS, holds=258, timed=True),
    "delay: of few": Entry(lambda: tf.delay(1, capacity=2), NUMBERS, NUMBERS, holds=4, timed=True),
    "delimited": Entry(lambda: tf.delimited(b"--"), [b"a", b"", b"-b"], b"a-----b--", holds=4),
    "digest": Entry(tf.digest, CHUNKS, BYTES, is_stream=True, holds=4),
    "distinct": Entry(tf.distinct, AGAIN, [1, 2, 3], but=DISTINCT),
    "distinct: by key": Entry(lambda: tf.distinct(str.lower), WORDS, ["a", "b"], but=DISTINCT),
    "distinct: by key, async": Entry(lambda: tf.distinct(later(str.lower)), WORDS, ["a", "b"], but=DISTINCT),
    "distinct: with a limit": Entry(lambda: tf.distinct(remember=1), AGAIN, [1, 2, 1, 3, 2], but=DISTINCT),
    "distinct: without a limit": Entry(lambda: tf.distinct(remember=math.inf), AGAIN, [1, 2, 3], but=DISTINCT),
    "drop": Entry(lambda: tf.drop(7), NUMBERS, [7, 8], holds=4),
    "drop: all": Entry(lambda: tf.drop(100), NUMBERS, [], holds=4),
    "drop: none": Entry(lambda: tf.drop(0), NUMBERS, NUMBERS, holds=4),
    "drop_while": Entry(lambda: tf.drop_while(lambda n: n < 4), [*NUMBERS, 0], [4, 5, 6, 7, 8, 0], holds=7),
    "drop_while: all": Entry(lambda: tf.drop_while(lambda n: True), NUMBERS, [], holds=4),
    "drop_while: async": Entry(
        lambda: tf.drop_while(later(lambda n: n < 4)), [*NUMBERS, 0], [4, 5, 6, 7, 8, 0], holds=7
    ),
    "encode": Entry(tf.encode, [TEXT, "", "é"], BYTES + "é".encode(), is_stream=True, holds=4),
    "encode: each to its chunk": Entry(tf.encode, ["a", "", "é"], [b"a", b"", b"\xc3\xa9"], holds=4),
    "encode: latin-1": Entry(lambda: tf.encode("latin-1"), ["a", "é"], [b"a", b"\xe9"], holds=4),
    "encode: utf-16": Entry(lambda: tf.encode("utf-16"), ["a", "b"], "ab".encode("utf-16"), holds=4),
    "encode: what decode let pass": Entry(lambda: tf.encode(errors="surrogateescape"), ["\udcff"], [b"\xff"], holds=4),
    "encode: with a last shift": Entry(
        lambda: tf.encode("iso-2022-jp"), ["あ", "い"], "あい".encode("iso-2022-jp"), holds=4
    ),
    "encode: with an end": Entry(lambda: tf.encode(end="\n"), ["a", "", "é"], [b"a\n", b"\n", b"\xc3\xa9\n"], holds=4),
    "enumerate": Entry(tf.enumerate, ["a", None, "c"], [(0, "a"), (1, None), (2, "c")], holds=4),
    "enumerate: from": Entry(lambda: tf.enumerate(-1), "abc", [(-1, "a"), (0, "b"), (1, "c")], holds=4),
    "filter": Entry(lambda: tf.filter(lambda n: n % 2), NUMBERS, [1, 3, 5, 7], holds=4),
    "filter: all": Entry(lambda: tf.filter(lambda n: True), NUMBERS, NUMBERS, holds=4),
    "filter: async": Entry(lambda: tf.filter(later(lambda n: n % 2 == 1)), NUMBERS, [1, 3, 5, 7], holds=4),
    "filter: none": Entry(lambda: tf.filter(lambda n: False), NUMBERS, [], holds=4),
    "flat_map": Entry(lambda: tf.flat_map(str.split), TEXTS, ["a", "b", "c"], holds=4),
    "flat_map: async": Entry(lambda: tf.flat_map(later(str.split)), TEXTS, ["a", "b", "c"], holds=4),
    "flat_map: generator": Entry(lambda: tf.flat_map(words_of), TEXTS, ["a", "b", "c"], holds=4),
    "flat_map: lazily": Entry(lambda: tf.flat_map(range), [0, 3, 1], [0, 1, 2, 0], holds=4),
    "flat_map_merge": Entry(
        lambda: tf.flat_map_merge(lambda n: tf.repeat(n, 3), concurrency=1),
        [1, 2, 3],
        [1, 1, 1, 2, 2, 2, 3, 3, 3],
        holds=9,
        but="with two at once any order is right: test_flattening",
    ),
    "flat_map_merge: empties": Entry(lambda: tf.flat_map_merge(lambda n: tf.empty()), [1, 2], [], holds=9),
    "flat_map_merge: lists": Entry(
        lambda: tf.flat_map_merge(lambda n: [n] * n, concurrency=1), [1, 2], [1, 2, 2], holds=9
    ),
    "flat_map_merge: of nothing": Entry(lambda: tf.flat_map_merge(lambda n: tf.repeat(n, 3)), [], [], holds=9),
    "flat_map_merge: text": Entry(lambda: tf.flat_map_merge(str, concurrency=1), [1, 2], ["1", "2"], holds=9),
    "flatten": Entry(tf.flatten, [[1, 2], [], (3,), {4: 5}, "ab"], [1, 2, 3, 4, "a", "b"], holds=4),
    "group_by": Entry(
        lambda: tf.group_by(lambda n: 0).pipe(tf.flat_map_merge(lambda pair: pair[1])),
        NUMBERS,
        NUMBERS,
        holds=600,
        but="with two groups any order is right: test_keyed",
    ),
    "gunzip": Entry(tf.gunzip, fives(MEMBER), BYTES, is_stream=True),
    "gunzip: limited": Entry(lambda: tf.gunzip(max_output=len(BYTES)), fives(MEMBER), BYTES, is_stream=True),
    "gunzip: members": Entry(tf.gunzip, fives(MEMBER + packed(b"") + packed(b"end")), BYTES + b"end", is_stream=True),
    "gunzip: padded": Entry(tf.gunzip, fives(MEMBER + bytes(30)), BYTES, is_stream=True),
    "gzip": Entry(tf.gzip, CHUNKS, packed(BYTES), is_stream=True),
    "gzip: and back": Entry(lambda: tf.gzip().pipe(tf.gunzip()), CHUNKS, BYTES, is_stream=True),
    "gzip: noise": Entry(tf.gzip, [NOISE[:700], NOISE[700:]], packed(NOISE), is_stream=True),
    "gzip: of nothing": Entry(tf.gzip, [], packed(b""), is_stream=True),
    "hub": Entry(subscribed, NUMBERS, NUMBERS),
    "inflate": Entry(tf.inflate, fives(zlib.compress(BYTES)), BYTES, is_stream=True),
    "inflate: raw": Entry(lambda: tf.inflate(raw=True), fives(raw_deflated(BYTES)), BYTES, is_stream=True),
    "intersperse": Entry(lambda: tf.intersperse(None), [1, 2, 3], [1, None, 2, None, 3], holds=4),
    "intersperse: one": Entry(lambda: tf.intersperse(0), [1], [1], holds=4),
    "intersperse: some": Entry(lambda: tf.intersperse(0, every=2), [1, 2, 3, 4, 5], [1, 2, 0, 3, 4, 0, 5], holds=4),
    "json_lines": Entry(tf.json_lines, VALUES, JSON.encode(), holds=4),
    "keep_alive": Entry(lambda: tf.keep_alive(1000, 0), NUMBERS, NUMBERS, holds=1, timed=True),
    "length_prefixed": Entry(tf.length_prefixed, FRAMES, WIRE, holds=310),
    "length_prefixed: little": Entry(lambda: tf.length_prefixed(2, byteorder="little"), FRAMES, LITTLE_WIRE, holds=310),
    "limit_bytes": Entry(
        lambda: tf.limit_bytes(len(BYTES)),
        CHUNKS,
        BYTES,
        is_stream=True,
        but="R7: it takes up to its limit from an endless source",
    ),
    "lines": Entry(tf.lines, in_twos(LOG.encode()), LOG_LINES, is_stream=True, holds=4),
    "lines: crlf": Entry(
        lambda: tf.lines(newlines="crlf"), in_twos(CRLF.encode()), ["GET /", "", "no end"], is_stream=True, holds=20
    ),
    "lines: of nothing": Entry(tf.lines, [], [], is_stream=True, holds=4),
    "lines: of text": Entry(tf.lines, in_twos(LOG), LOG_LINES, is_stream=True, holds=4),
    "lines: strict": Entry(lambda: tf.lines(strict=True), in_twos("a\nb\r\n"), ["a", "b"], is_stream=True, holds=20),
    "lines: universal": Entry(
        lambda: tf.lines(newlines="universal"), in_twos(MIXED), ["a", "b", "c", "", "", "d"], is_stream=True, holds=20
    ),
    "lines: utf-16": Entry(
        lambda: tf.lines(encoding="utf-16-le"), in_twos(LOG.encode("utf-16-le")), LOG_LINES, is_stream=True, holds=4
    ),
    "lines: with a limit": Entry(lambda: tf.lines(max_length=13), in_twos(LOG), LOG_LINES, is_stream=True, holds=4),
    "lines: with ends": Entry(
        lambda: tf.lines(keep_ends=True), in_twos(LOG.encode()), LOG_KEPT, is_stream=True, holds=4
    ),
    "map": Entry(lambda: tf.map(lambda n: 2 * n), NUMBERS, DOUBLED, holds=4),
    "map: async": Entry(lambda: tf.map(double), NUMBERS, DOUBLED, holds=4),
    "map: async object": Entry(lambda: tf.map(Doubler()), NUMBERS, DOUBLED, holds=4),
    "map: in a chain": Entry(lambda: tf.drop(1).pipe(tf.map(double)).pipe(tf.take(2)), NUMBERS, [2, 4], holds=4),
    "map_async": Entry(lambda: tf.map_async(double_out_of_step), NUMBERS, DOUBLED, holds=8),
    "map_async: lambda": Entry(
        lambda: tf.map_async(lambda n: double_out_of_step(n), concurrency=3), NUMBERS, DOUBLED, holds=3
    ),
    "map_async: of nothing": Entry(lambda: tf.map_async(double_out_of_step), [], [], holds=8),
    "map_async: one": Entry(lambda: tf.map_async(double_out_of_step, concurrency=1), NUMBERS, DOUBLED, holds=8),
    "map_in_processes": Entry(
        lambda: tf.map_in_processes(called.double, workers=1), NUMBERS, DOUBLED, holds=8, slow=True
    ),
    "map_in_threads": Entry(lambda: tf.map_in_threads(lambda n: 2 * n), NUMBERS, DOUBLED, holds=8),
    "map_in_threads: of nothing": Entry(lambda: tf.map_in_threads(lambda n: 2 * n), [], [], holds=8),
    "map_in_threads: one": Entry(lambda: tf.map_in_threads(lambda n: 2 * n, workers=1), NUMBERS, DOUBLED, holds=8),
    "monitor": Entry(tf.monitor, NUMBERS, NUMBERS, holds=4),
    "pairwise": Entry(tf.pairwise, range(4), [(0, 1), (1, 2), (2, 3)], holds=4),
    "pairwise: of one": Entry(tf.pairwise, [None], [], holds=4),
    "parse_csv": Entry(
        lambda: tf.parse_csv(header=False), [b"a,b\r", b'\n1,"\n', b'"\n'], [["a", "b"], ["1", "\n"]], holds=9
    ),
    "parse_json_lines": Entry(tf.parse_json_lines, in_twos(JSON.encode()), VALUES, is_stream=True, holds=60),
    "parse_json_lines: of nothing": Entry(lambda: tf.parse_json_lines(strict=True), [], [], is_stream=True, holds=60),
    "parse_json_lines: of text": Entry(tf.parse_json_lines, in_twos(JSON), VALUES, is_stream=True, holds=60),
    "parse_json_lines: strict": Entry(
        lambda: tf.parse_json_lines(strict=True), in_twos(JSON), VALUES, is_stream=True, holds=60
    ),
    "parse_json_lines: without a last end": Entry(
        tf.parse_json_lines, [b"[1]\n \r\n\n[2]"], [[1], [2]], is_stream=True
    ),
    "parse_length_prefixed": Entry(tf.parse_length_prefixed, in_twos(WIRE), FRAMES, is_stream=True, holds=310),
    "parse_length_prefixed: little": Entry(
        lambda: tf.parse_length_prefixed(2, byteorder="little"),
        in_twos(LITTLE_WIRE),
        FRAMES,
        is_stream=True,
        holds=310,
    ),
    "parse_length_prefixed: of nothing": Entry(tf.parse_length_prefixed, [], [], is_stream=True, holds=310),
    "partition": Entry(
        around(lambda readable: tf.partition(readable, lambda n: n % 2, 2), tf.interleave), NUMBERS, NUMBERS
    ),
    "passthrough": Entry(tf.passthrough, [None, b"", "", 0, False], [None, b"", "", 0, False], holds=4),
    "process": Entry(lambda: tf.passthrough().pipe(tf.process(["cat"])), CHUNKS, BYTES, is_stream=True),
    "progress": Entry(lambda: tf.progress(silent=True), NUMBERS, NUMBERS, holds=4),
    "rechunk": Entry(lambda: tf.rechunk(5), in_twos(BYTES), CHUNKS, is_stream=True, holds=60),
    "rechunk: even": Entry(lambda: tf.rechunk(2), [b"abcd", b"ef"], [b"ab", b"cd", b"ef"], is_stream=True, holds=60),
    "rechunk: of less": Entry(lambda: tf.rechunk(1000), in_twos(BYTES), [BYTES], is_stream=True),
    "rechunk: of nothing": Entry(lambda: tf.rechunk(100), [b""], [], is_stream=True, holds=60),
    "rechunk: of one": Entry(lambda: tf.rechunk(1), [b"ab", b"", b"c"], [b"a", b"b", b"c"], is_stream=True, holds=60),
    "sample": Entry(
        lambda: tf.sample(1), NUMBERS, [8], timed=True, but="R7: it takes everything from an endless source"
    ),
    "scan": Entry(
        lambda: tf.scan(lambda total, n: total + n, 0), NUMBERS, list(itertools.accumulate(NUMBERS)), holds=4
    ),
    "scan: async": Entry(lambda: tf.scan(add_later, 0), NUMBERS, list(itertools.accumulate(NUMBERS)), holds=4),
    "split": Entry(lambda: tf.split(b"\0"), in_twos(b"a\0bc\0\0d"), [b"a", b"bc", b"", b"d"], is_stream=True, holds=4),
    "split: of text": Entry(lambda: tf.split("--"), in_twos("a---b---"), ["a", "-b", "-"], is_stream=True, holds=4),
    "split: strict": Entry(
        lambda: tf.split(b"--", strict=True), in_twos(b"a--b--"), [b"a", b"b"], is_stream=True, holds=20
    ),
    "starmap": Entry(lambda: tf.starmap(pow), [(2, 5), (3, 2)], [32, 9], holds=4),
    "switch_map": Entry(
        lambda: tf.switch_map(lambda n: tf.repeat(n, 3)),
        [1],
        [1, 1, 1],
        but="R7: it never waits for its source, and what a second item cuts off varies: test_flattening",
    ),
    "switch_map: empties": Entry(lambda: tf.switch_map(lambda n: tf.empty()), [1, 2], [], but="R7: as switch_map"),
    "switch_map: of nothing": Entry(lambda: tf.switch_map(tf.repeat), [], [], but="R7: as switch_map"),
    "take": Entry(lambda: tf.take(4), NUMBERS, [0, 1, 2, 3], holds=4),
    "take: more": Entry(lambda: tf.take(100), NUMBERS, NUMBERS, holds=4),
    "take: none": Entry(lambda: tf.take(0), NUMBERS, [], holds=4),
    "take_until": Entry(lambda: tf.take_until(trio.Event()), NUMBERS, NUMBERS, holds=1),
    "take_while": Entry(lambda: tf.take_while(lambda n: n < 4), NUMBERS, [0, 1, 2, 3], holds=4),
    "take_while: all": Entry(lambda: tf.take_while(lambda n: True), NUMBERS, NUMBERS, holds=4),
    "take_while: async": Entry(lambda: tf.take_while(later(lambda n: n < 4)), NUMBERS, [0, 1, 2, 3], holds=4),
    "take_while: inclusive": Entry(
        lambda: tf.take_while(lambda n: n < 4, inclusive=True), NUMBERS, [0, 1, 2, 3, 4], holds=4
    ),
    "take_while: inclusive, async": Entry(
        lambda: tf.take_while(later(lambda n: n < 4), inclusive=True), NUMBERS, [0, 1, 2, 3, 4], holds=4
    ),
    "take_while: none": Entry(lambda: tf.take_while(lambda n: False), NUMBERS, [], holds=4),
    "tap": Entry(lambda: tf.tap(id), NUMBERS, NUMBERS, holds=4),
    "tap: async": Entry(lambda: tf.tap(double), NUMBERS, NUMBERS, holds=4),
    "throttle": Entry(lambda: tf.throttle(10), NUMBERS, NUMBERS, holds=1, timed=True),
    "throttle: burst": Entry(lambda: tf.throttle(10, per=2, burst=4), NUMBERS, NUMBERS, holds=1, timed=True),
    "throttle: cost": Entry(lambda: tf.throttle(10, cost=lambda n: n / 3), NUMBERS, NUMBERS, holds=1, timed=True),
    "timeout": Entry(lambda: tf.timeout(1000), NUMBERS, NUMBERS, holds=1, timed=True),
    "unbrotli": Entry(tf.unbrotli, fives(brotli.compress(BYTES)), BYTES, is_stream=True),
    "unbrotli: limited": Entry(
        lambda: tf.unbrotli(max_output=len(BYTES)), fives(brotli.compress(BYTES)), BYTES, is_stream=True
    ),
    "unzstd": Entry(tf.unzstd, fives(zstd_packed(BYTES)), BYTES, is_stream=True),
    "unzstd: limited": Entry(
        lambda: tf.unzstd(max_output=len(BYTES)), fives(zstd_packed(BYTES)), BYTES, is_stream=True
    ),
    "window": Entry(lambda: tf.window(4), range(6), [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)], holds=4),
    "window: of more than there is": Entry(lambda: tf.window(4), range(3), [], holds=4),
    "window: of one": Entry(lambda: tf.window(1), range(3), [(0,), (1,), (2,)], holds=4),
    "window: that leaves out": Entry(lambda: tf.window(2, step=4), NUMBERS, [(0, 1), (4, 5)], holds=4),
    "window: that touches": Entry(lambda: tf.window(3, step=3), NUMBERS, [(0, 1, 2), (3, 4, 5), (6, 7, 8)], holds=4),
    "window_time": Entry(lambda: tf.window_time(1, most=9), NUMBERS, [NUMBERS], holds=20, timed=True),
    "zstd": Entry(tf.zstd, CHUNKS, zstd_packed(BYTES), is_stream=True),
    "zstd: and back": Entry(lambda: tf.zstd().pipe(tf.unzstd()), CHUNKS, BYTES, is_stream=True),
}
for name, (make, expected) in FALLIBLE.items():
    TRANSFORMS[f"on_item_error: {name}, dropped"] = Entry(
        lambda make=make: tf.on_item_error(make(), "drop"), range(10), expected, holds=24
    )
    TRANSFORMS[f"on_item_error: {name}, put aside"] = Entry(
        lambda make=make: tf.on_item_error(make(), tf.drain()), range(10), expected, holds=24
    )

SINKS = {
    "collect": Entry(tf.collect, NUMBERS, NUMBERS),
    "collect: after transforms": Entry(
        lambda: tf.batch(2).pipe(tf.map(sum)).pipe(tf.collect()), NUMBERS, [1, 5, 9, 13, 8]
    ),
    "collect: nothing": Entry(tf.collect, [], []),
    "count": Entry(tf.count, NUMBERS, 9),
    "drain": Entry(tf.drain, NUMBERS, 9),
    "first": Entry(tf.first, NUMBERS, 0),
    "first: or a default": Entry(lambda: tf.first(default="none"), [], "none"),
    "for_each": Entry(lambda: tf.for_each(abs), NUMBERS, None),
    "for_each: async": Entry(lambda: tf.for_each(double), NUMBERS, None),
    "join": Entry(tf.join, CHUNKS, BYTES),
    "join: bytearrays": Entry(tf.join, [bytearray(b"a"), memoryview(b"b")], b"ab"),
    "join: bytes with": Entry(lambda: tf.join(b"-"), [b"a", b"b"], b"a-b"),
    "join: nothing": Entry(tf.join, [], b""),
    "join: nothing with": Entry(lambda: tf.join(", "), [], ""),
    "join: text": Entry(tf.join, ["a", "bc"], "abc"),
    "join: text with": Entry(lambda: tf.join(", "), ["a", "b"], "a, b"),
    "last": Entry(tf.last, [3, None, 2], 2),
    "last: or a default": Entry(lambda: tf.last(default=7), [], 7),
    "reduce": Entry(lambda: tf.reduce(lambda total, n: total + n, 0), NUMBERS, 36),
    "reduce: async": Entry(lambda: tf.reduce(add_later, 5), NUMBERS, 41),
    "reduce: nothing": Entry(lambda: tf.reduce(max, "initial"), [], "initial"),
    "reduce: nothing, async": Entry(lambda: tf.reduce(add_later, 5), [], 5),
    "stdout": Entry(tf.stdout, CHUNKS, len(BYTES)),
    "to_channel": Entry(sent, NUMBERS, 9),
    "to_channel: nothing": Entry(sent, [], 0),
    "to_stream": Entry(written, CHUNKS, len(BYTES)),
    "write_file": Entry(lambda: tf.write_file("taken"), CHUNKS, len(BYTES)),
    "write_file: appended": Entry(lambda: tf.write_file("log", append=True), CHUNKS, len(BYTES)),
}

STAGES = SOURCES | TRANSFORMS | SINKS


def public_names(table: Iterable[str]) -> set[str]:
    """Return the names in a part of the table, without the variants."""
    return {key.partition(":")[0] for key in table}
