"""Which connections are accepted when there are many, and which one is closed for a new one."""

from __future__ import annotations

import logging
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http.client import Client, read_all, read_until, serving
from trioflow import http
from trioflow.http import Limits, Request, Response
from trioflow.http._admission import Repeated
from trioflow.http._proxies import Peer

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(request: Request, response: Response) -> None:
    if request.path == "/wait":
        await trio.sleep_forever()
    await response.send(b"hello")


@asynccontextmanager
async def come(port: int, *sent: bytes, source: str = "127.0.0.1") -> AsyncGenerator[list[trio.SocketStream], None]:
    """Connect once for each of `sent`, send it, and read the answer to a whole request."""
    streams: list[trio.SocketStream] = []
    try:
        for data in sent:
            sock = trio.socket.socket()
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", port))
            streams.append(stream := trio.SocketStream(sock))
            if data:
                await stream.send_all(data)
            if data == GET:
                await read_until(stream, b"hello")
            await wait_all_tasks_blocked()
        yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET], ids=["nothing", "part", "whole"])
async def test_at_the_limit_the_connection_that_has_been_idle_longest_is_closed(sent: bytes) -> None:
    async with (
        serving(answer, limits=Limits(connections=3, half_closed=0.01)) as port,
        come(port, sent, sent, sent) as streams,
        come(port, GET) as [new],
    ):
        assert await read_all(streams[0]) == b""  # no 408 either, because nothing was wrong with it
        for stream in [new, *streams[1:]]:
            await stream.send_all(GET.removeprefix(sent) if sent == b"GET / HT" and stream is not new else GET)
            assert (await read_until(stream, b"hello")).endswith(b"hello")


async def test_the_connection_idle_longest_is_closed_whatever_it_waits_for() -> None:
    async with (
        serving(answer, limits=Limits(connections=4, half_closed=0.01)) as port,
        come(port, GET, b"", b"GET / HT", GET) as [first, fresh, head, last],
    ):
        await first.send_all(GET)  # now it is the most recently used
        await read_until(first, b"hello")
        await wait_all_tasks_blocked()
        for number, gone in enumerate((fresh, head, last), 1):
            async with come(port, *[GET.replace(b"/ ", b"/wait ")] * number):
                assert await read_all(gone) == b""


async def test_a_request_that_has_just_arrived_is_answered_before_its_connection_is_closed() -> None:
    async with (
        serving(answer, limits=Limits(connections=2, half_closed=0.01)) as port,
        come(port, GET, GET) as [first, second],
    ):
        with socket.create_connection(("127.0.0.1", port)) as new:  # without a pause in which the server could run
            first.socket._sock.send(GET)
            assert (await read_until(first, b"hello")).endswith(b"hello")
            assert await read_all(second) == b""
            new.send(GET)
            assert (await trio.to_thread.run_sync(new.recv, 1000)).endswith(b"hello")


async def test_a_stalled_tls_handshake_does_not_keep_other_clients_out() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    async with (
        serving(answer, ssl_context=context, limits=Limits(connections=2, half_closed=0.01)) as port,
        come(port, b"", b""),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        secure = trio.SSLStream(stream, ours, server_hostname="localhost", https_compatible=True)
        assert (await Client(secure).ask("GET", "/"))[2] == b"hello"


async def test_one_client_has_no_more_than_its_share(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(per_client=2, half_closed=0.01)
    wait = GET.replace(b"/ ", b"/wait ")
    async with (
        serving(answer, limits=limits) as port,
        come(port, GET, GET) as [first, second],
        come(port, GET, source="127.0.0.2"),
        come(port, wait) as [third],
    ):
        assert await read_all(first) == b""
        await second.send_all(wait)
        await wait_all_tasks_blocked()
        assert not caplog.records
        async with come(port, b"", b"") as refused:
            assert [await read_all(stream) for stream in refused] == [b"", b""]
        async with come(port, GET, source="127.0.0.2"):
            pass
        await third.aclose()

    assert [record.getMessage() for record in caplog.records] == [
        "refused a connection from 127.0.0.1, which already has 2 in use"
    ]


async def test_the_limit_for_one_client_does_not_apply_to_proxies_and_unix_sockets(tmp_path: Path) -> None:
    limits = Limits(per_client=1, half_closed=0.01)
    wait = GET.replace(b"/ ", b"/wait ")
    async with serving(answer, limits=limits, proxies=http.Proxies(["127.0.0.1"])) as port, come(port, wait, wait, GET):
        pass
    async with trio.open_nursery() as nursery:
        path = tmp_path / "a.sock"
        await nursery.start(partial(http.serve, answer, unix=path, limits=limits))
        async with await trio.open_unix_socket(path) as busy, await trio.open_unix_socket(path) as stream:
            await busy.send_all(wait)
            await wait_all_tasks_blocked()
            await stream.send_all(GET)
            assert (await read_until(stream, b"hello")).endswith(b"hello")
        nursery.cancel_scope.cancel()


def test_an_ipv6_client_is_identified_by_its_network() -> None:
    def origin(address: Any, proxies: http.Proxies | None = None) -> bytes | None:
        return Peer(address, "http", proxies).origin

    assert origin(("2001:db8::1", 80, 0, 0)) == origin(("2001:db8::ffff:1", 80, 0, 0))
    assert origin(("2001:db8::1", 80, 0, 0)) != origin(("2001:db8:0:1::1", 80, 0, 0))
    assert origin(("::ffff:192.0.2.7", 80, 0, 0)) == origin(("192.0.2.7", 80))
    assert origin(("192.0.2.7", 80)) != origin(("192.0.2.8", 80))
    assert origin("") is None
    assert origin(("192.0.2.7", 80), http.Proxies(["192.0.2.0/24"])) is None


async def test_a_frequent_event_is_logged_once_and_then_once_a_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = Repeated(logging.ERROR, "no %s left")
    for _ in range(1300):
        log("descriptors")
        await trio.sleep(0.1)

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == "no descriptors left"
    assert all("descriptors left; " in line and line.endswith("times since this was last logged") for line in said[1:])
    assert 595 < int(said[1].split()[3]) < 605


async def test_an_idle_connection_is_closed_when_no_descriptors_are_left(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(answer) as port, come(port, GET) as [resting]:
        sock = trio.socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
            await sock.connect(("127.0.0.1", port))
            async with trio.SocketStream(sock) as stream:
                await stream.send_all(GET)
                with trio.fail_after(60):
                    assert (await read_until(stream, b"hello")).endswith(b"hello")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await read_all(resting) == b""

    assert len(caplog.records) == 1


NEW = """
import os, resource, socket, trio, trio.testing
from functools import partial
from trioflow import http

async def main():
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, http.files("."), port=0))
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        idle, last = socket.socket(), socket.socket()
        idle.connect(place)
        await trio.testing.wait_all_tasks_blocked()
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        last.connect(place)
        last.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(last))
        await stream.send_all(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print((await stream.receive_some())[:12].decode())
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.slow
def test_a_new_process_without_descriptors_imports_nothing_more() -> None:
    done = subprocess.run([sys.executable, "-c", NEW], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "HTTP/1.1 503\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", [GET, b"GET / HT"], ids=["whole", "part"])
async def test_a_thousand_idle_clients_do_not_delay_the_next_one(sent: bytes, autojump_clock: MockClock) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip("needs 2,500 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    try:
        async with serving(answer) as port, come(port, *[sent] * 1000):
            began = trio.current_time()
            async with come(port, GET, source="127.0.0.2"), come(port, GET):
                assert trio.current_time() == began
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
