"""Upload files under their SHA-256: what the server has is not sent again, and damaged content is not kept.

Node: crypto.createHash("sha256") as a stream, fetch(), and fs.rename() by hand.
"""

import hashlib
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import trio

import trioflow as tf
from trioflow import http

DIRECTORY = Path(tempfile.mkdtemp())


@tf.transform
async def checked(chunks: AsyncIterable[bytes], sha256: str) -> AsyncIterator[bytes]:
    seen = hashlib.sha256()
    async for chunk in chunks:
        seen.update(chunk)
        yield chunk
    if seen.hexdigest() != sha256:
        raise ValueError("the content does not match its name")  # so write_file keeps nothing


async def store(request: http.Request, response: http.Response) -> None:
    name = request.path[1:]
    if not re.fullmatch("[0-9a-f]{64}", name):
        response.status = 404
    elif request.method == "PUT":
        try:
            await request.body.pipe(checked(name)).pipe(tf.write_file(DIRECTORY / name))
            response.status = 201
        except ValueError:
            response.status = 422
    elif not await trio.Path(DIRECTORY / name).exists():
        response.status = 404


async def upload(client: httpx.AsyncClient, path: str) -> str:
    sha256 = tf.digest()
    size = await tf.read_file(path).pipe(sha256).pipe(tf.reduce(lambda size, chunk: size + len(chunk), 0))
    name = sha256.hexdigest()
    if (await client.head(name)).is_success:
        return f"{path}: there already"
    async with tf.read_file(path).open() as chunks:
        (await client.put(name, content=chunks)).raise_for_status()
    return f"{path}: {size:,} bytes sent"


async def main() -> None:
    await tf.from_iterable(b"la" * 100_000).pipe(tf.write_file("song.txt"))
    await tf.from_iterable(b"la" * 100_000).pipe(tf.write_file("copy.txt"))
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, store, port=0))
        async with httpx.AsyncClient(base_url=url) as client:
            print(await upload(client, "song.txt"))
            print(await upload(client, "copy.txt"))
            print("damaged:", (await client.put("0" * 64, content=b"something else")).status_code)
        nursery.cancel_scope.cancel()


trio.run(main)
print(len(list(DIRECTORY.iterdir())), "file kept")

# Prints:
# song.txt: 200,000 bytes sent
# copy.txt: there already
# damaged: 422
# 1 file kept
