"""The cost of one run: stages with nothing to do, compared with a nursery with as many tasks."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks._harness import Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, run, with_trioflow


def timed(program: str, *variant: str) -> Callable[[Scale], Sample]:
    """Make the measurement of a program that repeatedly runs nothing."""

    def measure(scale: Scale) -> Sample:
        told = run([*with_trioflow(), PEERS / program, *variant, scale.size])
        expect("the items", told["result"], 0)
        return Sample.cost(told["runs"], told["wall"], told["cpu"])

    return measure


def _work(stages: int) -> Work:
    title = f"one run of {stages} stages with nothing to do, each a task"
    if stages == 1:
        title = "one run of one task with nothing to do: a source and a sink, fused"
    count = str(stages)
    return Work(
        f"run-{stages}",
        title,
        "s",
        5_000,
        50,
        [
            Peer("trioflow", timed("run_trioflow.py", count)),
            Peer("nursery, tasks that return at once", timed("run_trio.py", "alone", count), is_limit=True),
            Peer("nursery, tasks joined by memory channels", timed("run_trio.py", "joined", count), target=1.2),
        ],
        is_cost=True,
    )


WORKS = [_work(1), _work(3), _work(10)]
