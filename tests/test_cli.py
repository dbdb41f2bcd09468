"""The command line as users see it: processes, signals and output."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.benchmarks import slow_readers
from tests.http.client import Client, connected
from trioflow import cli, http
from trioflow.http import _running

BIG = 1 << 26


@asynccontextmanager
async def started(*arguments: str, **options: Any) -> AsyncGenerator[tuple[trio.Process, str], None]:
    """Start a command that serves; yield it with the line it printed, and stop it at the end unless it has ended."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", "-m", "trioflow", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(60):
            line = b""
            while not line.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, await ended(process)
                line += chunk
        yield process, line.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()
        assert process.stderr is not None
        await process.stderr.aclose()


async def ended(process: trio.Process) -> tuple[int, str]:
    """Wait for a command to end; return its exit code and its error output."""
    assert process.stderr is not None
    said = b""
    with trio.fail_after(60):
        async for chunk in process.stderr:
            said += chunk
        return await process.wait(), said.decode()


def port_in(line: str) -> int:
    found = re.search(r":(\d+)(?:/\S*)?\n$", line)
    assert found is not None, line
    return int(found[1])


def ran(*arguments: str | bytes) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "trioflow", *arguments], capture_output=True, timeout=60
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_prints_its_address_once_it_answers_and_ends_cleanly_at_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with started("serve", str(tmp_path), "--port", "0", "--grace", "600") as (process, line):
        assert re.fullmatch(rf"Serving {re.escape(str(tmp_path))} at http://127\.0\.0\.1:\d+\n", line)
        async with connected(port_in(line)) as stream:
            assert (await Client(stream).ask("GET", "/a.txt"))[2] == b"hello"

            process.send_signal(number)  # an idle connection does not delay the end

            assert await ended(process) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_serve_cleanly_in_the_middle_of_a_download(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "big.bin").touch()
    os.truncate(tmp_path / "big.bin", BIG)
    async with started("serve", str(tmp_path), "--port", "0", "--grace", "600") as (process, line):
        async with connected(port_in(line)) as stream:
            await stream.send_all(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = len(await stream.receive_some())

            process.send_signal(number)  # a download may still finish within the grace period
            async for chunk in stream:
                got += len(chunk)

        assert got > BIG
        assert await ended(process) == (0, "")


@pytest.mark.slow
async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "big.bin").touch()
    os.truncate(tmp_path / "big.bin", BIG)
    async with started("serve", str(tmp_path), "--port", "0", "--grace", "600") as (process, line):
        async with connected(port_in(line)) as stream:
            await stream.send_all(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some()
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(60):
                while True:  # until the first signal is handled, when it no longer listens
                    try:
                        await (await trio.open_tcp_stream("127.0.0.1", port_in(line))).aclose()
                    except OSError:
                        break
            process.send_signal(signal.SIGTERM)

            code, said = await ended(process)

        assert (code, said) == (0, "")


@pytest.mark.slow
async def test_serve_has_the_options_of_http_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello " * 1000)
    (tmp_path / ".b").write_text("dot")
    options = ["--prefix", "/x/", "--index", "home", "--listing", "--hidden", "--compress", "--precompressed", ""]
    options += ["--cache-control", "max-age=5", "--cors", "https://a.example", "--cors", "https://b.example"]
    async with (
        started("serve", str(tmp_path), "--port", "0", *options) as (_, line),
        connected(port_in(line)) as stream,
    ):
        client = Client(stream)
        page = await client.ask("GET", "/x/")
        packed = await client.ask("GET", "/x/a.txt", [("Accept-Encoding", "gzip"), ("Origin", "https://b.example")])
        hidden = await client.ask("GET", "/x/.b")

    assert b'href="./a.txt"' in page[2]
    assert packed[1]["content-encoding"] == "gzip"
    assert packed[1]["cache-control"] == "max-age=5"
    assert packed[1]["access-control-allow-origin"] == "https://b.example"
    assert hidden[2] == b"dot"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--prefix", "x", "prefix must begin with a slash, got 'x'"),
        ("--index", "a/b", "index must be a file name, got 'a/b'"),
        ("--precompressed", "br,rar", "precompressed must be one or more of br, zstd, gzip, got 'rar'"),
        ("--cors", "example.org/", "cors must be '*' or origins such as 'https://example.org', without a path"),
        ("--cache-control", "a\nb", "must be Latin-1 without line ends"),
    ],
)
def test_an_invalid_option_of_serve_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    assert cli.main(["serve", str(tmp_path), f"{option}={value}"]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("trioflow: ")
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.slow
async def test_slow_readers_cost_the_server_little_memory(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 31)

    with trio.fail_after(100):
        grown, least = await slow_readers.measure(str(tmp_path), clients=40, seconds=1, rate=1 << 20, least=1 << 17)

    assert grown < 40 * slow_readers.LIMIT_EACH
    assert least > 1 << 16


@pytest.mark.slow
async def test_the_demo_prints_its_address_and_ends_cleanly() -> None:
    async with started("demo", "--host", "localhost", "--port", "0") as (process, line):
        assert re.match(r"The trioflow demo is at http://(127\.0\.0\.1|\[::1\]):\d+", line)
        process.send_signal(signal.SIGINT)

        assert await ended(process) == (0, "")


@pytest.mark.slow
async def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["serve", str(tmp_path)], ["demo"]):
            code, out, said = await trio.to_thread.run_sync(ran, *command, "--port", str(port))

            assert (code, out) == (1, "")
            assert said == f"trioflow: cannot listen on 127.0.0.1, port {port}: address already in use\n"


