"""Fan-out with a slow branch: a file gets every reading, a slower display the newest, and it delays nothing.

Node: none; a readable with two pipes runs at the pace of the slower one.
"""

from collections.abc import AsyncIterable

import trio
import trio.testing

import trioflow as tf


@tf.writable
async def display(readings: AsyncIterable[int]) -> float:
    oldest = 0.0
    async for reading in readings:
        oldest = max(oldest, trio.current_time() - reading * 0.01)
        await trio.sleep(0.5)
    return oldest


async def main() -> None:
    readings = tf.ticks(0.01).pipe(tf.enumerate()).pipe(tf.map(lambda pair: pair[0])).pipe(tf.take(1000))
    async with tf.broadcast(readings, 2, capacity=1, overflow=["wait", "drop_oldest"]) as (whole, newest):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole.pipe(tf.json_lines()).pipe, tf.write_file("readings.jsonl"))
            oldest = await newest.pipe(display())

        written = await tf.read_file("readings.jsonl").pipe(tf.lines()).pipe(tf.count())
        print(f"{written} written, {newest.statistics().dropped} not shown. None was older than a second: {oldest < 1}")


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

# Prints:
# 1000 written, 9... not shown. None was older than a second: True
