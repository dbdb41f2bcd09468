"""A chat over TCP: every line goes to all clients; a client that does not read misses lines and delays nobody else.

Node: net.createServer() and a Set of sockets; you have to watch what piles up for a slow client.
"""

from functools import partial

import trio

import trioflow as tf


async def talk(room: tf.Hub[str], said: tf.queue[str], client: tf.Duplex[bytes, bytes]) -> None:
    name = ""
    try:
        async with trio.open_nursery() as nursery:
            hears = room.subscribe(capacity=100, overflow="drop_oldest").pipe(tf.encode(end="\n"))
            nursery.start_soon(hears.pipe, client.writable)
            async with client.readable.pipe(tf.lines(max_length=1000)).open() as lines:
                async for line in lines:
                    await said.send(f"{name}: {line}" if name else f"* {line} is here")
                    name = name or line
            nursery.cancel_scope.cancel()
    finally:
        said.offer(f"* {name} has left")


async def main() -> None:
    said = tf.queue[str](capacity=100)
    async with tf.hub(said) as room, trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, partial(talk, room, said), 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]

        async with (
            tf.connect_tcp("127.0.0.1", port) as ann,
            ann.writable.open() as say,
            ann.readable.pipe(tf.lines()).open() as heard,
        ):
            await say.send(b"Ann\n")
            print(await heard.receive())
            async with tf.connect_tcp("127.0.0.1", port) as bob:
                await tf.from_iterable(b"Bob\nHello!\n").pipe(bob.writable)
            for _ in range(3):
                print(await heard.receive())
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# * Ann is here
# * Bob is here
# Bob: Hello!
# * Bob has left
