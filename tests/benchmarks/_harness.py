"""Works measured beside their peers, in turns.

Rule 1: A B C A B C: what slows the machine for a while slows all of them.
Rule 2: a ratio is the median of the ratios round by round, each of two samples taken shortly after each other.
Rule 3: who computes the wrong thing has failed, however fast; who is not installed is named, never left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


class Failed(Exception):
    """A program has crashed, has taken too long, or has computed the wrong thing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one peer gave: the figure, the same by CPU time where that means something, and the seconds."""

    figure: float
    per_cpu: float | None
    wall: float
    cpu: float

    @classmethod
    def rate(cls, amount: float, wall: float, cpu: float) -> Sample:
        """Make one of how much was done in a second."""
        return cls(amount / wall, amount / cpu if cpu else None, wall, cpu)

    @classmethod
    def cost(cls, times: int, wall: float, cpu: float) -> Sample:
        """Make one of how long it took, of `times` times."""
        return cls(wall / times, cpu / times if cpu else None, wall / times, cpu / times)

    @classmethod
    def level(cls, value: float, wall: float, cpu: float) -> Sample:
        """Make one of a number that CPU time says nothing about."""
        return cls(value, None, wall, cpu)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a work is: its `size`, and for how many `seconds` at least it is repeated where it is short."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Need:
    """What must be installed: its name, whether it is, and how to get it."""

    name: str
    is_there: Callable[[], bool]
    how: str


@dataclass(frozen=True, slots=True)
class Peer:
    """One program to measure. `target` and `cpu_target` are what our ratio to it should be; None: not said."""

    name: str
    measure: Callable[[Scale], Sample]
    needs: Sequence[Need] = ()
    target: float | None = None
    cpu_target: float | None = None
    is_limit: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One thing that ours, the first of `peers`, and others do. `smoke` is the size that only proves that it runs."""

    name: str
    title: str
    unit: str
    size: int
    smoke: int
    peers: Sequence[Peer]
    is_cost: bool = False  # the smaller the figure, the better; then targets are upper bounds
    seconds: float = 0.0


@dataclass(slots=True)
class Row:
    """What came of one peer: its samples in the order of the rounds, or why there are none."""

    peer: Peer
    samples: list[Sample] = field(default_factory=list)
    missing: str = ""
    failed: str = ""

    def median(self, name: str) -> float | None:
        """Return the median of one of the numbers of all samples; None if a sample lacks it, or without samples."""
        values: list[Any] = [getattr(sample, name) for sample in self.samples]
        return None if not values or None in values else statistics.median(values)

    @property
    def spread(self) -> float | None:
        """Return how far the samples' figures lie apart, as a part of their median."""
        middle = self.median("figure")
        if not middle:
            return None
        figures = [sample.figure for sample in self.samples]
        return (max(figures) - min(figures)) / middle


def turns(peers: Sequence[Peer], rounds: int) -> Iterator[Peer]:
    """Return whose turn it is, again and again in the same order."""
    for _ in range(rounds):
        yield from peers


def measure(work: Work, scale: Scale, rounds: int, tell: Callable[[Row], object] = lambda row: None) -> list[Row]:
    """Measure all peers of `work` in turns; `tell` hears of each row when something has come to it."""
    rows = {peer.name: Row(peer) for peer in work.peers}
    for row in rows.values():
        lacking = [need for need in row.peer.needs if not need.is_there()]
        if lacking:
            row.missing = ", ".join(f"{need.name} ({need.how})" for need in lacking)
            tell(row)
    for peer in turns([row.peer for row in rows.values() if not row.missing], rounds):
        row = rows[peer.name]
        if row.failed:
            continue
        try:
            row.samples.append(peer.measure(scale))
        except Failed as exc:
            row.failed = str(exc)
            row.samples.clear()  # what a wrong program did before is no measurement
        tell(row)
    return list(rows.values())


def ratio(ours: Row, theirs: Row, name: str = "figure") -> float | None:
    """Return ours divided by theirs, the median of all rounds; None where either lacks the number."""
    pairs = [(getattr(mine, name), getattr(its, name)) for mine, its in zip(ours.samples, theirs.samples, strict=False)]
    if not pairs or any(not mine or not its for mine, its in pairs):
        return None
    middle: float = statistics.median(mine / its for mine, its in pairs)
    return middle


def is_met(work: Work, reached: float | None, target: float | None) -> bool | None:
    """Tell whether a ratio is what it should be; None where there is nothing to say."""
    if reached is None or target is None:
        return None
    return reached <= target if work.is_cost else reached >= target


def expect(what: str, given: Any, wanted: Any) -> None:
    """Fail a program whose result is wrong.

    Raises:
        Failed: it is.
    """
    if given != wanted:
        raise Failed(f"{what} is {given!r:.80}, not {wanted!r:.80}")
