"""Download over an unreliable line: each attempt resumes where the last broke off; the file appears when complete.

Node: none; fetch() with a Range header, and fs.rename(), by hand.
"""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import trio

import trioflow as tf
from trioflow import http

SONG = bytes(range(256)) * 4000


def download(client: httpx.AsyncClient, url: str) -> tf.Readable[bytes]:
    etag = ""  # identifies the version of the file that the first response came from

    @tf.readable
    async def part(delivered: tf.Delivered) -> AsyncIterator[bytes]:
        nonlocal etag
        start = delivered.bytes
        headers = {"Accept-Encoding": "identity"}  # offsets in a compressed response are not offsets in the file
        if start:
            if not etag.startswith('"'):
                raise ValueError("the server sent no strong ETag: the rest could be of another version of the file")
            headers |= {"Range": f"bytes={start}-", "If-Range": etag}
        async with client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            if not start:
                etag = response.headers.get("etag", "")
            elif not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
                raise ValueError("the file has changed, or the server serves no ranges")
            async for chunk in response.aiter_raw():
                yield chunk

    return tf.retry(part, initial=0.01, on=httpx.TransportError, tell=show)


def show(restart: tf.Restart) -> None:
    print("broke off. Is there a file?", Path("copy.bin").exists())


@tf.transform
async def cut_off(chunks: AsyncIterable[bytes], size: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


async def main() -> None:
    await trio.Path("site").mkdir(exist_ok=True)
    await tf.from_iterable(SONG).pipe(tf.write_file("site/song.bin"))
    await trio.Path("copy.bin").unlink(missing_ok=True)
    async with trio.open_nursery() as nursery, httpx.AsyncClient() as client:
        [address] = await nursery.start(partial(http.serve, http.files("site"), port=0))

        async def bad_line(connection: tf.Duplex[bytes, bytes]) -> None:
            server = tf.connect_tcp("127.0.0.1", httpx.URL(address).port or 80)
            await connection.readable.pipe(server).pipe(cut_off(size=400_000)).pipe(connection.writable)

        [listener] = await nursery.start(partial(tf.serve_tcp, bad_line, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        written = await download(client, f"http://127.0.0.1:{port}/song.bin").pipe(tf.write_file("copy.bin"))
        nursery.cancel_scope.cancel()
    print(f"{written:,} bytes written. The same?", await tf.read_file("copy.bin").pipe(tf.join()) == SONG)


trio.run(main)

# Prints:
# broke off. Is there a file? False
# broke off. Is there a file? False
# 1,024,000 bytes written. The same? True
