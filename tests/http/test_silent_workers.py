"""How a supervisor tells a worker process that does not run its tasks from one that waits, ends slowly or is debugged.

Both ends of their socket are in this process, where a mock clock decides how much time passes.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioflow.http import _workers
from trioflow.http._workers import Supervisor, work

SILENT = "worker process 1 has not run its tasks for 5 seconds"


@pytest.fixture(autouse=True)
def _keep_the_handler_of_sighup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def serve(task_status: trio.TaskStatus[None]) -> None:
    """Serve until cancelled, and take 100 seconds to end."""
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)


class Watch:
    """A supervisor's end of the socket, and what it says about the worker."""

    def __init__(self, sock: trio.socket.SocketType, timeout: float | None) -> None:
        self.socket = sock
        self.told: list[tuple[float, str]] = []
        self._supervisor = Supervisor(b"", [], count=1, grace=5, timeout=timeout)

    async def run(self) -> None:
        process = SimpleNamespace(pid=1, returncode=None, wait=trio.sleep_forever)
        child: Any = SimpleNamespace(socket=self.socket, process=process)
        told = await self._supervisor._wait_for_failure(child)
        self.told.append((trio.current_time(), told))


@asynccontextmanager
async def watching(seconds: float | None) -> AsyncGenerator[tuple[Watch, socket.socket], None]:
    """Start the supervisor's part, and yield the worker's end of the socket beside it."""
    ours, theirs = socket.socketpair()
    with theirs, trio.socket.from_stdlib_socket(ours) as sock:
        async with trio.open_nursery() as nursery:
            watch = Watch(sock, seconds)
            nursery.start_soon(watch.run)
            yield watch, theirs
            nursery.cancel_scope.cancel()


async def test_a_worker_that_sends_nothing_is_reported_when_its_time_has_passed(autojump_clock: MockClock) -> None:
    async with watching(5) as (watch, worker):
        for _ in range(9):
            worker.send(b"a")
            await trio.sleep(4.4)
        last = trio.current_time()
        worker.send(b"a")
        await trio.sleep(100)

    assert watch.told == [(pytest.approx(last + 5), SILENT)]


async def test_a_worker_that_waits_or_ends_slowly_is_not_reported(autojump_clock: MockClock) -> None:
    async with watching(5) as (watch, worker):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, worker, serve, lambda: None, 5)
            await trio.sleep(100)
            asked = trio.current_time()
            watch.socket.shutdown(socket.SHUT_WR)
        assert trio.current_time() - asked == pytest.approx(100)
        assert watch.told == []
        worker.close()
        await trio.sleep(100)

    assert watch.told == [(pytest.approx(asked + 105, abs=0.5), SILENT)]  # the process itself has not ended


async def test_time_in_which_the_supervisor_was_stopped_too_does_not_count_against_a_worker(
    autojump_clock: MockClock,
) -> None:
    async with watching(5) as (watch, worker), trio.open_nursery() as nursery:
        nursery.start_soon(work, worker, serve, lambda: None, 5)
        for _ in range(100):
            await wait_all_tasks_blocked()
            autojump_clock.jump(100)
            await trio.sleep(1)
        watch.socket.shutdown(socket.SHUT_WR)

    assert watch.told == []


@pytest.mark.parametrize("number", [None, 5])
async def test_a_worker_under_a_debugger_is_reported_only_if_a_number_is_set(
    number: float | None, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops at a breakpoint, which looks as if it did not run its tasks."""
    monkeypatch.setattr(_workers, "TIMEOUT", 5)
    monkeypatch.setattr(_workers, "_is_traced", lambda: True)
    async with watching(number) as (watch, worker):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, worker, serve, lambda: None, number)
            await trio.sleep(100)
            assert watch.told == []
            reached = trio.current_time()
            nursery.cancel_scope.cancel()
        await trio.sleep(1000)

    assert watch.told == ([] if number is None else [(pytest.approx(reached + 5, abs=0.5), SILENT)])


def test_a_process_is_traced_while_it_has_a_trace_function() -> None:
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert _workers._is_traced()
    finally:
        sys.settrace(before)
