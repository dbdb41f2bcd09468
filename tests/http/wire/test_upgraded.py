"""Informational responses, trailers, and upgrades to another protocol."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import connected, exchanged, read_all, read_until, reset, serving
from tests.refusing import check_a_second_task_is_refused
from trioflow.http import Counters, Headers, Request, Response
from trioflow.http.wire.socket import SocketTransport
from trioflow.http.wire.upgraded import UpgradedStream

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WISH = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: other, Echo\r\n\r\n"


# Informational responses.


async def test_early_hints_are_sent_before_the_response() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.inform(103, {"link": "</a.css>; rel=preload"})
        await response.inform(102)
        await response.send(b"hello")

    async with serving(handler) as port:
        answer = await exchanged(port, GET, GET)
        old = await exchanged(port, b"GET / HTTP/1.0\r\n\r\n")

    one = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert answer == one * 2
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("status", "headers", "complaint"),
    [
        (100, {}, "status must be at least 102, got 100"),
        (101, {}, "status must be at least 102, got 101"),
        (200, {}, "status must be at most 199, got 200"),
        ("103", {}, "status must be an int, got '103'"),
        (103, {"a": "b\r\nc: d"}, "must be Latin-1 without line ends"),
    ],
)
async def test_a_status_that_is_not_informational_is_refused(status: Any, headers: Any, complaint: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        with pytest.raises((TypeError, ValueError), match=complaint):
            await response.inform(status, headers)
        await response.send(b"hello")

    async with serving(handler) as port:
        assert (await exchanged(port, GET)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_no_informational_response_can_be_sent_after_the_head() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")
        with pytest.raises(trio.ClosedResourceError, match="the head of this response has been sent"):
            await response.inform(103)
        with pytest.raises(trio.ClosedResourceError, match="the head of this response has been sent"):
            await response.upgrade("echo")

    async with serving(handler) as port:
        assert (await exchanged(port, WISH)).endswith(b"hello")


@pytest.mark.needs("curl")
async def test_curl_reads_hints_and_trailers() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.inform(103, {"link": "</a>"})
        await chunks().pipe(response)

    async with serving(handler) as port:
        command = ["curl", "-sS", "-i", "-m", "60", f"http://127.0.0.1:{port}/"]
        done = await trio.run_process(command, capture_stdout=True)

    assert done.stdout.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert done.stdout.endswith(b"\r\n\r\nabcd")


# Trailers.


@tf.readable
async def chunks() -> AsyncIterator[bytes]:
    yield b"ab"
    await trio.lowlevel.checkpoint()
    yield b"cd"


async def test_trailers_are_sent_after_a_chunked_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        async def count(source: tf.ReceiveChannel[bytes], output: tf.SendChannel[bytes]) -> None:
            size = 0
            async for chunk in source:
                size += len(chunk)
                await output.send(chunk)
            response.trailers["x-size"] = str(size)

        await chunks().pipe(tf.Transform(count)).pipe(response)
        with pytest.raises(RuntimeError, match="the end of this response has been sent"):
            response.trailers["x"] = "y"

    async with serving(handler) as port:
        assert (await exchanged(port, GET)).endswith(b"\r\n0\r\nX-Size: 4\r\n\r\n")


async def test_trailers_are_omitted_without_a_chunked_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        response.trailers["x"] = "y"
        await response.send(b"hello")

    async def late(request: Request, response: Response) -> None:
        await response.send(b"hello")
        with pytest.raises(RuntimeError, match="the end of this response has been sent"):
            response.trailers["x"] = "y"

    async with serving(handler) as port:
        assert b"X: y" not in await exchanged(port, GET)
        assert b"X: y" not in await exchanged(port, b"GET / HTTP/1.0\r\n\r\n")
        assert b"X: y" not in await exchanged(port, b"HEAD" + GET[3:])
    async with serving(late) as port:
        assert (await exchanged(port, GET)).endswith(b"hello")


async def test_a_header_that_must_precede_the_body_is_refused_as_a_trailer() -> None:
    async def handler(request: Request, response: Response) -> None:
        for name in ("Content-Length", "transfer-encoding", "SET-COOKIE", "host"):
            with pytest.raises(ValueError, match=f"{name.lower()} cannot be sent as a trailer"):
                response.trailers.fill(Headers([(name, "1")]))
        response.trailers.add("x", "1")
        response.trailers.add("x", "2")
        await chunks().pipe(response)

    async with serving(handler) as port:
        assert (await exchanged(port, GET)).endswith(b"0\r\nX: 1\r\nX: 2\r\n\r\n")


# Another protocol.


async def echo(request: Request, response: Response) -> None:
    response.headers["x-greeting"] = "hello"
    connection = await response.upgrade("echo")
    await connection.readable.pipe(connection.writable)


async def test_a_connection_can_switch_to_another_protocol() -> None:
    async with serving(echo) as port, connected(port) as stream:
        await stream.send_all(WISH + b"came along, ")
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Greeting: hello\r\n\r\n"
        assert await read_until(stream, b"came along, ") == head + b"came along, "
        await stream.send_all(b"came later")
        assert await read_until(stream, b"later") == b"came later"
        await stream.send_eof()
        assert await read_all(stream) == b""


async def test_a_connection_can_switch_to_tls() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    big = bytes(range(256)) * 10_000
    async with serving(echo, ssl_context=ours) as port:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=theirs)
        try:
            await stream.send_all(WISH)
            await read_until(stream, b"\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, big)
                got = b""
                while len(got) < len(big):
                    got += await stream.receive_some()
            assert got == big
        finally:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        WISH.replace(b", Upgrade", b""),
        WISH.replace(b"Echo", b"echoes"),
        WISH.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WISH.replace(b"GET", b"POST").replace(b"Host", b"Content-Length: 3\r\nHost") + b"abc",
    ],
)
async def test_an_upgrade_without_a_valid_request_is_answered_with_400(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(echo) as port:
        assert (await exchanged(port, request_)).startswith(b"HTTP/1.1 400 Bad Request\r\n")

    assert caplog.records == []


async def test_a_client_that_is_not_upgraded_gets_an_ordinary_response() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")

    async with serving(handler) as port:
        assert (await exchanged(port, WISH, GET)).count(b"hello") == 2


async def test_after_an_upgrade_the_response_cannot_be_used() -> None:
    told: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        connection = await response.upgrade("echo")
        for act in (response.send(b"x"), response.start(), response.inform(103), response.upgrade("echo")):
            with pytest.raises(trio.ClosedResourceError):
                await act
        with pytest.raises(RuntimeError):
            response.headers["x"] = "y"
        told.append("seen")
        await tf.from_iterable([b"bye"]).pipe(connection.writable)

    async with serving(handler) as port:
        assert (await exchanged(port, WISH)).endswith(b"\r\n\r\nbye")

    assert told == ["seen"]


async def test_R16_a_client_that_leaves_cancels_the_handler() -> None:
    ended = trio.Event()
    counters = Counters()

    async def handler(request: Request, response: Response) -> None:
        await response.upgrade("echo")
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(handler, counters=counters) as port, connected(port) as stream:
        await stream.send_all(WISH)
        await read_until(stream, b"\r\n\r\n")
        reset(stream)
        with trio.fail_after(60):
            await ended.wait()
            while counters.open:
                await wait_all_tasks_blocked()

    assert counters.open == 0


async def test_R13_a_handler_that_fails_resets_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.upgrade("echo")
        raise ValueError("broken")

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(WISH)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)

    assert "failed" in caplog.text


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_handler_may_close_the_connection_itself(is_cancelled: bool) -> None:
    closed = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        connection = await response.upgrade("echo")
        async with connection.open() as stream:
            await stream.send_all(b"bye")
            await wait_all_tasks_blocked()
            if is_cancelled:
                await trio.aclose_forcefully(stream)
            else:
                await stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()
        closed.set()

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(WISH)
        await read_until(stream, b"bye")
        with suppress(trio.BrokenResourceError):
            assert await read_all(stream) == b""
            assert not is_cancelled
        await closed.wait()
        async with connected(port) as second:  # perhaps with the descriptor number of the first
            await second.send_all(WISH + b"x")
            await read_until(second, b"bye")


async def test_R20_the_upgraded_stream_passes_trios_checks() -> None:
    def over(sock: socket.socket) -> UpgradedStream:
        sock.setblocking(False)
        transport = SocketTransport(sock, stall=30, rate=0, on_loss=lambda: None)
        return UpgradedStream(transport, b"", lambda: None)

    async def make() -> tuple[UpgradedStream, UpgradedStream]:
        ours, theirs = socket.socketpair()
        return over(ours), over(theirs)

    async def clogged() -> tuple[UpgradedStream, UpgradedStream]:
        ends = await make()
        for end in ends:
            with suppress(BlockingIOError):
                while True:
                    end._transport.sock.send(bytes(65536))
        return ends

    with trio.fail_after(60):
        await trio.testing.check_half_closeable_stream(make, clogged)


async def test_R20_a_second_task_in_one_direction_is_refused() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    other = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    stream = UpgradedStream(SocketTransport(ours, stall=30, rate=0, on_loss=lambda: None), b"", lambda: None)
    async with stream, other:
        await check_a_second_task_is_refused(stream, other)


async def test_bytes_that_arrived_with_the_request_are_received_first() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        stream = UpgradedStream(SocketTransport(ours, stall=30, rate=0, on_loss=lambda: None), b"abc", lambda: None)
        theirs.send(b"de")
        assert [await stream.receive_some(2) for _ in range(3)] == [b"ab", b"c", b"de"]
        await stream.wait_send_all_might_not_block()
        await stream.send_all(b"")
        with pytest.raises(ValueError, match="max_bytes must be at least 1, got 0"):
            await stream.receive_some(0)
        await stream.aclose()
        await stream.aclose()
