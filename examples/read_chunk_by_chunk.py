"""Read a file chunk by chunk: each chunk is read when you ask for it, and what you leave unread costs nothing.

Node: readable.on("data", fn), pause(), resume(), on("end", fn); or for await (const chunk of readable).
"""

from pathlib import Path

import trio

import trioflow as tf


async def main() -> None:
    async with tf.read_file("ten.txt", chunk_size=4).open() as chunks:
        async for chunk in chunks:
            print(chunk)
    print("end")


Path("ten.txt").write_text("0123456789")
trio.run(main)

# Prints:
# b'0123'
# b'4567'
# b'89'
# end
