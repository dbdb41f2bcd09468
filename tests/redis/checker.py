"""Check for an hour that streams in Redis keep their promises while everything around them fails.

    python -m tests.redis.checker --minutes 60 --server /usr/bin/redis-server --seed 1
    python -m tests.redis.checker --minutes 60 --url redis://127.0.0.1:6379

Senders, receivers and chains are processes (`parts`), whose connections go through a proxy. The mixes of faults run
one after another, each with its own streams: a seed determines the sequence of faults, then everything has to end by
itself, and `history` checks the notes. Prints a row for each mix; exits with 1 if a promise was broken. A server given
by `--url` is not stopped or restarted, and must be one for tests: its memory limit is set, its scripts are flushed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from tests.redis.history import Event, Flow, percentiles, violations
from tests.redis.parts import CAPACITY, LEASE
from tests.redis.proxy import Proxy
from tests.redis.server import Server
from trioflow import redis
from trioflow.redis.address import Address
from trioflow.redis.connection import command, open_connection

ROOT = Path(__file__).parents[2]
SENDERS = 3
TIME_TO_BEGIN = 30.0  # seconds, on a busy machine
TIME_TO_END = 60.0  # seconds after the last fault
NO_SERVER = "OSError: no Redis server at "  # what entering a block raises after three attempts
NEEDS_SERVER = {"server killed", "server stopped", "server frozen"}
MIXES: tuple[tuple[str, ...], ...] = (
    (),
    ("worker killed",),
    ("worker stopped",),
    ("sender killed",),
    ("poison", "worker killed"),
    ("cut",),
    ("stalled",),
    ("server killed",),
    ("server stopped", "cut"),
    ("server frozen", "worker stopped"),
    ("out of memory",),
    ("scripts flushed", "cut"),
    ("out of memory", "worker killed", "sender killed"),
    ("server killed", "worker killed", "sender killed"),
    (
        "poison",
        "worker killed",
        "worker stopped",
        "sender killed",
        "cut",
        "stalled",
        *sorted(NEEDS_SERVER),
        "out of memory",
    ),
)


@dataclass
class Row:
    """The result of one mix."""

    mix: tuple[str, ...]
    seed: int
    faults: int = 0
    stored: int = 0
    done: int = 0
    again: int = 0
    dead: int = 0
    lost: int = 0
    redelivered: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = (self.faults, self.stored, self.done, self.again, self.dead, self.lost)
        times = (f"{seconds:.2f} s" for seconds in percentiles(self.redelivered))
        mix = ", ".join(self.mix) or "none"
        return "| " + " | ".join([mix, *map(str, counts), *times, str(self.seed)]) + " |"


HEAD = """\
| faults | how many | stored | done | done again | dead letters | lost | redelivered within: half | 99 of 100 | seed |
|---|---|---|---|---|---|---|---|---|---|"""


class Mix:
    """A run of one mix of faults."""

    def __init__(self, server: Server, *, is_ours: bool, place: Path, mix: tuple[str, ...], seed: int) -> None:
        self._server = server
        self._place = place
        self._dice = random.Random(seed)
        self._proxy = Proxy(server.port, random.Random(seed))
        self.row = Row(mix, seed)
        self._faults = [fault for fault in mix if is_ours or fault not in NEEDS_SERVER]
        prefix = f"checker-{time.time_ns()}"
        self._direct, self._jobs, self._results = (f"{prefix}-{name}" for name in ("direct", "jobs", "results"))
        self._notes = place / f"{prefix}.notes"
        self._stop = place / f"{prefix}.stop"
        self._running: dict[str, trio.Process] = {}
        self._ended: set[str] = set()
        self._longest = dict.fromkeys((self._direct, self._jobs), 0)

    async def run(self, seconds: float) -> Row:
        self._notes.touch()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._proxy.serve)
            nursery.start_soon(self._watch)
            with trio.move_on_after(TIME_TO_BEGIN + seconds + TIME_TO_END):
                async with trio.open_nursery() as parts:
                    for stream in self._longest:
                        await parts.start(self._hold, stream)
                    for name, *args in self._parts():
                        parts.start_soon(self._keep, name, *args)
                    with trio.move_on_after(TIME_TO_BEGIN):
                        while len({event.item[0] for event in self._events()}) < SENDERS:  # noqa: ASYNC110
                            await trio.sleep(0.1)
                    await self._make_faults(time.monotonic() + seconds)
                    self._stop.touch()
            nursery.cancel_scope.cancel()
        await self._judge()
        return self.row

    def _events(self) -> list[Event]:
        return [Event.of(line) for line in self._notes.read_text().splitlines()]

    def _parts(self) -> list[tuple[str, ...]]:
        poison = str(int("poison" in self.row.mix))
        senders = [("a", self._direct), ("b", self._direct), ("c", self._jobs)]
        return [
            *((f"sender {name}", "sender", stream, name, str(self._stop), poison) for name, stream in senders),
            *((f"worker {n}", "receiver", self._direct) for n in range(2)),
            *((f"worker {n}", "chain", self._jobs, self._results) for n in range(2, 4)),
            ("worker 4", "receiver", self._results),
        ]

    async def _keep(self, name: str, role: str, stream: str, *args: str) -> None:
        """Run a process until it ends by itself; if it was killed, or found no server, start it again."""
        while True:
            seed = str(self._dice.random())
            url = f"redis://127.0.0.1:{self._proxy.port}"
            words = [role, url, stream, str(self._notes), seed, *args]
            with tempfile.TemporaryFile() as complaints:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-m", "tests.redis.parts", *words], cwd=ROOT, stderr=complaints
                )
                self._running[name] = process
                try:
                    status = await process.wait()
                finally:
                    del self._running[name]
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()
                complaints.seek(0)
                complaint = complaints.read().decode().strip()
                if status == -signal.SIGKILL or NO_SERVER in complaint:
                    continue
                if status != 0:
                    self.row.wrong.append(f"{name} has failed: {complaint[-3000:]}")
                self._ended.add(name)
                return

    async def _hold(self, stream: str, task_status: trio.TaskStatus[None]) -> None:
        """Keep a stream open until its senders have closed, because they do not start at the same time."""
        async with redis.open_sender(self._server.url, stream):
            task_status.started()
            while len({name for name in self._ended if name.startswith("sender")}) < SENDERS:  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def _watch(self) -> None:
        """Record how long the streams become."""
        while True:
            for stream in self._longest:
                try:
                    answer = await trio.to_thread.run_sync(self._server.ask, "XLEN", f"{{{stream}}}:stream")
                except OSError:
                    continue
                if answer[:1] == b":":
                    self._longest[stream] = max(self._longest[stream], int(answer[1:]))
            await trio.sleep(0.05)

    # ---- faults

    async def _make_faults(self, until: float) -> None:
        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "worker killed": partial(self._signal, "worker", signal.SIGKILL),
            "sender killed": partial(self._signal, "sender", signal.SIGKILL),
            "worker stopped": partial(self._signal, "worker", signal.SIGSTOP),
            "cut": self._cut,
            "stalled": self._stall,
            "server killed": partial(self._restart, signal.SIGKILL),
            "server stopped": partial(self._restart, signal.SIGTERM),
            "server frozen": self._freeze,
            "out of memory": self._fill,
            "scripts flushed": self._flush_scripts,
        }
        chosen = [fault for fault in self._faults if fault != "poison"]
        while time.monotonic() < until:
            await trio.sleep(min(self._dice.uniform(0.3, 1.2), max(until - time.monotonic(), 0)))
            if chosen and time.monotonic() < until:
                self.row.faults += 1
                await faults[self._dice.choice(chosen)]()

    async def _signal(self, kind: str, number: signal.Signals) -> None:
        names = sorted(name for name in self._running if name.startswith(kind))
        if not names:
            return
        process = self._running[self._dice.choice(names)]
        process.send_signal(number)
        if number == signal.SIGSTOP:
            await trio.sleep(self._dice.uniform(0.3, 2.5) * LEASE)
            process.send_signal(signal.SIGCONT)

    async def _cut(self) -> None:
        self._proxy.cut()

    async def _stall(self) -> None:
        self._proxy.hold()
        await trio.sleep(self._dice.choice([0.5, 1.5, 6.0]))  # a call is given up after five seconds
        self._proxy.release()

    async def _restart(self, number: signal.Signals) -> None:
        self._server.stop(number)
        await trio.sleep(self._dice.uniform(0, 0.5))
        await trio.to_thread.run_sync(self._server.start)

    async def _freeze(self) -> None:
        self._server.send(signal.SIGSTOP)
        await trio.sleep(self._dice.uniform(0.3, 2.5) * LEASE)
        self._server.send(signal.SIGCONT)

    async def _fill(self) -> None:
        self._server.ask("CONFIG", "SET", "maxmemory", "1")
        await trio.sleep(self._dice.uniform(0.2, 1.5))
        self._server.ask("CONFIG", "SET", "maxmemory", "0")

    async def _flush_scripts(self) -> None:
        self._server.ask("SCRIPT", "FLUSH")

    # ---- the end

    async def _judge(self) -> None:
        events, row, url = self._events(), self.row, self._server.url
        dead_of = {name: await self._dead(name) for name in (self._direct, self._jobs, self._results)}
        left_of = {name: await self._left(name) for name in dead_of}
        ends = {name: (await redis.status(url, name)).is_ended for name in dead_of}
        for jobs, results in ((self._direct, self._direct), (self._jobs, self._results)):
            streams = {jobs, results}
            flow = Flow()
            flow.add(events, jobs, results)
            dead = [item for name in streams for item in dead_of[name]]
            left = [item for name in streams for item in left_of[name]]
            # The end is an entry too.
            is_ended, longest = all(ends[name] for name in streams), self._longest[jobs]
            wrong = violations(flow, dead, left, longest=longest, capacity=CAPACITY + 1, is_ended=is_ended)
            row.wrong += [f"{complaint} ({jobs})" for complaint in wrong]
            row.stored += len(flow.stored)
            row.done += flow.done.total()
            row.again += flow.done.total() - len(flow.done)
            row.dead += len(dead)
            row.lost += len(flow.lost(dead, left))
            row.redelivered += flow.redelivered()

    async def _dead(self, stream: str) -> list[str]:
        return [json.loads(letter.raw) for letter in await redis.dead_letters(self._server.url, stream, limit=100_000)]

    async def _left(self, stream: str) -> list[str]:
        """Return the items that are still in a stream."""
        address = Address.of(self._server.url)
        connection = await open_connection(address, address.places[0], None)
        try:
            entries = await connection.call(command("XRANGE", f"{{{stream}}}:stream", "-", "+"))
        finally:
            connection.close()
        return [json.loads(value) for _, (kind, value, *_) in entries if kind == b"v"]


def server_at(url: str) -> Server:
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or parts.username or parts.password or parts.path.strip("/"):
        raise SystemExit("--url: only redis://127.0.0.1:PORT, a server for tests on this machine")
    server = Server.at(parts.port or 6379)
    server.url = url
    return server


async def check(
    server: Server, *, is_ours: bool, place: Path, mixes: Sequence[tuple[str, ...]], minutes: float, seed: int
) -> list[Row]:
    """Run every mix, and print its row."""
    rows = []
    seconds = max(minutes * 60 / len(mixes), 1.0)
    for n, mix in enumerate(mixes):
        rows.append(await Mix(server, is_ours=is_ours, place=place, mix=mix, seed=seed + n).run(seconds))
        print(rows[-1], flush=True)
        for wrong in rows[-1].wrong:
            print(f"WRONG: {wrong}", file=sys.stderr, flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    told = argparse.ArgumentParser(prog="python -m tests.redis.checker", description=(__doc__ or "").splitlines()[0])
    told.add_argument("--minutes", type=float, default=5.0, help="for how long there are faults, in all (5)")
    told.add_argument("--seed", type=int, default=1, help="of the first mix; the next has the next (1)")
    told.add_argument("--mix", action="append", type=int, metavar="N", help="only this mix, from 0; can be repeated")
    which = told.add_mutually_exclusive_group()
    which.add_argument("--server", default="redis-server", metavar="PROGRAM", help="the server to start (redis-server)")
    which.add_argument("--url", help="a server for tests that runs already")
    options = told.parse_args(argv)
    mixes = [MIXES[n] for n in options.mix] if options.mix else MIXES
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        server = server_at(options.url) if options.url else Server(place, program=options.server)
        with nullcontext() if options.url else server:
            run: Any = partial(check, server, is_ours=not options.url, place=place, mixes=mixes)
            rows = trio.run(partial(run, minutes=options.minutes, seed=options.seed))
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
