"""A reader that lets the sender's task handle what arrives, instead of being woken for it.

                  put                      handle
    sender's task ---> buffer, reader asleep ---> done; the reader sleeps on
                                       |
                                       +---> something is left to be awaited, or it has failed: the reader wakes

Rule 1: `handle` is quick, never waits, and calls no functions of users: these would run in a stranger's task.
Rule 2: what it raises is raised in the reader's task.
Rule 3: a sender that does not pause wakes the reader, which then gets its items in batches. One call of `handle` for each
    would cost more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar

import trio

from trioflow._core.batches import Batches
from trioflow._core.channel import ReceiveChannel

T = TypeVar("T")

_PAUSE: Final = 0.001  # seconds without an item, after which the next is handled in place


def left_by(source: ReceiveChannel[Any], handle: Callable[[list[Any]], Sequence[T]]) -> Batches[Sequence[T]]:
    """Pass all items of `source` to `handle`, batch by batch, and iterate over what it returns, if that is not empty.

    A chunk for one of 1,000 clients takes 9 µs instead of 18 where the reader need not be woken.
    """
    return Batches(partial(_next_left, source, handle), source._buffer)


async def _next_left(source: ReceiveChannel[Any], handle: Callable[[list[Any]], Sequence[T]]) -> Sequence[T]:
    buffer = source._buffer
    left: Sequence[T] = ()
    raised: BaseException | None = None
    busy_until = 0.0

    def in_place() -> bool:
        nonlocal left, raised, busy_until
        is_busy = perf_counter() < busy_until
        try:
            while buffer.items and not left and not is_busy:
                left = handle(buffer.take_many(source._most))
        except BaseException as exc:  # noqa: BLE001 - raised in the reader's task
            raised = exc
        busy_until = perf_counter() + _PAUSE
        return not (is_busy or left) and raised is None

    def is_woken(is_next: bool) -> bool:  # noqa: FBT001 - called by `Buffer.wait_in`
        return bool(left) or raised is not None or source._ready(is_next)

    try:
        while not left:
            if buffer.items or not source._must_wait:
                await source._checkpoint(0)
            try:
                if not source._ready():
                    await source._wait(is_woken, in_place)
            except trio.Cancelled:
                if raised is None:  # what `handle` raised came first, and may be why this was cancelled
                    raise
            if raised is not None:
                raise raised
            if not left:
                items = buffer.take_many(source._most)
                source._moved += len(items)
                left = handle(items)
                busy_until = perf_counter() + _PAUSE
        return left
    finally:
        raised = None  # breaks a reference cycle