@pytest.mark.slow
def test_an_invalid_host_is_reported_in_one_line(tmp_path: Path) -> None:
    code, out, said = ran("serve", str(tmp_path), "--port", "0", "--host", "203.0.113.1")

    assert (code, out) == (1, "")
    assert re.fullmatch(r"trioflow: cannot listen on 203\.0\.113\.1, port 0: [^\n]+\n", said)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "reason"), [(None, "no such file or directory"), (Path.touch, "not a directory")])
def test_a_path_that_is_not_a_directory_is_reported_in_one_line(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "x"
    if callable(make):
        make(path)

    assert ran("serve", str(path)) == (2, "", f"trioflow: cannot serve {path}: {reason}\n")


@pytest.mark.slow
def test_a_name_that_cannot_be_printed_is_reported_too(tmp_path: Path) -> None:
    code, out, said = ran("serve", os.fsencode(tmp_path) + b"/\xff\n\x1b[31m")

    assert (code, out) == (2, "")
    assert said == f"trioflow: cannot serve {tmp_path}/\\udcff\\n\\x1b[31m: no such file or directory\n"


@pytest.mark.parametrize("port", ["x", "-1", "65536", "1e3", "", "٣", "9" * 5000])
def test_an_invalid_port_is_reported_in_one_line(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["serve", ".", f"--port={port}"])

    out, said = capsys.readouterr()
    assert exit.value.code == 2
    assert out == ""
    assert "a port is a number from 0 to 65535, got " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["novelty"], ["demo", "extra"], ["serve", ".", "--novelty"]])
