"""Calls of a function that computes, in two processes, in threads, or here: `calls.py HOW COUNT MICROSECONDS`.

Starting processes is not measured: each way first makes a call in each of them, which sleeps so that both are needed.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import trio

import trioflow as tf

WORKERS = 2


def loops(count: int, item: int) -> int:
    """Compute for a while; the sum is the count of loops and the item."""
    if item < 0:
        time.sleep(0.3)
        return item
    for _ in range(count):
        item += 1
    return item


def loops_in(seconds: float) -> int:
    """Return how many loops take this long at best."""
    best = min(_timed(partial(loops, 20_000, 0)) for _ in range(20))
    return max(1, round(20_000 * seconds / best))


def _timed(call: partial[int]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def plain(fn: partial[int], count: int) -> list[float]:
    return _summed(lambda: map(fn, range(count)))


def futures(fn: partial[int], count: int, chunk: int = 1) -> list[float]:
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(fn, [-1] * WORKERS))
        return _summed(lambda: pool.map(fn, range(count), chunksize=chunk))


def _summed(call: Callable[[], Iterator[int]]) -> list[float]:
    began = time.perf_counter()
    total = sum(call())
    return [time.perf_counter() - began, total]


async def flowing(stage: tf.Transform[int, int], count: int) -> list[float]:
    is_warm = trio.Event()

    async def items(output: tf.SendChannel[int]) -> None:
        await output.send_many([-1] * WORKERS)
        await is_warm.wait()
        for at in range(0, count, 256):
            await output.send_many(range(at, min(at + 256, count)))

    async with tf.Readable(items).pipe(stage).open() as results:
        for _ in range(WORKERS):
            await results.receive()
        is_warm.set()
        began, total = time.perf_counter(), 0
        async for batch in results.batches():
            total += sum(batch)
        return [time.perf_counter() - began, total]


def ours(fn: partial[int], count: int) -> list[float]:
    return trio.run(flowing, tf.map_in_processes(fn, workers=WORKERS), count)


def threads(fn: partial[int], count: int) -> list[float]:
    return trio.run(flowing, tf.map_in_threads(fn, workers=WORKERS), count)


WAYS = {
    "ours": ours,
    "threads": threads,
    "plain": plain,
    "futures": futures,
    "chunked": partial(futures, chunk=64),
}


def main() -> None:
    how, count, microseconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    turns = loops_in(microseconds / 1e6)
    before = os.times()
    wall, total = WAYS[how](partial(loops, turns), count)
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print(json.dumps({"result": total == sum(range(count)) + count * turns, "count": count, "wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
