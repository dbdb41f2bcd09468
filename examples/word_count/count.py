"""Count words, one file at a time; start as many of these programs as you like.

    python count.py [REDIS_URL]

A path is acknowledged once its counts are stored. If this program is killed, another takes over its files after three
seconds.
"""

import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import trio

import trioflow as tf
from trioflow import redis


def words_of(path: str) -> dict[str, object]:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return {"path": path, "words": Counter(re.findall(r"\w+", text.lower()))}


async def main(url: str = "redis://127.0.0.1:6379") -> None:
    files = redis.readable(url, "files", group="counters", prefetch=4, lease=3)
    counted = await files.pipe(tf.map_in_threads(words_of)).pipe(redis.writable(url, "counts", lease=3))
    print(f"{counted} files counted here")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
