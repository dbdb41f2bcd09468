"""Works measured in turns with their peers.

Rule 1: A B C A B C, so that a temporary slowdown of the machine affects all of them.
Rule 2: a ratio is the median of the ratios of each round, whose samples were taken shortly after each other.
Rule 3: a peer with a wrong result has failed, however fast; one that is not installed is listed, never left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


class Failed(Exception):
    """A program has crashed, has taken too long, or has a wrong result."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of one run of one peer: the figure, the same by CPU time if that is meaningful, and the seconds."""

    figure: float
    per_cpu: float | None
    wall: float
    cpu: float

    @classmethod
    def rate(cls, amount: float, wall: float, cpu: float) -> Sample:
        """Make a sample from how much was done in a second."""
        return cls(amount / wall, amount / cpu if cpu else None, wall, cpu)

    @classmethod
    def cost(cls, times: int, wall: float, cpu: float) -> Sample:
        """Make a sample from how long `times` repetitions took."""
        return cls(wall / times, cpu / times if cpu else None, wall / times, cpu / times)

    @classmethod
    def level(cls, value: float, wall: float, cpu: float) -> Sample:
        """Make a sample from a number that does not depend on CPU time."""
        return cls(value, None, wall, cpu)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a work is: its `size`, and for how many `seconds` at least a short one is repeated."""

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
    """One program to measure. `target` and `cpu_target` are what our ratio to it should be, or None."""

    name: str
    measure: Callable[[Scale], Sample]
    needs: Sequence[Need] = ()
    target: float | None = None
    cpu_target: float | None = None
    is_limit: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One task for ours, the first of `peers`, and others. `smoke` is a size that only shows that it runs."""

    name: str
    title: str
    unit: str
    size: int
    smoke: int
    peers: Sequence[Peer]
    is_cost: bool = False  # smaller figures are better, so targets are upper bounds
    seconds: float = 0.0


@dataclass(slots=True)
class Row:
    """The result of one peer: its samples in the order of the rounds, or the reason why it has no samples."""

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
        """Return the spread of the samples' figures, as a fraction of their median."""
        middle = self.median("figure")
        if not middle:
            return None
        figures = [sample.figure for sample in self.samples]
        return (max(figures) - min(figures)) / middle


def turns(peers: Sequence[Peer], rounds: int) -> Iterator[Peer]:
    """Return whose turn it is, always in the same order."""
    for _ in range(rounds):
        yield from peers


def measure(work: Work, scale: Scale, rounds: int, tell: Callable[[Row], object] = lambda row: None) -> list[Row]:
    """Measure all peers of `work` in turns; `tell` is called with each row that has changed."""
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
            row.samples.clear()  # earlier samples of a wrong program are not measurements
        tell(row)
    return list(rows.values())


def ratio(ours: Row, theirs: Row, name: str = "figure") -> float | None:
    """Return ours divided by theirs, the median of all rounds; None if either lacks the number."""
    pairs = [(getattr(mine, name), getattr(its, name)) for mine, its in zip(ours.samples, theirs.samples, strict=False)]
    if not pairs or any(not mine or not its for mine, its in pairs):
        return None
    middle: float = statistics.median(mine / its for mine, its in pairs)
    return middle


def is_met(work: Work, reached: float | None, target: float | None) -> bool | None:
    """Return whether a ratio meets its target; None if there is no ratio or no target."""
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