def test_an_unknown_command_is_reported_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)

    out, said = capsys.readouterr()
    assert exit.value.code == 2
    assert out == ""
    assert said.startswith("trioflow")
    assert "; see `trioflow" in said
    assert said.count("\n") == 1


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["demo", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(arguments)
        assert exit.value.code == 0
    assert "directory to serve and port to listen on (default: . 8000)" in " ".join(capsys.readouterr().out.split())

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == "trioflow (not installed)\n"


SLOW = """
import os, socket, time

def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    if flags & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "not a number")
    os.write(1, b"asked\\n")  # a lock on the output would be left when the process ends
    time.sleep(600)

socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_handled_while_the_host_is_looked_up(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    async with started("demo", "--host", "slow.example", "--port", "0", env=environment) as (process, line):
        assert line == "asked\n"
        process.send_signal(number)

        assert await ended(process) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_handled_during_imports(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "h11.py").write_text("import time\nprint('imported', flush=True)\ntime.sleep(600)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    async with started("serve", ".", env=environment) as (process, line):
        assert line == "imported\n"
        process.send_signal(number)

        assert await ended(process) == (0, "")


# Looks up the version slowly, as a slow disk does.
SLOW_VERSION = """
import importlib.metadata, os, time

def version(name):
    os.write(1, b"asked\\n")
    time.sleep(600)

importlib.metadata.version = version
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_handled_before_the_arguments_are_read(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_VERSION)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    async with started("serve", env=environment) as (process, line):
        assert line == "asked\n"
        process.send_signal(number)

        assert await ended(process) == (0, "")


# Python deletes this object when it shuts down.
LATE = """
import os, signal

class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.{number}):
        kill(me, number)

late = Late()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_shuts_down_does_not_change_the_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATE.format(number=number.name))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "trioflow", "serve", "--tls-key", "k"]

    assert subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 2


def test_signals_stop_the_server_and_a_second_one_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As above, in this process, where a debugger and coverage work."""
    exits: list[int] = []

    async def serve(
        handler: object, *, host: str, port: int, task_status: trio.TaskStatus[list[str]], **options: object
    ) -> None:
        task_status.started([f"http://{host}:{port}", "http://[::1]:1"])
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(_running, "serve", serve)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    assert cli.main(["serve", str(tmp_path), "--port", "7"]) == 0
    assert capsys.readouterr().out == f"Serving {tmp_path} at http://127.0.0.1:7 and http://[::1]:1\n"
    assert exits == [0]
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


@pytest.mark.slow
def test_help_imports_nothing_that_only_serving_needs() -> None:
    code = "import sys; from trioflow.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = done.stdout.rpartition("\n")[0].rpartition("\n")[2].split()

    assert "trioflow.cli" in loaded
    assert not {"trioflow.http", "trioflow.demo", "h11"} & set(loaded)


def test_errors_are_reported_in_one_line_and_python_m_runs_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["demo", "--port", str(taken.getsockname()[1])]) == 1
    assert cli.main(["serve", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.count("\n") == 2

    monkeypatch.setattr(sys, "argv", ["trioflow", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("trioflow", run_name="__main__")
    assert runpy.run_module("trioflow.__main__")["main"] is cli.main


# Other options than those of files: where it listens, TLS, the log, proxies.


async def line_from(process: trio.Process) -> str:
    assert process.stdout is not None
    line = b""
    with trio.fail_after(60):
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
    return line.decode()


@pytest.mark.slow
async def test_a_line_is_printed_for_each_request(tmp_path: Path) -> None:
    async with started("serve", str(tmp_path), "--port", "0") as (process, line), connected(port_in(line)) as stream:
        await Client(stream).ask("GET", "/none", [("User-Agent", "x\ty")])

        assert re.search(r'T\S+Z 127\.0\.0\.1 "GET /none" 404 \d+ [\d.]+ms "-" "x\\ty"\n$', await line_from(process))


@pytest.mark.slow
async def test_a_line_can_be_json_and_has_the_client_of_a_proxy(tmp_path: Path) -> None:
    options = ["--log", "json", "--trust-proxy", "127.0.0.1", "--proxy-header", "forwarded"]
    started_so = started("serve", str(tmp_path), "--port", "0", *options)
    async with started_so as (process, line), connected(port_in(line)) as stream:
        await Client(stream).ask("GET", "/none", [("Forwarded", "for=192.0.2.7")])

        told = json.loads(await line_from(process))
    assert (told["client"], told["target"], told["status"]) == ("192.0.2.7", "/none", 404)


@pytest.mark.slow
async def test_no_line_is_printed_if_the_log_is_off(tmp_path: Path) -> None:
    async with started("serve", str(tmp_path), "--port", "0", "--log", "off") as (process, line):
        async with connected(port_in(line)) as stream:
            await Client(stream).ask("GET", "/none")
        process.terminate()
        assert await ended(process) == (0, "")
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b""


@pytest.mark.slow
async def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    async with started("serve", str(tmp_path), "--port", "0") as (process, line):
        assert process.stdout is not None
        await process.stdout.aclose()
        async with connected(port_in(line)) as stream:
            client = Client(stream)
            for _ in range(3):
                assert (await client.ask("GET", "/none"))[0] == 404
        process.terminate()

        assert await ended(process) == (0, "")


@pytest.mark.slow
@pytest.mark.needs("curl")
async def test_serve_accepts_tls_at_a_unix_socket(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    (tmp_path / "cert").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(tmp_path / "key"))
    authority.cert_pem.write_to_path(str(tmp_path / "trusted"))
    (tmp_path / "a.txt").write_text("hello")
    path = tmp_path / "sock"
    options = ["--unix", str(path), "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key")]
    async with started("serve", str(tmp_path), *options) as (process, line):
        assert line == f"Serving {tmp_path} at https+unix:{path}\n"
        command = ["curl", "-sS", "--unix-socket", str(path), "--cacert", str(tmp_path / "trusted")]
        done = await trio.run_process([*command, "https://localhost/a.txt"], capture_stdout=True)
        assert done.stdout == b"hello"
        process.terminate()

        assert await ended(process) == (0, "")
    assert not path.exists()


@pytest.mark.slow
async def test_serve_listens_at_an_inherited_socket(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        async with started("serve", str(tmp_path), "--fd", str(number), pass_fds=[number]) as (_, line):
            async with connected(listener.getsockname()[1]) as stream:
                assert (await Client(stream).ask("GET", "/a.txt"))[2] == b"hello"
            assert port_in(line) == listener.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-key", "x"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "missing"], "cannot read missing: no such file or directory"),
        (["--tls-cert", "junk", "--tls-key", "junk"], "cannot use the certificate junk with the key junk: expected a "),
        (["--tls-cert", "junk"], "cannot use the certificate junk: expected a certificate and its private key, in PEM"),
        (["--trust-proxy", "localhost"], "cannot trust a proxy: 'localhost' does not appear to be"),
        (["--fd", "-5"], "file descriptor -5 is not a socket"),
        (["--fd", "1"], "file descriptor 1 is not a socket"),
        (["--fd", "99999999999999999999"], "file descriptor 99999999999999999999 is not a socket"),
    ],
)
def test_invalid_listening_options_are_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk").write_text("junk")

    assert cli.main(["serve", ".", *options]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith(f"trioflow: {said}")
    assert told.count("\n") == 1


def test_a_socket_that_does_not_listen_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as sock:
        number = os.dup(sock.fileno())
        try:
            assert cli.main(["serve", ".", "--fd", str(number)]) == 2
        finally:
            os.close(number)

    assert capsys.readouterr().err == f"trioflow: file descriptor {number} is not a listening socket\n"


def test_a_path_that_cannot_be_a_socket_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").touch()

    assert cli.main(["serve", ".", "--unix", str(tmp_path / "a")]) == 1
    assert capsys.readouterr().err == f"trioflow: cannot listen on {tmp_path}/a: the path exists and is not a socket\n"


@pytest.mark.slow
async def test_the_last_requests_are_printed_before_it_ends(tmp_path: Path) -> None:
    count = 200
    async with started("serve", str(tmp_path), "--port", "0") as (process, line):
        async with connected(port_in(line)) as stream:
            client = Client(stream)
            for _ in range(count):
                await client.ask("GET", "/none")
            process.terminate()
        said = b""
        assert process.stdout is not None
        async for chunk in process.stdout:
            said += chunk

        assert await ended(process) == (0, "")
    assert said.count(b'"GET /none" 404 ') == count


ACCESS = http.Access(0, ("::1", 1), "GET", "/", 200, 5, 0.001, True, None, None)
LINE = ACCESS.as_line() + "\n"


@pytest.mark.parametrize("kind", ["off", "text"])
def test_the_log_in_this_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """As above, in this process, where coverage works."""

    async def serve(*arguments: object, log: Any, task_status: trio.TaskStatus[list[str]], **options: object) -> None:
        assert (log is None) is (kind == "off")
        task_status.started(["http://a"])
        if log is not None:
            for _ in range(3):
                log(ACCESS)
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    monkeypatch.setattr(_running, "serve", serve)

    assert cli.main(["demo", "--log", kind]) == 0
    assert capfd.readouterr().out == "The trioflow demo is at http://a\n" + (LINE * 3 if kind == "text" else "")


def test_unusable_inherited_sockets_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(*arguments: object, listeners: list[socket.socket], **options: object) -> None:
        listeners[0].close()
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_running, "serve", serve)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = os.dup(listener.fileno())

        assert cli.main(["serve", ".", "--fd", str(number)]) == 1
    assert capsys.readouterr().err == f"trioflow: cannot listen on file descriptor {number}: invalid argument\n"


def test_workers_that_cannot_start_are_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(*arguments: object, workers: int, **options: object) -> None:
        raise RuntimeError(f"none of {workers} can be started")

    monkeypatch.setattr(_running, "serve", serve)

    assert cli.main(["serve", ".", "--workers", "4"]) == 1
    assert capsys.readouterr().err == "trioflow: none of 4 can be started\n"


def test_a_key_of_another_certificate_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = trustme.CA()
    authority.issue_cert("a.example").cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    authority.issue_cert("b.example").private_key_pem.write_to_path(str(tmp_path / "key"))

    assert cli.main(["serve", ".", "--tls-cert", f"{tmp_path}/cert", "--tls-key", f"{tmp_path}/key"]) == 2
    assert capsys.readouterr().err.endswith(
        "with the key " + f"{tmp_path}/key: the key belongs to another certificate\n"
    )
