"""Messages over TCP, each JSON behind its length: where the network cuts the bytes does not matter."""

import json
from functools import partial
from typing import Any

import trio
import trio.lowlevel

import trioflow as tf


def packed(message: Any) -> bytes:
    return json.dumps(message).encode()


async def answer(question: dict[str, int]) -> dict[str, int]:
    await trio.lowlevel.checkpoint()  # here a program would ask its database
    return {"sum": sum(question.values())}


async def serve(client: tf.Duplex[bytes, bytes]) -> None:
    await (
        client.pipe(tf.parse_length_prefixed(max_length=4096))
        .pipe(tf.map(json.loads))
        .pipe(tf.map(answer))
        .pipe(tf.map(packed))
        .pipe(tf.length_prefixed())
        .pipe(client.writable)
    )


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]

        questions = [{"a": 1, "b": 2}, {"a": 20, "b": 22}]
        await (
            tf.from_iterable(questions)
            .pipe(tf.map(packed))
            .pipe(tf.length_prefixed())
            .pipe(tf.connect_tcp("127.0.0.1", port))
            .pipe(tf.parse_length_prefixed())
            .pipe(tf.for_each(lambda message: print(message.decode())))
        )
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# {"sum": 3}
# {"sum": 42}
