"""Where the command serves, and with which limits: its arguments, and the responses at each address."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

import pytest
import trio

from tests.http.client import Client, connected, ran, serving
from tests.test_cli import ended, port_in, started
from trioflow import cli, http
from trioflow.cli._command import _parser
from trioflow.http._listeners import Listeners

HAS_BOTH = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no socket accepts both IPv6 and IPv4 here")


def parsed(*arguments: str) -> argparse.Namespace:
    return _parser().parse_args(["serve", *arguments])


@pytest.mark.parametrize(
    ("arguments", "directory", "port"),
    [
        ([], ".", 8000),
        (["site"], "site", 8000),
        (["9000"], ".", 9000),
        (["./9000"], "./9000", 8000),
        (["site", "9000"], "site", 9000),
        (["7", "9000"], "7", 9000),
        (["-p", "9000"], ".", 9000),
        (["-p", "9000", "site"], "site", 9000),
        (["site", "--port=9000"], "site", 9000),
        (["--log", "off", "site", "9000", "--hidden"], "site", 9000),
        (["\u0663"], "\u0663", 8000),
    ],
)
def test_serve_accepts_a_directory_and_a_port_and_requires_neither(
    arguments: list[str], directory: str, port: int
) -> None:
    got = parsed(*arguments)

    assert (got.directory, got.port) == (directory, port)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["site", "x"], "a port is a number from 0 to 65535, got 'x'"),
        (["70000"], "a port is a number from 0 to 65535, got '70000'"),
        (["9000", "site"], "a port is a number from 0 to 65535, got 'site'"),
        (["a", "1", "b"], "expected at most a directory and a port, got 3 arguments"),
        (["80"], "80 is also a directory: type ./80 or -p 80"),
        (["--grace", "x"], "expected a number, or 'inf' for no limit, got 'x'"),
        (["--limit", "idle"], "a limit is NAME=NUMBER, such as idle=15, got 'idle'"),
        (["--limit", "idle=x"], "expected a number, or 'inf' for no limit, got 'x'"),
    ],
)
def test_invalid_addresses_and_limits_are_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    (tmp_path / "80").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as exit:
        cli.main(["serve", *arguments])
    assert exit.value.code == 2
    assert capsys.readouterr().err.endswith(f"{said}; see `trioflow serve --help`\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "novelty=1"], "unknown limit 'novelty'; the limits are line_size, "),
        (["--limit", "connections=2.5"], "the limit connections must be an int or math.inf, got 2.5\n"),
        (["--limit", "idle=0"], "the limit idle must be above 0, got 0\n"),
        (["--grace", "nan"], "the limit grace must be 0 or more, got nan\n"),
        (["--open", "--unix", "sock"], "--open needs a port: no browser opens a Unix socket\n"),
    ],
)
def test_limits_that_the_server_refuses_are_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.main(["serve", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"trioflow: {said}")


@pytest.mark.slow
async def test_serve_without_arguments_lists_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with started("serve", "-p", "0", cwd=tmp_path) as (_, line), connected(port_in(line)) as stream:
        client = Client(stream)
        assert b'href="./a.txt"' in (await client.ask("GET", "/"))[2]
        assert (await client.ask("GET", "/a.txt"))[2] == b"hello"
    async with (
        started("serve", "--no-listing", ".", "0", cwd=tmp_path) as (_, line),
        connected(port_in(line)) as stream,
    ):
        assert (await Client(stream).ask("GET", "/"))[0] == 404


@pytest.mark.slow
async def test_each_limit_is_an_option(tmp_path: Path) -> None:
    limits = ["--limit", "head-size=200", "--limit", "connections=inf", "--grace", "0.01"]
    async with started("serve", str(tmp_path), "0", *limits) as (process, line):
        async with connected(port_in(line)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200 + b"\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 431 ")
        process.terminate()

        assert await ended(process) == (0, "")


@pytest.mark.slow
async def test_open_opens_a_browser(tmp_path: Path) -> None:
    url, browser = tmp_path / "url", tmp_path / "browser"
    os.mkfifo(url)
    browser.write_text(f'#!/bin/sh\necho "$1" > {url}\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    async with started("serve", str(tmp_path), "0", "--open", "--prefix=/x/", env=environment) as (_, line):
        with trio.fail_after(60):
            opened = await trio.to_thread.run_sync(url.read_text, abandon_on_cancel=True)

    assert opened == line.split(" at ")[1]
    assert opened.endswith("/x\n")


@pytest.mark.slow
async def test_open_says_so_if_there_is_no_browser(tmp_path: Path) -> None:
    environment = {**os.environ, "BROWSER": "/none %s"}
    async with started("serve", str(tmp_path), "0", "--open", env=environment) as (process, line):
        assert process.stderr is not None
        with trio.fail_after(60):
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stderr.receive_some()

    assert said.decode() == f"trioflow: found no browser to open {line.split(' at ')[1].strip()} with\n"


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=HAS_BOTH), None])
async def test_a_server_on_all_addresses_prints_how_to_reach_it(host: str | None) -> None:
    places = await Listeners.open(host, 0, None, None)
    try:
        urls = places.urls("http")
        for url in urls:
            address, _, port = url.removeprefix("http://").rpartition(":")
            with socket.create_connection((address.strip("[]"), int(port)), timeout=60):
                pass
    finally:
        places.close()

    assert any(url.startswith("http://127.0.0.1:") for url in urls)


@HAS_BOTH
async def test_an_ipv6_only_socket_is_reached_by_ipv6() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as listener:
        first, *_ = Listeners([listener]).urls("http")

    assert first.startswith("http://[::1]:")


async def test_without_a_network_only_the_loopback_address_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    places = await Listeners.open("0.0.0.0", 0, None, None)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    try:
        assert places.urls("http") == [f"http://127.0.0.1:{places.sockets[0].getsockname()[1]}"]
    finally:
        places.close()


@HAS_BOTH
async def test_the_wildcard_address_accepts_ipv4_and_ipv6_clients_with_their_own_addresses() -> None:
    async def handler(request: http.Request, response: http.Response) -> None:
        await response.send(str(request.client[0]).encode())

    async with serving(handler, host="::") as port:
        for host in ("127.0.0.1", "::1"):
            async with await trio.open_tcp_stream(host, port) as stream:
                assert (await Client(stream).ask("GET", "/"))[2] == host.encode()


@HAS_BOTH
@pytest.mark.slow
@pytest.mark.needs("curl")
async def test_curl_reaches_the_command_over_ipv4_and_ipv6(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with started("serve", str(tmp_path), "0", "--host", "::") as (_, line):
        for host in ("127.0.0.1", "[::1]"):
            url = f"http://{host}:{port_in(line)}"
            assert await ran("curl", "-sSf", "--noproxy", "*", "-m", "60", f"{url}/a.txt") == b"hello"
            assert b'href="./a.txt"' in await ran("curl", "-sSf", "--noproxy", "*", "-m", "60", url)


@HAS_BOTH
async def test_a_port_in_use_on_all_addresses_is_reported_with_its_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use") as failure:
            await Listeners.open("::", port, None, None)

    assert failure.value.filename == f"::, port {port}"
