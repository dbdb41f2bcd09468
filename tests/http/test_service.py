"""Where a server listens, what it logs and counts, and which proxies it trusts."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import Client, connected, exchanged, read_all, read_until, reset, serving
from trioflow import http
from trioflow.http import Access, Counters, Limits, Proxies, Request, RequestError, Response
from trioflow.http.wire.socket import SocketTransport

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(request: Request, response: Response) -> None:
    await response.send(b"hello")


async def who(request: Request, response: Response) -> None:
    await response.send(f"{request.scheme} {request.client!r}".encode())


@asynccontextmanager
async def listening(handler: Any, **options: Any) -> AsyncGenerator[list[str], None]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(http.serve, handler, **options))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected_to(path: Path) -> AsyncGenerator[trio.SocketStream, None]:
    stream = await trio.open_unix_socket(path)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


# Where it listens.


async def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with listening(who, unix=path) as urls:
        assert urls == [f"http+unix:{path}"]
        assert stat.S_ISSOCK(os.lstat(path).st_mode)
        async with connected_to(path) as stream:
            assert (await Client(stream).ask("GET", "/"))[2] == b"http ''"

    assert not path.is_socket()


@pytest.mark.needs("curl")
async def test_curl_downloads_over_a_unix_socket(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(3_000_000))
    path = tmp_path / "a.sock"
    async with listening(http.files(tmp_path), unix=path):
        command = ["curl", "-sS", "-m", "60", "--unix-socket", str(path), "http://localhost/a.bin"]
        done = await trio.run_process(command, capture_stdout=True)

    assert done.stdout == bytes(3_000_000)


async def test_a_socket_file_that_a_server_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with listening(hello, unix=str(path)), connected_to(path) as stream:
        assert (await Client(stream).ask("GET", "/"))[2] == b"hello"


async def test_a_socket_file_that_another_server_uses_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with listening(hello, unix=path):
        with pytest.raises(OSError, match="another server listens at this path"):
            await http.serve(hello, unix=path)
        async with connected_to(path) as stream:
            assert (await Client(stream).ask("GET", "/"))[2] == b"hello"


async def test_an_ordinary_file_at_the_path_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="the path exists and is not a socket"):
        await http.serve(hello, unix=path)

    assert path.read_text() == "mine"


async def test_a_file_that_has_replaced_the_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with listening(hello, unix=path):
        path.unlink()
        path.write_text("other")

    assert path.read_text() == "other"


async def test_inherited_sockets_are_served_and_closed(tmp_path: Path) -> None:
    first, second = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    second.bind(str(tmp_path / "b.sock"))
    second.listen()
    port = first.getsockname()[1]
    async with listening(hello, listeners=[first, second]) as urls:
        assert urls == [f"http://127.0.0.1:{port}", f"http+unix:{tmp_path}/b.sock"]
        assert (await exchanged(port, GET)).endswith(b"hello")
        async with connected_to(tmp_path / "b.sock") as stream:
            assert (await Client(stream).ask("GET", "/"))[2] == b"hello"

    assert first.fileno() == second.fileno() == -1
    assert (tmp_path / "b.sock").exists()  # its creator is responsible for that


async def test_a_first_request_that_has_arrived_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: SocketTransport) -> bytes:
        raise AssertionError("it waited for a request that was there")

    monkeypatch.setattr(SocketTransport, "receive", refuse)
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        async with listening(hello, listeners=[listener]):
            got = await read_all(trio.SocketStream(trio.socket.from_stdlib_socket(client)))

    assert got.endswith(b"hello")


async def test_a_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match="is not; call its listen"):
        await http.serve(hello, listeners=[sock])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"unix": "a", "listeners": []}, "serve: unix and listeners were both given; leave out one"),
        ({"listeners": [5]}, "serve: listeners must be sockets, got 5"),
        ({"ssl_context": ssl.create_default_context()}, "ssl_context is for a client; make one for a server"),
        ({"host": 5}, "host must be a str or None, got 5"),
        ({"limits": None}, "serve: limits must be Limits, got None"),
        ({"proxies": ["10.0.0.1"]}, "proxies must be Proxies, got"),
        ({"counters": 5}, "counters must be Counters, got 5"),
        ({"log": "x"}, "log expects a function, got 'x'"),
    ],
)
async def test_invalid_combinations_of_arguments_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        await http.serve(hello, port=0, **options)


# Its log.


async def test_each_request_is_logged() -> None:
    told: list[Access] = []

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/teapot":
            response.status = 418
        await response.send(b"12345")

    async with serving(handler, log=told.append) as port, connected(port) as stream:
        client = Client(stream)
        await client.ask("GET", "/a?b", [("Referer", "http://a.example/"), ("User-Agent", "x")])
        await client.ask("HEAD", "/")
        await client.ask("POST", "/teapot", [("Content-Length", "3")], [b"abc"])
        await wait_all_tasks_blocked()
        name = stream.socket.getsockname()

    assert [(each.method, each.target, each.status, each.sent) for each in told] == [
        ("GET", "/a?b", 200, 5),
        ("HEAD", "/", 200, 0),
        ("POST", "/teapot", 418, 5),
    ]
    assert {each.client for each in told} == {name}
    assert (told[0].referer, told[0].agent) == ("http://a.example/", "x")
    assert (told[1].referer, told[1].agent) == (None, None)
    assert all(each.is_whole and each.seconds >= 0 and each.time > 1e9 for each in told)


async def test_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Access] = []

    async def handler(request: Request, response: Response) -> None:
        match request.path:
            case "/before":
                raise ValueError("broken")
            case "/after":
                async with response.open() as body:
                    await body.send(b"123")
                    await wait_all_tasks_blocked()
                    raise ValueError("broken")
            case "/refused":
                raise RequestError(413, "too large")
            case _:
                await response.start()
                await trio.sleep_forever()

    async with serving(handler, log=told.append) as port:
        for path in ("before", "refused"):
            await exchanged(port, GET.replace(b"/ ", f"/{path} ".encode()))
        with pytest.raises(trio.BrokenResourceError):
            await exchanged(port, GET.replace(b"/ ", b"/after "))
        await exchanged(port, b"GET\r\n\r\n")
        async with connected(port) as stream:
            await stream.send_all(GET.replace(b"/ ", b"/gone "))
            await read_until(stream, b"\r\n\r\n")
            reset(stream)
        with trio.fail_after(60):
            while len(told) < 5:
                await wait_all_tasks_blocked()

    assert [(each.method, each.target, each.status, each.is_whole) for each in told] == [
        ("GET", "/before", 500, True),
        ("GET", "/refused", 413, True),
        ("GET", "/after", 200, False),
        ("", "", 400, True),
        ("GET", "/gone", 200, False),
    ]
    assert told[2].sent == 3
    assert len(caplog.records) == 2


async def test_the_log_has_the_bytes_sent_of_a_truncated_file(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 30)
    told: list[Access] = []
    counters = http.Counters()
    async with serving(http.files(tmp_path), log=told.append, counters=counters) as port:
        async with connected(port) as stream:
            await stream.send_all(GET.replace(b"/ ", b"/large "))
            await stream.receive_some()
            reset(stream)
        with trio.fail_after(60):
            while not told:
                await wait_all_tasks_blocked()

    assert not told[0].is_whole
    assert 0 < told[0].sent < counters.sent < 1 << 28


async def test_a_failing_log_does_not_fail_a_request(caplog: pytest.LogCaptureFixture) -> None:
    def log(access: Access) -> None:
        raise OSError("full")

    async with serving(hello, log=log) as port:
        assert (await exchanged(port, GET)).endswith(b"hello")

    assert "the access log failed" in caplog.text


SAMPLE = Access(0.25, ("::1", 80), "GET", '/\x1b[31m"\\é', 200, 5, 0.0012, True, None, "a\nb")


def test_a_line_of_the_log_cannot_be_forged() -> None:
    assert SAMPLE.as_line() == r'1970-01-01T00:00:00Z ::1 "GET /\x1b[31m\"\\\xe9" 200 5 1.2ms "-" "a\nb"'
    cut = SAMPLE._replace(is_whole=False, status=0, client="", method="")
    assert cut.as_line() == r'1970-01-01T00:00:00Z unix "-" - cut 5 1.2ms "-" "a\nb"'


def test_a_json_line_has_the_same_fields() -> None:
    line = SAMPLE.as_json()

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {
        **SAMPLE._asdict(),
        "time": "1970-01-01T00:00:00.250+00:00",
        "client": "::1",
    }


# Its counters.


async def test_requests_and_connections_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/boom":
            raise ValueError("broken")
        await request.body.pipe(tf.drain())
        await response.send(b"hello")

    limits = Limits(head_time=0.05)
    async with serving(handler, counters=counters, limits=limits) as port:
        request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        answer = await exchanged(port, request)
        assert answer.endswith(b"hello")
        first = counters.as_dict()
        assert first["received"] == len(request)
        assert first["sent"] == len(answer) + len(
            "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=59\r\n"
        )

        await exchanged(port, GET.replace(b"/ ", b"/boom "))
        await exchanged(port, b"nonsense\r\n\r\n")
        async with connected(port) as stream:
            await stream.send_all(b"GET / HT")
            await wait_all_tasks_blocked()
            assert counters.open == 1
            assert (await read_all(stream)).startswith(b"HTTP/1.1 408 ")
        with trio.fail_after(60):
            while counters.open:
                await wait_all_tasks_blocked()

    told = counters.as_dict()
    del told["received"], told["sent"]
    assert told == {"connections": 4, "failures": 1, "open": 0, "refusals": 2, "requests": 2, "stalls": 1}
    assert counters.stopping
    assert repr(counters).startswith("<Counters connections=4, ")
    assert repr(counters).endswith(", stopping>")


async def test_a_file_is_counted(tmp_path: Path) -> None:
    counters = Counters()
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    async with serving(http.files(tmp_path), counters=counters) as port:
        await exchanged(port, GET.replace(b"/ ", b"/a "))

    assert 1_000_000 < counters.sent < 1_001_000


async def test_a_health_page_shows_the_state_of_the_server() -> None:
    counters = Counters()
    async with serving(http.health(counters), counters=counters) as port, connected(port) as stream:
        client = Client(stream)
        status, headers, body = await client.ask("GET", "/")
        assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
        assert json.loads(body) == {**counters.as_dict(), "status": "ok", "sent": 0, "received": counters.received}
        assert (await client.ask("POST", "/"))[0] == 405
        counters.stopping = True
        status, _, body = await client.ask("GET", "/")

    assert (status, json.loads(body)["status"]) == (503, "stopping")


async def test_a_health_page_needs_no_counters() -> None:
    async with serving(http.health()) as port:
        assert (await exchanged(port, GET)).endswith(b'{"status": "ok"}\n')
    health: Any = http.health
    with pytest.raises(TypeError, match="health: counters must be Counters, got 5"):
        health(5)


# Trusted proxies.


async def test_a_trusted_proxy_determines_the_client() -> None:
    told: list[Access] = []
    request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n")
    async with serving(who, proxies=Proxies(["127.0.0.0/8"]), log=told.append) as port:
        assert (await exchanged(port, request)).endswith(b"https ('192.0.2.7', 0)")
        assert b"http ('127.0.0.1', " in await exchanged(port, GET)

    assert told[0].client == ("192.0.2.7", 0)


async def test_an_untrusted_peer_does_not_determine_the_client() -> None:
    request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n")
    for options in ({}, {"proxies": Proxies(["10.0.0.1"])}):
        async with serving(who, **options) as port:
            assert b"http ('127.0.0.1', " in await exchanged(port, request)
