"""The checker itself: it finds what is wrong in an invented history, and nothing in a short run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.redis import checker
from tests.redis.history import Event, Flow, violations
from tests.redis.server import Server

RIGHT = """
1.0 stored jobs a:0 -
1.1 stored jobs a:1 -
1.2 stored jobs b:0 -
1.3 begun jobs a:0 1-0
1.4 begun jobs b:0 1-1
1.5 done jobs b:0 1-1
2.5 begun jobs a:0 1-0
2.6 done jobs a:0 1-0
2.7 begun jobs a:1 2-0
2.8 done jobs a:1 2-0
"""


def found(notes: str, *, dead: tuple[str, ...] = (), longest: int = 2, is_ended: bool = True) -> list[str]:
    flow = Flow()
    flow.add([Event.of(line) for line in notes.split("\n") if line], "jobs", "jobs")
    return violations(flow, dead, [], longest=longest, capacity=2, is_ended=is_ended)


def test_a_history_without_faults_has_no_violations() -> None:
    flow = Flow()
    flow.add([Event.of(line) for line in RIGHT.split("\n") if line], "jobs", "jobs")

    assert found(RIGHT) == []
    assert flow.redelivered() == [pytest.approx(1.2)]


@pytest.mark.parametrize(
    ("cut", "put", "dead", "complaints"),
    [
        # A worker that acknowledges before it works, and dies, has begun and never done it; nobody begins it again.
        ("2.5 begun jobs a:0 1-0\n2.6 done jobs a:0 1-0\n", "", (), ["lost: a:0"]),
        ("2.5 begun jobs a:0 1-0\n2.6 done jobs a:0 1-0\n", "", ("a:0",), []),
        ("2.7 begun jobs a:1 2-0\n2.8 done jobs a:1 2-0\n", "", (), ["lost: a:1"]),
        ("2.5 begun jobs a:0 1-0", "2.5 begun jobs a:0 3-0", (), ["stored twice: a:0"]),
        ("begun jobs a:1 2-0", "begun jobs a:1 0-9", (), ["not in order: the items of a"]),
    ],
)
def test_a_planted_fault_is_found(cut: str, put: str, dead: tuple[str, ...], complaints: list[str]) -> None:
    assert cut in RIGHT
    assert found(RIGHT.replace(cut, put), dead=dead) == complaints


def test_a_stream_that_was_too_long_or_did_not_end_is_found() -> None:
    assert found(RIGHT, longest=3, is_ended=False) == [
        "not bounded: 3 entries, and the capacity is 2",
        "not ended",
    ]


@pytest.mark.needs("redis-server")
async def test_a_few_seconds_of_all_faults_break_no_promise(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server:
        mix = ("poison", "worker killed", "sender killed", "cut", "server killed", "out of memory", "scripts flushed")
        [row] = await checker.check(server, is_ours=True, place=tmp_path, mixes=[mix], minutes=3 / 60, seed=3)

    assert row.wrong == []
    assert row.lost == 0
    assert row.stored > 20
    assert row.faults > 0
