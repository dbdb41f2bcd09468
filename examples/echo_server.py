"""A TCP echo server, each connection a Duplex: what a client writes goes through a transform and back to it.

Node: a.pipe(b).pipe(a).
"""

from functools import partial

import trio

import trioflow as tf


async def echo(client: tf.Duplex[bytes, bytes]) -> None:
    await client.pipe(tf.map(bytes.upper)).pipe(client.writable)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]

        print(await tf.from_iterable([b"hello ", b"echo"]).pipe(tf.connect_tcp("127.0.0.1", port)).pipe(tf.join()))
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# b'HELLO ECHO'
