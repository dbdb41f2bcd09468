"""A subprocess in the middle of a pipeline: it reads the items, and its output goes on.

Node: a.pipe(child.stdin); child.stdout.pipe(b), of child_process.spawn().
"""

import trio

import trioflow as tf


async def main() -> None:
    words = await tf.pipeline(
        ["pear\n", "apple\n", "fig\n"],
        tf.encode(),
        tf.process(["sort"]),
        tf.lines(),
        tf.collect(),
    )
    print(words)


trio.run(main)

# Prints:
# ['apple', 'fig', 'pear']
