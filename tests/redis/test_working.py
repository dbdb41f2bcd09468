"""`redis.work` in this process, against a real server; tests/test_cli_work.py has it in processes of its own."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.redis.server import PATIENCE, Server, until
from trioflow import redis

LEASE = 0.6
URL = "redis://localhost"


async def fill(url: str, count: int) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send_many(range(count))


async def handle(delivery: redis.Delivery[Any]) -> None: ...


async def without_arguments() -> None: ...


async def generator(delivery: redis.Delivery[Any]) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("handler", "options", "complaint"),
    [
        (5, {}, "work expects a function, got 5"),
        (without_arguments, {}, r"one argument, the delivery, got without_arguments\(\)"),
        (generator, {}, "work expects a function, got the generator generator; remove its `yield`"),
        (handle, {"concurrency": 0}, "run: concurrency must be at least 1, got 0"),
        (handle, {"concurrency": 4, "prefetch": 3}, "run: prefetch must be at least 4, got 3"),
        (handle, {"grace": -1}, "run: grace must be above 0, got -1"),
        (handle, {"grace": True}, "run: grace must be a number, got True"),
        (handle, {"lease": math.inf}, "lease must be finite"),
    ],
)
def test_work_refuses_invalid_handlers_and_options(handler: Any, options: Any, complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        redis.run(handler, URL, "jobs", group="g", **options)


def test_run_has_the_options_of_work() -> None:
    import inspect

    from trioflow.redis.working import WorkOptions

    parameters = [*inspect.signature(redis.work).parameters]
    assert ["handler", "url", "name", *WorkOptions.__annotations__, "task_status"] == parameters


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_call_may_take_longer_than_its_lease_and_concurrency_is_limited(server: Server) -> None:
    running = most = 0
    times: list[int] = []

    async def slow(delivery: redis.Delivery[Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        times.append(delivery.times)
        if len(times) < 3:
            await trio.sleep(1.5)
        running -= 1

    with trio.fail_after(PATIENCE):
        await fill(server.url, 4)
        await redis.work(slow, server.url, "jobs", group="g", concurrency=2, prefetch=4, lease=1)

    assert (most, times) == (2, [1, 1, 1, 1])


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_cancelled_worker_gives_back_entries_it_has_not_started_and_finishes_the_others(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioflow.redis")
    begun: list[int] = []
    finishing = trio.Event()
    finished: list[int] = []
    tries: dict[int, int] = {}

    async def first(delivery: redis.Delivery[Any]) -> None:
        begun.append(delivery.value)
        await finishing.wait()
        finished.append(delivery.value)

    async def second(delivery: redis.Delivery[Any]) -> None:
        tries[delivery.value] = delivery.times
        if len(tries) == 6:
            finishing.set()

    with trio.fail_after(PATIENCE):
        await fill(server.url, 8)
        async with trio.open_nursery() as nursery:
            first_scope = trio.CancelScope()

            async def work() -> None:
                with first_scope:
                    await redis.work(first, server.url, "jobs", group="g", concurrency=2, prefetch=6)

            nursery.start_soon(work)
            await until(lambda: len(begun) == 2)
            first_scope.cancel()
            await nursery.start(partial(redis.work, second, server.url, "jobs", group="g"))

    assert sorted(finished) == begun == [0, 1]
    assert tries == dict.fromkeys(range(2, 8), 1)
    said = [record.getMessage() for record in caplog.records]
    assert "stopping: 2 in progress, for at most 20 seconds" in said
    assert "stopped: 2 done, 0 failed, 0 given back unfinished" in said


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_plain_handler_runs_in_a_thread_that_is_abandoned_after_the_grace_period(server: Server) -> None:
    entered, leaving = threading.Event(), threading.Event()
    tries: list[int] = []

    def blocking(delivery: redis.Delivery[Any]) -> None:
        entered.set()
        leaving.wait(PATIENCE)

    def quick(delivery: redis.Delivery[Any]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        tries.append(delivery.times)

    try:
        with trio.fail_after(PATIENCE):
            await fill(server.url, 1)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(partial(redis.work, blocking, server.url, "jobs", group="g", grace=0.1))
                    await until(entered.is_set)
                    scope.cancel()
            await redis.work(quick, server.url, "jobs", group="g")
    finally:
        leaving.set()

    assert tries == [1]


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_an_interrupt_ends_the_worker(server: Server) -> None:
    async def leave(delivery: redis.Delivery[Any]) -> None:
        raise SystemExit(3)

    with trio.fail_after(PATIENCE):
        await fill(server.url, 1)
        with pytest.raises(SystemExit):
            await redis.work(leave, server.url, "jobs", group="g")


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_worker_cancelled_before_it_has_started_ends_at_once(server: Server, autojump_clock: MockClock) -> None:
    server.freeze()
    with trio.move_on_after(0.2) as scope:
        await redis.work(handle, server.url, "jobs", group="g")
    server.send(signal.SIGCONT)

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(scope.deadline)
