"""Copy a file with pipe: nothing runs until the await, which returns the number of bytes written.

Node: fs.createReadStream(a).pipe(fs.createWriteStream(b)).
"""

from pathlib import Path

import trio

import trioflow as tf


async def main() -> None:
    written = await tf.read_file("song.txt").pipe(tf.write_file("copy.txt"))
    print(written, "bytes")


Path("song.txt").write_text("la la la\n" * 100_000)
trio.run(main)

# Prints:
# 900000 bytes
