"""Moving all items of one channel into another.

Rule: an item stays in the first channel until there is room for it in the second, so none is held in between, and senders
    that share the second channel take turns with whole batches. With an item in hand that waits for room, two senders
    would take turns with one item each, at 15 µs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import trio

from trioflow._core.batches import Batches
from trioflow._core.buffer import light_size, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.one_by_one import OneByOne

T = TypeVar("T")


async def forward(source: ReceiveChannel[T], output: SendChannel[T]) -> None:
    """Send all items of `source` to `output`, in batches as large as there is room for."""
    async for _ in moves(source, output):
        pass


async def forward_singly(source: ReceiveChannel[T], output: SendChannel[T]) -> None:
    """Send all items of `source` to `output` one by one, each when the last was taken, so that other readers can get it."""
    while True:
        await output._wait_empty()
        try:
            item = await source.receive()
        except trio.EndOfChannel:
            return
        output.send_nowait(item)  # it fits, and a cancellation at a checkpoint here would lose it


async def forward_from(channel: Callable[[], ReceiveChannel[Any]], output: SendChannel[Any]) -> None:
    """Send all items of the channel that `channel` returns to `output`, and close it."""
    with channel() as source:
        await (forward_singly if isinstance(source, OneByOne) else forward)(source, output)


def moves(source: ReceiveChannel[T], output: SendChannel[T]) -> Batches[int]:
    """Do what `forward` does, and iterate over how many items were moved each time."""
    return Batches(partial(_move, source, output), source._buffer)


async def _move(source: ReceiveChannel[T], output: SendChannel[T]) -> int:
    given, taking = source._buffer, output._buffer
    if taking.overflow != "wait":
        items = await source._receive_batch(math.inf)
        await output._send_all(items, None)
        return len(items)
    moved = 0

    def move(is_next: bool) -> bool:  # noqa: FBT001 - called by `Buffer.wait_in`
        nonlocal moved
        output._check()
        if not source._ready(True):  # its turn came before it waited for room
            return True  # another reader was quicker
        if not is_next or not taking.fits(weight_of(given.items[0])):
            return False
        items = given.take_many(source._most, taking.capacity - taking.used)
        size = light_size(items)
        if size is not None:
            taking.put_light(items, size)
        else:
            for item in items:
                taking.put(item, weight_of(item))
        moved = len(items)
        return True

    while not moved:
        if given.items or not source._must_wait:
            await source._checkpoint(0)
        if not source._ready():
            await source._wait()
        if not move(not taking.sending):
            await output._wait_in_line(max(taking.stride // 2, weight_of(given.items[0])), move)
    output._moved += moved
    source._moved += moved
    return moved
