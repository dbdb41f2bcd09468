"""Foreign ends as stage functions: iterables, channels and byte streams that are not ours.

Rule 1: a live thing (an iterator, a channel, a stream) runs once; a second run raises `trio.ClosedResourceError` (R4).
Rule 2: a run owns the live one-way end it was given, and closes it. Of a two-way stream it ends its own direction
    only, with `send_eof` where there is one; the stream stays its owner's.
Rule 3: an end that could be taken for a complete one is not sent after a failure (R13), as far as the other kind can tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import trio

from trioflow._channel import ReceiveChannel, SendChannel

T = TypeVar("T")

GATHER: Final = 65536  # bytes; small chunks that are ready are sent as one

StageFunction = Callable[..., Awaitable[Any]]


def once(run: StageFunction, what: str) -> StageFunction:
    """Make a stage function that runs once and says so when it is run again."""
    used = False

    async def run_once(*ends: Any) -> Any:
        nonlocal used
        if used:
            raise trio.ClosedResourceError(f"{what} can run once only, and has run")
        used = True
        return await run(*ends)

    return run_once


def iterator_factory(items: Iterable[Any]) -> Callable[[], Iterator[Any]]:
    """Make the start of a synchronous chain of an iterable; `str` and bytes-like are one item."""
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        return lambda: iter((items,))
    if not isinstance(items, Iterator):
        return lambda: iter(items)
    used = False

    def start() -> Iterator[Any]:
        nonlocal used
        if used:
            raise trio.ClosedResourceError(f"{type(items).__name__} can run once only, and has run")
        used = True
        return items

    return start


def async_source(items: AsyncIterable[Any]) -> StageFunction:
    """Make a source of an async iterable, a channel or a byte stream."""

    async def run(output: SendChannel[Any]) -> None:
        iterator = aiter(items)
        try:
            if isinstance(items, ReceiveChannel):
                await forward(items, output)
            else:
                async for item in iterator:
                    await output.send(item)
        finally:
            if not isinstance(items, trio.abc.SendStream):  # a two-way stream stays its owner's
                await close(iterator)

    is_live = isinstance(items, trio.abc.AsyncResource) or aiter(items) is items
    return once(run, type(items).__name__) if is_live else run


async def forward(source: ReceiveChannel[T], output: SendChannel[T]) -> None:
    """Send all that `source` gives to `output`, batch by batch."""
    async for items in source.batches():
        await output.send_many(items)


async def close(thing: object) -> None:
    """Close whatever can be closed: a channel at once, an async generator or a stream by its `aclose`."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(thing, "aclose", None)
    if aclose is not None:
        await aclose()


def channel_sink(channel: trio.abc.SendChannel[Any]) -> StageFunction:
    """Make a sink that sends each item to `channel`, closes it, and gives the number of items."""

    async def run(source: ReceiveChannel[Any]) -> int:
        count = 0
        try:
            if isinstance(channel, SendChannel):
                async for items in source.batches():
                    await channel.send_many(items)
                    count += len(items)
            else:
                async for item in source:
                    await channel.send(item)
                    count += 1
        except BaseException:
            if isinstance(channel, SendChannel):
                channel.abort()
            raise
        finally:
            await channel.aclose()
        return count

    return once(run, type(channel).__name__)


def stream_sink(stream: trio.abc.SendStream) -> StageFunction:
    """Make a sink that writes each chunk to `stream`, ends it, and gives the number of bytes."""

    async def run(source: ReceiveChannel[bytes]) -> int:
        count = 0
        two_way = isinstance(stream, trio.abc.ReceiveStream)
        try:
            async for chunks in source.batches():
                for chunk in gathered(chunks):
                    await stream.send_all(chunk)
                    count += len(chunk)
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            elif not two_way:
                await stream.aclose()
        except BaseException:
            await trio.aclose_forcefully(stream)  # what was written is not all: the reader must not take it for that
            raise
        return count

    return once(run, type(stream).__name__)


def gathered(chunks: Iterable[Any]) -> Iterator[bytes]:
    """Join neighbouring small chunks into ones of at most `GATHER` bytes; a larger one passes as it is."""
    small: list[Any] = []
    size = 0
    for chunk in chunks:
        length = memoryview(chunk).nbytes
        if small and size + length > GATHER:
            yield b"".join(small)
            small, size = [], 0
        if length >= GATHER:
            yield chunk
        elif length:
            small.append(chunk)
            size += length
    if small:
        yield small[0] if len(small) == 1 else b"".join(small)
