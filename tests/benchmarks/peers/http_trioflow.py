"""Ours."""

import json
import math
import sys
from functools import partial
from pathlib import Path

import trio

import trioflow as tf
from trioflow import http

root = Path(sys.argv[1])
serve_file = http.files(root, listing=True)


async def handler(news: tf.Hub[bytes], request: http.Request, response: http.Response) -> None:
    match request.path:
        case "/upload":
            size = await request.body.pipe(tf.write_file(root / "upload.bin"))
            await response.send(str(size).encode())
        case "/gzip":
            response.headers["content-type"] = "text/plain; charset=utf-8"
            response.headers["content-encoding"] = "gzip"
            await tf.read_file(root / "file.txt").pipe(tf.gzip(level=6)).pipe(response)
        case "/chain":
            source = tf.read_file(root / "file.bin")
            await source.pipe(tf.map(same)).pipe(tf.map(same)).pipe(tf.map(same)).pipe(response)
        case "/feed":
            response.headers["content-type"] = "text/event-stream"
            response.headers["cache-control"] = "no-store"
            await news.subscribe(capacity=16, overflow="drop_oldest").pipe(response)
        case _:
            await serve_file(request, response)


def same(chunk: bytes) -> bytes:
    return chunk


async def main() -> None:
    limits = http.Limits(body_size=math.inf, connections=math.inf, per_client=math.inf)
    ticks = tf.ticks(0.25).pipe(tf.enumerate()).pipe(tf.map(lambda pair: f"tick {pair[0]}"))
    async with tf.hub(ticks.pipe(http.events())) as news, trio.open_nursery() as nursery:
        serve = partial(http.serve, partial(handler, news), port=0, limits=limits)
        (url,) = await nursery.start(serve)
        print(json.dumps({"port": int(url.rpartition(":")[2])}), flush=True)


trio.run(main)
