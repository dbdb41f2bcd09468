"""Compress a file while copying it, and read it back.

Node: pipeline(fs.createReadStream(a), zlib.createGzip(), fs.createWriteStream(b)).
"""

import trio

import trioflow as tf


async def main() -> None:
    await tf.pipeline([b"GET / 200\n"] * 10_000, tf.write_file("a.log"))

    written = await tf.pipeline(tf.read_file("a.log"), tf.gzip(), tf.write_file("a.log.gz"))
    lines = await tf.pipeline(tf.read_file("a.log.gz"), tf.gunzip(), tf.lines(), tf.count())

    print(lines, "lines, compressed to under 1 percent:", written < 1_000)


trio.run(main)

# Prints:
# 10000 lines, compressed to under 1 percent: True
