"""Clients that leave during a response, and clients that only half-close their connection.

Both send the same thing, a FIN. The difference is that a client that has gone answers later data with a reset.
"""

from __future__ import annotations

import gc
import math
import select
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import connected, exchanged, read_all, read_until, reset, serving
from trioflow import http
from trioflow.http import Limits, Request, Response
from trioflow.http._connection import Connection
from trioflow.http.wire.exchange import Exchange

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


class Quiet:
    """A handler that sleeps before or within its response, and records when it was cancelled."""

    def __init__(self, begin: bytes = b"") -> None:
        self._begin = begin
        self.began, self.ended = trio.Event(), trio.Event()

    async def __call__(self, request: Request, response: Response) -> None:
        try:
            if self._begin:
                async with response.open() as body:
                    await body.send(self._begin)
                    self.began.set()
                    await trio.sleep_forever()
            self.began.set()
            await trio.sleep_forever()
        finally:
            self.ended.set()


@pytest.mark.parametrize("begin", [b"", b"hello"])
@pytest.mark.parametrize("limit", [1, 7])
async def test_a_client_that_closes_is_noticed_within_the_limit(
    begin: bytes, limit: float, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Quiet(begin)
    async with serving(handler, limits=Limits(half_closed=limit)) as port:
        async with connected(port) as stream:
            await stream.send_all(GET)
            await handler.began.wait()
            if begin:
                await read_until(stream, begin + b"\r\n")
            await trio.sleep(30)
            left = trio.current_time()
        with trio.fail_after(100):
            await handler.ended.wait()

        assert trio.current_time() - left == pytest.approx(limit)

    assert not caplog.records


async def test_a_client_that_sends_its_request_and_closes_at_once_is_noticed(autojump_clock: MockClock) -> None:
    handler = Quiet()
    async with serving(handler) as port:
        async with connected(port) as stream:
            await stream.send_all(GET)
        with trio.fail_after(1.1):
            await handler.ended.wait()


async def test_a_client_that_half_closes_and_then_resets_is_noticed_at_once(autojump_clock: MockClock) -> None:
    handler = Quiet()
    async with serving(handler, limits=Limits(half_closed=math.inf)) as port, connected(port) as stream:
        await stream.send_all(GET)
        await handler.began.wait()
        await stream.send_eof()
        await trio.sleep(10)
        assert not handler.ended.is_set()
        reset(stream)
        with trio.fail_after(0.1):
            await handler.ended.wait()


async def test_without_a_limit_a_half_closed_client_may_wait_forever(
    autojump_clock: MockClock,
) -> None:
    async def slow(request: Request, response: Response) -> None:
        await trio.sleep(1000)
        await response.send(b"hello")

    async with serving(slow, limits=Limits(half_closed=math.inf)) as port:
        got = await exchanged(port, GET)

    assert got.endswith(b"\r\n\r\nhello")


async def test_a_half_closed_client_that_is_written_to_in_time_is_not_dropped_later(autojump_clock: MockClock) -> None:
    async def rare(request: Request, response: Response) -> None:
        async with response.open() as body:
            for _ in range(3):
                await trio.sleep(0.9)
                await body.send(b"x")
                await trio.sleep(20)

    async with serving(rare) as port:
        got = await exchanged(port, GET)

    assert got.endswith(b"\r\n\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="without epoll, the end is noticed within a second")
@pytest.mark.parametrize("has_body", [False, True])
async def test_a_client_that_half_closes_at_once_may_wait_after_the_beginning_of_its_response(
    has_body: bool, autojump_clock: MockClock
) -> None:
    async def handler(request: Request, response: Response) -> None:
        if not has_body:
            await response.start()
            await trio.sleep(20)
        async with response.open() as body:
            for _ in range(2):
                await body.send(b"x")
                await trio.sleep(20)

    async with serving(handler) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(GET)
            sock.shutdown(socket.SHUT_WR)  # before the server takes the connection
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            got = await read_all(stream)

    assert got.endswith(b"\r\n\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


async def test_a_half_closed_client_that_reads_slowly_gets_the_whole_response(autojump_clock: MockClock) -> None:
    async def large(request: Request, response: Response) -> None:
        await tf.from_iterable([bytes(1 << 20)] * 20).pipe(response)

    async with serving(large) as port, connected(port) as stream:
        await stream.send_all(GET)
        await wait_all_tasks_blocked()
        await stream.send_eof()
        await trio.sleep(20)  # nothing is written in the meantime, because the buffers of the system are full
        got = await read_all(stream)

    assert got.endswith(b"\r\n0\r\n\r\n")


async def test_a_half_closed_client_whose_body_is_still_read_is_not_dropped(autojump_clock: MockClock) -> None:
    async def slow(request: Request, response: Response) -> None:
        size = 0
        async with request.body.open(capacity=1) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                await trio.sleep(0.1)  # not much more: several have arrived before the first is handled
        await response.send(b"%d" % size)

    async with serving(slow) as port:
        got = await exchanged(port, POST % 2_000_000, bytes(2_000_000))

    assert got.endswith(b"\r\n\r\n2000000")


async def test_a_half_closed_client_whose_body_is_never_read_is_dropped(autojump_clock: MockClock) -> None:
    handler = Quiet()
    async with serving(handler) as port:
        async with connected(port) as stream:
            await stream.send_all(POST % 100_000 + bytes(100_000))
        with trio.fail_after(1.1):
            await handler.ended.wait()


async def test_a_handler_that_has_answered_continues_when_its_client_leaves(autojump_clock: MockClock) -> None:
    done = trio.Event()

    async def tidy(request: Request, response: Response) -> None:
        await response.send(b"hello")
        await trio.sleep(100)
        done.set()

    async with serving(tidy) as port:
        async with connected(port) as stream:
            await stream.send_all(GET)
            await read_until(stream, b"hello")
        await done.wait()


async def test_if_the_first_pipelined_request_is_answered_in_time_all_of_them_are(
    autojump_clock: MockClock,
) -> None:
    times = iter([0.9, 30, 30])

    async def slow(request: Request, response: Response) -> None:
        await trio.sleep(next(times))
        await response.send(b"hello")

    async with serving(slow) as port:
        got = await exchanged(port, GET * 3)

    assert got.count(b"\r\n\r\nhello") == 3


async def test_the_next_request_of_a_client_that_left_while_its_answered_handler_continued_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    handler, answered = Quiet(), trio.Event()

    async def first_answers(request: Request, response: Response) -> None:
        if answered.is_set():
            await handler(request, response)
        await response.send(b"hello")
        answered.set()
        await trio.sleep(10)

    async with serving(first_answers) as port:
        async with connected(port) as stream:
            await stream.send_all(GET * 2)
            await read_until(stream, b"hello")
        await handler.began.wait()
        with trio.fail_after(1.1):
            await handler.ended.wait()


def alive(kind: type[object]) -> int:
    """Return how many objects of a class this process holds, of which earlier tests may hold some."""
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.parametrize("number", [1, 2])
async def test_a_connection_that_ended_in_time_is_freed(number: int) -> None:
    async def handler(request: Request, response: Response) -> None:
        await wait_all_tasks_blocked()
        await response.send(b"hello")

    async with serving(handler, limits=Limits(half_closed=math.inf)) as port:
        gc.collect()
        before = alive(Exchange)
        for _ in range(5):
            assert (await exchanged(port, GET * number)).endswith(b"hello")
        await wait_all_tasks_blocked()
        gc.collect()

        assert alive(Exchange) - before <= 1  # the exchange of the first connection


async def test_a_connection_leaves_nothing_to_the_garbage_collector_even_if_its_client_has_left() -> None:
    quiet = Quiet()

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/":
            await response.send(b"hello")
        else:
            await quiet(request, response)

    async def use(port: int) -> None:
        assert (await exchanged(port, GET)).endswith(b"hello")
        quiet.began, quiet.ended = trio.Event(), trio.Event()
        async with connected(port) as stream:
            await stream.send_all(GET.replace(b"/", b"/quiet", 1))
            await quiet.began.wait()
            reset(stream)
        await quiet.ended.wait()
        await wait_all_tasks_blocked()

    async with serving(handler) as port:
        gc.collect()
        before = alive(Connection)
        gc.disable()
        try:
            for _ in range(5):
                await use(port)

            # The server's own tasks keep the last one that was accepted, and the first that was waited for.
            assert alive(Connection) - before <= 2
        finally:
            gc.enable()


async def test_an_upgraded_connection_may_stay_half_closed(autojump_clock: MockClock) -> None:
    async def late(request: Request, response: Response) -> None:
        connection = await response.upgrade("late")
        async with connection.open() as stream:
            got = await read_all(stream)
            await trio.sleep(100)
            await stream.send_all(got)

    asked = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: late\r\n\r\n"
    async with serving(late) as port:
        got = await exchanged(port, asked, b"hello")

    assert got.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("is_client_first", [True, False])
async def test_an_upgraded_connection_is_read_to_its_end_after_both_sides_are_half_closed(
    is_client_first: bool, autojump_clock: MockClock
) -> None:
    got: list[bytes] = []

    async def slow(request: Request, response: Response) -> None:
        connection = await response.upgrade("slow")
        async with connection.open() as stream:
            if is_client_first:
                await trio.sleep(2)
            await stream.send_eof()
            await trio.sleep(100)
            got.append(await read_all(stream))

    asked = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: slow\r\n\r\n"
    async with serving(slow) as port, connected(port) as stream:
        await stream.send_all(asked)
        if not is_client_first:
            await read_all(stream)
        await stream.send_all(b"hello")
        await stream.send_eof()
        await read_all(stream)
        await trio.sleep(200)

    assert got == [b"hello"]


async def test_a_client_that_leaves_is_noticed_over_tls_too(autojump_clock: MockClock) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    handler = Quiet(b"hello")
    async with serving(handler, ssl_context=server) as port:
        stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client)
        await stream.send_all(GET)
        await handler.began.wait()
        await trio.aclose_forcefully(stream)
        with trio.fail_after(1.1):
            await handler.ended.wait()


# Programs, which take real time.

QUICK = Limits(half_closed=0.05)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("begin", [b"", b"hello"])
async def test_a_killed_curl_is_noticed(begin: bytes) -> None:
    handler = Quiet(begin)
    async with serving(handler, limits=QUICK) as port, trio.open_nursery() as nursery:
        curl = ["curl", "-sN", f"http://127.0.0.1:{port}"]
        process = await nursery.start(partial(trio.run_process, curl, capture_stdout=True, check=False))
        with trio.fail_after(60):
            await handler.began.wait()
            process.kill()
            await handler.ended.wait()


NGINX = """
daemon off; pid nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{ listen unix:{path}; location / {{ proxy_pass http://127.0.0.1:{port}; proxy_buffering off; }} }}
}}
"""


@asynccontextmanager
async def nginx(root: Path, port: int) -> AsyncGenerator[str, None]:
    """Run nginx in front of a server, and yield the path of its socket."""
    path = root / "socket"
    (root / "nginx.conf").write_text(NGINX.format(path=path, port=port))
    command = [shutil.which("nginx") or "nginx", "-e", "stderr", "-p", str(root), "-c", "nginx.conf"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        process: trio.Process = await nursery.start(run)
        with trio.fail_after(60):
            while True:  # until it listens, of which it tells nobody
                try:
                    await (await trio.open_unix_socket(path)).aclose()
                except OSError:
                    await trio.sleep(0.01)
                else:
                    break
        yield str(path)
        process.terminate()


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("begin", [b"", b"hello"])
async def test_the_server_after_nginx_notices_a_client_of_nginx_that_leaves(begin: bytes, tmp_path: Path) -> None:
    handler = Quiet(begin)
    async with serving(handler, limits=QUICK) as port, nginx(tmp_path, port) as path:
        stream = await trio.open_unix_socket(path)
        await stream.send_all(GET)
        with trio.fail_after(60):
            await handler.began.wait()
            await trio.aclose_forcefully(stream)
            await handler.ended.wait()


async def test_a_client_that_leaves_a_unix_socket_is_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    handler = Quiet(b"hello")
    path = tmp_path / "socket"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(http.serve, handler, unix=path))
        stream = await trio.open_unix_socket(path)
        await stream.send_all(GET)
        await handler.began.wait()
        await read_until(stream, b"hello\r\n")
        await trio.aclose_forcefully(stream)
        with trio.fail_after(1.1):
            await handler.ended.wait()
        nursery.cancel_scope.cancel()
