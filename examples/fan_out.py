"""Write one source to two files, one of them compressed: it is read once, at the pace of the slower one.

Node: readable.pipe(a); readable.pipe(b).
"""

import trio

import trioflow as tf


async def main() -> None:
    song = tf.from_iterable([b"la la la\n"] * 100_000)
    async with tf.broadcast(song, 2) as (plain, packed), trio.open_nursery() as nursery:
        nursery.start_soon(plain.pipe, tf.write_file("song.txt"))
        nursery.start_soon(packed.pipe(tf.gzip()).pipe, tf.write_file("song.txt.gz"))

    again = await tf.read_file("song.txt.gz").pipe(tf.gunzip()).pipe(tf.join())
    print(len(again), "bytes, the same in both:", again == await trio.Path("song.txt").read_bytes())


trio.run(main)

# Prints:
# 900000 bytes, the same in both: True
