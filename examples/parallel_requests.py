"""Parallel requests with a bound: at most three at once, with the answers in the order of the questions.

Node: readable.map(fn, { concurrency: 3 }).
"""

from functools import partial

import trio

import trioflow as tf
from trioflow import http

at_once: set[str] = set()


async def slow(request: http.Request, response: http.Response) -> None:
    at_once.add(request.path)
    assert len(at_once) <= 3
    await trio.sleep(0.01)
    at_once.remove(request.path)
    await response.send(request.path.encode())


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, slow, port=0))

        async def fetch(path: str) -> str:
            question = tf.from_iterable(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = await question.pipe(tf.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))).pipe(tf.join())
            return answer.decode().splitlines()[-1]

        print(await tf.pipeline([f"/{n}" for n in range(9)], tf.map_async(fetch, concurrency=3), tf.join()))
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# /0/1/2/3/4/5/6/7/8
