"""The command's access log: lines are whole, no request waits for their reader, and missing lines are counted."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from trioflow import http
from trioflow.cli import _log
from trioflow.cli._serving import _FORMATS

ACCESS = http.Access(0, ("::1", 1), "GET", "/", 200, 5, 0.001, True, None, None)
LINE = ACCESS.as_line().encode() + b"\n"
NOTICE = "lines missing here, because the log was not read fast enough: "


class Pipe:
    """A pipe to which logs are written; `read` returns what is in it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> bytes:
        got = b""
        while select.select([self.reader], [], [], 0)[0]:
            got += os.read(self.reader, 1 << 16)
        return got


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe()
    monkeypatch.setattr(_log, "_STDOUT", pipe.writer)
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def made(*lines: http.Access) -> _log.Log:
    log = _log.Log(*_FORMATS["text"])
    for access in lines:
        log(access)
    return log


def until(condition: Callable[[], object]) -> None:
    """Wait for the log's thread, in real time."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def is_stuck(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a log's thread waits for the reader of the pipe."""
    stuck = threading.Event()
    write = os.write

    def tell_and_write(fd: int, data: bytes | memoryview) -> int:
        if not select.select([], [fd], [], 0)[1]:
            stuck.set()
        return write(fd, data)

    monkeypatch.setattr(os, "write", tell_and_write)
    return stuck


def given_up(log: _log.Log, pipe: Pipe, is_stuck: threading.Event) -> bytes:
    """Close a log whose pipe is full, return what is in the pipe, and let its thread end."""
    thread = log._thread
    assert thread is not None
    assert is_stuck.wait(60)
    log.close()
    log.close()
    got = os.read(pipe.reader, 1 << 20)
    while thread.is_alive():
        pipe.read()
    return got


def noticed(data: bytes) -> list[int]:
    """Return the number in each line that says how many are missing."""
    return [int(line.removeprefix(NOTICE)) for line in data.decode().splitlines() if line.startswith(NOTICE)]


def test_a_full_pipe_delays_no_request_and_the_log_says_how_many_lines_are_missing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "MOST", 1 << 18)
    os.set_blocking(pipe.writer, False)  # as a program that shares our output might do
    log = made(*[ACCESS] * 5000)
    until(lambda: log._left_out)
    got = pipe.read()
    until(lambda: select.select([pipe.reader], [], [], 0)[0])
    reader = threading.Thread(target=log.close)
    reader.start()
    while reader.is_alive() or select.select([pipe.reader], [], [], 0)[0]:
        got += pipe.read()
    reader.join()

    assert got.count(LINE) + sum(noticed(got)) == 5000
    assert sum(noticed(got)) > 1000
    assert got.endswith(LINE)


def test_missing_lines_are_reported_at_most_once_a_second(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(_log, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    log = made(ACCESS)
    until(lambda: log._pieces == 1)
    log._left_out = 3
    log(ACCESS)
    until(lambda: log._pieces == 2)
    now += 0.5
    log._left_out = 5
    log(ACCESS)
    until(lambda: log._pieces == 3)
    assert noticed(pipe.read()) == [3]
    now += 0.5
    log(ACCESS)
    until(lambda: log._pieces == 4)
    log._left_out = 6
    log.close()

    assert noticed(pipe.read()) == [2, 1]


def test_lines_that_nobody_reads_are_dropped_at_the_end_and_counted(
    pipe: Pipe, is_stuck: threading.Event, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_log, "PATIENCE", 0.05)
    monkeypatch.setattr(_log, "MOST", 1 << 20)
    got = given_up(made(*[ACCESS] * 5000), pipe, is_stuck)
    said = capfd.readouterr().err

    lost = re.fullmatch(
        r"trioflow: lines missing at the end of the log, because they could not be written: (\d+)\n", said
    )
    assert lost is not None
    assert got.count(LINE) + sum(noticed(got)) + int(lost[1]) == 5000
    assert got.endswith(LINE)


def test_a_blocked_terminal_does_not_delay_the_end(
    pipe: Pipe, is_stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "PATIENCE", 0.05)
    monkeypatch.setattr(_log, "_STDERR", pipe.writer)  # it is full too

    assert b"missing" not in given_up(made(*[ACCESS] * 5000), pipe, is_stuck)


@pytest.mark.parametrize("has_paused", [False, True])
def test_a_reader_that_is_slow_gets_the_last_line(
    has_paused: bool, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting:
        """The log's thread. Its reader takes a piece each time that `close` has waited for most of its patience."""

        def __init__(self, thread: threading.Thread) -> None:
            self.is_alive = thread.is_alive
            self._has_paused = has_paused
            self._waited = 0.0

        def join(self, seconds: float) -> None:
            if self._has_paused:  # the time has passed, but the thread did not run either
                self._has_paused = False
                return
            self._waited += seconds
            if self._waited > 0.75 * _log.PATIENCE:
                self._waited = 0
                before = log._pieces
                may_write.release()
                until(lambda: log._pieces > before or not self.is_alive())

    def slowly(fd: int, data: memoryview) -> int:
        assert may_write.acquire(timeout=60)
        pieces.append(bytes(data))
        return len(data)

    pieces: list[bytes] = []
    may_write = threading.Semaphore(0)
    monkeypatch.setattr(os, "write", slowly)
    log = made(*[ACCESS] * 2000)
    assert log._thread is not None
    log._thread = Waiting(log._thread)  # type: ignore[assignment]
    log.close()

    assert b"".join(pieces) == LINE * 2000
    assert len(pieces) > 10


def test_no_other_process_can_write_into_a_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: memoryview) -> int:
        pieces.append(bytes(data))
        return len(data)

    pieces: list[bytes] = []
    monkeypatch.setattr(os, "write", write)
    long = ACCESS._replace(target="/" + "x" * 8000)
    made(*[ACCESS] * 500, long, *[ACCESS] * 10).close()

    assert all(piece.endswith(b"\n") for piece in pieces)
    assert sum(len(piece) > select.PIPE_BUF for piece in pieces) == 1  # only the long line
    assert b"".join(pieces).count(b"\n") == 511


def test_a_full_disk_loses_lines_and_the_log_says_how_many(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        log = made(ACCESS, ACCESS)
        until(lambda: log._failed == 2)
    log(ACCESS)
    log.close()

    assert pipe.read().decode() == f"{NOTICE}2\n{LINE.decode()}"


def test_lines_are_discarded_once_their_reader_has_gone(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def write(fd: int, data: object) -> int:
        written.append(fd)
        raise BrokenPipeError

    written: list[int] = []
    with monkeypatch.context() as gone:
        gone.setattr(os, "write", write)
        log = pickle.loads(pickle.dumps(made()))
        for _ in range(3):
            log(ACCESS)
            until(lambda: not log._waiting and not log._lines)
        log.close()

    assert written == [pipe.writer]
    assert capfd.readouterr().err == ""


def test_without_standard_output_no_other_file_is_written(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    made(*[ACCESS] * 3).close()

    assert pipe.read() == b""


def test_in_a_json_log_missing_lines_are_reported_as_json() -> None:
    assert json.loads(_FORMATS["json"][1].format(7)) == {"missing": 7}
