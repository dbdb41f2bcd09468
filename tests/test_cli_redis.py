"""`trioflow redis URL STREAM ...` against a real server: what is printed, and the exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from tests.redis.server import PATIENCE, Server
from trioflow import cli, redis

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


class Command:
    """The command for the stream `jobs`, run in this process."""

    def __init__(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = server.url
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(["redis", self.url, "jobs", *words])
        except SystemExit as exc:
            code = int(exc.code or 0)
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> list[Any]:
        code, out, err = self(*words, "--json")
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def command(server: Server, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(server, capsys)


def fill_with_dead_letters(url: str, count: int) -> None:
    async def main() -> None:
        async with redis.open_sender(url, "jobs", producer="p") as send:
            await send.send_many([{"job": n} for n in range(count)])
        async with redis.open_receiver(url, "jobs", group="g", receiver="r", tries=1, lease=0.3) as receive:
            async for delivery in receive:
                delivery.give_back(error=ValueError(f"job {delivery.value['job']}\x1b[31m"))

    async def in_time() -> None:
        with trio.fail_after(PATIENCE):
            await main()

    trio.run(in_time)


def test_dead_letters_are_listed_requeued_and_dropped(server: Server, command: Command) -> None:
    fill_with_dead_letters(server.url, 4)

    letters = command.json("dead")
    assert [(letter["raw"], letter["tries"], letter["receiver"], letter["error"]) for letter in letters] == [
        (f'{{"job":{n}}}', 1, "r", "ValueError") for n in range(4)
    ]
    first, second, *_ = (letter["id"] for letter in letters)
    assert command("dead", "--limit", "1") == (
        *(0, f'{first}  tries 1  receiver r  ValueError: job 0\\x1b[31m\n    {{"job":0}}\n'),
        "",
    )
    assert command.json("requeue", first) == [{"requeued": 1}]
    assert command("drop", second) == (0, "dropped    1\n", "")
    code, out, err = command("drop", second, first)
    assert (code, out) == (1, "")
    assert err == "trioflow: dropped 0 of 2: the others are not dead letters of this stream\n"
    assert command.json("drop", "--keep", "1") == [{"dropped": 1}]
    assert command.json("requeue", "--all") == [{"requeued": 1}]
    [status] = command.json("status")
    assert (status["entries"], status["dead"], status["is_ended"]) == (2, 0, False)


def test_the_status_and_the_senders_are_printed_as_text_and_as_json(server: Server, command: Command) -> None:
    async def hold() -> None:
        with trio.fail_after(PATIENCE):
            async with redis.open_sender(server.url, "jobs", producer="p") as send:
                await send.send_many([1, 2])
                async with redis.open_receiver(server.url, "jobs", group="g", receiver="r") as receive:
                    await receive.receive()
                    raise ConnectionError

    with pytest.raises(ConnectionError):
        trio.run(hold)

    code, out, err = command("status")
    assert (code, err) == (0, "")
    assert re.search(
        r"^entries    2$.*^senders    1$.*^closed     False$.*^lag        [12]$", out, re.DOTALL | re.MULTILINE
    )
    [status] = command.json("status")
    assert (status["entries"], status["receivers"]) == (2, [])
    assert [status[name] for name in ("waiting", "delayed", "expired", "idempotency_keys")] == [0, 0, 0, 0]
    assert command("senders") == (0, "p  stored 2  lease inf\n", "")
    assert command.json("senders") == [{"producer": "p", "stored": 2, "lease": None}]
    assert command("senders", "--drop", "q") == (1, "", "trioflow: the stream has no sender 'q'\n")
    assert command.json("senders", "--drop", "p") == [{"dropped": 1}]
    assert command.json("senders") == []


def test_a_receiver_is_listed_with_what_it_holds(server: Server, command: Command) -> None:
    async def hold() -> tuple[int, tuple[str, str]]:
        with trio.fail_after(PATIENCE):
            async with redis.open_sender(server.url, "jobs") as send:
                await send.send(1)
                async with (
                    redis.open_receiver(server.url, "jobs", group="g", receiver="r") as receive,
                    await receive.receive(),
                ):
                    return await trio.to_thread.run_sync(ran, server.url, "jobs", "status")

    code, (out, err) = trio.run(hold)
    assert (code, err) == (0, "")
    assert re.search(r"^receiver r  held 1  lease (2\d|30)", out, re.MULTILINE)


def ran(*words: str) -> tuple[int, tuple[str, str]]:
    program = [sys.executable, "-W", "error", "-m", "trioflow", "redis", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["requeue"], 2, "requeue: name the ids of dead letters, or pass --all"),
        (["drop", "1-1", "--all"], 2, "drop: name the ids of dead letters, or pass --all"),
        (["drop", "--keep", "1", "--all"], 2, "--keep cannot be combined with ids or --all"),
        (["drop", "--keep", "-1"], 2, "expected a whole number, at least 0, got '-1'"),
        (["dead", "--limit", "0"], 2, "expected a whole number, at least 1, got '0'"),
        (["look"], 2, "invalid choice: 'look'"),
        (["senders", "--drop", "two words"], 2, "producer must be a word without spaces and braces, got 'two words'"),
    ],
    ids=str,
)
def test_a_mistyped_command_is_reported_in_one_line_with_exit_code_2(
    command: Command, words: list[str], code: int, complaint: str
) -> None:
    got, out, err = command(*words)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert complaint in err


def test_a_wrong_url_or_server_is_reported_in_one_line(server: Server, command: Command) -> None:
    command.url = "redis://127.0.0.1:1"
    assert command("status")[0] == 1
    command.url = "redis://localhost?ssl=1"
    assert command("status") == (
        2,
        "",
        "trioflow: url: unknown option 'ssl', only db is allowed; pass ssl_context= instead\n",
    )
    command.url = server.url
    server.ask("SET", "{jobs}:stream", "text")
    code, out, err = command("status")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "WRONGTYPE" in err


def test_without_the_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['coredis'] = None; from trioflow.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["redis", "redis://localhost", "jobs", "status"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "trioflow: trioflow.redis needs coredis: pip install 'trioflow[redis]'\n"


def test_a_broken_output_pipe_is_not_an_error(server: Server) -> None:
    program = f"{sys.executable} -W error -m trioflow redis {server.url} jobs status | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("output", "code", "complaint"),
    [(">/dev/full", 1, "trioflow: cannot write to stdout: no space left on device\n"), (">&-", 0, "")],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_output_that_cannot_be_written_is_no_traceback(output: str, code: int, complaint: str, server: Server) -> None:
    program = f"{sys.executable} -W error -m trioflow redis {server.url} jobs status {output}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (code, complaint)


def test_tls_options_set_the_trusted_and_the_own_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    pem.write_to_path(tmp_path / "both.pem")
    port = Server(tmp_path).port
    both = str(tmp_path / "both.pem")
    files = ["--tls-cert-file", both, "--tls-key-file", both, "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    server = Server(tmp_path, "--tls-port", str(port), *files)
    with server:
        words = ["redis", f"rediss://127.0.0.1:{port}", "jobs", "--tls-ca", str(tmp_path / "ca.pem")]
        assert cli.main([*words, "--tls-cert", both, "--tls-key", both, "senders"]) == 0
        assert cli.main([*words, "senders"]) == 1
        assert cli.main([*words, "--tls-key", both, "senders"]) == 2
        assert cli.main([*words, "--tls-cert", str(tmp_path / "none.pem"), "senders"]) == 2
        assert "none.pem: no such file or directory" in capsys.readouterr().err
