"""Stage functions for foreign ends: iterables, channels and byte streams that are not ours.

Rule 1: a live end (an iterator, a channel, a stream) can only run once; a second run raises `trio.ClosedResourceError` (R4).
Rule 2: a run owns the one-way live ends that it was given, and closes them, even those it never used. Of a two-way stream
    it ends only its own direction, with `send_eof` if the stream has it; the stream still belongs to its owner.
Rule 3: after a failure the other side gets an error and no normal end, if its kind of stream can express that (R13).
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import trio

from trioflow._core.anyio_streams import ByteSendStream, as_trio
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.generators import generate
from trioflow._core.labels import shown
from trioflow._core.moving import moves

T = TypeVar("T")
R = TypeVar("R", covariant=True)

GATHER: Final = 65536  # bytes; small chunks that are ready are joined up to this size
MOST_PIECES: Final = 512  # below every system's limit for one vectored write
RECEIVE: Final = 65536  # bytes to ask a stream for
RECEIVE_MUCH: Final = 262144  # the same, while it returns full chunks

StageFunction = Callable[..., Awaitable[Any]]


class Once(Generic[R]):
    """A stage function, or the start of an iterator, that can be called only once; the second call raises.

    Args:
        run: The function to call.
        what: Its name in the error.
        live: What to close if it will never be called.
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
        """Close the live end, if no run has used it."""
        if not self._is_used:
            self._is_used = True
            await close_at_once(self._live)


def only_once(channel: ReceiveChannel[T], what: str) -> Once[ReceiveChannel[T]]:
    """Return a function that returns `channel` to the first run that reads it."""
    return Once(lambda: channel, what, channel)


def iterator_factory(items: Iterable[Any]) -> Callable[[], Iterator[Any]]:
    """Return a factory of iterators over `items`. A `str` or a bytes-like object counts as one item."""
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        return lambda: iter((items,))
    if not isinstance(items, Iterator):
        return lambda: iter(items)
    return Once(lambda: items, type(items).__name__, items)


def async_source(items: AsyncIterable[Any]) -> StageFunction:
    """Return a source over an async iterable, another library's channel, or a byte stream."""
    items = as_trio(items)
    if isinstance(items, trio.abc.ReceiveStream):
        return stream_source(items)

    async def each() -> AsyncGenerator[Any, None]:
        iterator = aiter(items)
        try:
            async for item in iterator:
                yield item
        except BaseException:
            await close_at_once(iterator)
            raise
        await close(iterator)

    run = partial(generate, each, (), {})
    is_live = isinstance(items, trio.abc.AsyncResource) or aiter(items) is items
    return Once(run, type(items).__name__, items) if is_live else run


async def close(thing: object) -> None:
    """Close anything that has `aclose` (an async generator, a channel, a stream) or `close`."""
    if (aclose := getattr(thing, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(thing, "close", None)) is not None:
        close()


async def close_at_once(thing: object) -> None:
    """Close without waiting while an exception is in flight, so that a cancellation cannot replace it (R17)."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        await close(thing)


def channel_sink(channel: trio.abc.SendChannel[Any]) -> StageFunction:
    """Return a sink that sends each item to `channel`, closes it, and returns the number of items."""

    async def run(source: ReceiveChannel[Any]) -> int:
        count = 0
        try:
            if isinstance(channel, SendChannel):
                async for moved in moves(source, channel):
                    count += moved
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
    """Return a source over a byte stream. It closes the stream at the end, unless it is a two-way one."""
    one_way = not isinstance(stream, trio.abc.SendStream)

    async def run(output: SendChannel[bytes]) -> None:
        try:
            await receive_into(stream, output)
        except BaseException:
            if one_way:
                await cut(stream, reset=False)
            raise
        if one_way:
            await stream.aclose()

    return Once(run, type(stream).__name__, stream if one_way else None)


def stream_sink(stream: trio.abc.SendStream) -> StageFunction:
    """Return a sink that writes each chunk to `stream`, ends it, and returns the number of bytes."""

    async def run(source: ReceiveChannel[bytes]) -> int:
        tally = Tally()
        try:
            await send_from(source, stream, tally)
            if not isinstance(stream, trio.abc.ReceiveStream):
                await stream.aclose()
        except BaseException:
            await cut(stream)  # so that the reader does not take partial data for complete
            raise
        return tally.bytes

    return Once(run, type(stream).__name__)


class Enough(trio.BrokenResourceError):
    """Raised in the writer of a stream when the other side needs no more, which is not a failure."""


async def receive_into(stream: trio.abc.ReceiveStream, output: SendChannel[bytes]) -> None:
    """Send everything that `stream` receives to `output`."""
    size = RECEIVE
    while chunk := await stream.receive_some(size):
        # To ask for more than 128 KiB costs 8 µs a call, as the memory is mapped anew. Full chunks save twice as much.
        size = RECEIVE_MUCH if len(chunk) >= RECEIVE else RECEIVE
        await output.send(bytes(chunk))  # some streams return a bytearray


@dataclass(slots=True)
class Tally:
    """Counts the bytes that were written."""

    bytes: int = 0


async def send_from(source: ReceiveChannel[bytes], stream: trio.abc.SendStream, tally: Tally) -> None:
    """Write each chunk to `stream`, and end it with `send_eof` if it has that."""
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
    sock = stream.socket if isinstance(stream, (trio.SocketStream, ByteSendStream)) else None
    if reset and sock is not None:
        reset_on_close(sock)
    await close_at_once(stream)


def reset_on_close(sock: socket.socket | trio.socket.SocketType) -> None:
    """Make closing `sock` reset its TCP connection."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed, or is a kind of socket without this option


def write_vectored(write: Callable[[list[Any]], int], pieces: deque[Any]) -> int:
    """Call `write`, such as `os.writev`, with the first of `pieces`, drop what it has written, and return its length."""
    written = count = write(list(islice(pieces, MOST_PIECES)))
    while pieces and count >= len(pieces[0]):
        count -= len(pieces.popleft())
    if count:
        pieces[0] = memoryview(pieces[0])[count:]
    return written


def gathered(chunks: Iterable[Any], checked: Callable[[Any], Any] | None = None) -> Iterable[bytes]:
    """Join adjacent small chunks into chunks of at most `GATHER` bytes. Larger ones pass unchanged.

    `checked` checks a chunk that is not `bytes`, and returns it in a form whose `len` is its size.
    """
    if not isinstance(chunks, list):
        chunks = list(chunks)
    if set(map(type, chunks)) == {bytes} and sum(map(len, chunks)) <= GATHER:  # 0.05 µs a chunk instead of 0.3
        joined = b"".join(chunks)
        return (joined,) if joined else ()
    return _gathered(chunks, checked or in_bytes)


def _gathered(chunks: Iterable[Any], checked: Callable[[Any], Any]) -> Iterator[bytes]:
    small: list[Any] = []
    size = 0
    for chunk in chunks:
        piece = checked(chunk)
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


def in_bytes(chunk: Any) -> Any:
    """Return a chunk whose length is its size in bytes."""
    if isinstance(chunk, memoryview):
        return chunk.cast("B")
    if isinstance(chunk, (bytes, bytearray)):
        return chunk
    hint = "; pipe through tf.encode() first" if isinstance(chunk, str) else ""
    raise TypeError(f"a byte stream expects bytes, got {shown(chunk)}{hint}")
