"""Write a file piece by piece: it appears under its name when you leave the block, whole or not at all.

Node: writable.write(x) ... writable.end(), and waiting for "drain" in between.
"""

from pathlib import Path

import trio

import trioflow as tf


async def main() -> None:
    async with tf.write_file("beep.txt").open() as send:
        await send.send(b"beep ")
        await send.send(b"boop\n")
        print("there already:", await trio.Path("beep.txt").exists())
    print(await trio.Path("beep.txt").read_text(), end="")


Path("beep.txt").unlink(missing_ok=True)
trio.run(main)

# Prints:
# there already: False
# beep boop
