"""`trioflow work MODULE:FUNCTION` in its own processes, against a real server."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.redis.server import PATIENCE, Server, until
from trioflow import cli, redis

TASKS = """
import os, time, trio

def note(word, delivery):
    with open("notes", "a") as notes:
        notes.write(f"{word} {os.getpid()} {delivery.value} {delivery.times}\\n")

async def quick(delivery):
    note("done", delivery)

async def slow(delivery):
    note("begun", delivery)
    while not os.path.exists("leave"):
        await trio.sleep(0.01)
    note("done", delivery)

async def endless(delivery):
    note("begun", delivery)
    await trio.sleep_forever()

async def deaf(delivery):
    note("begun", delivery)
    while not os.path.exists("leave"):
        time.sleep(0.01)
    note("done", delivery)

async def picky(delivery):
    if delivery.value == 1:
        raise ValueError("one\\nis too few")
    note("done", delivery)

number = 5
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    with Server(tmp_path) as server:
        yield server


class Worker:
    """A process of the command, which ends with its block at the latest."""

    def __init__(self, server: Server, function: str, *words: str) -> None:
        options = ["--url", server.url, "--stream", "jobs", "--group", "g", *words]
        program = [sys.executable, "-X", "dev", "-W", "error", "-m", "trioflow", "work", f"tasks:{function}", *options]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        with self.process:  # waits, and closes the pipes
            pass

    async def ended(self) -> tuple[int, str]:
        """Wait for the end, and return the exit code and what it printed, without the times of the lines."""
        out, err = await trio.to_thread.run_sync(self.process.communicate, abandon_on_cancel=True)
        assert out == ""
        return self.process.returncode, re.sub(r"^\d{4}-\d\d-\d\d [\d:,]{12} ", "", err, flags=re.MULTILINE)

    def notes(self, word: str) -> list[tuple[int, int]]:
        """Return the items that it has started, or done, each with the number of its try."""
        text = Path("notes").read_text() if Path("notes").exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [
            (int(value), int(times))
            for kind, pid, value, times in lines
            if (kind, int(pid)) == (word, self.process.pid)
        ]


def let_them_leave() -> None:
    Path("leave").touch()


