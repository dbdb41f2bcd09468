"""Ours."""

import json
import math
import sys
from pathlib import Path

import trio

import trioflow as tf
from trioflow import http

root = Path(sys.argv[1])
serve_file = http.files(root)


async def handler(request: http.Request, response: http.Response) -> None:
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
        case _:
            await serve_file(request, response)


def same(chunk: bytes) -> bytes:
    return chunk


async def main() -> None:
    limits = http.Limits(body_size=math.inf, connections=math.inf, per_client=math.inf)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(
            lambda task_status: http.serve(handler, port=0, limits=limits, task_status=task_status)
        )
        print(json.dumps({"port": int(url.rpartition(":")[2])}), flush=True)


trio.run(main)
