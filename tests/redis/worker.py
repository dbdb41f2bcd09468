"""A worker process for tests to kill and stop: it processes entries of `jobs` and notes what it does.

    python -m tests.redis.worker URL NOTES SECONDS LEASE [NAME]

Each line of NOTES is `begun` or `done`, the process id and the item. `"poison"` kills the process. Each result, the
item itself, goes to the stream `results`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

import trioflow as tf
from trioflow import redis


async def main(url: str, notes: str, seconds: str, lease: str, receiver: str | None = None) -> None:
    # Opened to append, so that lines of several writers stay whole.
    with Path(notes).open("a", buffering=1) as book:  # noqa: ASYNC230 - a few bytes

        async def work(item: object) -> object:
            book.write(f"begun {os.getpid()} {item}\n")
            if item == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            await trio.sleep(float(seconds))
            book.write(f"done {os.getpid()} {item}\n")
            return item

        jobs = redis.readable(url, "jobs", group="g", receiver=receiver, prefetch=4, lease=float(lease), tries=3)
        results = redis.writable(url, "results", capacity=100_000, lease=float(lease))
        await jobs.pipe(tf.map_async(work, concurrency=2)).pipe(results)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
