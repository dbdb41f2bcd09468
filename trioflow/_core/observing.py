"""Who sees the runs of this program: each is called when a run begins, and leaves its block when the run has ended.

Rule 1: nobody sees a run unless it is asked for; a run looks once whether `observers` is empty, and notes nothing then.
Rule 2: what is seen are counts and times; an observer keeps no `Watched` after the run, as that holds items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import trio

from trioflow._core.buffer import Buffer
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.errors import HangUp
from trioflow._core.fused import Fused


class Watched(NamedTuple):
    """What is seen of one task of a run: its stages' names, and the channels before and after it."""

    labels: Sequence[Callable[[], str]]
    fused: Fused | None
    source: Buffer[Any] | None
    output: Buffer[Any] | None

    @classmethod
    def between(
        cls,
        source: ReceiveChannel[Any] | None,
        output: SendChannel[Any] | None,
        labels: Sequence[Callable[[], str]],
        fused: Fused | None = None,
    ) -> Watched:
        """Return what is seen of a task between these channels."""
        buffers = [None if end is None else end._buffer for end in (source, output)]
        return cls(labels, fused, *buffers)

    def time_waits(self, clock: Callable[[], float]) -> None:
        """Time from now on how long is waited at its ends of the channels."""
        for buffer in (self.source, self.output):
            if buffer is not None:
                buffer.watch(clock)


# Called with a run's tasks where that begins; the block is left when it has ended, by what it raises.
Watch: TypeAlias = "Callable[[Sequence[Watched]], AbstractContextManager[object]]"

observers: tuple[Watch, ...] = ()  # of every run that begins
State: TypeAlias = Literal["running", "done", "failed", "cancelled"]
_QUIET: Final = (trio.Cancelled, HangUp, GeneratorExit)  # what ends a run and is no failure
UNSEEN: Final = nullcontext()


class Place(NamedTuple):
    """Which run this is, of those that somebody sees, and inside which one it began; the `id` of a hidden one is 0."""

    id: int
    parent: int | None


HIDDEN: Final = Place(0, None)
place: Final[ContextVar[Place | None]] = ContextVar("the run that this task is part of", default=None)
_ids: Final = itertools.count(1)


class NotBegun(Exception):
    """Raised through the blocks of observers: there is no such run, forget it."""


def seen_by(watches: Sequence[Watch], tasks: Sequence[Watched]) -> AbstractContextManager[object]:
    """Return the block in which a run of these tasks goes, for all who watch it."""
    outer = place.get()
    block = ExitStack()
    block.callback(place.set, outer)
    if outer is not HIDDEN:
        place.set(Place(next(_ids), None if outer is None else outer.id))
    for watch in watches:
        block.enter_context(watch(tasks))
    return block


def failure_of(raised: BaseException | None) -> BaseException | None:
    """Return what a run has failed by, of what left its block: None if that only ended it."""
    if isinstance(raised, BaseExceptionGroup):
        return raised if raised.split(_QUIET)[1] else None
    return None if isinstance(raised, _QUIET) else raised


def state_of(raised: BaseException | None) -> State:
    """Return how a run has ended, by what left its block."""
    if raised is None:
        return "done"
    return "cancelled" if failure_of(raised) is None else "failed"
