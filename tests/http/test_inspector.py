"""http.inspector: a page, its numbers once, and its numbers as they change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.http.client import connected, exchanged, read_until, serving
from trioflow import http
from trioflow.http import Request, Response
from trioflow.operators.inspecting import Inspector


def asked(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@tf.readable
async def for_ever() -> AsyncIterator[int]:
    yield 1
    await trio.sleep_forever()


def mounted(inspector: Inspector, **options: Any) -> http.Handler:
    """Return a handler that has the page at a path of its own."""
    show = http.inspector(inspector, **options)

    async def handler(request: Request, response: Response) -> None:
        await (show(request, response) if request.path.startswith("/deep/down") else response.send(b"mine"))

    return handler


async def test_the_numbers_are_told_as_json_at_any_path() -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector, most=2)) as port, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: for_ever().pipe(tf.drain()))
        await tf.pipeline([1], tf.drain())

        head, _, body = (await exchanged(port, asked("/deep/down/runs.json"))).partition(b"\r\n\r\n")
        nursery.cancel_scope.cancel()

    told = json.loads(body)
    assert b"Content-Type: application/json\r\n" in head
    assert b"Cache-Control: no-store\r\n" in head
    assert [(run["name"], run["state"]) for run in told["runs"]] == [
        ("for_ever | drain", "running"),
        ("for_ever | drain", "running"),
        ("from_iterable | drain", "done"),
    ]
    assert told["running"] == 3


async def test_events_are_sent_while_somebody_reads_them_and_do_not_show_themselves() -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector)) as port:
        async with connected(port) as stream:
            await stream.send_all(asked("/deep/down/events"))
            with trio.fail_after(10):
                got = await read_until(stream, b"\n\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.05)

        assert b'data: {"runs": [], "running": 0}\n\n' in got
        assert inspector.runs() == ()


@pytest.mark.parametrize(
    ("request_", "head", "body"),
    [
        (asked("/deep/down/"), b"200 OK", b"<!doctype html>"),
        (asked("/deep/down/page.js"), b"200 OK", b"EventSource"),
        (asked("/deep/down/", "HEAD"), b"200 OK", b""),
        (asked("/deep/down"), b"308 Permanent Redirect\r\nCache-Control: no-store", b""),
        (asked("/deep/down/../../etc/passwd"), b"200 OK", b"mine"),
        (asked("/deep/down/runs.json", "POST"), b"405 Method Not Allowed", b""),
    ],
)
async def test_the_page_loads_only_what_is_beside_it(request_: bytes, head: bytes, body: bytes) -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector)) as port:
        got = await exchanged(port, request_)

    assert got.startswith(b"HTTP/1.1 " + head.partition(b"\r\n")[0])
    assert body in got
    assert (b"Content-Security-Policy: default-src 'none'; script-src 'self'" in got) is (body != b"mine")
    assert (b"Location: down/\r\n" in got) is (b"308" in head)


def test_bad_arguments_are_refused_at_once() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match=r"inspector wants what tf.inspect\(\) yields, not 3"):
        http.inspector(wrong)
