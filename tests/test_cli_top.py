"""`trioflow top URL` against real servers: what it shows, in which order, and how it fails."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pty
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from rich.console import Console

import trioflow as tf
from tests.http.client import serving
from tests.ports import free_port
from trioflow import cli, http
from trioflow.cli import _top
from trioflow.cli._failed import Failed
from trioflow.http import Request, Response


def stage(name: str, *, source_wait: float = 0.0, reader_wait: float = 0.0, fill: float | None = 0.5) -> dict[str, Any]:
    counts = {"items": 1000, "bytes": None, "rate": 10.0, "taken": 1000, "bytes_taken": None}
    waits = {"source_wait": source_wait, "reader_wait": reader_wait, "busy": 1 - source_wait - reader_wait}
    return {"name": name, "fill": fill, **counts, **waits}


def run(name: str, *stages: dict[str, Any], state: str = "running", failure: str | None = None) -> dict[str, Any]:
    beside = {"id": 1, "parent": None, "began": 0.0, "seconds": 2.0, "slowest": 0}
    return {"name": name, "state": state, "failure": failure, "stages": [*stages], **beside}


HASTY = run("hasty", stage("count", source_wait=0.1))
WAITING = run("waiting", stage("map(slow)", fill=1.0), stage("drain", source_wait=0.9, fill=None))
FAILED = run("bad\x1b[2J", stage("m\x1bap"), state="failed", failure="OSError: \x1b]0;\nin stage 1 of 1: map()")


def answering(body: bytes | dict[str, Any], status: int = 200) -> Any:
    async def handler(request: Request, response: Response) -> None:
        response.status = status
        await response.send(body if isinstance(body, bytes) else json.dumps(body).encode())

    return handler


async def top(url: str, **options: Any) -> None:
    arguments = argparse.Namespace(**{"url": url, "once": True, "json": False, "every": 0.01, **options})
    await trio.to_thread.run_sync(_top.top, arguments)


async def test_the_busiest_run_comes_first_and_the_bottleneck_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(answering({"runs": [FAILED, HASTY, WAITING]})) as port:
        await top(f"127.0.0.1:{port}/any/path/")
        text = capsys.readouterr().out
        await top(f"http://localhost:{port}?a=1#b", json=True)
        answer = json.loads(capsys.readouterr().out)

    assert answer == {"runs": [WAITING, HASTY, FAILED]}
    blocks = text.split("\n\n")
    assert [block.partition(",")[0] for block in blocks] == ["waiting", "hasty", "bad\\x1b[2J"]
    assert [line.split()[0] for line in text.splitlines() if "the others wait for it" in line] == ["map(slow)"]
    assert blocks[2].splitlines()[-2:] == ["    OSError: \\x1b]0;", "    in stage 1 of 1: map()"]


async def test_the_table_shows_the_same_and_names_are_printed_literally(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [_top._read(each) for each in (WAITING, run("[red]", stage("[bold]a")), FAILED)]
    console = Console(width=100, force_terminal=False)
    with console.capture() as drawn:
        console.print(_top._table(runs))

    lines = drawn.get().splitlines()
    assert [line for line in lines if "the others wait for it" in line] == [
        line for line in lines if "map(slow)" in line
    ]
    assert "████████ 100%" in next(line for line in lines if "map(slow)" in line)
    assert "[red], running" in drawn.get()
    assert "[bold]a" in drawn.get()
    assert "\x1b" not in drawn.get()


async def test_a_program_without_runs_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    async with tf.inspect() as inspector, serving(http.inspector(inspector)) as port:
        await top(f"127.0.0.1:{port}")

    assert capsys.readouterr().out == "no runs\n"


@pytest.mark.parametrize(
    "handler",
    [
        answering(b"", status=404),
        answering(b"<!doctype html>"),
        answering(b"\xff"),
        answering(b"[" * 100_000),
        answering({"rows": []}),
        answering({"runs": 5}),
        answering({"runs": [{}]}),
        answering({"runs": [HASTY | {"seconds": "long"}]}),
        answering({"runs": [HASTY | {"stages": [stage("a") | {"items": "many"}]}]}),
    ],
    ids=str,
)
async def test_an_address_without_an_inspector_is_reported(handler: Any) -> None:
    async with serving(handler) as port:
        with pytest.raises(Failed, match=rf"127\.0\.0\.1:{port} is not an inspector: ") as failed:
            await top(f"127.0.0.1:{port}")

    assert failed.value.code == 1


async def test_a_server_that_cannot_be_reached_is_reported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with pytest.raises(Failed, match=rf"cannot reach 127\.0\.0\.1:{port}: connection refused"):
        await top(f"127.0.0.1:{port}")

    async def silent(request: Request, response: Response) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(_top, "_PATIENCE", 0.01)
    async with serving(silent, limits=http.Limits(grace=0.01)) as port:
        with pytest.raises(Failed, match=r"has not answered within 0\.01 seconds"):
            await top(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a b", "http://\x1b", "ä"]
)
async def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(
        Failed, match=r"expected the URL of an inspector, such as http://127.0.0.1:8000/, got "
    ) as failed:
        await top(url)

    assert failed.value.code == 2


def test_it_continues_until_the_server_ends_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = json.dumps({"runs": [HASTY]}).encode()
    blocked, ended = TimeoutError(), ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    answers = iter([runs, blocked, runs, ended])

    def body(*_: object) -> bytes:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(_top, "_body", body)
    with pytest.raises(Failed, match=r"the program has ended or is no longer reachable: .*refused") as failed:
        _top.top(argparse.Namespace(url="127.0.0.1:1", once=False, json=True, every=0.0))

    assert failed.value.code == 1
    # While its event loop is blocked, the previous numbers are shown again.
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"runs": [HASTY]}] * 3


async def test_https_is_read_with_the_certificates_that_openssl_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with serving(answering({"runs": []}), ssl_context=context) as port:
        with pytest.raises(Failed, match="certificate"):
            await top(f"https://localhost:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        await top(f"https://localhost:{port}")

    assert capsys.readouterr().out == "no runs\n"


@pytest.mark.parametrize(
    ("words", "output", "code", "complaint"),
    [
        ("--once", ">/dev/full", 1, "trioflow: cannot write to stdout: no space left on device\n"),
        ("--once --json", ">/dev/full", 1, "trioflow: cannot write to stdout: no space left on device\n"),
        ("--json --every 0.01", "| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("--once", ">&-", 0, ""),
        ("", ">&-", 2, "trioflow: stdout is not a terminal; add --once or --json to print\n"),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
async def test_output_that_cannot_be_written_is_no_traceback(
    words: str, output: str, code: int, complaint: str
) -> None:
    async with serving(answering({"runs": []})) as port:
        program = f"{sys.executable} -W error -m trioflow top http://127.0.0.1:{port} {words} {output}"
        done = await trio.run_process(["bash", "-c", program], capture_stderr=True, check=False)

    assert (done.returncode, done.stderr.decode()) == (code, complaint)


async def test_drawing_requires_a_terminal_and_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match="stdout is not a terminal; add --once or --json to print"):
        await top("127.0.0.1", once=False)

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with pytest.raises(Failed, match=r"drawing needs rich: pip install 'trioflow\[top\]', or add --once or --json"):
        await top("127.0.0.1", once=False)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "often"])
def test_the_interval_must_be_a_number_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["top", "127.0.0.1", f"--every={seconds}"])

    assert exit.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_on_a_terminal_it_draws_until_a_signal_and_restores_the_terminal(number: int) -> None:
    async with serving(answering({"runs": [WAITING]})) as port:
        code, drawn = await trio.to_thread.run_sync(_drawn, f"127.0.0.1:{port}", number)

    assert code == 0
    assert b"map(slow)" in drawn
    assert b"the others wait for it" in drawn
    assert drawn.rstrip().endswith(b"\x1b[?1049l")  # the screen that was there before


def _drawn(url: str, number: int) -> tuple[int, bytes]:
    """Run the command on its own terminal, and end it with a signal once it has drawn."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "20"}
    command = [sys.executable, "-m", "trioflow", "top", url, "--every", "0.05"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        ends = time.monotonic() + 60
        try:
            while drawn.count(b"the others wait") < 2 and time.monotonic() < ends:
                drawn += os.read(ours, 65536)
            process.send_signal(number)
            while True:
                drawn += os.read(ours, 65536)
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
        return process.wait(60), drawn
