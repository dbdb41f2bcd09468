"""Small items: the cost of a hop. Every program does the same to the same numbers, and returns a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks import _place
from tests.benchmarks._harness import Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, run, with_node, with_peers, with_trioflow


def expected(count: int) -> list[int]:
    """Return how many numbers come out, and their sum."""
    given = [n for n in ((n + 1) * 2 for n in range(count)) if n % 3]
    return [len(given), sum(given)]


def timed(command: Callable[[], Sequence[str]], program: str, *variant: str) -> Callable[[Scale], Sample]:
    """Make the measurement of a program that gets a count and how long to repeat."""

    def measure(scale: Scale) -> Sample:
        told = run([*command(), PEERS / program, *variant, scale.size, scale.seconds])
        expect("the result", told["result"], expected(scale.size))
        runs = told["runs"]
        return Sample.rate(scale.size, told["wall"] / runs, told["cpu"] / runs)

    return measure


def _peers(aiostream: str) -> list[Peer]:
    """Return the peers of both works; none of these is faster with its own generators."""
    aiostream_is = timed(with_peers, "items_aiostream.py", aiostream)
    anyio = [_place.package("anyio")]
    return [
        Peer("Node: object-mode Transforms", timed(with_node, "items.js", "transforms"), [_place.NODE]),
        Peer("aiostream", aiostream_is, [_place.package("aiostream")]),
        Peer("asyncio.Queue, task per stage", timed(with_trioflow, "items_asyncio.py")),
        Peer("anyio streams on asyncio, task per stage", timed(with_peers, "items_anyio.py", "asyncio"), anyio),
        Peer("anyio streams on Trio, task per stage", timed(with_peers, "items_anyio.py", "trio"), anyio),
        Peer("Trio channels, task per stage", timed(with_trioflow, "items_trio.py", "integers")),
    ]


def _channel(tasks: int) -> Work:
    """Return the work of `tasks` senders and as many readers that share one channel, item by item."""
    who = "one sender and one reader" if tasks == 1 else f"{tasks} senders and {tasks} readers"
    return Work(
        f"channel-{tasks}",
        f"integers over one channel, item by item: {who}",
        "items/s",
        200_000,
        2_000,
        [
            Peer("trioflow", timed(with_trioflow, "channels_trio.py", "trioflow", str(tasks))),
            Peer("Trio: memory channel", timed(with_trioflow, "channels_trio.py", "trio", str(tasks)), target=2.5),
            Peer("asyncio.Queue", timed(with_trioflow, "channels_asyncio.py", str(tasks))),
        ],
        seconds=1.0,
    )


WORKS = [
    Work(
        "integers",
        "integers: source, map, map, filter, list",
        "items/s",
        200_000,
        2_000,
        [
            Peer("trioflow", timed(with_trioflow, "items_trioflow.py", "integers")),
            Peer(
                "nested generators",
                timed(with_trioflow, "items_plain.py", "generators"),
                target=1.0,
                is_limit=True,
            ),
            Peer("Python's own map and filter", timed(with_trioflow, "items_plain.py", "builtin")),
            *_peers("integers"),
        ],
        seconds=1.0,
    ),
    Work(
        "inspect",
        "integers, with an inspector on that is looked at twice a second",
        "items/s",
        200_000,
        2_000,
        [
            Peer("trioflow", timed(with_trioflow, "items_trioflow.py", "inspected")),
            Peer("without an inspector", timed(with_trioflow, "items_trioflow.py", "integers"), target=0.97),
        ],
        seconds=1.0,
    ),
    Work(
        "merge",
        "integers from two sources, merged: map, map, filter, list",
        "items/s",
        200_000,
        2_000,
        [
            Peer("trioflow", timed(with_trioflow, "items_trioflow.py", "merge")),
            Peer("Node: two pipes into a PassThrough", timed(with_node, "items.js", "merged"), [_place.NODE]),
            Peer("aiostream", timed(with_peers, "items_aiostream.py", "merge"), [_place.package("aiostream")]),
            Peer("Trio channels, cloned sender", timed(with_trioflow, "items_trio.py", "merge")),
        ],
        seconds=1.0,
    ),
    _channel(1),
    _channel(4),
    Work(
        "generators",
        "integers through three async generators",
        "items/s",
        200_000,
        2_000,
        [
            Peer("trioflow", timed(with_trioflow, "items_trioflow.py", "generators")),
            Peer(
                "nested async generators",
                timed(with_trioflow, "items_plain.py", "async_generators"),
                target=0.45,
                is_limit=True,
            ),
            Peer("Node: pipeline of generators", timed(with_node, "items.js", "generators"), [_place.NODE], 0.75),
            *_peers("generators"),
        ],
        seconds=1.0,
    ),
]
