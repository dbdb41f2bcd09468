"""Several processes that serve one port: requests a second, and how many fail if one is killed or all are replaced."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from tests.benchmarks import _place
from tests.benchmarks._harness import Failed, Peer, Sample, Scale, Work
from tests.benchmarks._programs import PEERS, Server, serving, with_trioflow, wrk

CONNECTIONS = 16
Event = Callable[[Server], None]


def kill_one(server: Server) -> None:
    """Kill a worker."""
    os.kill(server.children()[0], signal.SIGKILL)


def replace_all(server: Server) -> None:
    """Make the supervisor replace its workers."""
    os.kill(server.session, signal.SIGHUP)


def asked(workers: int, event: Event | None, figure: str) -> Callable[[Scale], Sample]:
    """Make the measurement of several workers, with an event in the middle."""

    def measure(scale: Scale) -> Sample:
        seconds = max(1, round(scale.seconds))
        with _place.scratch() as root:
            (root / "file.bin").write_bytes(os.urandom(scale.size))
            with serving([*with_trioflow(), PEERS / "http_workers.py", root, workers]) as server:
                wrk(server, "/file.bin", CONNECTIONS, 1)
                cpu = server.cpu_seconds()
                timer = threading.Timer(seconds / 3, event or _nothing, (server,))
                timer.start()
                told = wrk(server, "/file.bin", CONNECTIONS, seconds)
                timer.join()
                cpu = server.cpu_seconds() - cpu if event is None else 0.0
        if event is None and told["errors"]:
            raise Failed(f"{told['errors']} requests failed though nothing has happened")
        if figure == "failed":
            return Sample.level(told["errors"], told["wall"], cpu)
        return Sample.rate(told["requests"], told["wall"], cpu)

    return measure


def _nothing(server: Server) -> None:
    pass


def _peers(figure: str) -> list[Peer]:
    kinds: list[tuple[str, int, Event | None]] = [
        ("trioflow", 2, None),
        ("one process", 1, None),
        ("two, one killed in the middle", 2, kill_one),
        ("two, replaced in the middle", 2, replace_all),
    ]
    return [Peer(name, asked(count, event, figure), [_place.WRK]) for name, count, event in kinds]


_TITLE = f"a file of 1 KiB from two workers, {CONNECTIONS} connections that stay"
WORKS = [
    Work("workers-rate", f"HTTP: {_TITLE}", "requests/s", 1024, 1024, _peers("rate"), seconds=6.0),
    Work(
        "workers-failed",
        f"HTTP: {_TITLE}: how many fail in six seconds",
        "requests",
        1024,
        1024,
        _peers("failed"),
        is_cost=True,
        seconds=6.0,
    ),
]
