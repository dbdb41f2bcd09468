"""Observers of a program's runs: each is called when a run begins, and its `with` block ends when the run does.

Rule 1: runs are observed only on request. A run checks once whether there are `observers`, and without any records nothing.
Rule 2: observers see counts and times. They must not keep a `Watched` after the run, as its buffers may hold items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import trio

from trioflow._core.buffer import Buffer
from trioflow._core.errors import HangUp
from trioflow._core.fused import Fused


class Watched(NamedTuple):
    """What observers see of one task of a run: the names of its stages, and the channels before and after it."""

    labels: Sequence[Callable[[], str]]
    fused: Fused | None
    source: Buffer[Any] | None
    output: Buffer[Any] | None


# Called with a run's tasks when the run begins. The block ends when the run does, with the exception that the run raises.
Watch: TypeAlias = "Callable[[Sequence[Watched]], AbstractContextManager[object]]"

observers: tuple[Watch, ...] = ()  # they see every run that begins
State: TypeAlias = Literal["running", "done", "failed", "cancelled"]
_QUIET: Final = (trio.Cancelled, HangUp, GeneratorExit)  # exceptions that end a run without being a failure
UNSEEN: Final = nullcontext()


class Place(NamedTuple):
    """The number of an observed run, and of the run inside which it began. A hidden run has the `id` 0."""

    id: int
    parent: int | None


HIDDEN: Final = Place(0, None)
place: Final[ContextVar[Place | None]] = ContextVar("the run that this task is part of", default=None)
_ids: Final = itertools.count(1)


class NotBegun(Exception):
    """Raised through the observers' blocks if the announced run does not happen after all."""


def seen_by(watches: Sequence[Watch], tasks: Sequence[Watched]) -> AbstractContextManager[object]:
    """Return a `with` block for a run of these tasks, in which all `watches` see it."""
    outer = place.get()
    block = ExitStack()
    block.callback(place.set, outer)
    if outer is not HIDDEN:
        place.set(Place(next(_ids), None if outer is None else outer.id))
    for watch in watches:
        block.enter_context(watch(tasks))
    return block


def failure_of(raised: BaseException | None) -> BaseException | None:
    """Return the failure of a run whose block raised `raised`, or None if it was only cancelled or closed early."""
    if isinstance(raised, BaseExceptionGroup):
        return raised if raised.split(_QUIET)[1] else None
    return None if isinstance(raised, _QUIET) else raised


def state_of(raised: BaseException | None) -> State:
    """Return how a run has ended whose block raised `raised`."""
    if raised is None:
        return "done"
    return "cancelled" if failure_of(raised) is None else "failed"
