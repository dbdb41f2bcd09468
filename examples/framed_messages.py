"""Messages over TCP, each a JSON value after its length: it does not matter where the network splits the bytes.

Node: none; buffer.readUInt32BE() and counting by hand.
"""

import json
from functools import partial

import trio

import trioflow as tf


def answer(question: bytes) -> bytes:
    return json.dumps({"sum": sum(json.loads(question))}).encode()


async def serve(client: tf.Duplex[bytes, bytes]) -> None:
    questions = client.pipe(tf.parse_length_prefixed(max_length=4096))
    await questions.pipe(tf.map(answer)).pipe(tf.length_prefixed()).pipe(client.writable)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]

        questions = tf.from_iterable([b"[1, 2]", b"[20, 22]"]).pipe(tf.length_prefixed())
        answers = questions.pipe(tf.connect_tcp("127.0.0.1", port)).pipe(tf.parse_length_prefixed())
        await answers.pipe(tf.for_each(print))
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# b'{"sum": 3}'
# b'{"sum": 42}'
