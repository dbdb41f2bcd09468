"""Foreign ends as stage functions: iterables, channels and byte streams that are not ours.

Rule 1: a live thing (an iterator, a channel, a stream) runs once; a second run raises `trio.ClosedResourceError` (R4).
Rule 2: a run owns the live one-way end it was given, and closes it, even one that it never came to. Of a two-way
    stream it ends its own direction only, with `send_eof` where there is one; the stream stays its owner's.
Rule 3: an end that could be taken for a complete one is not sent after a failure (R13), as far as the other kind can tell.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import trio

from trioflow._core.anyio_streams import ByteSendStream, as_trio
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.labels import shown

T = TypeVar("T")
R = TypeVar("R", covariant=True)

GATHER: Final = 65536  # bytes; small chunks that are ready are sent as one
MOST_PIECES: Final = 512  # below every system's limit for one vectored write
RECEIVE: Final = 65536  # bytes to ask a stream for,
RECEIVE_MUCH: Final = 262144  # and while it gives that many

StageFunction = Callable[..., Awaitable[Any]]


class Once(Generic[R]):
    """What one run only may have: a stage function, or the start of an iterator. It says so when it is called again.

    Args:
        run: What to call.
        what: What it is called in the error.
        live: What to close where it will never be called.
    """

    __slots__ = ("_is_used", "_live", "_run", "_what")

    def __init__(self, run: Callable[..., R], what: str, live: object = None) -> None:
        self._run = run
        self._what = what
        self._live = live
        self._is_used = False

    def __call__(self, *ends: Any) -> R:
        if self._is_used:
            raise trio.ClosedResourceError(f"{self._what} can only run once, and has already run")
        self._is_used = True
        return self._run(*ends)

    async def release(self) -> None:
        """Close what is live, if no run has had it."""
        if not self._is_used:
            self._is_used = True
            await close_at_once(self._live)


def iterator_factory(items: Iterable[Any]) -> Callable[[], Iterator[Any]]:
    """Make the start of a synchronous chain of an iterable; `str` and bytes-like are one item."""
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        return lambda: iter((items,))
    if not isinstance(items, Iterator):
        return lambda: iter(items)
    return Once(lambda: items, type(items).__name__, items)


def async_source(items: AsyncIterable[Any]) -> StageFunction:
    """Make a source of an async iterable, a channel or a byte stream."""
    items = as_trio(items)
    if isinstance(items, trio.abc.ReceiveStream):
        return stream_source(items)

    async def run(output: SendChannel[Any]) -> None:
        iterator = aiter(items)
        try:
            if isinstance(items, ReceiveChannel):
                await forward(items, output)
            else:
                async for item in iterator:
                    await output.send(item)
        except BaseException:
            await close_at_once(iterator)
            raise
        await close(iterator)

    is_live = isinstance(items, trio.abc.AsyncResource) or aiter(items) is items
    return Once(run, type(items).__name__, items) if is_live else run


async def forward(source: ReceiveChannel[T], output: SendChannel[T]) -> None:
    """Send all that `source` gives to `output`, batch by batch, each as large as there is room for."""
    async for items in source._batches_for(output):
        await output._send_batch(items)


async def forward_singly(source: ReceiveChannel[T], output: SendChannel[T]) -> None:
    """Send all that `source` gives to `output`, each item when the one before was taken: until then others may have it."""
    while True:
        await output._wait_empty()
        try:
            item = await source.receive()
        except trio.EndOfChannel:
            return
        output.send_nowait(item)  # it fits; a checkpoint here might lose it


async def close(thing: object) -> None:
    """Close whatever can be closed: by its `aclose`, as an async generator, a channel or a stream, or by its `close`."""
    if (aclose := getattr(thing, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(thing, "close", None)) is not None:
        close()


async def close_at_once(thing: object) -> None:
    """Close without waiting, while an exception is in flight: a cancellation must not take its place (R17)."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        await close(thing)


def channel_sink(channel: trio.abc.SendChannel[Any]) -> StageFunction:
    """Make a sink that sends each item to `channel`, closes it, and gives the number of items."""

    async def run(source: ReceiveChannel[Any]) -> int:
        count = 0
        try:
            if isinstance(channel, SendChannel):
                async for items in source._batches_for(channel):
                    await channel._send_batch(items)
                    count += len(items)
            else:
                async for item in source:
                    await channel.send(item)
                    count += 1
        except BaseException:
            if isinstance(channel, SendChannel):
                channel.abort()
            await close_at_once(channel)
            raise
        await channel.aclose()
        return count

    return Once(run, type(channel).__name__)


