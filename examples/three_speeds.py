"""Server-sent events at three speeds: every reading, ten a second, or the mean of each window, as the client chooses.

Node: an EventEmitter and res.write(); sampling, windows and slow clients are your own code.
"""

from functools import partial

import trio

import trioflow as tf
from trioflow import http


def mean(readings: list[int]) -> str:
    return f"mean of {len(readings)}: {sum(readings) / len(readings):.1f}"


async def handler(feed: tf.Hub[int], request: http.Request, response: http.Response) -> None:
    readings = feed.subscribe(capacity=16, overflow="drop_oldest")  # a slow client misses some and delays nobody else
    match request.path:
        case "/all":
            texts = readings.pipe(tf.map(str))
        case "/sampled":
            texts = readings.pipe(tf.sample(0.1)).pipe(tf.map(str))
        case "/mean":
            texts = readings.pipe(tf.window_time(0.2)).pipe(tf.map(mean))
        case _:
            response.status = 404
            return
    response.headers["content-type"] = "text/event-stream"
    response.headers["cache-control"] = "no-store"
    await texts.pipe(http.events()).pipe(response)


async def main() -> None:
    readings = tf.ticks(0.01).pipe(tf.enumerate()).pipe(tf.map(lambda pair: pair[0]))
    async with tf.hub(readings) as feed:
        print("http://127.0.0.1:8000/")
        await http.serve(partial(handler, feed), port=8000)


trio.run(main)

# Prints:
# $ curl -sN http://127.0.0.1:8000/all | grep data -m 2
# data: ...
# data: ...
# $ curl -sN http://127.0.0.1:8000/sampled | grep data -m 2
# data: ...
# data: ...
# $ curl -sN http://127.0.0.1:8000/mean | grep data -m 1
# data: mean of ...: ...
