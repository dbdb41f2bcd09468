"""HTTPS: what holds over TCP holds over TLS too, and what TLS adds has limits."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Turns
from tests.http.client import Client, connected, exchanged, ran, read_all, read_until, tcp_pair
from trioflow import http
from trioflow.http import Counters, Limits, Request, Response
from trioflow.http.wire.exchange import Wire
from trioflow.http.wire.socket import SocketTransport
from trioflow.http.wire.tls import TlsTransport

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def client_side(authority: trustme.CA, request: pytest.FixtureRequest) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the system's own certificates takes 36 ms
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = request.param
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def bundle(authority: trustme.CA) -> Iterator[str]:
    with authority.cert_pem.tempfile() as path:
        yield path


@asynccontextmanager
async def serving(handler: Any, context: ssl.SSLContext, **options: Any) -> AsyncGenerator[int, None]:
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, handler, port=0, ssl_context=context, **options))
        assert url.startswith("https://127.0.0.1:")
        yield int(url.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def secured(port: int, context: ssl.SSLContext) -> AsyncGenerator[Any, None]:
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def hello(request: Request, response: Response) -> None:
    await response.send(f"hello over {request.scheme}".encode())


async def test_a_request_is_answered_over_tls(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    async with serving(hello, server_side) as port, secured(port, client_side) as stream:
        client = Client(stream)
        for _ in range(3):
            status, _, body = await client.ask("GET", "/")
            assert (status, body) == (200, b"hello over https")
        assert stream.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"M-SEARCH"])
async def test_a_request_without_tls_gets_a_response_that_says_so(
    method: bytes, server_side: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[http.Access] = []
    async with serving(hello, server_side, log=told.append) as port, connected(port) as stream:
        await stream.send_all(method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = await read_all(stream)

    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in head
    assert b"\r\nConnection: close" in head
    said = b"The server speaks TLS here: use https:// instead of http://.\n"
    assert body == (b"" if method == b"HEAD" else said)
    assert [(access.status, access.sent) for access in told] == [(400, len(body))]
    assert caplog.records == []


@pytest.mark.needs("curl")
async def test_curl_shows_that_the_server_speaks_tls(server_side: ssl.SSLContext) -> None:
    async with serving(hello, server_side) as port:
        got = await ran("curl", "-s", "-m", "60", "-d", "x" * 100_000, f"http://127.0.0.1:{port}/")

    assert got.startswith(b"The server speaks TLS here")


async def test_a_response_ends_with_close_notify(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    async with serving(hello, server_side) as port, secured(port, client_side) as stream:
        await stream.send_all(LAST)

        # Without https_compatible, a trio.SSLStream raises if close_notify is missing.
        assert (await read_all(stream)).endswith(b"hello over https")


async def test_R13_a_response_that_was_cut_off_ends_without_close_notify(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def half(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"half")
            await wait_all_tasks_blocked()
            raise ValueError("broken")

    async with serving(half, server_side) as port, secured(port, client_side) as stream:
        await stream.send_all(LAST)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)

    assert "failed" in caplog.text


@pytest.mark.parametrize("size", [0, 1, 65_537, 5_000_000])
async def test_a_file_is_sent_whole(
    tmp_path: Path, server_side: ssl.SSLContext, client_side: ssl.SSLContext, size: int
) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "a.bin").write_bytes(content[:size])

    async with serving(http.files(tmp_path), server_side) as port, secured(port, client_side) as stream:
        _, headers, body = await Client(stream).ask("GET", "/a.bin")

    assert headers["content-length"] == str(size)
    assert body == content[:size]


async def test_a_large_body_is_received_and_sent_at_the_same_time(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async def echo(request: Request, response: Response) -> None:
        await request.body.pipe(response)

    chunks = [bytes([n]) * 100_000 for n in range(50)]
    got = bytearray()
    async with serving(echo, server_side) as port, secured(port, client_side) as stream:

        async def send() -> None:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n")
            for chunk in chunks:
                await stream.send_all(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while not got.endswith(b"\r\n0\r\n\r\n"):
                got += await stream.receive_some()

    assert len(got) > 5_000_000


async def test_R6_a_client_that_receives_nothing_stops_the_handler_and_is_disconnected(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    sent = 0
    counters = Counters()
    ended = trio.Event()

    async def endless(request: Request, response: Response) -> None:
        nonlocal sent
        try:
            async with response.open(capacity=1) as body:
                while True:
                    await body.send(bytes(1 << 20))
                    sent += 1
        finally:
            ended.set()

    limits = Limits(write_stall=0.1)
    started = serving(endless, server_side, limits=limits, counters=counters)
    async with started as port, secured(port, client_side) as stream:
        await stream.send_all(LAST)
        with trio.fail_after(60):
            await ended.wait()

    assert sent < 20
    assert counters.stalls == 1


async def test_a_connection_whose_tls_setup_fails_ends_alone(
    server_side: ssl.SSLContext,
    client_side: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrap_bio(*arguments: object, **options: object) -> None:
        raise MemoryError

    async with serving(hello, server_side) as port:
        with monkeypatch.context() as patch:
            patch.setattr(ssl.SSLContext, "wrap_bio", wrap_bio)
            assert await exchanged(port, half_close=False) == b""
        async with secured(port, client_side) as stream:
            await stream.send_all(GET)
            assert (await stream.receive_some()).endswith(b"hello over https")

    assert [record.getMessage().partition("(")[0] for record in caplog.records] == ["the connection from "]


async def test_a_client_without_a_handshake_is_disconnected(server_side: ssl.SSLContext) -> None:
    limits = Limits(handshake=0.05)
    async with serving(hello, server_side, limits=limits) as port, connected(port) as stream:
        with trio.fail_after(60):
            assert await read_all(stream) == b""


@pytest.mark.parametrize("junk", [b"\x80" + GET, b"\0" * 100, b"\x16\x03\x01\x00\x05hello", b""])
async def test_a_client_that_sends_no_tls_is_disconnected_and_nothing_is_logged(
    server_side: ssl.SSLContext, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(hello, server_side) as port:
        with trio.fail_after(60):
            try:
                answer = await exchanged(port, junk)
            except trio.BrokenResourceError:
                answer = b""
        assert b"HTTP" not in answer
        async with connected(port) as stream:
            await stream.send_all(junk[:3])
        await wait_all_tasks_blocked()

    assert caplog.records == []


async def test_a_half_closed_tls_client_gets_its_response(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async def late(request: Request, response: Response) -> None:
        await wait_all_tasks_blocked()
        await response.send(b"late")

    async with serving(late, server_side) as port, secured(port, client_side) as stream:
        await stream.send_all(GET)
        stream.transport_stream.socket.shutdown(socket.SHUT_WR)
        assert (await read_until(stream, b"late")).endswith(b"late")


async def test_a_refused_request_gets_the_reason(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    async with serving(hello, server_side) as port, secured(port, client_side) as stream:
        await stream.send_all(b"GET / HTTP/9.9\r\n\r\n" + bytes(100_000))
        answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 505 ")


async def test_R16_a_stopping_server_ends_its_connections(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with AsyncExitStack() as stack:
        async with serving(hello, server_side) as port:
            stream = await stack.enter_async_context(secured(port, client_side))
            await Client(stream).ask("GET", "/")

        assert await stream.receive_some() == b""  # close_notify, without which this would raise


@pytest.mark.needs("curl")
async def test_curl_accepts_the_certificate_and_gets_the_file(
    server_side: ssl.SSLContext, bundle: str, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(1_000_000))
    async with serving(http.files(tmp_path), server_side) as port:
        url = f"https://localhost:{port}/a.bin"
        done = await trio.run_process(
            ["curl", "-sS", "-m", "60", "--cacert", bundle, "--resolve", f"localhost:{port}:127.0.0.1", url, url],
            capture_stdout=True,
        )

    assert done.stdout == bytes(2_000_000)


async def test_R1_an_invalid_ssl_context_is_refused() -> None:
    serve: Any = http.serve
    with pytest.raises(TypeError, match="ssl_context must be SSLContext or a function that makes one, got True"):
        await serve(hello, port=0, ssl_context=True)


async def test_a_file_truncated_while_it_is_sent_cuts_off_the_response(
    tmp_path: Path, server_side: ssl.SSLContext, client_side: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(50_000_000))

    async def send(request: Request, response: Response) -> None:
        await tf.read_file(path).pipe(response)

    async with serving(send, server_side) as port, secured(port, client_side) as stream:
        await stream.send_all(GET)
        await stream.receive_some(10)
        await wait_all_tasks_blocked()
        path.write_bytes(b"")
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)

    assert "the file ended at byte" in caplog.text


async def test_a_client_that_sends_a_record_for_each_byte_lets_other_tasks_run(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    plain = SocketTransport(ours, stall=5, rate=0, on_loss=lambda: None)
    transport = TlsTransport(plain, server_side)
    sent = trio.Event()

    def send() -> None:
        with client_side.wrap_socket(theirs, server_hostname="localhost") as stream:
            for i in range(len(GET)):
                stream.sendall(GET[i : i + 1])
            trio.from_thread.run_sync(sent.set)
            stream.recv(1)

    turns = Turns()
    with ours:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, send)
            await transport.shake_hands()
            await sent.wait()
            nursery.start_soon(turns.take)
            exchange = await Wire(transport, Limits()).read_head()
            transport.close()
            nursery.cancel_scope.cancel()

    assert exchange.request.method == "GET"
    assert turns.count >= len(GET) // 2
