"""Real anyio streams on Trio, wherever a Trio stream or channel is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source

HOST = "127.0.0.1"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[anyio.abc.SocketStream, trio.SocketStream]]:
    """Connect with anyio to a Trio listener."""
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    async with listener, await anyio.connect_tcp(HOST, port) as near, await listener.accept() as far:
        yield near, far


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in stream])


@pytest.mark.parametrize("by_name", [True, False])
async def test_items_are_sent_to_an_object_stream_which_is_then_closed(by_name: bool) -> None:
    send, receive = anyio.create_memory_object_stream[int](10)

    sent = await tf.pipeline(range(3), tf.to_channel(send) if by_name else send)

    assert sent == 3
    with receive:
        assert [item async for item in receive] == [0, 1, 2]


@pytest.mark.parametrize("by_name", [True, False])
async def test_chunks_are_written_to_a_byte_stream_and_only_its_send_direction_is_ended(by_name: bool) -> None:
    async with connected() as (near, far):
        assert await tf.pipeline([b"abc", b"de"], tf.to_stream(near) if by_name else near) == 5
        assert await read_all(far) == b"abcde"
        await far.send_all(b"back")
        assert await near.receive() == b"back"


async def test_a_one_way_byte_stream_is_closed_at_the_end() -> None:
    async with await anyio.open_process(["cat"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await tf.pipeline([b"abc"], tf.to_stream(process.stdin)) == 3
        assert await tf.from_iterable(process.stdout).pipe(tf.join()) == b"abc"


async def test_a_byte_stream_at_both_ends_of_a_pipeline() -> None:
    async with connected() as (near, far):
        await far.send_all(b"abc")
        await far.send_eof()
        await tf.pipeline(near, tf.map(bytes.upper), near)
        assert await read_all(far) == b"ABC"


async def test_R13_a_failure_resets_a_socket() -> None:
    async with connected() as (near, far):
        with pytest.raises(Boom):
            await Source([b"half"], Boom()).readable.pipe(tf.to_stream(near))
        with pytest.raises(trio.BrokenResourceError):
            await read_all(far)


async def test_a_byte_stream_is_a_duplex() -> None:
    async with connected() as (near, far):
        duplex = tf.Duplex.from_stream(near)
        await far.send_all(b"there")
        await far.send_eof()

        assert await tf.pipeline([b"here"], duplex, tf.join()) == b"there"
        assert await read_all(far) == b"here"

    async with connected() as (near, far), tf.Duplex.from_stream(near).open() as stream:
        await stream.send_all(b"here")
        await stream.wait_send_all_might_not_block()
        await stream.send_eof()
        assert await read_all(far) == b"here"
        await far.send_all(b"there")
        assert await stream.receive_some(2) == b"th"
        assert await stream.receive_some() == b"ere"


async def test_R11_a_duplex_that_breaks_in_both_directions_is_one_failure() -> None:
    async with connected() as (near, far), trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await tf.pipeline(tf.repeat(bytes(65536)), tf.Duplex.from_stream(near), tf.drain())
            assert isinstance(caught.value.__cause__, anyio.BrokenResourceError)

        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(far)  # with unread bytes: a reset


async def test_an_object_stream_is_refused_as_a_byte_stream_and_a_receiver_as_a_sender() -> None:
    send, receive = anyio.create_memory_object_stream[Any](1)
    with send, receive:
        with pytest.raises(TypeError, match=r"to_stream expects a trio\.abc\.SendStream, got MemoryObjectSendStream"):
            tf.to_stream(send)
        with pytest.raises(TypeError, match=r"from_stream expects a trio\.abc\.Stream, got MemoryObjectSendStream"):
            tf.Duplex.from_stream(send)  # type: ignore[arg-type]
        with pytest.raises(
            TypeError, match=r"to_channel expects a trio\.abc\.SendChannel, got MemoryObjectReceiveStream"
        ):
            tf.to_channel(receive)  # type: ignore[arg-type]
