"""The faults that a stream in Redis survives, and their cost: everything is counted, and nothing may be lost.

    python -m pytest tests/redis/test_faults.py -rP | grep '^|'

prints the table of docs/reference/redis.md.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.redis.flow import LEASE, Counts, flow, until_some, work
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis.answers import Lost
from trioflow.redis.client import Client
from trioflow.redis.receiver_scripts import HELD
from trioflow.redis.scripts import Script

pytestmark = pytest.mark.needs("redis-server")

ROOT = Path(__file__).parents[2]
SAFE_LEASE = 2.0  # long enough for a busy machine, because it is renewed three times as often


class Workers:
    """Processes of tests/redis/worker.py, and their notes."""

    def __init__(self, url: str, place: Path, *, seconds: float, lease: float = SAFE_LEASE) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.redis.worker",
            url,
            str(place / "notes"),
            str(seconds),
            str(lease),
        ]
        self._notes = place / "notes"
        self._notes.touch()
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        self.all.append(subprocess.Popen(self._command, cwd=ROOT))
        return self.all[-1]

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self._notes.read_text().splitlines()]

    async def until_begun(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until a worker is in the middle of an item."""

        def has_begun() -> bool:
            told = [line[0] for line in self.lines() if line[1] == str(worker.pid)]
            return told.count("begun") > told.count("done") > 2

        await until(has_begun)

    def freeze(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker like SIGSTOP does, and return when it has stopped."""
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)

    async def end(self, worker: subprocess.Popen[bytes]) -> int:
        with trio.fail_after(PATIENCE):
            return await trio.to_thread.run_sync(worker.wait, abandon_on_cancel=True)

    def count(self, counts: Counts) -> None:
        for what, _, item in self.lines():
            (counts.delivered if what == "begun" else counts.done)[int(item) if item.isdecimal() else item] += 1

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self.all:
            worker.kill()
            worker.wait()


async def results(url: str) -> Counter[Any]:
    """Receive all results until they end, which also proves that they end."""
    with trio.fail_after(PATIENCE):
        source = redis.readable(url, "results", group="g", prefetch=500, lease=LEASE)
        return Counter(await source.pipe(redis.acknowledge()).pipe(tf.collect()))


async def test_kill_9_of_a_worker_mid_item_loses_nothing_and_the_results_end(server: Server, tmp_path: Path) -> None:
    counts = Counts(sent=list(range(120)))
    await tf.from_iterable(counts.sent).pipe(redis.writable(server.url, "jobs", producer="p"))
    with Workers(server.url, tmp_path, seconds=0.01) as workers:
        first = workers.start()
        await workers.until_begun(first)
        first.kill()
        await workers.end(first)  # after which it takes no more
        held = server.held_by(first.pid)
        others = [workers.start(), workers.start()]
        assert [await workers.end(other) for other in others] == [0, 0]
        workers.count(counts)

    stored = await results(server.url)

    counts.check("`kill -9` of a worker mid-item")
    assert set(stored) == set(counts.sent)
    assert held > 0
    assert counts.duplicates <= held  # delivered to it, or done but not yet acknowledged


async def test_a_worker_stopped_for_longer_than_its_lease_loses_nothing(server: Server, tmp_path: Path) -> None:
    counts = Counts(sent=list(range(120)))
    await tf.from_iterable(counts.sent).pipe(redis.writable(server.url, "jobs", producer="p"))
    with Workers(server.url, tmp_path, seconds=0.01) as workers:
        first = workers.start()
        await workers.until_begun(first)
        workers.freeze(first)  # after which it takes no more
        held = server.held_by(first.pid)
        second = workers.start()
        await until(lambda: server.held_by(first.pid) == 0)
        first.send_signal(signal.SIGCONT)
        assert [await workers.end(worker) for worker in (first, second)] == [0, 0]
        workers.count(counts)

    stored = await results(server.url)

    counts.check("SIGSTOP of a worker until its lease has run out")
    assert set(stored) == set(counts.sent)
    assert held > 0
    assert counts.duplicates <= held


async def test_an_entry_that_kills_its_workers_becomes_a_dead_letter(server: Server, tmp_path: Path) -> None:
    counts = Counts(sent=["poison", *range(30)])
    await tf.from_iterable(counts.sent).pipe(redis.writable(server.url, "jobs", producer="p"))
    with Workers(server.url, tmp_path, seconds=0.01, lease=0.3) as workers:
        deaths = 0
        worker = workers.start()
        while (status := await workers.end(worker)) == -signal.SIGKILL:
            deaths += 1
            worker = workers.start()
        workers.count(counts)

    [letter] = await redis.dead_letters(server.url, "jobs")
    counts.dead = (await redis.status(server.url, "jobs")).dead

    counts.check("an entry that kills its worker", dead=1)
    assert (status, deaths) == (0, 3)
    assert (letter.raw, letter.tries) == (b'"poison"', 3)
    assert set(await results(server.url)) == set(range(30))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_server_that_restarts_loses_nothing(server: Server, number: signal.Signals) -> None:
    counts = Counts()
    async with flow(server.url, counts, 200, pause=0.002):
        for share in (50, 120):
            await until_some(counts, share)
            server.stop(number)
            await trio.sleep(0.2)
            await trio.to_thread.run_sync(server.start)

    counts.check(f"server {number.name} and restart, twice")


async def test_both_ends_wait_for_a_frozen_server(server: Server) -> None:
    counts = Counts()
    async with flow(server.url, counts, 200, pause=0.002):
        await until_some(counts, 50)
        server.send(signal.SIGSTOP)
        await trio.sleep(LEASE * 2)
        server.send(signal.SIGCONT)

    counts.check("server SIGSTOP for two leases")


async def test_repeatedly_cut_connections_lose_nothing_and_store_nothing_twice(server: Server) -> None:
    counts = Counts()
    cuts = 0
    async with flow(server.url, counts, 500, pause=0.002):
        while len(counts.sent) < 500:
            await trio.sleep(random.uniform(0.02, 0.06))
            server.cut_all()
            cuts += 1

    counts.check(f"every connection cut, {cuts} times")
    assert cuts > 10


async def test_both_ends_wait_for_a_server_without_memory(server: Server) -> None:
    counts = Counts()
    async with flow(server.url, counts, 200, pause=0.001):
        await until_some(counts, 50)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        await until(lambda: server.refusals() > 0)  # so no earlier call that adds entries is in progress
        sent = len(counts.sent)
        await until(lambda: counts.done.total() == sent)  # existing entries are processed
        await until(lambda: server.refusals() > 2)
        assert len(counts.sent) == sent == counts.done.total()  # and nothing more is stored
        server.ask("CONFIG", "SET", "maxmemory", "0")

    counts.check("server out of memory until a sender was refused three times")


async def test_frequent_cancellations_at_both_ends_lose_nothing(server: Server) -> None:
    counts = Counts()
    cancelled = 0

    async def send_in_a_storm() -> None:
        nonlocal cancelled
        async with redis.open_sender(server.url, "jobs", capacity=5) as sender:
            for n in range(150):
                while True:
                    with trio.move_on_after(random.uniform(0, 0.003)) as scope:
                        await sender.send(n)
                        counts.sent.append(n)
                    if not scope.cancelled_caught:
                        break
                    cancelled += 1

    async def work_in_a_storm() -> None:
        nonlocal cancelled
        is_over = False
        while not is_over:  # they are opened and closed repeatedly too
            async with redis.open_receiver(server.url, "jobs", group="g", prefetch=3, lease=SAFE_LEASE) as receive:
                for _ in range(40):
                    with trio.move_on_after(random.uniform(0, 0.003)) as scope:
                        try:
                            delivery = await receive.receive()
                        except trio.EndOfChannel:
                            is_over = True
                            break
                        async with delivery:
                            counts.delivered[delivery.value] += 1
                            await trio.sleep(random.uniform(0, 0.002))
                            counts.done[delivery.value] += 1
                    if scope.cancelled_caught:
                        cancelled += 1

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_in_a_storm)
            nursery.start_soon(work_in_a_storm)
            nursery.start_soon(work_in_a_storm)

    counts.check(f"{cancelled // 100 * 100} and more calls cancelled, at both ends")
    assert counts.duplicates == 0


LIBFAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.mark.needs("faketime")
async def test_a_clock_that_jumps_loses_nothing(tmp_path: Path) -> None:
    told = tmp_path / "time"
    told.write_text("+0")
    server = Server(
        tmp_path,
        wrapper=[
            f"LD_PRELOAD={LIBFAKETIME[0]}:libc.so.6",  # whose malloc, unlike jemalloc, asks for no time before main
            f"FAKETIME_TIMESTAMP_FILE={told}",
            "FAKETIME_NO_CACHE=1",
            "DONT_FAKE_MONOTONIC=1",
        ],
    )
    counts = Counts()
    with server:
        before = int(server.ask("TIME").split(b"\r\n")[2])
        async with flow(server.url, counts, 200, pause=0.002):
            await until_some(counts, 50)
            told.write_text("+1h")
            await until_some(counts, 120)
            assert int(server.ask("TIME").split(b"\r\n")[2]) - before > 3000
            told.write_text("-1h")

    counts.check("server's clock an hour ahead, then an hour back")


async def test_two_receivers_with_one_name_are_refused(server: Server) -> None:
    def open_receiver() -> AbstractAsyncContextManager[object]:
        return redis.open_receiver(server.url, "jobs", group="g", receiver="r", lease=SAFE_LEASE)

    async with open_receiver():
        alive_until = server.ask("HGET", "{jobs}:names", "r")
        await until(lambda: server.ask("HGET", "{jobs}:names", "r") != alive_until)  # it stays alive
        with pytest.raises(trio.BusyResourceError, match="'r' already reads the stream 'jobs'"):
            async with open_receiver():
                pass

    async with open_receiver():
        pass  # the name is free again


async def test_a_sender_restarted_under_its_name_continues_and_stores_nothing_twice(server: Server) -> None:
    counts = Counts()
    with suppress(ZeroDivisionError):
        async with redis.open_sender(server.url, "jobs", producer="p") as sender:
            await sender.send_many(range(10))
            counts.sent += range(10)
            1 / 0  # noqa: B018
    assert not (await redis.status(server.url, "jobs")).is_closed

    with trio.fail_after(PATIENCE):
        async with redis.open_sender(server.url, "jobs", producer="p") as sender:
            await sender.send_many(range(10, 20))
            counts.sent += range(10, 20)
        await work(server.url, counts)

    counts.check("a sender that died and came back")
    assert counts.duplicates == 0


async def test_entries_in_a_lost_answer_are_looked_up_until_the_server_answers(
    server: Server, answered: Counter[Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Client.run
    losses = 0

    async def run_and_lose_the_second_look(client: Client, script: Script, *args: Any, **options: Any) -> Any:
        nonlocal losses
        if script is HELD and answered[HELD] == 1 and not losses:
            losses += 1
            raise Lost("the connection broke")
        return await run(client, script, *args, **options)

    monkeypatch.setattr(Client, "run", run_and_lose_the_second_look)
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_sender(server.url, "jobs") as sender,
            redis.open_receiver(server.url, "jobs", group="g", receiver="r") as receive,
        ):
            await sender.send("in hand")
            delivery = await receive.receive()
            await until(lambda: answered[HELD] == 1)
            await sender.send("in a lost answer")
            assert b"lost answer" in server.ask("XREADGROUP", "GROUP", "g", "r", "STREAMS", "{jobs}:stream", ">")
            server.cut_all()
            delivery.done()

            assert (await receive.receive()).value == "in a lost answer"
    assert (losses, answered[HELD]) == (1, 2)


async def test_a_receiver_that_leaves_also_gives_back_entries_in_a_lost_answer(server: Server) -> None:
    got = []
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_sender(server.url, "jobs") as sender,
            redis.open_receiver(server.url, "jobs", group="g", receiver="r") as receive,
        ):
            await sender.send("in hand")
            await receive.receive()
            await sender.send("in a lost answer")
            assert b"lost answer" in server.ask("XREADGROUP", "GROUP", "g", "r", "STREAMS", "{jobs}:stream", ">")
        async with redis.open_receiver(server.url, "jobs", group="g", lease=3600) as receive:
            async for delivery in receive:
                async with delivery:
                    got.append((delivery.value, delivery.times))

    assert sorted(got) == [("in a lost answer", 1), ("in hand", 1)]


async def test_a_sender_that_opens_while_the_server_is_out_of_memory_waits(server: Server) -> None:
    opened = trio.Event()

    async def open_and_close() -> None:
        async with redis.open_sender(server.url, "jobs"):
            opened.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server.ask("CONFIG", "SET", "maxmemory", "1")
            nursery.start_soon(open_and_close)
            await until(lambda: server.refusals() > 1)
            assert not opened.is_set()
            server.ask("CONFIG", "SET", "maxmemory", "0")

    assert opened.is_set()
