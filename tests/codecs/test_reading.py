"""`buffered`: an open readable, read by hand."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source
from tests.cutting import cut, places


async def test_a_protocol_is_read_by_hand_and_the_rest_is_piped_on() -> None:
    async with tf.from_iterable([b"HEAD 3\r", b"\nabcx", b"yz"]).open() as receive:
        reader = tf.buffered(receive)

        verb, size = (await reader.receive_until(b"\r\n")).split()
        assert (verb, size) == (b"HEAD", b"3")
        assert await reader.peek(2) == b"ab"
        assert await reader.receive_exactly(int(size)) == b"abc"
        reader.unread(b"<")
        assert await tf.from_iterable(reader).pipe(tf.join()) == b"<xyz"


@settings(max_examples=60)
@given(frames=st.lists(st.binary(max_size=9), max_size=6), places=places, capacity=st.sampled_from([1, 3, 256]))
async def test_any_chunking_gives_the_same_result(frames: list[bytes], places: list[int], capacity: int) -> None:
    whole = b"".join(b"%d;" % len(frame) + frame + struct.pack(">H", len(frame)) for frame in frames)
    got = []
    async with Source(cut(whole, places)).readable.open(capacity=capacity) as receive:
        reader = tf.buffered(receive)
        while await reader.peek():
            size = int(await reader.receive_until(b";", max_length=1))
            got.append(await reader.receive_exactly(size))
            assert await reader.receive_exactly(2) == struct.pack(">H", size)
        with pytest.raises(trio.EndOfChannel):
            await reader.receive()

    assert got == frames


async def test_R10_an_end_between_calls_is_the_end_and_one_inside_a_call_is_an_error() -> None:
    async with tf.from_iterable([b"abc"]).open() as receive:
        reader = tf.buffered(receive)
        with pytest.raises(EOFError, match="the input ends after 3 of 5 bytes"):
            await reader.receive_exactly(5)
        with pytest.raises(EOFError, match="the input ends before b';'"):
            await reader.receive_until(b";")
        assert await reader.peek(5) == b"abc"
        assert await reader.receive_exactly(3) == b"abc"
        assert await reader.receive_exactly(0) == b""
        assert await reader.peek() == b""
        with pytest.raises(trio.EndOfChannel, match="the input ends after 0 of 1 bytes"):
            await reader.receive_exactly(1)
        with pytest.raises(trio.EndOfChannel, match="the input ends before b';'"):
            await reader.receive_until(b";")
        with pytest.raises(trio.EndOfChannel):
            await reader.receive()
        reader.unread(b"more")
        assert await reader.receive() == b"more"


async def test_a_cancelled_call_takes_nothing() -> None:
    async with Source([b"ab", b"cd"], then=None).readable.open() as receive:
        reader = tf.buffered(receive)
        for call in (lambda: reader.receive_exactly(5), lambda: reader.receive_until(b";"), lambda: reader.peek(5)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            await reader.receive()
        assert scope.cancelled_caught
        assert await reader.receive_exactly(4) == b"abcd"


async def test_R7_no_more_is_read_than_was_requested() -> None:
    source = Source([b"x" * 10] * 100)
    async with source.readable.open(capacity=1) as receive:
        assert await tf.buffered(receive).receive_exactly(15) == b"x" * 15
        await wait_all_tasks_blocked()

        assert source.sent <= 2 + 1  # two received, one in the channel


async def test_a_missing_delimiter_is_an_error_at_the_limit() -> None:
    source = Source([b"x" * 10] * 100)
    async with source.readable.open(capacity=1) as receive:
        reader = tf.buffered(receive)
        with pytest.raises(ValueError, match="no b';' within max_length, 25 bytes"):
            await reader.receive_until(b";", max_length=25)
        assert await reader.receive() == b"x" * 30


async def test_R11_a_failure_of_the_source_is_raised_itself() -> None:
    error = Boom()
    with pytest.raises(Boom) as caught:
        async with Source([b"ab"], then=error).readable.open() as receive:
            await tf.buffered(receive).receive_exactly(3)
    assert caught.value is error


async def test_closing_a_buffered_reader_closes_its_channel() -> None:
    send, receive = tf.open_channel[bytes]()
    reader = tf.buffered(receive)
    await send.send(b"abc")
    assert await reader.peek() == b"a"

    async with reader:
        pass

    with pytest.raises(trio.ClosedResourceError):
        await reader.receive()
    with pytest.raises(trio.BrokenResourceError):
        await send.send(b"d")


async def test_a_byte_stream_is_read_by_hand_while_it_is_written_to() -> None:
    async def greet(client: tf.Duplex[bytes, bytes]) -> None:
        async with client.open() as stream:
            name = await tf.buffered(stream).receive_until(b"\n")
            await stream.send_all(b"%d hello %s" % (len(name) + 6, name))

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, greet, 0, host="127.0.0.1"))
        async with tf.connect_tcp("127.0.0.1", listener.socket.getsockname()[1]).open() as stream:
            await stream.send_all(b"world\n")
            reader = tf.buffered(stream)
            size = int(await reader.receive_until(b" "))
            assert await reader.receive_exactly(size) == b"hello world"
            with pytest.raises(trio.EndOfChannel):
                await reader.receive()
        nursery.cancel_scope.cancel()


async def test_closing_a_buffered_reader_closes_its_stream() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"abc")
    async with tf.buffered(ours) as reader:
        assert await reader.receive_exactly(2) == b"ab"

    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda reader: reader.receive_exactly(-1), ValueError, "count must be at least 0, got -1"),
        (lambda reader: reader.receive_until(b""), ValueError, "the delimiter must not be empty"),
        (lambda reader: reader.receive_until(b";", max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda reader: reader.peek("1"), TypeError, "count must be an int, got '1'"),
    ],
)
async def test_a_wrong_argument_is_refused(ask: Any, error: type[Exception], message: str) -> None:
    async with tf.from_iterable([b"a"]).open() as receive:
        with pytest.raises(error, match=message):
            await ask(tf.buffered(receive))


async def test_items_that_are_not_bytes_are_refused() -> None:
    async with tf.from_iterable(["text"]).open() as receive:
        with pytest.raises(TypeError, match="ByteBuffer expects bytes, got str"):
            await tf.buffered(receive).peek()  # type: ignore[arg-type]


def test_what_is_not_an_open_readable_is_refused() -> None:
    with pytest.raises(TypeError, match="buffered expects an opened readable or a byte stream, got Readable"):
        tf.buffered(tf.from_iterable([b""]))  # type: ignore[arg-type]
