"""Follow a log while it is being written, and show a live top ten of its pages, at most ten times a second.

Node: fs.watch() and readline; nothing for the sampling.
"""

from collections import Counter
from pathlib import Path

import trio

import trioflow as tf

LINES = 2_000


def request(number: int) -> str:
    page = number**2 % 19  # some are requested far more often than others
    return f"127.0.0.1 GET /page/{page} 200"


async def write_log() -> None:
    await (
        tf.from_iterable(range(LINES))
        .pipe(tf.throttle(4_000, burst=500))
        .pipe(tf.map(request))
        .pipe(tf.encode(end="\n"))
        .pipe(tf.write_file("access.log", append=True))
    )


def counted(pages: Counter[str], page: str) -> Counter[str]:
    pages[page] += 1
    return pages


def show(pages: Counter[str]) -> None:
    print(f"after {pages.total()} requests:", *(f"{page} {count}" for page, count in pages.most_common(10)), sep="\n  ")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_log)
        await (
            tf.read_file("access.log", follow=True, interval=0.05)
            .pipe(tf.lines())
            .pipe(tf.map(lambda line: line.split()[2]))
            .pipe(tf.take(LINES))
            .pipe(tf.scan(counted, Counter[str]()))
            .pipe(tf.sample(0.1))
            .pipe(tf.for_each(show))
        )


Path("access.log").write_text("")
trio.run(main)

# Prints:
# ...after 2000 requests:
#   /page/1 211
#   /page/4 211
#   /page/9 211
#   /page/16 211
#   /page/6 210
#   /page/17 210
#   /page/11 210
#   /page/7 210
#   /page/5 210
#   /page/0 106
