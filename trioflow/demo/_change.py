"""Typed lines and dropped files go through a transform and come back while they are sent.

Rule 1: a browser reads no answer before its whole request is sent. So the page sends each piece in a request of its
    own, and a channel joins the pieces into the answer that the page reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import Refused, text_in, word_in
from trioflow.demo._visits import visit_of


async def shout(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/plain; charset=utf-8"
    await request.body.pipe(as_lines).pipe(upper).pipe(response)


async def changed(request: http.Request, response: http.Response) -> None:
    change = CHANGES[word_in(request, "how", CHANGES)]
    visit = visit_of(request)
    visit.pieces, pieces = tf.open_channel[bytes](capacity=64)
    response.headers["content-type"] = "application/octet-stream"
    await response.start()
    await tf.from_iterable(pieces).pipe(change).pipe(response)


async def piece(request: http.Request, response: http.Response) -> None:
    pieces = visit_of(request).pieces
    if pieces is None:
        raise Refused("nothing reads these pieces; request /changed first", 409)
    try:
        await request.body.pipe(tf.for_each(pieces.send))
        if text_in(request, "last"):
            pieces.close()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Refused("these pieces are no longer read", 409) from None


@tf.transform
async def numbered(lines: AsyncIterable[str]) -> AsyncIterator[str]:
    count = 0
    async for line in lines:
        yield f"{(count := count + 1):5}  {line}"


def not_text(failure: Exception) -> list[str]:
    return ["(this is not UTF-8 text; try gzip, which takes any bytes)"]


upper: Final = tf.map(str.upper).pipe(tf.encode(end="\n"))
as_lines: Final = tf.lines().pipe(tf.recover(not_text, on=UnicodeDecodeError))
CHANGES: Final[dict[str, tf.Transform[bytes, bytes]]] = {
    "upper": as_lines.pipe(upper),
    "numbers": as_lines.pipe(numbered()).pipe(tf.encode(end="\n")),
    "gzip": tf.gzip(),
}