def stream_source(stream: trio.abc.ReceiveStream) -> StageFunction:
    """Make a source of a byte stream, which is closed at the end; a two-way one stays its owner's."""

    async def run(output: SendChannel[bytes]) -> None:
        one_way = not isinstance(stream, trio.abc.SendStream)
        try:
            await receive_into(stream, output)
        except BaseException:
            if one_way:
                await cut(stream, reset=False)
            raise
        if one_way:
            await stream.aclose()

    return Once(run, type(stream).__name__, None if isinstance(stream, trio.abc.SendStream) else stream)


def stream_sink(stream: trio.abc.SendStream) -> StageFunction:
    """Make a sink that writes each chunk to `stream`, ends it, and gives the number of bytes."""

    async def run(source: ReceiveChannel[bytes]) -> int:
        tally = Tally()
        try:
            await send_from(source, stream, tally)
            if not isinstance(stream, trio.abc.ReceiveStream):
                await stream.aclose()
        except BaseException:
            await cut(stream)  # what was written is not all: the reader must not take it for that
            raise
        return tally.bytes

    return Once(run, type(stream).__name__)


class Enough(trio.BrokenResourceError):
    """What a stream raises in its writer when the other side has read all it wants to, which is no failure."""


async def receive_into(stream: trio.abc.ReceiveStream, output: SendChannel[bytes]) -> None:
    """Send all that `stream` gives to `output`."""
    size = RECEIVE
    while chunk := await stream.receive_some(size):
        # Asking for more than 128 KiB costs 8 µs a call, for memory that is mapped anew; full chunks pay for it twice.
        size = RECEIVE_MUCH if len(chunk) >= RECEIVE else RECEIVE
        await output.send(bytes(chunk))  # some streams give a bytearray


class Tally:
    """How many bytes have been written."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


async def send_from(source: ReceiveChannel[bytes], stream: trio.abc.SendStream, tally: Tally) -> None:
    """Write each chunk to `stream`, and end it with `send_eof` where it has one."""
    try:
        async for chunks in source.batches():
            for chunk in gathered(chunks):
                await stream.send_all(chunk)
                tally.bytes += len(chunk)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
    except Enough:
        pass


async def cut(stream: trio.abc.AsyncResource, *, reset: bool = True) -> None:
    """Close `stream` at once. With `reset`, a TCP peer gets an error instead of an end (R13).

    Never raises `Cancelled`: an exception may be in flight (R17).
    """
    sock = (
        stream
        if isinstance(stream, trio.SocketStream)
        else stream.socket
        if isinstance(stream, ByteSendStream)
        else None
    )
    if reset and sock is not None:
        reset_on_close(sock)
    await close_at_once(stream)


def reset_on_close(sock: socket.socket | trio.SocketStream) -> None:
    """Have the close of `sock` reset its TCP connection."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed, or of a kind without it


def write_vectored(write: Callable[[list[Any]], int], pieces: deque[Any]) -> int:
    """Call `write`, such as `os.writev`, with the first of `pieces`, take from them what it has written, and return that."""
    written = count = write(list(islice(pieces, MOST_PIECES)))
    while pieces and count >= len(pieces[0]):
        count -= len(pieces.popleft())
    if count:
        pieces[0] = memoryview(pieces[0])[count:]
    return written


def gathered(chunks: Iterable[Any]) -> Iterator[bytes]:
    """Join neighbouring small chunks into ones of at most `GATHER` bytes; a larger one passes as it is."""
    chunks = list(chunks)
    if set(map(type, chunks)) == {bytes} and sum(map(len, chunks)) <= GATHER:  # 0.05 µs a chunk instead of 0.3
        if joined := b"".join(chunks):
            yield joined
        return
    small: list[Any] = []
    size = 0
    for chunk in chunks:
        piece = _in_bytes(chunk)
        length = len(piece)
        if small and size + length > GATHER:
            yield b"".join(small)
            small, size = [], 0
        if length >= GATHER:
            yield piece
        elif length:
            small.append(piece)
            size += length
    if small:
        yield small[0] if len(small) == 1 else b"".join(small)


def _in_bytes(chunk: Any) -> Any:
    """Return a chunk whose length is its size in bytes."""
    if isinstance(chunk, memoryview):
        return chunk.cast("B")
    if isinstance(chunk, (bytes, bytearray)):
        return chunk
    raise TypeError(f"a byte stream expects bytes, got {shown(chunk)}")
