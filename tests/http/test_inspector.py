"""http.inspector: a page, its numbers once, and its numbers as they change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.http.client import connected, exchanged, read_until, serving
from trioflow import http
from trioflow._core import observing
from trioflow.http import Request, Response, _inspector_variable
from trioflow.operators.inspecting import Inspector


def asked(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@tf.readable
async def forever() -> AsyncIterator[int]:
    yield 1
    await trio.sleep_forever()


def mounted(inspector: Inspector, **options: Any) -> http.Handler:
    """Return a handler that serves the page at its own path."""
    show = http.inspector(inspector, **options)

    async def handler(request: Request, response: Response) -> None:
        await (show(request, response) if request.path.startswith("/deep/down") else response.send(b"mine"))

    return handler


async def test_the_numbers_are_served_as_json_at_any_path() -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector, most=2)) as port, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: forever().pipe(tf.drain()))
        await tf.pipeline([1], tf.drain())

        head, _, body = (await exchanged(port, asked("/deep/down/runs.json"))).partition(b"\r\n\r\n")
        nursery.cancel_scope.cancel()

    told = json.loads(body)
    assert b"Content-Type: application/json\r\n" in head
    assert b"Cache-Control: no-store\r\n" in head
    assert [(run["name"], run["state"]) for run in told["runs"]] == [
        ("forever | drain", "running"),
        ("forever | drain", "running"),
        ("from_iterable | drain", "done"),
    ]
    assert told["running"] == 3


async def test_events_are_sent_while_there_is_a_reader_and_their_own_runs_are_not_shown() -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector)) as port:
        async with connected(port) as stream:
            await stream.send_all(asked("/deep/down/events"))
            with trio.fail_after(60):
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
async def test_the_page_loads_only_from_its_own_server(request_: bytes, head: bytes, body: bytes) -> None:
    async with tf.inspect() as inspector, serving(mounted(inspector)) as port:
        got = await exchanged(port, request_)

    assert got.startswith(b"HTTP/1.1 " + head.partition(b"\r\n")[0])
    assert body in got
    assert (b"Content-Security-Policy: default-src 'none'; script-src 'self'" in got) is (body != b"mine")
    assert (b"Location: down/\r\n" in got) is (b"308" in head)


def test_bad_arguments_are_refused_at_once() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match=r"inspector: `of` must be an Inspector, which tf.inspect\(\) yields, got 3"):
        http.inspector(wrong)


PROGRAM = """
import sys, trio, trioflow as tf

async def main():
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(lambda: tf.repeat(1).pipe(tf.delay(0.01)).pipe(tf.drain()))
            await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()
    print("as ever")

trio.run(main)
sys.exit(7)
"""


def started(place: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    environment = {**os.environ, "TRIOFLOW_INSPECT": place}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.slow
async def test_with_the_variable_a_program_serves_the_page_and_ends_as_without_it() -> None:
    with started("127.0.0.1:0") as process:
        assert process.stderr is not None
        said = await trio.to_thread.run_sync(process.stderr.readline)
        found = re.fullmatch(r"trioflow: inspect this program at http://127\.0\.0\.1:(\d+)/\n", said)
        assert found is not None, said
        port = int(found[1])
        ask = b"GET /runs.json HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
        told = json.loads((await exchanged(port, ask % b"localhost:1")).partition(b"\r\n\r\n")[2])
        refused = await exchanged(port, ask % b"rebound.example")
        async with connected(port) as looking:
            await looking.send_all(asked("/events").replace(b"Host: x", b"Host: [::1]"))
            await read_until(looking, b"\n\n\r\n")
            with trio.fail_after(60):
                out, err = await trio.to_thread.run_sync(process.communicate, "\n")

    assert [run["name"] for run in told["runs"]] == ["repeat | delay | drain"]
    assert refused.startswith(b"HTTP/1.1 421 ")
    assert (out, err, process.returncode) == ("as ever\n", "", 7)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("127.0.0.1:0", "inspect this program at http://127.0.0.1:"),
        ("[::1]:0", "inspect this program at http://[::1]:"),
        ("here", "TRIOFLOW_INSPECT must be HOST:PORT, such as 127.0.0.1:0, got 'here'; nothing is inspected"),
        ("127.0.0.1:66000", "TRIOFLOW_INSPECT must be HOST:PORT"),
        ("192.0.2.1:0", "cannot inspect this program at 192.0.2.1:0: Cannot assign requested address\n"),
    ],
)
def test_the_effect_of_the_variable_is_printed_once(
    place: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observing, "observers", ())

    async def main() -> None:
        for _ in range(2):
            await tf.from_iterable([1]).pipe(tf.drain())
            await trio.testing.wait_all_tasks_blocked(0.01)

    _inspector_variable.begin(place)
    trio.run(main)

    err = capsys.readouterr().err
    assert err.startswith(f"trioflow: {said}")
    assert err.count("\n") == 1


async def test_only_host_names_of_the_loopback_are_answered() -> None:
    async with serving(_inspector_variable._by_loopback_names(mounted(tf.Inspector()))) as port:
        for host in (b"LOCALHOST:1", b"127.9.0.1", b"[::1]:80"):
            assert (await exchanged(port, asked("/deep/down/").replace(b"x\r", host + b"\r"))).startswith(
                b"HTTP/1.1 200"
            )
        for host in (b"127.0.0.1.example", b"example:127", b"localhost.example"):
            assert (await exchanged(port, asked("/deep/down/").replace(b"x\r", host + b"\r"))).startswith(
                b"HTTP/1.1 421"
            )
