"""Iteration over a channel batch by batch, and how a loop over a channel ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import trio

from trioflow._core.buffer import Buffer

T = TypeVar("T")


class Batches(AsyncIterator[T]):
    """What `ReceiveChannel.batches` returns. It holds nothing, and need not be closed."""

    __slots__ = ("_buffer", "_receive")

    def __init__(self, receive: Callable[[], Awaitable[T]], buffer: Buffer[Any]) -> None:
        self._receive = receive
        self._buffer = buffer

    async def __anext__(self) -> T:
        try:
            return await self._receive()
        except (trio.EndOfChannel, StopAsyncIteration) as exc:
            end_of_loop(self._buffer, exc)


def end_of_loop(buffer: Buffer[Any], exc: Exception) -> NoReturn:
    """End a loop, unless `exc` is the failure of a stage, which only looks like the end (R11)."""
    if exc is not buffer.failure:
        raise StopAsyncIteration from None
    if isinstance(exc, trio.EndOfChannel):
        raise exc
    # As Python does it for generators, since the loop would take the exception for its end.
    raise RuntimeError("a stage raised StopAsyncIteration") from exc
