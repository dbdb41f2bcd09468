"""The server as a whole: raw bytes in and out on real sockets."""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import select
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import trioflow as tf
from tests.http.client import DATE, Client, connected, exchanged, ran, read_all, read_until, reset, serving
from trioflow import http
from trioflow.http import Request, Response
from trioflow.io.files import read_file

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LAST_HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def hello(request: Request, response: Response) -> None:
    await response.send(b"hello")


async def echo(request: Request, response: Response) -> None:
    await request.body.pipe(response)


# Requests and answers.


async def test_a_connection_answers_one_request_after_the_other() -> None:
    async with serving(hello) as port, connected(port) as stream:
        client = Client(stream)
        for _ in range(3):
            status, headers, body = await client.ask("GET", "/")

            assert (status, body) == (200, b"hello")
            assert headers["date"].endswith(" GMT")


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    at_work = 0

    async def numbered(request: Request, response: Response) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await trio.testing.wait_all_tasks_blocked()
        await response.send(request.path.encode())
        at_work -= 1

    requests = [b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % i for i in range(5)]
    async with serving(numbered) as port:
        got = await exchanged(port, b"".join(requests))

    assert got == b"".join(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/%d" % i for i in range(5))


async def test_R6_a_client_that_pipelines_without_reading_is_slowed_by_tcp() -> None:
    begun = 0

    async def large(request: Request, response: Response) -> None:
        nonlocal begun
        begun += 1
        await response.send(bytes(1 << 20))

    async def send(stream: trio.SocketStream) -> None:
        nonlocal sent
        while sent < 1_000_000:
            await stream.send_all(GET * 1000)
            sent += 1000

    sent = 0
    async with serving(large) as port, connected(port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send, stream)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()

    assert begun < 100  # the requests wait in the sockets, not in the server
    assert sent < 1_000_000


async def test_a_head_that_arrives_byte_by_byte_is_read() -> None:
    async with serving(echo) as port, connected(port) as stream:
        for byte in POST + b"Content-Length: 3\r\n\r\nabc":
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        got = await read_until(stream, b"0\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"c\r\n0\r\n\r\n" in got


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\r\n" * 8])
async def test_empty_lines_before_a_request_are_ignored(before: bytes) -> None:
    async with serving(hello) as port:
        got = await exchanged(port, before + GET + before + GET)

    assert got == HELLO * 2


async def test_an_http_1_0_response_ends_with_the_connection() -> None:
    async def chunks(request: Request, response: Response) -> None:
        await tf.from_iterable([b"a", b"b"]).pipe(response)

    async with serving(chunks) as port:
        got = await exchanged(port, b"GET / HTTP/1.0\r\n\r\n", half_close=False)

    assert got == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"


async def test_an_http_1_0_connection_is_kept_alive_on_request_if_the_response_has_a_length() -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.path == "/feed":
            await tf.from_iterable([b"a", b"b"]).pipe(response)
        else:
            await response.send(b"hello")

    async with serving(handler, limits=http.Limits(idle=math.inf)) as port, connected(port) as stream:
        await stream.send_all(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        kept = await read_until(stream, b"hello")
    assert kept == HELLO.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")

    async with serving(handler) as port:
        asked = b"GET %b HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
        got = await exchanged(port, asked % b"/", asked % b"/", asked % b"/feed", asked % b"/", half_close=False)

    assert got == HELLO * 2 + b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"


async def test_a_connection_ends_after_its_maximum_number_of_requests() -> None:
    async with serving(hello, limits=http.Limits(requests=2)) as port:
        got = await exchanged(port, GET * 3, half_close=False)

    assert got == HELLO + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


async def test_a_connection_ends_if_the_client_asks_for_that() -> None:
    async with serving(hello) as port:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        got = await exchanged(port, request, half_close=False)

    assert got == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


async def test_a_half_closed_client_gets_its_whole_response() -> None:
    async def slow(request: Request, response: Response) -> None:
        async with response.open() as body:
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                await body.send(b"x")

    async with serving(slow) as port:
        got = await exchanged(port, GET)

    assert got.endswith(b"\r\n\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


async def test_the_head_of_a_response_and_a_small_body_are_sent_in_one_segment() -> None:
    async with serving(hello) as port, connected(port) as stream:
        await stream.send_all(GET)

        assert (await stream.receive_some()).endswith(b"hello")


# HEAD and responses without a body.


@pytest.mark.parametrize("how", ["send", "pipe", "open", "nothing"])
async def test_head_gets_only_the_head(how: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        match how:
            case "send":
                await response.send(b"hello")
            case "pipe":
                await tf.from_iterable([b"hello"] * 10_000).pipe(response)
            case "open":
                async with response.open() as body:
                    await body.send(b"hello")

    framing = {"send": b"Content-Length: 5", "nothing": b"Content-Length: 0"}.get(how, b"Transfer-Encoding: chunked")
    async with serving(handler) as port:
        got = await exchanged(port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)

    assert got == b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"


async def test_head_cancels_its_source_after_the_first_chunk() -> None:
    made = []

    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await trio.sleep_forever()
        finally:
            made.append("ended")

    async def handler(request: Request, response: Response) -> None:
        assert await source().pipe(response) == 0

    async with serving(handler) as port:
        got = await exchanged(port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert got == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert made == ["ended"]


async def test_head_of_a_source_that_fails_has_the_status_of_get() -> None:
    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        raise OSError("no disk")
        yield b""

    async def handler(request: Request, response: Response) -> None:
        await source().pipe(response)

    async with serving(handler) as port:
        got = await exchanged(port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("sent", [b"", b"content"])
async def test_no_content_and_not_modified_have_no_body(status: int, sent: bytes) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.status = status
        if sent:
            await response.send(sent)

    async with serving(handler) as port:
        got = await exchanged(port, GET * 2)

    reason = {204: b"No Content", 304: b"Not Modified"}[status]
    assert got == (b"HTTP/1.1 %d %s\r\n\r\n" % (status, reason)) * 2


@pytest.mark.parametrize("how", ["nothing", "send", "pipe", "declared"])
async def test_reset_content_has_content_length_0(how: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.status = 205
        if how == "declared":
            response.headers["content-length"] = "5"
        if how == "pipe":
            assert await tf.from_iterable([b"hello"]).pipe(response) == 0
        elif how != "nothing":
            assert await response.send(b"hello") == 0

    async with serving(handler) as port:
        got = await exchanged(port, GET * 2)

    assert got == b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n" * 2


async def test_a_handler_that_sends_nothing_sends_an_empty_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        response.status = 404

    async with serving(handler) as port:
        got = await exchanged(port, GET)

    assert got == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


# Request bodies.


async def test_a_body_is_echoed_while_it_still_arrives() -> None:
    async with serving(echo) as port, connected(port) as stream:
        await stream.send_all(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            await stream.send_all(b"1\r\n%d\r\n" % i)

            assert (await read_until(stream, b"1\r\n%d\r\n" % i)).endswith(b"1\r\n%d\r\n" % i)

        await stream.send_all(b"0\r\n\r\n")

        assert await read_until(stream, b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_the_client_gets_100_continue_only_when_the_handler_reads_the_body() -> None:
    asked = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        await asked.wait()
        await response.send(await request.body.pipe(tf.join()))

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        with trio.move_on_after(0.05) as early:
            await stream.receive_some()

        assert early.cancelled_caught

        asked.set()

        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        await stream.send_all(b"abc")

        assert (await read_until(stream, b"abc")) == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


async def test_a_client_that_does_not_wait_for_100_continue_does_not_get_it() -> None:
    async def handler(request: Request, response: Response) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await response.send(await request.body.pipe(tf.join()))

    head = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(handler) as port:
        assert (await exchanged(port, head + b"abc")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await exchanged(port, head, b"abc")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_that_is_never_read_is_refused_by_closing_the_connection() -> None:
    async with serving(hello) as port:
        head = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        got = await exchanged(port, head, half_close=False)

    assert got == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


async def test_a_response_that_has_started_is_not_followed_by_100_continue() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start()
        await request.body.pipe(response)

    head = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(head)

        got = await read_until(stream, b"\r\n\r\n")
        assert got == b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

        await stream.send_all(b"abc")

        assert await read_all(stream) == b"3\r\nabc\r\n0\r\n\r\n"


async def test_an_unknown_expectation_is_refused() -> None:
    async with serving(hello) as port:
        got = await exchanged(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 417 Expectation Failed\r\n")


async def test_a_small_unread_body_is_discarded_and_the_connection_kept() -> None:
    async with serving(hello) as port:
        got = await exchanged(port, POST + b"Content-Length: 3\r\n\r\nabc" + GET)

    assert got == HELLO * 2


async def test_the_rest_of_a_partly_read_body_is_discarded() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(await request.body.pipe(tf.first()))

    body = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"
    async with serving(handler) as port:
        got = await exchanged(port, POST + body + GET.replace(b"GET", b"HEAD"))

    assert got.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 500" in got  # first() of the second body, which is empty


async def test_a_large_unread_body_ends_the_connection_after_the_response() -> None:
    async with serving(hello, limits=http.Limits(drain=1000)) as port, connected(port) as stream:
        await stream.send_all(POST + b"Content-Length: 10000000\r\n\r\n" + bytes(100_000))
        got = await read_all(stream)

    assert got == LAST_HELLO


async def test_a_large_body_that_is_read_keeps_the_connection() -> None:
    async with serving(echo, limits=http.Limits(drain=1000)) as port, connected(port) as stream:
        await stream.send_all(POST + b"Content-Length: 100000\r\n\r\n" + bytes(50_000))
        head = await stream.receive_some()

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" not in head


async def read_one_chunk(request: Request, response: Response) -> None:
    await request.body.pipe(tf.first())
    await response.send(b"hello")


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n"  # one chunk of 100,000 bytes


@pytest.mark.parametrize(
    ("handler", "framing", "end"),
    [(hello, CHUNKED, b"\r\n0\r\n\r\n"), (read_one_chunk, CHUNKED, b"\r\n0\r\n\r\n"),
     (read_one_chunk, b"Content-Length: 100000\r\n\r\n", b"")],
    ids=["chunked", "chunked, begun", "counted, begun"],
)  # fmt: skip
async def test_after_a_response_that_keeps_the_connection_the_next_request_is_answered_however_much_was_unread(
    handler: http.Handler, framing: bytes, end: bytes, autojump_clock: MockClock
) -> None:
    async with serving(handler, limits=http.Limits(drain=1000)) as port, connected(port) as stream:
        await stream.send_all(POST + framing + bytes(100))
        assert DATE.sub(b"", await stream.receive_some()) == HELLO
        for _ in range(9):
            await trio.sleep(2)  # longer in all than `linger_stall`, but never so long at once
            await stream.send_all(bytes(11_100))
        await stream.send_all(end + POST + b"Content-Length: 1\r\nConnection: close\r\n\r\nx")

        assert await read_all(stream) == LAST_HELLO


async def test_a_client_that_stops_in_a_body_that_nobody_reads_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with serving(hello) as port, connected(port) as stream:
        await stream.send_all(POST + CHUNKED)
        assert DATE.sub(b"", await stream.receive_some()) == HELLO
        began = trio.current_time()

        assert await stream.receive_some() == b""
        assert 3 <= trio.current_time() - began < 10


async def test_a_large_and_fast_upload_does_not_reset_the_response() -> None:
    size = 30_000_000  # more than all buffers hold, so a reset would lose the response
    async with serving(hello) as port, connected(port) as stream:
        await stream.send_all(POST + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(size // 1_000_000):
            await stream.send_all(bytes(1_000_000))
        got = await read_all(stream)

    assert got == LAST_HELLO


@pytest.mark.slow
@pytest.mark.needs("curl")
@pytest.mark.parametrize("path", ["/", "/see-other"])
async def test_curl_gets_the_response_to_an_upload_that_nobody_reads(path: str, tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/see-other":
            response.status = 303
            response.headers["location"] = "/login"
        await response.send(request.path.encode())

    async with serving(handler) as port:
        for framing in ("Expect:", "Transfer-Encoding: chunked"):
            upload = ("--data-binary", f"@{file}", "-H", "Expect:", "-H", framing)
            assert await ran("curl", "-sSL", *upload, f"http://127.0.0.1:{port}{path}") == (
                b"/login" if path == "/see-other" else b"/"
            )


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 3000000\r\n\r\n", bytes(1000)),
     (b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n%b\r\n" % bytes(1000))],
    ids=["counted", "chunked"],
)  # fmt: skip
async def test_closing_a_connection_takes_a_limited_time_however_much_arrives(
    framing: bytes, piece: bytes, autojump_clock: MockClock
) -> None:
    limits = http.Limits(drain=0, linger=100)
    async with serving(hello, limits=limits) as port, connected(port) as stream:
        began = trio.current_time()
        await stream.send_all(POST + framing)

        async def send_forever() -> None:
            while True:
                await stream.send_all(piece)
                await trio.sleep(1)

        with pytest.raises(trio.BrokenResourceError):
            await send_forever()

        assert 100 <= trio.current_time() - began < 103


async def test_a_body_in_chunks_that_are_mostly_framing_is_refused() -> None:
    async def count(request: Request, response: Response) -> None:
        await response.send(b"%d" % await request.body.pipe(tf.reduce(lambda size, chunk: size + len(chunk), 0)))

    asked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    async with serving(count) as port:
        few = await exchanged(port, asked, b"1\r\na\r\n" * 10_000, b"0\r\n\r\n")
        many = await exchanged(port, asked, b"1\r\na\r\n" * 70_000, b"0\r\n\r\n")

    assert few.endswith(b"\r\n\r\n10000")
    assert many.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_body_above_the_limit_is_refused_before_it_is_read() -> None:
    async with serving(echo, limits=http.Limits(body_size=10)) as port:
        allowed = await exchanged(port, POST + b"Connection: close\r\nContent-Length: 10\r\n\r\n0123456789")
        told = await exchanged(port, POST + b"Content-Length: 11\r\n\r\n", half_close=False)
        untold = await exchanged(
            port, POST + b"Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n", half_close=False
        )

    assert allowed.startswith(b"HTTP/1.1 200 OK\r\n")
    assert told.startswith(b"HTTP/1.1 413 ")
    assert untold.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close\r\n" in told


async def test_a_client_that_announces_a_body_above_the_limit_is_refused() -> None:
    async with serving(echo, limits=http.Limits(body_size=10)) as port:
        asked = POST + b"Content-Length: 11\r\nExpect: 100-continue\r\n\r\n"
        got = await exchanged(port, asked, half_close=False)

    assert got.startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_continues_sending_can_read_why_it_was_refused() -> None:
    """A connection closed with unread bytes is reset, and a reset discards what the client has not read yet."""
    async with serving(echo, limits=http.Limits(body_size=1000)) as port, connected(port) as stream:
        await stream.send_all(POST + b"Content-Length: 3000000\r\n\r\n")
        for _ in range(30):
            await stream.send_all(bytes(100_000))
        got = await read_all(stream)

    assert got.startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_never_stops_sending_is_disconnected_after_a_limited_time(
    autojump_clock: MockClock,
) -> None:
    async with serving(echo, limits=http.Limits(body_size=1000)) as port, connected(port) as stream:

        async def send_forever() -> None:
            while True:
                await stream.send_all(b"x")
                await trio.sleep(1)

        began = trio.current_time()
        await stream.send_all(POST + b"Content-Length: 3000000\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await send_forever()

        assert 3 <= trio.current_time() - began < 6


async def test_R10_a_body_that_is_cut_off_is_an_error_in_the_handler() -> None:
    seen: list[BaseException] = []

    async def handler(request: Request, response: Response) -> None:
        try:
            await request.body.pipe(tf.join())
        except http.RequestError as exc:
            seen.append(exc)
            raise

    async with serving(handler) as port:
        got = await exchanged(port, POST + b"Content-Length: 10\r\n\r\nabc")

    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert isinstance(seen[0], http.RequestError)
    assert seen[0].status == 400


async def test_a_body_that_stalls_is_given_up(autojump_clock: MockClock) -> None:
    async with serving(echo) as port:
        began = trio.current_time()
        got = await exchanged(port, POST + b"Content-Length: 10\r\n\r\n", half_close=False)

    assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert 30 <= trio.current_time() - began < 40


@pytest.mark.parametrize(("size", "is_given_up"), [(99, True), (101, False)])
async def test_a_body_that_arrives_too_slowly_is_given_up(
    size: int, is_given_up: bool, autojump_clock: MockClock
) -> None:
    """Data never pauses for long but is too slow: 1 % below the rate costs 1 % of the tolerated time."""
    seconds = 3200

    async def handler(request: Request, response: Response) -> None:
        await response.send(b"%d" % len(await request.body.pipe(tf.join())))

    async with serving(handler) as port, connected(port) as stream:

        async def send() -> None:
            await stream.send_all(POST + b"Content-Length: %d\r\n\r\n" % (seconds * size))
            for _ in range(seconds):
                await trio.sleep(1)
                try:
                    await stream.send_all(bytes(size))
                except trio.BrokenResourceError:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            got = await read_until(stream, b"The request took too long.\n" if is_given_up else b"%d" % (seconds * size))
            nursery.cancel_scope.cancel()

    assert got.startswith(b"HTTP/1.1 408 " if is_given_up else b"HTTP/1.1 200 ")


async def test_without_a_limit_a_body_may_arrive_at_any_pace(autojump_clock: MockClock) -> None:
    async with serving(echo, limits=http.Limits(body_rate=0)) as port, connected(port) as stream:
        await stream.send_all(POST + b"Connection: close\r\nContent-Length: 50\r\n\r\n")
        for _ in range(50):
            await trio.sleep(20)
            await stream.send_all(b"x")
        got = await read_all(stream)

    assert got.count(b"x") == 50


async def test_R4_a_body_runs_once() -> None:
    async def handler(request: Request, response: Response) -> None:
        await request.body.pipe(tf.drain())
        with pytest.raises(trio.ClosedResourceError, match="the body of this POST request can only run once"):
            await request.body.pipe(tf.drain())
        await response.send(b"ok")

    async with serving(handler) as port:
        assert (await exchanged(port, POST + b"Content-Length: 1\r\n\r\nx")).endswith(b"ok")


# Failing handlers.


async def test_R14_a_failure_before_the_first_byte_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["x-secret"] = "1"
        raise ValueError("a secret")

    async with serving(handler) as port:
        got = await exchanged(port, GET, half_close=False)

    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"Connection: close" in head.split(b"\r\n")
    assert body == b"The server failed to answer this request.\n"
    assert b"secret" not in got
    [record] = caplog.records
    assert record.name == "trioflow.http"
    assert record.getMessage() == "GET '/' failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_R14_after_a_source_fails_at_once_the_handler_can_send_another_response() -> None:
    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        raise FileNotFoundError("no such song")
        yield b""

    async def handler(request: Request, response: Response) -> None:
        try:
            await source().pipe(response)
        except FileNotFoundError:
            response.status = 404
            await response.send(b"no such song")

    async with serving(handler) as port:
        got = await exchanged(port, GET)

    assert got == b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nno such song"


@pytest.mark.parametrize("caught", [False, True])
async def test_R13_a_failure_after_the_first_byte_cuts_the_connection(
    caught: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        yield b"hello"
        await trio.testing.wait_all_tasks_blocked()
        raise OSError("the disk has died")

    async def handler(request: Request, response: Response) -> None:
        try:
            await source().pipe(response)
        except OSError:
            if not caught:
                raise

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)

        assert (await read_until(stream, b"hello\r\n")).endswith(b"\r\n\r\n5\r\nhello\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_request_that_turns_out_wrong_during_its_response_is_logged_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def echo(request: Request, response: Response) -> None:
        await http.decoded(request, max_size=5).pipe(response)

    async with serving(echo) as port:
        async with connected(port) as stream:
            await stream.send_all(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await read_until(stream, b"hello\r\n")
            await stream.send_all(b"1\r\n!\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        async with connected(port) as stream:
            await stream.send_all(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await read_until(stream, b"hello\r\n")
            # This client just leaves, which is nothing to report.
        await trio.testing.wait_all_tasks_blocked()

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "POST '/' was cut off during its response: the body is larger than 5 bytes"


async def test_R13_a_feed_that_is_left_early_does_not_end_properly() -> None:
    async def handler(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"hello")
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("x")

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await read_until(stream, b"hello\r\n")

        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_handler_that_promised_more_than_it_sent_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["content-length"] = "10"
        if request.path == "/some":
            await tf.from_iterable([b"hello"]).pipe(response)

    async with serving(handler) as port:
        got = await exchanged(port, GET)
        async with connected(port) as stream:
            await stream.send_all(GET.replace(b"/ ", b"/some "))
            with pytest.raises(trio.BrokenResourceError):
                await read_all(stream)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert len(caplog.records) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_ends_the_server(error: type[BaseException]) -> None:
    async def handler(request: Request, response: Response) -> None:
        raise error

    with trio.fail_after(60), pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012 - the block is what ends
        async with serving(handler) as port:
            await exchanged(port, GET, half_close=False)
            await trio.sleep_forever()

    assert caught.value.subgroup(error) is not None


async def test_serve_raises_an_interrupt_unwrapped() -> None:
    async def handler(request: Request, response: Response) -> None:
        raise SystemExit(3)

    async def ask(port: int) -> None:
        async with connected(port) as stream:
            await stream.send_all(GET)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    class Status(trio.TaskStatus[list[str]]):
        def started(self, value: Any = None) -> None:
            nursery.start_soon(ask, int(value[0].rpartition(":")[2]))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with pytest.raises(SystemExit) as caught:
                await http.serve(handler, port=0, task_status=Status())

    assert caught.value.code == 3


async def test_a_client_that_connects_while_an_interrupt_ends_the_server_adds_no_failure() -> None:
    async def handler(request: Request, response: Response) -> None:
        late.connect(("127.0.0.1", int(request.headers["host"].rpartition(":")[2])))
        raise SystemExit

    for _ in range(20):  # Trio picks which of the woken tasks runs first
        with socket.socket() as late, trio.fail_after(60), pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
            async with serving(handler) as port:
                await exchanged(port, b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % port, half_close=False)
                await trio.sleep_forever()

        assert caught.group_contains(SystemExit)
        assert not caught.group_contains(RuntimeError)


@pytest.mark.parametrize("path", ["/two", "/broken"])
async def test_two_simultaneous_failures_are_one_response(path: str, caplog: pytest.LogCaptureFixture) -> None:
    kinds: dict[str, list[Exception]] = {
        "/two": [ValueError("one"), KeyError("two")],
        "/broken": [trio.BrokenResourceError("one"), trio.BrokenResourceError("two")],
    }

    async def handler(request: Request, response: Response) -> None:
        raise ExceptionGroup("both", kinds[request.path])

    async with serving(handler) as port:
        got = await exchanged(port, GET.replace(b"/ ", path.encode() + b" "))

    assert got.startswith(b"HTTP/1.1 500 ")
    # A broken socket of another connection does not mean that the client has left (R15).
    assert len(caplog.records) == 1


async def test_a_failure_after_the_client_has_gone_is_logged_even_if_other_tasks_were_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = trio.Event()

    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up went wrong")

    async def handler(request: Request, response: Response) -> None:
        try:
            async with trio.open_nursery() as nursery, response.open() as body:
                nursery.start_soon(fail_late)
                await body.send(b"hello")
                await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await read_until(stream, b"hello\r\n")
        reset(stream)
        await ended.wait()
        await trio.testing.wait_all_tasks_blocked()

        assert await exchanged(port, b"nonsense\r\n\r\n") != b""

    assert [record.exc_info is not None for record in caplog.records] == [True]


# Clients that leave.


async def test_a_reset_cancels_a_handler_that_is_asleep() -> None:
    began, ended = trio.Event(), trio.Event()

    async def handler(request: Request, response: Response) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await began.wait()
        reset(stream)
        with trio.fail_after(60):
            await ended.wait()


async def test_a_reset_cancels_a_feed_that_has_nothing_to_send(caplog: pytest.LogCaptureFixture) -> None:
    ended = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        try:
            async with response.open() as body:
                await body.send(b"first")
                await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await read_until(stream, b"first\r\n")
        reset(stream)
        with trio.fail_after(60):
            await ended.wait()

    assert not caplog.records


async def test_a_client_that_closes_is_noticed_when_the_server_writes(caplog: pytest.LogCaptureFixture) -> None:
    ended = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        try:
            async with response.open() as body:
                while True:
                    await body.send(b"tick")
                    await trio.testing.wait_all_tasks_blocked()
        finally:
            ended.set()

    async with serving(handler) as port:
        async with connected(port) as stream:
            await stream.send_all(GET)
            await read_until(stream, b"tick\r\n")
        with trio.fail_after(60):
            await ended.wait()

    assert not caplog.records


async def test_an_exception_of_a_handler_after_its_client_has_gone_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = trio.Event(), trio.Event()

    async def handler(request: Request, response: Response) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
            raise ValueError("clean-up went wrong")

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await began.wait()
        reset(stream)
        await ended.wait()
        await trio.testing.wait_all_tasks_blocked()

    [record] = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "clean-up went wrong"


async def test_a_slow_reader_slows_the_source_and_is_disconnected(autojump_clock: MockClock) -> None:
    made = 0
    ended = trio.Event()

    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        nonlocal made
        try:
            while True:
                made += 1
                yield bytes(65536)
        finally:
            ended.set()

    async def handler(request: Request, response: Response) -> None:
        await source().pipe(response)

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        began = trio.current_time()
        await ended.wait()

        assert 30 <= trio.current_time() - began < 100
        assert made < 400  # what the sockets took, and what one channel holds


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports unsent bytes")
@pytest.mark.parametrize("reads", [False, True])
async def test_a_slow_reader_of_buffered_data_is_kept_as_long_as_it_reads(
    reads: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(bytes(150_000))

    counters = http.Counters()
    async with trio.open_nursery() as nursery:
        limits = http.Limits(idle=10, write_rate=100)
        await nursery.start(partial(http.serve, handler, unix=tmp_path / "here", limits=limits, counters=counters))
        async with await trio.open_unix_socket(tmp_path / "here") as stream:
            began = trio.current_time()
            await stream.send_all(GET)
            got = 0
            if reads:
                while chunk := await stream.receive_some(11_000):  # Linux reports what was taken in steps of 48 KiB
                    got += len(chunk)
                    await trio.sleep(2)
                assert trio.current_time() - began >= 25
            else:
                await trio.sleep(25)
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(GET)
        nursery.cancel_scope.cancel()

    assert (got > 150_000) is reads
    assert counters.stalls == (0 if reads else 1)


# Limits.


async def test_a_head_that_is_too_large_is_refused() -> None:
    async with serving(hello) as port:
        long = await exchanged(port, GET[:-2] + b"X: " + b"x" * 40_000 + b"\r\n\r\n", half_close=False)
        endless = await exchanged(port, GET[:-2] + b"X: " + b"x" * 40_000, half_close=False)
        many = await exchanged(port, GET[:-2] + b"X: y\r\n" * 101 + b"\r\n", half_close=False)

    assert long.startswith(b"HTTP/1.1 431 ")
    assert endless.startswith(b"HTTP/1.1 431 ")
    assert many.startswith(b"HTTP/1.1 431 ")


async def test_a_head_that_takes_too_long_is_refused(autojump_clock: MockClock) -> None:
    async with serving(hello) as port, connected(port) as stream:
        began = trio.current_time()
        await stream.send_all(GET[:10])
        got = await read_all(stream)

    assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert 15 <= trio.current_time() - began < 20


async def test_an_idle_connection_is_closed_without_a_response(autojump_clock: MockClock) -> None:
    async with serving(hello) as port, connected(port) as stream:
        began = trio.current_time()
        got = await read_all(stream)

        assert got == b""
        assert 30 <= trio.current_time() - began < 35  # before its first request

    async with serving(hello, limits=http.Limits(requests=math.inf)) as port, connected(port) as stream:
        await stream.send_all(GET)
        began = trio.current_time()
        got = await read_all(stream)

        assert got == HELLO
        assert 60 <= trio.current_time() - began < 65  # and after it


async def test_connections_above_the_limit_wait_until_one_ends_if_all_are_in_use() -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.path == "/wait":
            await go_on.wait()
        await response.send(b"hello")

    go_on = trio.Event()
    async with (
        serving(handler, limits=http.Limits(connections=2)) as port,
        connected(port) as one,
        connected(port) as two,
    ):
        for busy in (one, two):
            await busy.send_all(GET.replace(b"/ ", b"/wait "))
        await trio.testing.wait_all_tasks_blocked()
        async with connected(port) as three:
            await three.send_all(GET)
            with trio.move_on_after(0.05) as waiting:
                await three.receive_some()

            assert waiting.cancelled_caught

            reset(one)

            assert (await three.receive_some()).endswith(b"hello")

        go_on.set()

        assert (await two.receive_some()).endswith(b"hello")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /public/..%2fadmin HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /a/../../b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%2e%2e/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: loc",
    ],
)
async def test_an_invalid_request_is_refused_and_the_handler_never_called(request_: bytes) -> None:
    async def handler(request: Request, response: Response) -> None:
        raise AssertionError("called")

    async with serving(handler) as port:
        got = await exchanged(port, request_)

    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert got.endswith(b"\r\n\r\nThe request is malformed.\n")


async def test_the_connect_method_is_refused() -> None:
    async with serving(hello) as port:
        got = await exchanged(port, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 501 Not Implemented\r\n")


async def test_an_upgrade_that_the_handler_ignores_gets_an_ordinary_response() -> None:
    async with serving(hello) as port:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        got = await exchanged(port, request * 2)

    assert got == HELLO * 2


async def test_a_server_without_descriptors_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(hello) as port:
        sock = trio.socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
            await sock.connect(("127.0.0.1", port))
            while not caplog.records:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(GET)

            assert (await stream.receive_some()).endswith(b"hello")

    assert "cannot accept a connection" in caplog.text


class Scarce:
    """Makes one system call fail, for connections of the server, while `is_out`."""

    def __init__(self, error: Exception) -> None:
        self.is_out = True
        self.error = error

    def check(self) -> None:
        if self.is_out:
            raise self.error

    def setsockopt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = socket.socket.setsockopt

        def setsockopt(sock: socket.socket, level: int, option: int, value: int) -> None:
            if (level, option) == (socket.IPPROTO_TCP, socket.TCP_NODELAY):
                self.check()
            real(sock, level, option, value)

        monkeypatch.setattr(socket.socket, "setsockopt", setsockopt)

    def register(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not hasattr(select, "epoll"):
            pytest.skip("there is no epoll here")
        real, scarce = select.epoll, self

        class Epoll:
            def __init__(self) -> None:
                self._real = real()

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

            def register(self, *arguments: Any) -> None:
                scarce.check()
                self._real.register(*arguments)

        monkeypatch.setattr(select, "epoll", Epoll)

    def wait_readable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = trio.lowlevel.wait_readable

        async def wait_readable(what: Any) -> None:
            if isinstance(what, socket.socket) and not what.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self.check()
            await real(what)

        monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("setsockopt", OSError(errno.ENOBUFS, "no memory")),
        ("register", OSError(errno.ENOSPC, "too many watches")),
        ("register", MemoryError("none left")),
        ("wait_readable", OSError(errno.ENOMEM, "no memory")),
    ],
)
async def test_a_connection_without_resources_of_the_system_ends_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, error: Exception
) -> None:
    scarce = Scarce(error)
    getattr(scarce, call)(monkeypatch)
    counters = http.Counters()
    async with serving(hello, counters=counters) as port:
        for _ in range(2):
            assert await exchanged(port, half_close=False) == b""
        scarce.is_out = False
        assert await exchanged(port, GET) == HELLO
        while counters.open:
            await trio.testing.wait_all_tasks_blocked()

    assert [record.getMessage().partition("(")[0] for record in caplog.records] == ["the connection from "] * 2
    assert {record.exc_info and record.exc_info[1] for record in caplog.records} == {error}


async def test_a_connection_that_is_being_closed_does_not_delay_the_shutdown(autojump_clock: MockClock) -> None:
    async with serving(hello) as port, connected(port) as stream:
        await stream.send_all(b"nonsense\r\n\r\n")
        await stream.receive_some()
        began = trio.current_time()

    assert trio.current_time() - began < 1


# Starting and stopping.


async def test_serve_starts_with_its_base_urls() -> None:
    async with trio.open_nursery() as nursery:
        for host, pattern in (("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")):
            [url] = await nursery.start(
                lambda task_status, host=host: http.serve(hello, host=host, port=0, task_status=task_status)
            )

            assert url.startswith(pattern)
            assert int(url.rpartition(":")[2]) > 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"handler": "x"}, TypeError),
        ({"port": "80"}, TypeError),
        ({"port": -1}, ValueError),
        ({"port": 65536}, ValueError),
        ({"limits": {}}, TypeError),
    ],
)
async def test_serve_refuses_wrong_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await http.serve(**{"handler": hello, **options})


async def test_an_address_in_use_is_an_error() -> None:
    async with serving(hello) as port:
        with pytest.raises(OSError, match="in use"):
            await http.serve(hello, port=port)


async def test_a_stopping_server_finishes_the_current_request_and_closes_its_connection() -> None:
    began, go_on = trio.Event(), trio.Event()

    async def handler(request: Request, response: Response) -> None:
        began.set()
        await go_on.wait()
        await response.send(b"hello")

    async with trio.open_nursery() as nursery:
        serve_scope = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
            with serve_scope:
                await http.serve(handler, port=0, task_status=task_status)

        [url] = await nursery.start(serve)
        port = int(url.rpartition(":")[2])
        async with connected(port) as idle, connected(port) as busy:
            await busy.send_all(GET)
            await began.wait()
            serve_scope.cancel()

            assert await idle.receive_some() == b""
            with pytest.raises(OSError, match=r"."):
                await trio.open_tcp_stream("127.0.0.1", port)

            go_on.set()

            assert await read_all(busy) == HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_a_stopping_server_finishes_a_response_it_has_started() -> None:
    go_on = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"hello")
            await go_on.wait()
            await body.send(b"world")

    rest = b""

    async def read_rest(stream: trio.SocketStream) -> None:
        nonlocal rest
        async with stream:
            rest = await read_all(stream)

    async def go_on_when_all_wait() -> None:
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()

    async with trio.open_nursery() as client, serving(handler) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await read_until(stream, b"hello\r\n")
        client.start_soon(read_rest, stream)
        client.start_soon(go_on_when_all_wait)

    assert rest == b"5\r\nworld\r\n0\r\n\r\n"


async def test_R16_a_request_that_outlasts_the_grace_period_is_cancelled(autojump_clock: MockClock) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["content-length"] = "1000"
        async with response.open() as body:
            await body.send(b"hello")
            await trio.sleep_forever()

    began = 0.0
    async with serving(handler) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await read_until(stream, b"hello")
        began = trio.current_time()

    assert 5 <= trio.current_time() - began < 6
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await stream.aclose()


# Files and large bodies.


@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 65537, 3_000_000])
async def test_a_file_is_sent_whole_with_its_length(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)

    async def handler(request: Request, response: Response) -> None:
        assert await read_file(tmp_path / "file").pipe(response) == (0 if request.method == "HEAD" else size)

    async with serving(handler) as port, connected(port) as stream:
        client = Client(stream)
        for method, want in (("GET", content), ("HEAD", b""), ("GET", content)):
            status, headers, body = await client.ask(method, "/")

            assert (status, headers["content-length"]) == (200, str(size))
            assert body == want


async def test_a_file_is_sent_in_chunks_if_the_head_was_sent_before_its_length_was_known(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "file").write_bytes(content)

    async def handler(request: Request, response: Response) -> None:
        await response.start()
        await read_file(tmp_path / "file").pipe(response)

    async with serving(handler) as port, connected(port) as stream:
        status, headers, body = await Client(stream).ask("GET", "/")

    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert body == content


async def test_R14_a_missing_file_is_answered_with_500(tmp_path: Path) -> None:
    async def handler(request: Request, response: Response) -> None:
        await read_file(tmp_path / "missing").pipe(response)

    async with serving(handler) as port:
        assert (await exchanged(port, GET)).startswith(b"HTTP/1.1 500 ")


async def test_R13_a_file_that_becomes_shorter_cuts_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 << 20)

    async def handler(request: Request, response: Response) -> None:
        await read_file(path).pipe(response)

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        await stream.receive_some()
        os.truncate(path, 100)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)

    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], EOFError)


async def test_a_slow_reader_of_a_file_is_disconnected_and_delays_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(32 << 20))  # cached, so that no thread sends it: the clock would not wait for that

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/file":
            await read_file(path).pipe(response)
        else:
            await response.send(b"hello")

    async with serving(handler) as port, connected(port) as slow:
        await slow.send_all(GET.replace(b"/ ", b"/file "))
        await slow.receive_some()

        assert await exchanged(port, GET) == HELLO

        with pytest.raises(trio.BrokenResourceError):
            await read_all_after(60, slow)


async def read_all_after(seconds: float, stream: trio.SocketStream) -> None:
    """Read nothing for long, then everything."""
    await trio.sleep(seconds)
    await read_all(stream)


@pytest.mark.slow
@pytest.mark.needs("curl")
async def test_curl_downloads_and_uploads_100_megabytes_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        for i in range(100):
            file.write(bytes([i]) * (1 << 20))
    received = 0

    async def handler(request: Request, response: Response) -> None:
        nonlocal received
        if request.method == "PUT":
            received = await request.body.pipe(tf.reduce(lambda total, chunk: total + len(chunk), 0))
        elif request.path == "/chunks":
            await read_file(path).pipe(tf.map(bytes)).pipe(response)
        else:
            await read_file(path).pipe(response)

    before = peak_memory()
    async with serving(handler) as port:
        url = f"http://127.0.0.1:{port}/"
        for arguments in (["-o", f"{tmp_path}/got", url], ["-o", f"{tmp_path}/got", f"{url}chunks"]):
            await trio.run_process(["curl", "-sSf", *arguments])

            assert await same(tmp_path / "got", path)
        for headers in ([], ["-H", "Transfer-Encoding: chunked"]):
            received = 0
            await trio.run_process(["curl", "-sSf", "-T", str(path), *headers, url])

            assert received == 100 << 20
    assert peak_memory() - before < 20 << 20


async def same(one: Path, two: Path) -> bool:
    return (await trio.run_process(["cmp", str(one), str(two)], check=False)).returncode == 0


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.needs("curl")
async def test_curl_accepts_every_response(tmp_path: Path) -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.method == "GET":
            await tf.from_iterable([b"get", request.query.encode()]).pipe(response)
        else:
            await echo(request, response)

    async with serving(handler) as port:
        url = f"http://127.0.0.1:{port}/"

        async def curl(*arguments: str) -> bytes:
            done = await trio.run_process(["curl", "-sSf", *arguments], capture_stdout=True)
            return bytes(done.stdout)

        assert await curl(f"{url}?1", f"{url}?2", f"{url}?3") == b"get1get2get3"
        assert await curl("--http1.0", f"{url}?1") == b"get1"
        assert await curl("-d", "abc", "-H", "Expect: 100-continue", url) == b"abc"
        assert await curl("-d", "abc", "-H", "Transfer-Encoding: chunked", url) == b"abc"
        assert b"HTTP/1.1 200 OK" in await curl("-I", url)
