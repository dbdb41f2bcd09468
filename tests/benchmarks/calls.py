"""Calls of a function that computes: in processes, in threads, and here; and the cost from which processes pay off."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks._harness import Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, run, with_trioflow


def timed(how: str, microseconds: int) -> Callable[[Scale], Sample]:
    """Make the measurement of calls that take so long each."""

    def measure(scale: Scale) -> Sample:
        told = run([*with_trioflow(), PEERS / "calls.py", how, scale.size, microseconds])
        expect("whether the results are right", told["result"], True)
        return Sample.rate(told["count"], told["wall"], told["cpu"])

    return measure


def _work(microseconds: int, size: int) -> Work:
    took = f"{microseconds} µs" if microseconds < 1000 else f"{microseconds // 1000} ms"
    return Work(
        f"calls-{microseconds}",
        f"calls that compute for {took} each, two processes or threads",
        "calls/s",
        size,
        50,
        [
            Peer("trioflow", timed("ours", microseconds)),
            Peer("plain calls", timed("plain", microseconds)),
            Peer("concurrent.futures: map", timed("futures", microseconds)),
            Peer("concurrent.futures: map, chunks of 64", timed("chunked", microseconds)),
            Peer("map_in_threads", timed("threads", microseconds)),
        ],
    )


WORKS = [_work(1, 50_000), _work(10, 20_000), _work(100, 5_000), _work(1_000, 500), _work(10_000, 100)]
