"""Write your own sink and feed it from stdin: it prints each line, and its return value is that of the run.

Node: new Writable({ write }), process.stdin.pipe(writable).
"""

from collections.abc import AsyncIterable

import trio

import trioflow as tf


@tf.writable
async def show(lines: AsyncIterable[str]) -> int:
    shown = 0
    async for line in lines:
        print("got", repr(line))
        shown += 1
    return shown


async def main() -> None:
    print(await tf.stdin().pipe(tf.lines()).pipe(show()), "lines")


trio.run(main)

# Prints:
# $ printf 'beep\nboop\n' | python examples/show_stdin.py
# got 'beep'
# got 'boop'
# 2 lines