async def fill(server: Server, count: int) -> None:
    async with redis.open_sender(server.url, "jobs") as send:
        await send.send_many(range(count))


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_at_a_signal_entries_in_progress_are_finished_and_the_rest_is_left_to_others(server: Server) -> None:
    async def has_given_back() -> bool:
        return (await redis.status(server.url, "jobs")).returned >= 2

    with trio.fail_after(PATIENCE):
        await fill(server, 6)
        with Worker(server, "slow", "--concurrency", "2", "--prefetch", "4") as worker:
            await until(lambda: len(worker.notes("begun")) == 2)
            worker.process.send_signal(signal.SIGTERM)
            await until(has_given_back)
            let_them_leave()
            code, said = await worker.ended()
        with Worker(server, "quick") as other:
            assert (await other.ended())[0] == 0

    assert (code, sorted(worker.notes("done"))) == (0, [(0, 1), (1, 1)])
    assert said.splitlines() == [
        "INFO trioflow.redis: working on 'jobs' in the group 'g', 2 at once",
        "INFO trioflow.redis: stopping: 2 in progress, for at most 20 seconds",
        "INFO trioflow.redis: stopped: 2 done, 0 failed, 0 given back unfinished",
    ]
    assert sorted(other.notes("done")) == [(n, 1) for n in range(2, 6)]


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_an_entry_that_takes_longer_than_the_grace_period_is_given_back_without_counting_as_a_try(
    server: Server,
) -> None:
    with trio.fail_after(PATIENCE):
        await fill(server, 1)
        with Worker(server, "endless", "--grace", "0.2") as worker:
            await until(lambda: worker.notes("begun") != [])
            worker.process.send_signal(signal.SIGINT)
            code, said = await worker.ended()
        with Worker(server, "quick") as other:
            assert (await other.ended())[0] == 0

    assert (code, said.splitlines()[-1]) == (
        0,
        "INFO trioflow.redis: stopped: 0 done, 0 failed, 1 given back unfinished",
    )
    assert other.notes("done") == [(0, 1)]


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_entries_of_a_worker_that_is_killed_or_blocks_its_event_loop_go_to_others(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        await fill(server, 2)
        with Worker(server, "endless", "--lease", "1") as killed:
            await until(lambda: killed.notes("begun") != [])
            with Worker(server, "deaf", "--lease", "1") as deaf:
                await until(lambda: deaf.notes("begun") != [])
                killed.process.kill()
                with Worker(server, "quick", "--lease", "1") as other:
                    await until(lambda: len(other.notes("done")) == 2)
                    assert deaf.notes("done") == []
                    let_them_leave()
                    assert (await other.ended())[0] == (await deaf.ended())[0] == 0

    assert sorted(other.notes("done")) == [(0, 2), (1, 2)]
    assert deaf.notes("done") == deaf.notes("begun")  # so the entry was processed twice


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_second_signal_ends_it_at_once_even_if_a_handler_blocks_the_event_loop(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        await fill(server, 1)
        with Worker(server, "deaf") as worker:
            await until(lambda: worker.notes("begun") != [])
            while worker.process.poll() is None:  # the system may merge two signals into one
                worker.process.send_signal(signal.SIGTERM)
                await trio.sleep(0.01)
            await worker.ended()

    assert worker.notes("done") == []


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_handler_that_raises_is_logged_in_one_line_and_the_others_continue(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        await fill(server, 3)
        with Worker(server, "picky", "--tries", "2") as worker:
            code, said = await worker.ended()
        [letter] = await redis.dead_letters(server.url, "jobs")

    assert (code, worker.notes("done")) == (0, [(0, 1), (2, 1)])
    assert (letter.raw, letter.error, letter.message) == (b"1", "ValueError", "one\nis too few")
    assert said.splitlines() == [
        "INFO trioflow.redis: working on 'jobs' in the group 'g', 1 at once",
        f"WARNING trioflow.redis: entry {letter.id} failed on try 1 of 2, and will be tried again: ValueError: one\\nis too few",
        f"ERROR trioflow.redis: entry {letter.id} failed on try 2 of 2, and becomes a dead letter: ValueError: one\\nis too few",
        "INFO trioflow.redis: the stream has ended",
        "INFO trioflow.redis: stopped: 2 done, 2 failed, 0 given back unfinished",
    ]


@pytest.mark.parametrize("is_verbose", [False, True])
def test_a_traceback_is_printed_only_on_request(is_verbose: bool) -> None:
    from trioflow.cli._work import OneLine

    try:
        raise ValueError("a\nb")
    except ValueError as exc:
        info = (ValueError, exc, exc.__traceback__)
        record = logging.LogRecord("trioflow.redis", logging.WARNING, __file__, 1, "it failed: %s", (exc,), info)

    first, *rest = OneLine(is_verbose=is_verbose).format(record).splitlines()

    assert first.endswith(" WARNING trioflow.redis: it failed: a\\nb")
    assert bool(rest) == is_verbose


@pytest.mark.parametrize(
    ("handler", "words", "code", "complaint"),
    [
        ("tasks", [], 2, "expected MODULE:FUNCTION, such as tasks:handle, got 'tasks'"),
        ("tasks.py:quick", [], 2, "no module 'tasks.py'"),
        ("novel:quick", [], 2, "no module 'novel' in"),
        (
            "needy:quick",
            [],
            2,
            "cannot import needy: ModuleNotFoundError: No module named 'novel'; -v prints the traceback",
        ),
        ("wrong:quick", [], 2, "cannot import wrong: SyntaxError: "),
        ("tasks:novel", [], 2, "the module tasks has no 'novel'"),
        ("tasks:number", [], 2, "work expects a function, got 5"),
        ("tasks:quick", ["--concurrency", "0"], 2, "expected a whole number, at least 1, got '0'"),
        ("tasks:quick", ["--lease", "0"], 2, "lease must be above 0, got 0"),
        ("tasks:quick", ["--concurrency", "3", "--prefetch", "2"], 2, "prefetch must be at least 3, got 2"),
        ("tasks:quick", ["--tls-ca", "none.pem"], 2, "cannot use none.pem: no such file"),
        ("tasks:quick", [], 1, "no Redis server at 127.0.0.1:1"),
    ],
    ids=str,
)
def test_a_mistyped_command_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    handler: str,
    words: list[str],
    code: int,
    complaint: str,
) -> None:
    for name, text in (("tasks", TASKS), ("needy", "import novel"), ("wrong", "def")):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    options = ["--url", "redis://127.0.0.1:1", "--stream", "jobs", "--group", "g"]

    try:
        got = cli.main(["work", handler, *options, *words])
    except SystemExit as exc:
        got = int(exc.code or 0)

    out, err = capsys.readouterr()
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert complaint in err


def test_a_server_lost_by_several_tasks_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ["work", "tasks:quick", "--url", "redis://localhost", "--stream", "jobs", "--group", "g"]

    def lose(*failures: Exception) -> None:
        def run(*_: object, **options: object) -> None:
            raise ExceptionGroup("", failures)

        monkeypatch.setattr(redis, "run", run)

    lose(trio.BrokenResourceError("gone"), ExceptionGroup("", [OSError("gone, too")]))
    assert cli.main(words) == 1
    assert capsys.readouterr().err == "trioflow: gone\n"
    lose(OSError("gone"), ZeroDivisionError())
    with pytest.raises(ExceptionGroup):
        cli.main(words)
