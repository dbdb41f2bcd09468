"""Fifty downloads, eight at once: each is a run of its own, including its file, and is retried when it fails.

Node: readable.map(fn, { concurrency: 8 }); retries are a package.
"""

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import stamina
import trio

import trioflow as tf
from trioflow import http

asked: Counter[str] = Counter()
at_once: set[str] = set()


async def busy(request: http.Request, response: http.Response) -> None:
    asked[request.path] += 1
    at_once.add(request.path)
    assert len(at_once) <= 8
    if asked[request.path] < 3 and request.path.endswith("7"):
        response.status = 503
    await trio.sleep(0.001)
    at_once.remove(request.path)
    await response.send(request.path.encode() * 1000)


@tf.readable
async def body(client: httpx.AsyncClient, path: str) -> AsyncIterator[bytes]:
    async with client.stream("GET", path) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            yield chunk


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, busy, port=0))
        async with httpx.AsyncClient(base_url=url) as client:

            @stamina.retry(on=httpx.HTTPError, attempts=4, wait_initial=0.01)
            async def download(number: int) -> int:
                return await body(client, f"/{number}").pipe(tf.write_file(f"copies/{number}"))

            sizes = await tf.from_iterable(range(50)).pipe(tf.map_async(download, concurrency=8)).pipe(tf.collect())
        nursery.cancel_scope.cancel()
    print(len(sizes), "files,", sum(sizes), "bytes,", asked.total(), "requests")


stamina.instrumentation.set_on_retry_hooks([])  # by default each retry is logged
Path("copies").mkdir(exist_ok=True)
trio.run(main)

# Prints:
# 50 files, 140000 bytes, 60 requests
