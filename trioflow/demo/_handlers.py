"""The demo's handlers, each shown on the page beside what it does.

Rule 1: a handler is what a user would write: the public names and nothing else.
Rule 2: the page shows the source that runs, asked for at `/source`.
Rule 3: to add one, write it, give it a path in `_ROUTES`, and a section in page/index.html.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._memory import resident

_PAGE: Final = Path(__file__).parent / "page"
_POLICY: Final = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

MEGABYTES: Final = 96
reader = {"per_second": 10.0}  # how fast the slow one is: the page sets it
progress: dict[str, object] = {}  # of the upload at hand: the page draws it


@tf.readable
async def rows(megabytes: int) -> AsyncIterator[bytes]:
    for number in range(megabytes * 16):
        yield b"%015d\n" % number * 4096  # 64 KiB


async def whole(request: http.Request, response: http.Response) -> None:
    everything = await rows(MEGABYTES).pipe(tf.join())
    await response.send(everything)


async def piped(request: http.Request, response: http.Response) -> None:
    await rows(MEGABYTES).pipe(response)


@tf.readable
async def ticking(per_second: float) -> AsyncIterator[int]:
    number = 0
    while True:
        yield (number := number + 1)
        await trio.sleep(1 / per_second)


async def slow_reader(request: http.Request, response: http.Response) -> None:
    async with ticking(50).open(capacity=64) as numbers, response.open() as body:
        async for number in numbers:
            seen = numbers.statistics()
            await body.send(as_line({"sent": seen.items, "held": seen.used, "taken": number}))
            await trio.sleep(1 / reader["per_second"])


async def pace(request: http.Request, response: http.Response) -> None:
    reader["per_second"] = number_in(request, "per_second", 10)


async def upload(request: http.Request, response: http.Response) -> None:
    digest, size = hashlib.sha256(), 0
    async with request.body.open() as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            progress.update(bytes=size, sha256=digest.hexdigest())
    await response.send(as_line({"bytes": size, "sha256": digest.hexdigest()}))


@tf.transform
async def one_at_a_time(lines: AsyncIterable[str], pause: float) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        await trio.sleep(pause)


async def shout(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/plain; charset=utf-8"
    await (
        request.body.pipe(tf.lines())
        .pipe(tf.map(str.upper))
        .pipe(one_at_a_time(pause=0.2))
        .pipe(tf.encode(end="\n"))
        .pipe(response)
    )


@tf.readable
async def beats(every: float) -> AsyncIterator[dict[str, object]]:
    while True:
        yield {"memory": resident(), "upload": progress}
        await trio.sleep(every)


async def pulse(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "application/x-ndjson"
    await beats(0.1).pipe(tf.map(as_line)).pipe(response)


def as_line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def number_in(request: http.Request, name: str, default: float) -> float:
    """Give a number from the query, between 1 and 1000."""
    try:
        return min(1000.0, max(1.0, float(parse_qs(request.query)[name][0])))
    except (KeyError, ValueError):
        return default


@functools.cache
def sources() -> dict[str, str]:
    """Give the source of each function here, by its name."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    functions = [node for node in ast.parse("".join(lines)).body if isinstance(node, ast.AsyncFunctionDef)]
    return {
        each.name: "".join(lines[min([each.lineno, *(d.lineno for d in each.decorator_list)]) - 1 : each.end_lineno])
        for each in functions
    }


async def source(request: http.Request, response: http.Response) -> None:
    """Give the source of what each `of=` in the query names."""
    wanted = parse_qs(request.query).get("of", [])
    response.headers["content-type"] = "text/plain; charset=utf-8"
    if not wanted or not sources().keys() >= set(wanted):
        response.status = 404
        await response.send(b"there is no such handler\n")
        return
    await response.send("\n\n".join(sources()[name] for name in wanted).encode())


_ROUTES: Final[dict[str, http.Handler]] = {
    "/whole": whole,
    "/piped": piped,
    "/slow-reader": slow_reader,
    "/pace": pace,
    "/upload": upload,
    "/shout": shout,
    "/pulse": pulse,
    "/source": source,
}


def handler() -> http.Handler:
    """Make the demo's handler, to be served."""
    page = http.files(_PAGE)

    async def demo(request: http.Request, response: http.Response) -> None:
        response.headers["cache-control"] = "no-cache"
        response.headers["content-security-policy"] = _POLICY
        await _ROUTES.get(request.path, page)(request, response)

    return demo
