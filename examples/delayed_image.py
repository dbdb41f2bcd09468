"""Send an image in delayed chunks: a browser shows it growing, a thousand bytes every ten milliseconds.

Node: for await (const chunk of readable) { res.write(chunk); await setTimeout(10); }, and handling "drain" as well.
"""

from collections.abc import AsyncIterable, AsyncIterator
from importlib.resources import files

import trio

import trioflow as tf
from trioflow import http

PICTURE = str(files("trioflow.demo") / "media" / "picture.webp")


@tf.transform
async def paused(chunks: AsyncIterable[bytes], seconds: float) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        await trio.sleep(seconds)


async def handler(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "image/webp"
    response.headers["access-control-allow-origin"] = "*"
    await tf.read_file(PICTURE, chunk_size=1000).pipe(paused(0.01)).pipe(response)


http.run(handler, port=8000)

# Prints:
# $ curl -s -o picture.webp -w '%{content_type}' http://127.0.0.1:8000/
# image/webp
# $ head -c 4 picture.webp
# RIFF
