"""Workers between two channels: each takes items, works on them, and makes sure that its results are sent.

Rule 1: items taken from the source and not yet sent on are held by the workers, and nowhere else.
Rule 2: with `ordered`, a worker whose result is not the next one keeps it, and takes nothing more until it was sent.
Rule 3: the worker with the next result sends it and all that follow without a gap, in one batch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio
from trio.lowlevel import ParkingLot

from trioflow._core.buffer import DEFAULT_CAPACITY
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.crew import Crew

Work = Callable[[list[Any]], Awaitable[list[Any]]]


def processor_count() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Trips:
    """Learns how many items to take on one trip to a thread or process, so that a trip takes about `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.size = 1

    def learn(self, spent: float, count: int) -> None:
        """Adapt the size to a trip with `count` items, which took `spent` seconds of work."""
        if spent > self._seconds:
            self.size = max(self.size // 2, 1)
        elif spent < self._seconds / 2 and count == self.size:
            self.size = min(self.size * 2, DEFAULT_CAPACITY)


@dataclass(slots=True, eq=False)
class _Turn:
    """A worker's place in the order: its results, and the event that tells it they were sent."""

    results: list[Any] | None = None
    sent: trio.Event | None = None


class Workers:
    """Workers between two channels. A `Work` function may have a `size`: how many items it takes at once."""

    def __init__(self, source: ReceiveChannel[Any], output: SendChannel[Any], *, ordered: bool) -> None:
        self._source = source
        self._output = output
        self._ordered = ordered
        self._turns: deque[_Turn] = deque()  # in the order of the items; at most one for each worker
        self._is_sending = False
        self._is_taking = False
        self._idle = ParkingLot()
        self._free = 0  # workers that have no items

    async def run(self, works: Iterable[Work]) -> None:
        """Run `works` until the source has ended and all results were sent. Each starts when all before it are busy."""
        self._more = iter(works)
        async with Crew() as self._crew:
            self._start_next()

    def _start_next(self) -> None:
        for work in self._more:
            self._free += 1
            self._crew.start(self._work, work)
            break

    async def _work(self, work: Work) -> None:
        while True:
            try:
                items = await self._take(getattr(work, "size", 1))
            except trio.EndOfChannel:
                return
            self._free -= 1
            if not self._free:
                self._start_next()
            if self._ordered:
                turn = _Turn()
                self._turns.append(turn)  # in order, as no other task has run since the items were taken
                turn.results = await work(items)
                await self._send_in_turn(turn)
            else:
                await self._output.send_many(await work(items))
            self._free += 1

    async def _take(self, most: int) -> list[Any]:
        # One worker at a time waits at the channel, and wakes the next when it has taken items. If all waited there, none
        # could take ready items without giving way to the others: a function that never waits would run ten times slower.
        while self._is_taking:
            await self._idle.park()
        self._is_taking = True
        try:
            return await self._source.receive_many(most)
        finally:
            self._is_taking = False
            self._idle.unpark()

    async def _send_in_turn(self, turn: _Turn) -> None:
        if self._is_sending or self._turns[0] is not turn:
            turn.sent = trio.Event()
            await turn.sent.wait()
            return
        self._is_sending = True
        while self._turns and self._turns[0].results is not None:
            ready: list[_Turn] = []
            results: list[Any] = []
            for next_turn in self._turns:
                if next_turn.results is None:
                    break
                ready.append(next_turn)
                results += next_turn.results
            await self._output.send_many(results)
            for sent in ready:
                self._turns.popleft()
                if sent.sent is not None:
                    sent.sent.set()
        self._is_sending = False
