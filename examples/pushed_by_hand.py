"""Push items into a stream by hand, then end it.

Node: readable.push(x) ... readable.push(null).
"""

import trio

import trioflow as tf


async def main() -> None:
    send, receive = tf.open_channel[str](capacity=2)

    async def push() -> None:
        with send:
            for word in ["beep ", "boop", "\n"]:
                await send.send(word)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await tf.from_iterable(receive).pipe(tf.for_each(lambda word: print(word, end="")))


trio.run(main)

# Prints:
# beep boop
