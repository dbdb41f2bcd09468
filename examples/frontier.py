"""A frontier fed by its own results: each page names others, three are read at once, and the last one ends the run.

Node: none; a PassThrough, and counting by hand what is still open
"""

import math

import trio

import trioflow as tf

LINKS = {"/": ["/a", "/b"], "/a": ["/", "/b"], "/b": []}


async def read(path: str) -> tuple[str, list[str]]:
    await trio.sleep(0.01)  # your HTTP client
    return path, LINKS[path]


async def main() -> None:
    frontier = tf.queue[str](math.inf)  # if it were bounded, it could wait for itself
    frontier.offer("/")
    seen = {"/"}
    pages = frontier.pipe(tf.map_async(read, concurrency=3)).pipe(tf.enumerate(1))
    async with pages.open() as receive:
        async for done, (path, links) in receive:
            print(path)
            for link in sorted(set(links) - seen):
                seen.add(link)
                frontier.offer(link)
            if done == len(seen):
                break


trio.run(main)

# Prints:
# /
# /a
# /b
