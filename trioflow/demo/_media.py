"""Media that arrives in parts: a picture in delayed chunks, and files that a browser requests in ranges."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import number_in
from trioflow.demo._visits import visit_of

_FOLDER: Final = Path(__file__).parent / "media"
PICTURE: Final = _FOLDER / "picture.webp"
files: Final = http.files(_FOLDER, prefix="/media")


async def picture(request: http.Request, response: http.Response) -> None:
    size = number_in(request, "size", 1000, low=100, high=65536)
    pause = number_in(request, "pause", 10, low=0, high=200) / 1000
    sent = visit_of(request).picture = {"chunks": 0, "bytes": 0}

    def count(chunk: bytes) -> None:
        sent["chunks"] += 1
        sent["bytes"] += len(chunk)

    response.headers["content-type"] = "image/webp"
    response.headers["access-control-allow-origin"] = "*"
    chunks = tf.read_file(PICTURE).pipe(tf.rechunk(size)).pipe(paused(pause))
    await chunks.pipe(tf.tap(count)).pipe(response)


@tf.transform
async def paused(chunks: AsyncIterable[bytes], seconds: float) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        await trio.sleep(seconds)


async def media(request: http.Request, response: http.Response) -> None:
    asked = request.headers.get("range", "all of it")
    note = {"file": request.path, "asked": asked, "sent": "being sent"}
    visit_of(request).ranges.append(note)
    response.headers["cache-control"] = "no-store"  # so that each range is requested from the server
    try:
        await files(request, response)  # HEAD, Range, If-Range and all the others
    finally:
        note["sent"] = f"{response.status} {response.headers.get('content-range', '')}"
