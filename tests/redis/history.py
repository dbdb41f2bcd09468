"""Checks the notes of senders and receivers, and the state of the server, against the promises of a stream."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles
from typing import NamedTuple


class Event(NamedTuple):
    """A line of the notes. `entry` is the server's name of an entry, or `-`."""

    time: float
    what: str  # `stored`: confirmed to a sender; `begun` and `done`: by a receiver
    stream: str
    item: str
    entry: str

    @classmethod
    def of(cls, line: str) -> Event:
        time, *rest = line.split()
        return cls(float(time), *rest)


@dataclass
class Flow:
    """What happened to the items of one stream; items of a chain count as done when their results are done."""

    stored: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    begun: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    entries: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # their names in the server

    def add(self, events: Iterable[Event], jobs: str, results: str) -> None:
        for time, what, stream, item, entry in events:
            if stream == jobs and what == "stored":
                self.stored.add(item)
            elif stream == jobs and what == "begun":
                self.begun[item].append(time)
                if entry != "-":
                    self.entries[item].add(entry)
            elif stream == results and what == "done":
                self.done[item] += 1

    def redelivered(self) -> list[float]:
        """Return the seconds from each delivery of an item to its next one."""
        return [later - sooner for times in self.begun.values() for sooner, later in pairwise(times)]

    def lost(self, dead: Collection[str], left: Collection[str]) -> set[str]:
        return self.stored - set(self.done) - set(dead) - set(left)


def number(item: str) -> int:
    return int(item.split(":")[1])


def violations(
    flow: Flow, dead: Sequence[str], left: Sequence[str], *, longest: int, capacity: int, is_ended: bool
) -> list[str]:
    """Return what is wrong. `dead` and `left` are the items of dead letters and those still in the streams."""
    wrong = [f"lost: {item}" for item in sorted(flow.lost(dead, left))]
    wrong += [f"stored twice: {item}" for item, entries in flow.entries.items() if len(entries) > 1]
    order: dict[str, list[tuple[tuple[int, int], int]]] = defaultdict(list)
    for item, entries in flow.entries.items():
        ms, _, count = min(entries).partition("-")
        order[item.split(":")[0]].append(((int(ms), int(count)), number(item)))
    for sender, found in order.items():
        numbers = [n for _, n in sorted(found)]
        if numbers != sorted(numbers):
            wrong.append(f"not in order: the items of {sender}")
    if longest > capacity:
        wrong.append(f"not bounded: {longest} entries, and the capacity is {capacity}")
    if not is_ended:
        wrong.append("not ended")
    return wrong


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    if len(seconds) < 2:
        return (seconds[0], seconds[0]) if seconds else (0.0, 0.0)
    cuts = quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98]
