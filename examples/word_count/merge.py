"""Store all counts in a database, and at the end print the most common words.

    python merge.py DATABASE [REDIS_URL]

If a counter was killed, a file may be counted twice; both counts are written to the same row. If this program is killed
and started again, it continues where it was: counts are acknowledged once they are on disk.
"""

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from functools import partial
from typing import Any

import trio

import trioflow as tf
from trioflow import redis


def save(database: str, counts: list[dict[str, Any]]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = [(count["path"], json.dumps(count["words"])) for count in counts]
        connection.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", rows)


def totals(database: str) -> tuple[int, Counter[str]]:
    total: Counter[str] = Counter()
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT words FROM counts").fetchall()
    for (words,) in rows:
        total.update(json.loads(words))
    return len(rows), total


async def main(database: str, url: str = "redis://127.0.0.1:6379") -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS counts (path TEXT PRIMARY KEY, words TEXT)")
    await (
        redis.readable(url, "counts", group="mergers", prefetch=100, lease=3)
        .pipe(tf.batch(100, within=0.1))
        .pipe(tf.map_in_threads(lambda counts: save(database, counts), workers=1))
        .pipe(redis.acknowledge())
        .pipe(tf.drain())
    )
    files, total = totals(database)
    print(f"{total.total()} words in {files} files")
    for word, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]:
        print(f"{count:8} {word}")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
