"""A table of every public name: how the kit checks the stage, or where else it is proved.

A stage that cannot be held to a check by its nature is held to those it can be, and its entry says why.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trio.testing import memory_stream_pair

import trioflow as tf
from tests import called
from tests.consumers import Boom

NUMBERS = [*range(9)]
DOUBLED = [2 * n for n in NUMBERS]
TEXT = "añb\n\nc" * 9
BYTES = TEXT.encode()
CHUNKS = [BYTES[at : at + 5] for at in range(0, len(BYTES), 5)]

# What is no stage, or not one that could run again and again, and where its promises are proved.
ELSEWHERE = {
    **dict.fromkeys(
        [
            "Branch",
            "Buffered",
            "ChannelStatistics",
            "CsvFormat",
            "Digest",
            "Monitor",
            "Offered",
            "Overflow",
            "Restart",
            "Snapshot",
            "StageSnapshot",
        ],
        "a type to annotate with",
    ),
    "ByteBuffer": "it does no I/O: test_bytebuffer",
    "Duplex": "a class, whose makers stand below",
    "Readable": "a class, whose makers stand below",
    "ReceiveChannel": "a live end: test_channel",
    "SendChannel": "a live end: test_channel",
    "Transform": "a class, whose makers stand below",
    "Writable": "a class, whose makers stand below",
    "buffered": "it reads what is open: test_reading",
    "open_channel": "it gives live ends: test_channel",
    "pipeline": "it runs stages, those of the kit too: test_streams",
    "readable": "a decorator: test_decorators",
    "connect_tls": "it cannot end one direction, so its server has to know: test_sockets_tls",
    "serve_tcp": "a server: test_sockets",
    "stdin": "there is one for a process, for one run at a time: test_stdio",
    "transform": "a decorator: test_decorators",
    "writable": "a decorator: test_decorators",
}


@dataclass(frozen=True)
class Entry:
    """How to make a stage, what to send in, what must come out, and how much it may hold.

    Attributes:
        timed: It waits on Trio's clock alone: a mock clock jumps there.
        but: Which check it is not held to, and why.
    """

    make: Callable[[], Any]
    items: Any = ()
    expected: Any = None
    is_stream: bool = False
    holds: int | None = None
    timed: bool = False
    but: str = ""


async def double(n: int) -> int:
    return 2 * n


def failing_once() -> tf.Readable[int]:
    """Make a source whose first attempt fails."""

    async def first(output: tf.SendChannel[int]) -> None:
        await output.send_many(NUMBERS[:4])
        raise Boom

    return tf.retry(lambda position: tf.from_iterable(NUMBERS[position:]) if position else tf.Readable(first))


def filled() -> tf.Readable[int]:
    source = tf.queue[int](99)
    for n in NUMBERS:
        assert source.offer(n) == "accepted"
    source.close()
    return source


def balanced() -> tf.Readable[int]:
    """Make a source of what two branches get, read at once: which one gets what is left to chance."""

    async def run(output: tf.SendChannel[int]) -> None:
        async with tf.balance(tf.from_iterable(NUMBERS), 2) as branches:
            await output.send_many(sorted(await tf.merge(*branches).pipe(tf.collect())))

    return tf.Readable(run)


def around(
    split: Callable[[tf.Readable[Any]], AbstractAsyncContextManager[tuple[tf.Readable[Any], ...]]],
    join: Callable[..., tf.Readable[Any]],
) -> Callable[[], tf.Transform[Any, Any]]:
    """Make a transform that splits what comes and joins the branches."""

    async def run(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
        async with split(tf.from_iterable(source)) as branches, join(*branches).open() as receive:
            async for items in receive.batches():
                await output.send_many(items)

    return lambda: tf.Transform(run)


def sent() -> tf.Writable[Any, int]:
    send, _ = tf.open_channel[Any](99)
    return tf.to_channel(send)


def written() -> tf.Writable[bytes, int]:
    near, _ = memory_stream_pair()
    return tf.to_stream(near)


SOURCES = {
    "balance": Entry(balanced, expected=NUMBERS, but="R12 and R7: who reads in turn is the test's own: test_splitting"),
    "concat": Entry(lambda: tf.concat(tf.from_iterable([0, 1]), tf.from_iterable([2])), expected=[0, 1, 2]),
    "empty": Entry(tf.empty, expected=[]),
    "failed": Entry(
        lambda: tf.failed(Boom()).pipe(tf.recover(lambda failure: ())), expected=[], but="it only fails: recovered here"
    ),
    "from_iterable": Entry(lambda: tf.from_iterable(range(9)), expected=NUMBERS),
    "interleave": Entry(lambda: tf.interleave(tf.from_iterable([0, 2]), tf.from_iterable([1])), expected=[0, 1, 2]),
    "merge": Entry(
        lambda: tf.merge(tf.from_iterable(NUMBERS)), expected=NUMBERS, but="of two the order is free: test_flows"
    ),
    "merge_sorted": Entry(lambda: tf.merge_sorted(tf.from_iterable([0, 2]), tf.from_iterable([1])), expected=[0, 1, 2]),
    "queue": Entry(filled, expected=NUMBERS),
    "read_file": Entry(lambda: tf.read_file("given", chunk_size=5), expected=CHUNKS),
    "recover": Entry(
        lambda: tf.concat(tf.from_iterable(NUMBERS), tf.failed(Boom())).pipe(tf.recover(lambda failure: [9])),
        expected=[*NUMBERS, 9],
        but="R12: what was sent before a failure that is dealt with comes first (docs/reference/rules.md)",
    ),
    "repeat": Entry(lambda: tf.repeat(None), but="endless: its first three items are compared"),
    "retry": Entry(failing_once, expected=NUMBERS, timed=True, but="R12: as recover"),
    "ticks": Entry(
        lambda: tf.ticks(1).pipe(tf.map(lambda at: None)), timed=True, but="endless, and the time is another each run"
    ),
    "unfold": Entry(lambda: tf.unfold(lambda n: (n, n + 1) if n < 9 else None, 0), expected=NUMBERS),
    "zip": Entry(lambda: tf.zip(tf.from_iterable("ab"), tf.from_iterable(["ab"])), expected=[("ab", "ab")]),
    "zip_latest": Entry(lambda: tf.zip_latest(tf.from_iterable(NUMBERS[:1])), expected=[(0,)]),
}

TRANSFORMS = {
    "batch": Entry(lambda: tf.batch(2, within=9), NUMBERS, [[0, 1], [2, 3], [4, 5], [6, 7], [8]], holds=4, timed=True),
    "broadcast": Entry(around(lambda readable: tf.broadcast(readable, 2), tf.zip), NUMBERS, [(n, n) for n in NUMBERS]),
    "brotli": Entry(lambda: tf.brotli().pipe(tf.unbrotli()), CHUNKS, BYTES, is_stream=True),
    "buffer": Entry(lambda: tf.buffer(3), NUMBERS, NUMBERS, holds=9),
    "changes": Entry(tf.changes, [1, 1, 2, 2, 1], [1, 2, 1], holds=4),
    "connect_tcp": Entry(
        lambda: tf.passthrough().pipe(tf.connect_tcp("127.0.0.1", int(Path("port").read_text()))),
        CHUNKS,
        BYTES,
        is_stream=True,
    ),
    "connect_unix": Entry(lambda: tf.passthrough().pipe(tf.connect_unix("echo")), CHUNKS, BYTES, is_stream=True),
    "csv_rows": Entry(tf.csv_rows, [(1, "a"), ("b,", None)], b'1,a\r\n"b,",\r\n', holds=4),
    "debounce": Entry(lambda: tf.debounce(1), NUMBERS, [8], timed=True, but="R7: it takes all of an endless source"),
    "decode": Entry(tf.decode, CHUNKS, TEXT, is_stream=True, holds=4),
    "deflate": Entry(lambda: tf.deflate().pipe(tf.inflate()), CHUNKS, BYTES, is_stream=True),
    "delay": Entry(lambda: tf.delay(1, capacity=2), NUMBERS, NUMBERS, holds=4, timed=True),
    "delimited": Entry(lambda: tf.delimited(b"-"), [b"a", b"b"], [b"a-", b"b-"], holds=4),
    "digest": Entry(tf.digest, CHUNKS, BYTES, is_stream=True, holds=4),
    "distinct": Entry(tf.distinct, [1, 2, 1, 3], [1, 2, 3], but="R7: of items that all came before it takes all"),
    "drop": Entry(lambda: tf.drop(2), NUMBERS, NUMBERS[2:], holds=4),
    "drop_while": Entry(lambda: tf.drop_while(lambda n: n < 3), NUMBERS, NUMBERS[3:], holds=7),
    "encode": Entry(tf.encode, [TEXT, "é"], BYTES + "é".encode(), is_stream=True, holds=4),
    "enumerate": Entry(tf.enumerate, ["a", None], [(0, "a"), (1, None)], holds=4),
    "filter": Entry(lambda: tf.filter(lambda n: n % 2), NUMBERS, [1, 3, 5, 7], holds=4),
    "flat_map": Entry(lambda: tf.flat_map(lambda n: [n] * n), [1, 2], [1, 2, 2], holds=4),
    "flat_map_merge": Entry(
        lambda: tf.flat_map_merge(lambda n: [n] * n, concurrency=1),
        [1, 2],
        [1, 2, 2],
        holds=9,
        but="of two at once the order is free: test_flattening",
    ),
    "flatten": Entry(tf.flatten, [[1], [], "ab"], [1, "a", "b"], holds=4),
    "group_by": Entry(
        lambda: tf.group_by(lambda n: 0).pipe(tf.flat_map_merge(lambda pair: pair[1])),
        NUMBERS,
        NUMBERS,
        holds=600,
        but="of two groups the order is free: test_keyed",
    ),
    "gunzip": Entry(lambda: tf.gunzip(), [zlib.compress(BYTES, wbits=31)], BYTES, is_stream=True),
    "gzip": Entry(lambda: tf.gzip().pipe(tf.gunzip()), CHUNKS, BYTES, is_stream=True),
    "inflate": Entry(lambda: tf.inflate(), [zlib.compress(BYTES)], BYTES, is_stream=True),
    "intersperse": Entry(lambda: tf.intersperse(0), [1, 2, 3], [1, 0, 2, 0, 3], holds=4),
    "json_lines": Entry(tf.json_lines, [1, None, {"a": ""}], b'1\nnull\n{"a":""}\n', holds=4),
    "keep_alive": Entry(lambda: tf.keep_alive(1000, 0), NUMBERS, NUMBERS, holds=4, timed=True),
    "length_prefixed": Entry(lambda: tf.length_prefixed(1), [b"", b"ab"], b"\0\2ab", holds=310),
    "limit_bytes": Entry(
        lambda: tf.limit_bytes(999), CHUNKS, BYTES, is_stream=True, but="R7: of an endless source it takes its limit"
    ),
    "lines": Entry(tf.lines, CHUNKS, TEXT.split("\n"), is_stream=True, holds=20),
    "map": Entry(lambda: tf.map(lambda n: 2 * n), NUMBERS, DOUBLED, holds=4),
    "map_async": Entry(lambda: tf.map_async(double, concurrency=3), NUMBERS, DOUBLED, holds=3),
    "map_in_processes": Entry(lambda: tf.map_in_processes(called.double, workers=1), NUMBERS, DOUBLED, holds=256),
    "map_in_threads": Entry(lambda: tf.map_in_threads(lambda n: 2 * n, workers=2), NUMBERS, DOUBLED, holds=512),
    "monitor": Entry(tf.monitor, NUMBERS, NUMBERS, holds=4),
    "on_item_error": Entry(lambda: tf.on_item_error(tf.map(lambda n: 6 // n), "drop"), [0, 1, 2], [6, 3], holds=8),
    "pairwise": Entry(tf.pairwise, [1, 2, 3], [(1, 2), (2, 3)], holds=4),
    "parse_csv": Entry(
        lambda: tf.parse_csv(header=False), [b"a,b\r", b'\n1,"\n', b'"\n'], [["a", "b"], ["1", "\n"]], holds=9
    ),
    "parse_json_lines": Entry(
        tf.parse_json_lines, [b"1\nnu", b'll\n"\xc3\xa9"\n'], [1, None, "é"], is_stream=True, holds=9
    ),
    "parse_length_prefixed": Entry(
        lambda: tf.parse_length_prefixed(1), [b"\0\2a", b"b"], [b"", b"ab"], is_stream=True, holds=310
    ),
    "partition": Entry(
        around(lambda readable: tf.partition(readable, lambda n: n % 2, 2), tf.interleave), NUMBERS, NUMBERS
    ),
    "passthrough": Entry(tf.passthrough, [None, b"", "", 0, False], [None, b"", "", 0, False], holds=4),
    "process": Entry(lambda: tf.passthrough().pipe(tf.process(["cat"])), CHUNKS, BYTES, is_stream=True),
    "progress": Entry(lambda: tf.progress(silent=True), NUMBERS, NUMBERS, holds=4),
    "rechunk": Entry(lambda: tf.rechunk(9), CHUNKS, BYTES, is_stream=True, holds=60),
    "sample": Entry(lambda: tf.sample(1), NUMBERS, [8], timed=True, but="R7: it takes all of an endless source"),
    "scan": Entry(lambda: tf.scan(lambda total, n: total + n, 0), [1, 2, 3], [1, 3, 6], holds=4),
    "split": Entry(lambda: tf.split(b"-"), [b"a-", b"-bc"], [b"a", b"", b"bc"], is_stream=True, holds=20),
    "switch_map": Entry(
        lambda: tf.switch_map(lambda items: items),
        [NUMBERS],
        NUMBERS,
        but="R7: it never waits for its source; what a second item cuts off is left to chance: test_flattening",
    ),
    "take": Entry(lambda: tf.take(3), NUMBERS, [0, 1, 2], holds=4),
    "take_while": Entry(lambda: tf.take_while(lambda n: n < 3), NUMBERS, [0, 1, 2], holds=4),
    "tap": Entry(lambda: tf.tap(lambda n: None), NUMBERS, NUMBERS, holds=4),
    "throttle": Entry(lambda: tf.throttle(10), NUMBERS, NUMBERS, holds=4, timed=True),
    "timeout": Entry(lambda: tf.timeout(1000), NUMBERS, NUMBERS, holds=4, timed=True),
    "unbrotli": Entry(lambda: tf.brotli().pipe(tf.unbrotli(max_output=999)), CHUNKS, BYTES, is_stream=True),
    "unzstd": Entry(lambda: tf.zstd().pipe(tf.unzstd(max_output=999)), CHUNKS, BYTES, is_stream=True),
    "window": Entry(lambda: tf.window(2), [1, 2, 3], [(1, 2), (2, 3)], holds=4),
    "window_time": Entry(lambda: tf.window_time(1, most=9), NUMBERS, [NUMBERS], holds=20, timed=True),
    "zstd": Entry(lambda: tf.zstd().pipe(tf.unzstd()), CHUNKS, BYTES, is_stream=True),
}

SINKS = {
    "collect": Entry(tf.collect, NUMBERS, NUMBERS),
    "count": Entry(tf.count, NUMBERS, 9),
    "drain": Entry(tf.drain, NUMBERS, None),
    "first": Entry(tf.first, NUMBERS, 0),
    "for_each": Entry(lambda: tf.for_each(double), NUMBERS, None),
    "join": Entry(tf.join, CHUNKS, BYTES),
    "last": Entry(tf.last, NUMBERS, 8),
    "reduce": Entry(lambda: tf.reduce(lambda total, n: total + n, 0), NUMBERS, 36),
    "stdout": Entry(tf.stdout, CHUNKS, len(BYTES)),
    "to_channel": Entry(sent, NUMBERS, 9),
    "to_stream": Entry(written, CHUNKS, len(BYTES)),
    "write_file": Entry(lambda: tf.write_file("taken"), CHUNKS, len(BYTES)),
}

STAGES = SOURCES | TRANSFORMS | SINKS
