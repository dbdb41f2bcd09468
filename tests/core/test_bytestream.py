"""R20: every byte stream that trioflow offers passes Trio's own checks."""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import (
    MockClock,
    check_half_closeable_stream,
    check_one_way_stream,
    check_two_way_stream,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

import trioflow as tf
from tests.consumers import Source
from tests.refusing import check_a_second_task_is_refused
from trioflow._core.bytestream import LINGER, ByteStream
from trioflow.io import processes

Stream = trio.abc.HalfCloseableStream
Pair = tuple[Stream, Stream]


def bytes_over_channels(capacity: int = 256) -> tuple[ByteStream, ByteStream]:
    there_send, there_receive = tf.open_channel[bytes](capacity)
    back_send, back_receive = tf.open_channel[bytes](capacity)
    return ByteStream(there_send, back_receive), ByteStream(back_send, there_receive)


async def clogged_over_channels() -> Pair:
    left, right = bytes_over_channels(capacity=1)
    for stream in (left, right):
        await stream.send_all(b"a chunk that fills the channel")
    return left, right


class Opener:
    """Opens duplexes as streams in the background, because Trio's checks use streams without a `with` block."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def open(self, block: AbstractAsyncContextManager[Stream]) -> Stream:
        return await self._nursery.start(self._hold, block)  # type: ignore[no-any-return]

    async def _hold(self, block: AbstractAsyncContextManager[Stream], task_status: trio.TaskStatus[Stream]) -> None:
        try:
            async with block as stream:
                task_status.started(stream)
                await trio.sleep_forever()
        except trio.BrokenResourceError:
            pass  # a check that breaks a stream has already seen the error

    async def both(self, left: tf.Duplex[bytes, bytes], right: tf.Duplex[bytes, bytes]) -> Pair:
        return await self.open(left.open()), await self.open(right.open())


@asynccontextmanager
async def opener() -> AsyncIterator[Opener]:
    async with trio.open_nursery() as nursery:
        yield Opener(nursery)
        nursery.cancel_scope.cancel()


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    left, right = socket.socketpair()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(left)),
        trio.SocketStream(trio.socket.from_stdlib_socket(right)),
    )


def whole(duplex: tf.Duplex[bytes, bytes]) -> tf.Duplex[bytes, bytes]:
    return duplex


def apart(duplex: tf.Duplex[bytes, bytes]) -> tf.Duplex[bytes, bytes]:
    """Forget the stream underneath, so that `open` makes a stream over channels."""
    return tf.Duplex(duplex.readable, duplex.writable)


async def test_R20_a_pair_of_channels_is_a_half_closeable_stream() -> None:
    async def make() -> Pair:
        return bytes_over_channels()

    await check_half_closeable_stream(make, clogged_over_channels)


@pytest.mark.parametrize("make_sockets", [socket_pair, memory_stream_pair, lockstep_stream_pair])
async def test_R20_a_duplex_over_a_trio_stream_opens_as_a_half_closeable_stream(
    make_sockets: Callable[[], Any],
) -> None:
    async with opener() as streams:

        async def make() -> Pair:
            return await streams.both(*map(tf.Duplex.from_stream, make_sockets()))

        await check_half_closeable_stream(make, None)


async def test_R20_a_duplex_of_two_streams_opens_as_a_half_closeable_stream() -> None:
    async with opener() as streams:

        async def make() -> Pair:
            return await streams.both(*[apart(tf.Duplex.from_stream(end)) for end in socket_pair()])

        await check_half_closeable_stream(make, None)


@pytest.mark.parametrize("is_over_channels", [False, True])
async def test_R20_a_tcp_connection_opens_as_a_half_closeable_stream(is_over_channels: bool) -> None:
    seen_as = apart if is_over_channels else whole
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, opener() as streams:

        async def make() -> Pair:
            left = await streams.open(seen_as(tf.connect_tcp(*listener.socket.getsockname())).open())
            right = await streams.open(seen_as(tf.Duplex.from_stream(await listener.accept())).open())
            await wait_all_tasks_blocked()  # a stream over channels connects in the background
            return left, right

        await check_half_closeable_stream(make, None)


async def test_R20_a_unix_connection_opens_as_a_half_closeable_stream(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with trio.socket.socket(trio.socket.AF_UNIX) as server:
        await server.bind(path)
        server.listen()
        async with opener() as streams:

            async def make() -> Pair:
                left = await streams.open(tf.connect_unix(path).open())
                accepted, _ = await server.accept()
                return left, await streams.open(tf.Duplex.from_stream(trio.SocketStream(accepted)).open())

            await check_half_closeable_stream(make, None)


async def test_R20_a_process_is_a_one_way_stream_from_its_input_to_its_output() -> None:
    async with opener() as streams:

        async def make() -> tuple[trio.abc.SendStream, trio.abc.ReceiveStream]:
            cat = tf.process(["cat"])
            reading = tf.Duplex(cat.readable, tf.drain())
            writing = tf.Duplex(tf.from_iterable([]), cat.writable)
            return await streams.open(writing.open()), await streams.open(reading.open())

        await check_one_way_stream(make, None)


async def test_an_open_process_is_a_stream_whose_input_can_be_ended_alone() -> None:
    async with tf.process(["cat"]).open() as stream:
        await stream.send_all(b"one")
        assert await stream.receive_some() == b"one"
        await stream.wait_send_all_might_not_block()
        await stream.send_all(b"two")
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"three")
        assert await stream.receive_some(1) == b"t"
        assert await stream.receive_some() == b"wo"
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
    await stream.aclose()
    for use in (partial(stream.send_all, b"x"), stream.receive_some):
        with pytest.raises(trio.ClosedResourceError):
            await use()


async def test_R20_a_second_task_in_one_direction_of_a_pair_of_channels_is_refused() -> None:
    left, right = bytes_over_channels(capacity=1)
    await left.send_all(b"first")

    await check_a_second_task_is_refused(left, right, held=b"first")


async def test_R20_a_second_task_in_one_direction_of_a_process_is_refused() -> None:
    async with tf.process(["cat"]).open() as stream:
        await check_a_second_task_is_refused(stream, stream)


# A program that copies its input to one named pipe, and a second pipe to its output, until the second one ends.
RELAY = """
import os, sys, threading
def copy(source, output):
    source = os.open(sys.argv[2], os.O_RDONLY) if source is None else source
    output = os.open(sys.argv[1], os.O_WRONLY) if output is None else output
    try:
        while data := os.read(source, 65536):
            os.write(output, data)
    except OSError:
        pass
    os.close(source)
    os.close(output)
threading.Thread(target=copy, args=(0, None), daemon=True).start()
copy(None, 1)
"""


async def test_R20_two_cross_connected_processes_are_a_two_way_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 10)  # a busy machine may take long to pass the last bytes on
    pairs = itertools.count()
    async with opener() as streams:

        def relay(output: Path, source: Path) -> AbstractAsyncContextManager[Stream]:
            return tf.process([sys.executable, "-ISc", RELAY, output, source]).open()

        async def make() -> Pair:
            there, back = (tmp_path / f"{way}-{next(pairs)}" for way in ("there", "back"))
            for pipe in (there, back):
                os.mkfifo(pipe)
            left, right = await streams.open(relay(there, back)), await streams.open(relay(back, there))
            for one, other in ((left, right), (right, left)):
                await one.send_all(b"!")
                assert await other.receive_some() == b"!"  # both pipes are open
            return left, right

        # Not half-closeable: a process that has ended its output may have exited, and then reads nothing more.
        with trio.fail_after(60):
            await check_two_way_stream(make, None)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(1, 8), min_size=1), st.integers(1, 4))
def test_receiving_in_chunks_of_any_size_gives_the_same_bytes(
    chunks: list[bytes], sizes: list[int], capacity: int
) -> None:
    async def main() -> bytes:
        left, right = bytes_over_channels(capacity)
        got = bytearray()

        async def send() -> None:
            for chunk in chunks:
                await left.send_all(random.choice([bytes, bytearray, memoryview])(chunk))
            await left.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for size in itertools.cycle(sizes):
                piece = await right.receive_some(size)
                if not piece:
                    break
                assert len(piece) <= size
                got += piece
        await left.aclose()
        await right.aclose()
        return bytes(got)

    assert trio.run(main) == b"".join(chunks)


async def test_a_buffer_may_be_reused_after_it_was_sent() -> None:
    left, right = bytes_over_channels()
    data = bytearray(b"before")

    await left.send_all(data)
    data[:] = b"after!"

    assert await right.receive_some() == b"before"


async def test_a_cancelled_receive_takes_nothing_and_a_cancelled_send_sends_nothing() -> None:
    left, right = bytes_over_channels(capacity=1)
    with trio.move_on_after(0):
        await left.send_all(b"lost")
    await left.send_all(b"kept")
    with trio.move_on_after(0):
        await right.receive_some()

    assert await right.receive_some() == b"kept"


async def test_items_that_are_not_bytes_are_refused_in_both_directions() -> None:
    left, right = bytes_over_channels()
    with pytest.raises(TypeError, match="send_all expects bytes, a bytearray or a memoryview, got 'text'"):
        await left.send_all("text")  # type: ignore[arg-type]
    await left._send.send("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a byte stream expects bytes, got 'text'"):
        await right.receive_some()


async def test_empty_chunks_are_not_mistaken_for_the_end() -> None:
    duplex = tf.Duplex(tf.from_iterable([b"", bytearray(b"a"), b"", memoryview(b"b")]), tf.drain())

    async with duplex.open() as stream:
        got = [await stream.receive_some(), await stream.receive_some(), await stream.receive_some()]

    assert got == [b"a", b"b", b""]


async def test_opening_a_duplex_reads_from_its_readable_and_writes_to_its_writable() -> None:
    written: list[bytes] = []

    async with tf.Duplex(tf.from_iterable([b"read"]), tf.for_each(written.append)).open() as stream:
        await stream.send_all(b"written")
        assert await stream.receive_some() == b"read"

    assert written == [b"written"]
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_eof()


def test_R1_a_wrong_capacity_is_refused_when_open_is_called() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        tf.connect_tcp("127.0.0.1", 1).open(capacity=0)


async def test_R13_an_exception_that_leaves_the_block_cuts_off_what_was_sent() -> None:
    ended = False

    @tf.writable
    async def to_the_end(chunks: AsyncIterable[bytes]) -> None:
        nonlocal ended
        async for _ in chunks:
            pass
        ended = True

    async def fail_halfway() -> None:
        async with tf.Duplex(tf.from_iterable([b"x"]), to_the_end()).open() as stream:
            await stream.send_all(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()

    assert not ended


async def test_R16_both_directions_are_closed_even_if_closing_one_fails() -> None:
    closed = []

    @tf.readable
    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await trio.sleep_forever()
        finally:
            closed.append("readable")

    @tf.writable
    async def sink(chunks: AsyncIterable[bytes]) -> None:
        async for _ in chunks:
            pass
        closed.append("writable")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with tf.Duplex(source(), sink()).open() as stream:
            assert await stream.receive_some() == b"x"

    assert sorted(closed) == ["readable", "writable"]


async def test_R5_the_capacity_of_a_duplex_holds_in_both_directions() -> None:
    source, may_read, sent = Source(itertools.repeat(b"x")), trio.Event(), 0

    async def read_later(chunks: tf.ReceiveChannel[bytes]) -> None:
        await may_read.wait()
        async for _ in chunks:
            pass

    async def send(stream: trio.abc.HalfCloseableStream) -> None:
        nonlocal sent
        while True:
            await stream.send_all(b"x")
            sent += 1

    async with tf.Duplex(source.readable, tf.Writable(read_later)).open(capacity=2) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, stream)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        may_read.set()

    assert (source.sent, sent) == (2, 2)


async def test_R16_leaving_the_block_does_not_wait_forever_for_a_peer_that_stopped_reading(
    autojump_clock: MockClock,
) -> None:
    @tf.writable
    async def stuck(chunks: AsyncIterable[bytes]) -> None:
        await trio.sleep_forever()

    started = trio.current_time()
    with pytest.raises(trio.TooSlowError, match="did not read everything within 10 seconds"):
        async with tf.Duplex(tf.from_iterable([b""]), stuck()).open() as stream:
            await stream.send_all(b"x")

    assert trio.current_time() - started == pytest.approx(LINGER)
