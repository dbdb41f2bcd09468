"""Fan-out with a slow branch: an alarm gets every reading, a slower display the newest, and it delays nothing.

Node: none; a readable with two pipes runs at the pace of the slower one.
"""

from collections.abc import AsyncIterable

import trio
import trio.testing

import trioflow as tf


@tf.writable
async def display(readings: AsyncIterable[float]) -> float:
    oldest = 0.0
    async for taken_at in readings:
        oldest = max(oldest, trio.current_time() - taken_at)
        await trio.sleep(0.5)
    return oldest


async def main() -> None:
    readings = tf.ticks(0.01).pipe(tf.take(1000))
    checked: list[float] = []
    async with tf.broadcast(readings, 2, capacity=1, overflow=["wait", "drop_oldest"]) as (whole, newest):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole.pipe, tf.for_each(checked.append))
            oldest = await newest.pipe(display())

        print(f"{len(checked)} checked, {newest.statistics().dropped} not shown, at most {oldest:.2f} s old when shown")


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

# Prints:
# 1000 checked, 97... not shown, at most 0.01 s old when shown
