"""The types of trioflow.http, as type checkers see them; nothing here runs."""

from __future__ import annotations

from typing import Any, assert_type

import trioflow as tf
from trioflow import http


async def events(feed: tf.Readable[str], mixed: tf.Readable[http.Event], response: http.Response) -> None:
    assert_type(feed.pipe(http.events()), tf.Readable[bytes])
    assert_type(mixed.pipe(http.events(keep_alive=5)), tf.Readable[bytes])
    assert_type(await feed.pipe(tf.map(lambda text: http.Event(text))).pipe(http.events()).pipe(response), int)
    tf.from_iterable([1]).pipe(http.events())  # type: ignore[arg-type]


async def forms(request: http.Request, response: http.Response) -> None:
    assert_type(http.last_event_id(request), str | None)
    assert_type(http.form(request), tf.Readable[http.Part])
    assert_type(await http.form(request).pipe(tf.map(lambda part: part.value)).pipe(tf.collect()), list[str])
    async with http.form(request).open() as parts:
        async for part in parts:
            assert_type(part.filename, str | None)
            assert_type(await part.body.pipe(tf.count()), int)
    assert_type(await http.decoded(request).pipe(response), int)


async def beside(request: http.Request, response: http.Response) -> None:
    await response.inform(103, {"link": "</a>"})
    response.trailers["x"] = "y"
    connection = await response.upgrade("echo")
    assert_type(connection, tf.Duplex[bytes, bytes])
    assert_type(await connection.readable.pipe(connection.writable), object)
    assert_type(request.client, Any)
    assert_type(request.scheme, str)


async def serving(handler: http.Handler) -> None:
    def log(access: http.Access) -> None:
        assert_type(access.as_line(), str)

    await http.serve(handler, unix="a", log=log, counters=http.Counters(), proxies=http.Proxies(["10.0.0.1"]))
    await http.serve(handler, log=lambda access: print(access.as_json()))
    await http.serve(http.health())
