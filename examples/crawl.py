"""Crawl a site: four requests at once, busy pages are retried, and what still fails goes to a file of its own.

Node: readable.map(fn, { concurrency: 4 }); retries and a file of failures are packages.
"""

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import trio

import trioflow as tf
from trioflow import http

SITE = {
    "/": 'Welcome: <a href="/songs">songs</a>, <a href="/about">about us</a>',
    "/about": 'Back <a href="/">home</a>',
    "/songs": '<a href="/songs/1">One</a>, <a href="/songs/2">two</a>, <a href="/songs/lost">the lost one</a>',
    "/songs/1": "La la la",
    "/songs/2": 'Like <a href="/songs/1">one</a>, but louder',
}
asked: set[str] = set()


class Busy(OSError):
    """The page may be there if we ask again."""


async def serve_site(request: http.Request, response: http.Response) -> None:
    response.status = 200 if request.path in SITE else 404
    if request.path == "/songs" and request.path not in asked:
        response.status = 503  # busy at first
    asked.add(request.path)
    await response.send(SITE.get(request.path, "").encode())


@tf.readable
async def page(path: str, port: int) -> AsyncIterator[str]:
    request = f"GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n".encode()
    answer = await tf.from_iterable(request).pipe(tf.connect_tcp("127.0.0.1", port)).pipe(tf.join())
    head, _, body = answer.decode().partition("\r\n\r\n")
    if " 200 " not in head:
        raise (Busy if " 503 " in head else OSError)(head.splitlines()[0])
    yield body


async def crawl(port: int) -> None:
    async def fetch(path: str) -> tuple[str, str]:
        return path, await tf.retry(page(path, port), attempts=3, initial=0.01, on=Busy).pipe(tf.first())

    def failure(failed: tuple[str, Exception]) -> str:
        return f"{failed[0]}: {failed[1]}"

    seen = new = {"/"}
    while new:
        dead_letters = tf.map(failure).pipe(tf.encode(end="\n")).pipe(tf.write_file("dead.txt", append=True))
        pages = await (
            tf.from_iterable(sorted(new))
            .pipe(tf.on_item_error(tf.map_async(fetch, concurrency=4), dead_letters, on=OSError))
            .pipe(tf.tap(lambda page: print(f"{page[0]:9} {len(page[1])} characters")))
            .pipe(tf.collect())
        )
        new = {link for _, text in pages for link in re.findall('href="(.*?)"', text)} - seen
        seen = seen | new


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, serve_site, port=0))
        await crawl(port=int(url.rpartition(":")[2]))
        nursery.cancel_scope.cancel()
    await tf.read_file("dead.txt").pipe(tf.lines()).pipe(tf.for_each(print))


Path("dead.txt").unlink(missing_ok=True)
trio.run(main)

# Prints:
# /         66 characters
# /about    25 characters
# /songs    94 characters
# /songs/1  8 characters
# /songs/2  43 characters
# /songs/lost: HTTP/1.1 404 Not Found
