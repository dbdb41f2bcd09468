"""Write your own transform as an async generator; the code after its loop is the flush.

Node: new Transform({ transform, flush }).
"""

from collections.abc import AsyncIterable, AsyncIterator

import trio

import trioflow as tf


@tf.transform
async def numbered(lines: AsyncIterable[str], start: int = 1) -> AsyncIterator[str]:
    count = 0
    async for line in lines:
        yield f"{start + count:3} {line}"
        count += 1
    yield f"{count} lines in all"


async def main() -> None:
    poem = ["Nothing runs\nuntil you\nawait it"]
    await tf.pipeline(poem, tf.lines(), numbered(start=10), tf.for_each(print))


trio.run(main)

# Prints:
#  10 Nothing runs
#  11 until you
#  12 await it
# 3 lines in all
