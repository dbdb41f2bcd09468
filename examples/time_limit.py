"""A time limit around a run: it ends at once, even in a sleep, and everything is closed.

Node: pipeline(a, b, { signal: AbortSignal.timeout(500) }).
"""

from collections.abc import AsyncIterator

import trio

import trioflow as tf


@tf.readable
async def quiet() -> AsyncIterator[str]:
    try:
        yield "one word"
        await trio.sleep_forever()
    finally:
        print("closed")


async def main() -> None:
    with trio.move_on_after(0.5) as limit:
        await quiet().pipe(tf.for_each(print))
    print("given up:", limit.cancelled_caught)


trio.run(main)

# Prints:
# one word
# closed
# given up: True
