"""The channel on Redis Streams, from one process to another, compared with raw pipelines that do as much as they can.

Both have the durability that the page of streams in Redis asks for: `appendonly yes`, written to the disk each second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence

from tests.benchmarks import _place
from tests.benchmarks._harness import Failed, Need, Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, run, serving, with_peers, with_trioflow
from tests.ports import free_port

SERVER = _place.command("redis-server", "redis-server")


def timed(command: Callable[[], Sequence[str]], program: str, batch: int) -> Callable[[Scale], Sample]:
    """Make the measurement of a program that sends messages from one process and receives them in another."""

    def measure(scale: Scale) -> Sample:
        program_at = _place.find("redis-server")
        if program_at is None:
            raise Failed("redis-server is gone")
        port = free_port()
        with tempfile.TemporaryDirectory() as place:
            options = ["--port", port, "--bind", "127.0.0.1", "--dir", place, "--save", "", "--appendonly", "yes"]
            with serving([program_at, *options], port=port):
                told = run([*command(), PEERS / program, port, batch, scale.size])
        expect("the messages", told["result"], scale.size)
        return Sample.rate(scale.size, told["wall"], told["cpu"])

    return measure


def _work(batch: int, size: int, target: float) -> Work:
    client: list[Need] = [SERVER, _place.package("redis")]
    title = "one message at a time" if batch == 1 else f"{batch} messages at a time"
    return Work(
        f"redis-{batch}",
        f"200 bytes from process to process through Redis, {title}",
        "items/s",
        size,
        batch * 4,
        [
            Peer("trioflow", timed(with_trioflow, "redis_trioflow.py", batch), [SERVER, _place.trioflow("redis")]),
            Peer(
                "redis-py, not async: raw pipelines, no bound", timed(with_peers, "redis_raw.py", batch), client, target
            ),
        ],
    )


WORKS = [_work(1, 3_000, 0.8), _work(100, 50_000, 1.2), _work(500, 100_000, 1.5)]
