"""Real sockets: a connection as a stage, as two directions and as a stream; and the server."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf

Duplex = tf.Duplex[bytes, bytes]
Handler = Callable[[Duplex], Awaitable[object]]
HOST = "127.0.0.1"


async def echo(duplex: Duplex) -> None:
    await duplex.pipe(duplex.writable)


async def hold(duplex: Duplex) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Serve on a port that the system chooses, until the block ends."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(tf.serve_tcp, handler, 0, host=HOST))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def accepting() -> AsyncIterator[tuple[int, trio.SocketListener]]:
    """Listen on a port that the system chooses; the block accepts connections itself."""
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with listener:
        yield listener.socket.getsockname()[1], listener


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_a_connection_in_the_middle_sends_the_items_and_emits_the_answer() -> None:
    async with serving(echo) as port:
        assert await tf.pipeline([b"a", b"", b"b"], tf.connect_tcp(HOST, port), tf.join()) == b"ab"


async def test_R4_each_run_as_a_transform_makes_its_own_connection() -> None:
    async with serving(echo) as port:
        connection = tf.connect_tcp(HOST, port)
        got = []

        async def run(word: bytes) -> None:
            got.append(await tf.pipeline([word], connection, connection, tf.join()))

        async with trio.open_nursery() as nursery:
            for word in (b"one", b"two", b"three"):
                nursery.start_soon(run, word)

    assert sorted(got) == [b"one", b"three", b"two"]


@pytest.mark.parametrize("is_read_first", [False, True])
async def test_R4_the_directions_share_a_connection_at_the_same_time_and_run_once(is_read_first: bool) -> None:
    async with serving(echo) as port:
        duplex = tf.connect_tcp(HOST, port)
        got = []

        async def read() -> None:
            got.append(await duplex.readable.pipe(tf.join()))

        async def write() -> None:
            got.append(await tf.pipeline([b"abc"], duplex.writable))

        first, second = (read, write) if is_read_first else (write, read)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await wait_all_tasks_blocked()
            nursery.start_soon(second)

        assert sorted(got, key=str) == [3, b"abc"]
        with pytest.raises(trio.ClosedResourceError, match=r"readable of connect_tcp\(.*\) can only run once"):
            await duplex.readable.pipe(tf.join())
        with pytest.raises(trio.ClosedResourceError, match=r"writable of connect_tcp\(.*\) can only run once"):
            await tf.pipeline([b"abc"], duplex.writable)


async def test_a_duplex_at_both_ends_of_a_pipeline_is_one_connection() -> None:
    async def ask(duplex: Duplex) -> None:
        assert await tf.pipeline([b"question"], duplex.writable) == 8
        assert await duplex.pipe(tf.join()) == b"QUESTION"

    asked = False

    async def ask_once(duplex: Duplex) -> None:
        nonlocal asked
        await ask(duplex)
        asked = True

    async with serving(ask_once) as port:
        answering = tf.connect_tcp(HOST, port)
        assert await tf.pipeline(answering, tf.map(bytes.upper), answering) == 8
        await wait_all_tasks_blocked()

    assert asked


async def test_R9_a_take_after_a_quiet_connection_ends_it() -> None:
    async def greet(duplex: Duplex) -> None:
        async with duplex.writable.open() as send:
            await send.send(b"hello")
            await trio.sleep_forever()

    async with serving(greet) as port:
        with trio.fail_after(60):
            assert await tf.connect_tcp(HOST, port).pipe(tf.take(1)).pipe(tf.join()) == b"hello"


async def test_R9_a_server_that_stops_reading_ends_everything_upstream() -> None:
    is_closed = False

    @tf.readable
    async def endless() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            yield b"x"
            await trio.sleep_forever()
        finally:
            is_closed = True

    async def answer_early(duplex: Duplex) -> None:
        await tf.pipeline([b"enough"], duplex.writable)

    async with serving(answer_early) as port:
        with trio.fail_after(60):
            assert await endless().pipe(tf.connect_tcp(HOST, port)).pipe(tf.join()) == b"enough"

    assert is_closed


async def test_R2_a_run_that_only_reads_or_only_writes_closes_its_connection() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:
        got: list[object] = []

        async def read() -> None:
            got.append(await tf.connect_tcp(HOST, port).pipe(tf.join()))

        nursery.start_soon(read)
        server = await listener.accept()
        await server.send_all(b"hello")
        await server.send_eof()
        with trio.fail_after(60):
            assert await read_all(server) == b""  # it has ended, although the other direction was never used
        await server.aclose()

        async def write() -> None:
            got.append(await tf.pipeline([b"x" * 1000], tf.connect_tcp(HOST, port)))

        nursery.start_soon(write)
        server = await listener.accept()
        assert await read_all(server) == b"x" * 1000
        await server.aclose()

    assert got == [b"hello", 1000]


async def test_a_connection_that_is_only_written_to_does_not_block_on_the_servers_answer() -> None:
    async with serving(echo) as port:
        with trio.fail_after(60):
            sent = await tf.pipeline([bytes(100_000)] * 200, tf.connect_tcp(HOST, port))

    assert sent == 20_000_000


async def test_the_end_of_what_is_sent_leaves_the_other_direction_open() -> None:
    async def count(duplex: Duplex) -> None:
        async with duplex.open() as stream:
            total = len(await read_all(stream))
            await stream.send_all(b"%d bytes" % total)

    async with serving(count) as port:
        got = await tf.pipeline([b"x" * 10] * 10, tf.connect_tcp(HOST, port), tf.join())

    assert got == b"100 bytes"


async def test_large_data_comes_back_whole_and_small_chunks_are_joined() -> None:
    data = [bytes([i % 256]) * (i * 97 % 3000) for i in range(5000)]
    sizes = []

    async def measure(duplex: Duplex) -> None:
        await duplex.pipe(tf.tap(lambda chunk: sizes.append(len(chunk)))).pipe(duplex.writable)

    async with serving(measure) as port:
        assert await tf.pipeline(data, tf.connect_tcp(HOST, port), tf.join()) == b"".join(data)

    assert max(sizes) > 16384


async def test_full_chunks_are_received_256_KiB_at_a_time() -> None:
    asked = []

    class Full(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            assert max_bytes is not None
            asked.append(max_bytes)
            return bytes(max_bytes) if len(asked) < 3 else b"short"[: 8 - len(asked)] if len(asked) < 5 else b""

        async def aclose(self) -> None:
            pass

    await tf.from_iterable(Full()).pipe(tf.drain())

    assert asked == [65536, 262144, 262144, 65536, 65536]


async def test_R15_a_reset_by_the_server_is_raised_once_and_names_its_stage() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await tf.pipeline([b"x"], tf.connect_tcp(HOST, port), tf.drain())
            assert caught.value.__notes__ == [f"in stage 2 of 3: connect_tcp('127.0.0.1', {port})"]

        nursery.start_soon(run)
        server = await listener.accept()
        await server.receive_some()
        await wait_all_tasks_blocked()
        reset(server)


async def test_R15_a_reset_while_both_directions_are_in_use_is_one_failure() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    async with accepting() as (port, listener), trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await tf.pipeline(endless(), tf.connect_tcp(HOST, port), tf.drain())

        nursery.start_soon(run)
        server = await listener.accept()
        await server.receive_some()
        await wait_all_tasks_blocked()  # one direction waits to write, the other to read
        reset(server)


async def test_R11_a_reset_is_one_failure_if_both_directions_are_stages_of_one_run() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:
        broken = []

        async def run(duplex: Duplex) -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await tf.pipeline(duplex, tf.map(lambda chunk: chunk * 100), duplex)
            broken.append(caught.value)

        for _ in range(10):
            client = await trio.open_tcp_stream(HOST, port)
            nursery.start_soon(run, tf.Duplex.from_stream(await listener.accept()))
            with trio.move_on_after(5):
                await client.send_all(bytes(100_000))
            await wait_all_tasks_blocked()  # one waits to write, the other to read or for its writer
            reset(client)

    assert len(broken) == 10
    assert all(len(failure.__notes__) == 1 for failure in broken)


async def test_a_direction_that_runs_after_the_other_has_failed_raises_an_error_with_that_cause() -> None:
    async with accepting() as (port, listener):
        duplex = tf.connect_tcp(HOST, port)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.BrokenResourceError, match="broken"):
                    await duplex.readable.pipe(tf.join())

            nursery.start_soon(read)
            server = await listener.accept()
            await wait_all_tasks_blocked()
            reset(server)
        with pytest.raises(trio.BrokenResourceError, match="was cut off after its other direction failed") as caught:
            await tf.pipeline([b"x"], duplex.writable)

    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)


async def test_R11_a_stream_that_breaks_in_both_directions_at_once_is_one_failure() -> None:
    is_broken = trio.Event()

    class Breaking(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await self.receive_some()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await is_broken.wait()
            raise trio.BrokenResourceError("the line was cut")

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def run() -> None:
        with pytest.raises(trio.BrokenResourceError, match="the line was cut"):
            await tf.pipeline([b"x"], tf.Duplex.from_stream(Breaking()), tf.drain())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        is_broken.set()


async def test_R11_different_failures_of_both_directions_are_a_group() -> None:
    near, far = memory_stream_pair()
    far.send_stream.close()
    gate = trio.Event()

    async def fail(error: Exception) -> None:
        await gate.wait()
        raise error

    near.send_stream.send_all_hook = partial(fail, ZeroDivisionError())
    near.receive_stream.receive_some_hook = partial(fail, ValueError())

    async def run() -> None:
        with pytest.RaisesGroup(ZeroDivisionError, ValueError):
            await tf.pipeline([b"x"], tf.Duplex.from_stream(near), tf.drain())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        gate.set()


async def test_R11_chunks_that_are_not_bytes_are_one_failure_of_the_writer() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:
        duplex = tf.connect_tcp(HOST, port)

        async def run() -> None:
            with pytest.raises(TypeError, match="a byte stream expects bytes, got 'text'") as caught:
                await duplex.pipe(tf.map(bytes.decode)).pipe(duplex.writable)  # type: ignore[arg-type]
            assert caught.value.__notes__[0].endswith(".writable")

        nursery.start_soon(run)
        server = await listener.accept()
        await server.send_all(b"text")
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
        await server.aclose()


async def test_R15_a_failure_of_one_direction_breaks_the_other_in_a_run_of_its_own() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:
        duplex = tf.connect_tcp(HOST, port)

        async def read() -> None:
            with pytest.raises(
                trio.BrokenResourceError, match=r"connect_tcp\(.*\) was cut off because its writer was cancelled"
            ):
                await duplex.readable.pipe(tf.join())

        nursery.start_soon(read)
        server = await listener.accept()

        @tf.readable
        async def failing() -> AsyncIterator[bytes]:
            yield b"half of it"
            await wait_all_tasks_blocked()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await failing().pipe(duplex.writable)
        with pytest.raises(trio.BrokenResourceError):  # R13: not an end
            await read_all(server)
        await server.aclose()


@pytest.mark.parametrize("is_whole", [False, True])
async def test_R13_F26_a_cancelled_write_resets_the_connection(is_whole: bool) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"half of it"
        await trio.sleep_forever()

    async with accepting() as (port, listener), trio.open_nursery() as nursery:
        duplex = tf.connect_tcp(HOST, port)
        run = tf.pipeline(endless(), duplex, tf.drain()) if is_whole else tf.pipeline(endless(), duplex.writable)

        async def write() -> None:
            await run

        nursery.start_soon(write)
        server = await listener.accept()
        assert await server.receive_some() == b"half of it"
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            with pytest.raises(trio.BrokenResourceError):
                await read_all(server)
            await server.aclose()

    if not is_whole:
        with pytest.raises(trio.BrokenResourceError, match="was cut off"):
            await duplex.readable.pipe(tf.join())


async def test_R13_stopping_after_everything_was_sent_does_not_reset_the_connection() -> None:
    async with accepting() as (port, listener), trio.open_nursery() as nursery:

        async def run() -> None:
            await tf.pipeline([b"all of it"], tf.connect_tcp(HOST, port), tf.take(1), tf.drain())

        nursery.start_soon(run)
        server = await listener.accept()
        assert await read_all(server) == b"all of it"
        await server.send_all(b"enough")
        await wait_all_tasks_blocked()
        assert await server.receive_some() == b""
        await server.aclose()


async def test_R4_a_connection_that_could_not_be_made_can_be_tried_again() -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
        duplex = tf.connect_tcp(HOST, port)
        with pytest.raises(OSError, match=f"all attempts to connect to {HOST}:{port} failed") as caught:
            await duplex.readable.pipe(tf.join())
    assert caught.value.__notes__ == [f"in stage 1 of 2: connect_tcp('127.0.0.1', {port}).readable"]

    [listener] = await trio.open_tcp_listeners(port, host=HOST)
    async with listener, duplex, trio.open_nursery() as nursery:

        async def answer() -> None:
            async with await listener.accept() as stream:
                await stream.send_all(b"now")

        nursery.start_soon(answer)
        assert await duplex.readable.pipe(tf.join()) == b"now"


async def test_R1_a_connection_that_cannot_be_made_takes_nothing_from_its_source() -> None:
    taken = []
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        source = tf.from_iterable([b"x"]).pipe(tf.tap(taken.append))
        with trio.fail_after(60), pytest.raises(OSError, match="failed"):
            await source.pipe(tf.connect_tcp(HOST, reserved.getsockname()[1])).pipe(tf.join())

    assert len(taken) <= 1  # the item may wait in a channel, but it was not sent


async def test_R16_closing_a_duplex_ends_its_runs_and_can_be_repeated() -> None:
    async with serving(hold) as port:
        async with tf.connect_tcp(HOST, port) as duplex, trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await duplex.readable.pipe(tf.join())

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await duplex.aclose()
            await duplex.aclose()
        with pytest.raises(trio.ClosedResourceError, match=r"connect_tcp\(.*\) is closed"):
            await tf.pipeline([b"x"], duplex.writable)


async def test_R16_closing_a_duplex_while_it_connects_leaves_nothing_open() -> None:
    async with serving(hold) as port, trio.open_nursery() as nursery:
        duplex = tf.connect_tcp(HOST, port)

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError, match="is closed"):
                await duplex.readable.pipe(tf.join())

        nursery.start_soon(read)
        await trio.lowlevel.checkpoint()
        await duplex.aclose()


async def test_R16_an_exception_that_leaves_the_block_closes_at_once_and_is_unchanged() -> None:
    near, far = memory_stream_pair()

    async def leave() -> None:
        async with tf.Duplex.from_stream(near):
            raise ZeroDivisionError

    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(ZeroDivisionError):
            await leave()
    assert await far.receive_some() == b""


async def test_R16_closing_a_stream_that_does_not_close_takes_five_seconds(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()

    class Slow(trio.abc.Stream):
        send_all = staticmethod(near.send_all)
        wait_send_all_might_not_block = staticmethod(near.wait_send_all_might_not_block)
        receive_some = staticmethod(near.receive_some)

        async def aclose(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                near.send_stream.close()
                near.receive_stream.close()

    async with tf.Duplex.from_stream(Slow()):
        started = trio.current_time()

    assert trio.current_time() - started == pytest.approx(5)
    assert await far.receive_some() == b""


async def test_F24_a_failure_is_not_lost_to_a_cancellation_at_the_same_moment() -> None:
    async with serving(hold) as port:
        with trio.CancelScope() as scope:

            @tf.readable
            async def failing() -> AsyncIterator[bytes]:
                yield b"x"
                scope.cancel()
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await failing().pipe(tf.connect_tcp(HOST, port).writable)


async def test_from_stream_gives_a_duplex_whose_directions_run_once() -> None:
    near, far = memory_stream_pair()
    duplex = tf.Duplex.from_stream(near)

    assert await tf.pipeline([b"a", b"b"], duplex.writable) == 2
    assert await read_all(far) == b"ab"
    await far.send_all(b"back")
    await far.send_eof()
    assert await duplex.readable.pipe(tf.join()) == b"back"

    with pytest.raises(trio.ClosedResourceError, match=r"the readable of this StapledStream can only run once"):
        await duplex.readable.pipe(tf.join())
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some()
    with pytest.raises(TypeError, match=r"from_stream expects a trio\.abc\.Stream, got int 3"):
        tf.Duplex.from_stream(3)  # type: ignore[arg-type]


async def test_R4_from_stream_runs_once_as_a_transform_and_leaves_the_other_direction_open() -> None:
    near, far = memory_stream_pair()
    await far.send_all(b"read")
    await far.send_eof()
    assert await tf.Duplex.from_stream(near).pipe(tf.join()) == b"read"
    await near.send_all(b"still open")  # the other direction is its owner's

    near, far = memory_stream_pair()
    await far.send_all(b"back")
    await far.send_eof()
    duplex = tf.Duplex.from_stream(near)
    assert await tf.pipeline([b"there"], duplex, tf.join()) == b"back"
    with pytest.raises(trio.ClosedResourceError, match="can only run once"):
        await tf.pipeline([b"there"], duplex, tf.join())


async def test_a_one_way_stream_is_closed_at_the_end_and_cut_off_by_a_failure() -> None:
    send, receive = memory_stream_one_way_pair()
    assert await tf.pipeline([b"a", memoryview(b"bc")], send) == 3
    assert await tf.pipeline(receive, tf.join()) == b"abc"
    for use in (partial(send.send_all, b"x"), receive.receive_some):
        with pytest.raises(trio.ClosedResourceError):
            await use()

    send, receive = memory_stream_one_way_pair()
    with pytest.raises(TypeError, match="a byte stream expects bytes, got 'text'"):
        await tf.pipeline([b"x" * 65536, "text"], send)
    with pytest.raises(trio.ClosedResourceError):
        await send.send_all(b"x")

    send, receive = memory_stream_one_way_pair()
    await send.send_all(b"x")
    with pytest.raises(ZeroDivisionError):
        await tf.pipeline(receive, tf.for_each(lambda chunk: 1 // (len(chunk) - 1)))
    with pytest.raises(trio.ClosedResourceError):
        await receive.receive_some()


async def test_a_two_way_stream_at_an_end_of_a_pipeline_is_ended_only_in_its_own_direction() -> None:
    near, far = memory_stream_pair()
    assert await tf.pipeline([b"there"], near) == 5
    assert await read_all(far) == b"there"
    await tf.pipeline([b"back"], far)
    assert await tf.pipeline(near, tf.join()) == b"back"

    near, far = memory_stream_pair()
    await far.send_all(b"x")
    with pytest.raises(ZeroDivisionError):
        await tf.pipeline(near, tf.for_each(lambda chunk: 1 // (len(chunk) - 1)))
    await near.send_all(b"still open")


async def test_a_stream_without_half_close_is_written_without_an_end() -> None:
    near, far = memory_stream_pair()

    class Plain(trio.abc.Stream):
        send_all = staticmethod(near.send_all)
        wait_send_all_might_not_block = staticmethod(near.wait_send_all_might_not_block)
        receive_some = staticmethod(near.receive_some)
        aclose = staticmethod(near.aclose)

    async with tf.Duplex.from_stream(Plain()).open() as stream:
        await stream.send_all(b"question")
        await stream.send_eof()
        assert await far.receive_some() == b"question"
        await far.send_all(b"answer")
        assert await stream.receive_some() == b"answer"

    assert await far.receive_some() == b""


async def test_a_duplex_of_two_streams_runs_as_a_transform() -> None:
    there_send, there_receive = tf.open_channel[bytes]()
    is_closed = False

    @tf.readable
    async def quiet() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            yield b"x"
            await trio.sleep_forever()
        finally:
            is_closed = True

    @tf.readable
    async def answer() -> AsyncIterator[bytes]:
        yield await there_receive.receive()
        while not is_closed:
            await trio.lowlevel.checkpoint()

    @tf.writable
    async def one(chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            await there_send.send(chunk)
            return

    with trio.fail_after(60):
        assert await quiet().pipe(tf.Duplex(answer(), one())).pipe(tf.join()) == b"x"
    async with tf.Duplex(answer(), one()) as duplex:
        await duplex.aclose()
    with pytest.raises(TypeError, match="Duplex expects a Readable first, got"):
        tf.Duplex(one(), one())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Duplex expects a Writable second, got the function one; call it first"):
        tf.Duplex(answer(), one)  # type: ignore[arg-type]


async def test_a_unix_socket_can_be_connected_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with trio.socket.socket(trio.socket.AF_UNIX) as server:
        await server.bind(str(path))
        server.listen()

        async def answer() -> None:
            accepted, _ = await server.accept()
            async with tf.Duplex.from_stream(trio.SocketStream(accepted)) as duplex:
                await echo(duplex)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await tf.pipeline([b"x"], tf.connect_unix(path), tf.join()) == b"x"
    with pytest.raises(FileNotFoundError) as caught:
        await tf.connect_unix(tmp_path / "missing").pipe(tf.join())
    assert "in stage 1 of 2: connect_unix(" in caught.value.__notes__[0]


async def test_connecting_waits_while_the_backlog_of_the_server_is_full(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await tf.pipeline([b"x"], tf.connect_unix(path), tf.join()))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
            await trio.sleep(1)
            for _ in range(4):
                with listener.accept()[0] as accepted:
                    assert accepted.recv(1) == b"x"
                    accepted.sendall(b"y")
                await trio.sleep(1)

    assert answers == [b"y"] * 4


async def test_waiting_to_connect_can_be_cancelled(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(path)
        listener.listen(0)
        other.connect(path)

        with trio.move_on_after(0.05) as scope:
            await tf.connect_unix(path).pipe(tf.drain())

    assert scope.cancelled_caught


async def test_a_reset_by_a_client_breaks_only_its_own_handler() -> None:
    broken = 0

    async def patient(duplex: Duplex) -> None:
        nonlocal broken
        try:
            await echo(duplex)
        except trio.BrokenResourceError:
            broken += 1

    async with serving(patient) as port:
        for _ in range(3):
            client = await trio.open_tcp_stream(HOST, port)
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
            reset(client)
        assert await tf.pipeline([b"still here"], tf.connect_tcp(HOST, port), tf.join()) == b"still here"
        await wait_all_tasks_blocked()

    assert broken == 3


async def test_a_connection_is_closed_when_its_handler_returns() -> None:
    async def nothing(duplex: Duplex) -> None:
        await trio.lowlevel.checkpoint()

    async with serving(nothing) as port:
        with trio.fail_after(60):
            assert await tf.connect_tcp(HOST, port).pipe(tf.join()) == b""


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.booleans())
def test_R16_cancelling_at_any_moment_leaves_nothing_open(delays: list[int], is_whole: bool) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    async def patient(duplex: Duplex) -> None:
        try:
            await echo(duplex)
        except trio.BrokenResourceError:
            pass

    async def client(port: int, delay: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                if is_whole:
                    nursery.start_soon(tf.pipeline, endless(), tf.connect_tcp(HOST, port), tf.drain())
                else:
                    duplex = tf.connect_tcp(HOST, port)
                    nursery.start_soon(tf.pipeline, endless(), duplex.writable)
                    nursery.start_soon(tf.pipeline, duplex.readable, tf.drain())
                for _ in range(delay):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

    async def main() -> int:
        async with serving(patient) as port, trio.open_nursery() as nursery:
            for delay in delays:
                nursery.start_soon(client, port, delay)
        return trio.lowlevel.current_statistics().tasks_living

    assert trio.run(main) <= 3
    gc.collect()  # a socket that was left open warns here


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tf.connect_tcp(1, 80), TypeError, "host must be a str, got 1"),
        (lambda: tf.connect_tcp("", 80), ValueError, "host must be a name or an address, got an empty str"),
        (lambda: tf.connect_tcp("localhost", "80"), TypeError, "port must be an int, got '80'"),
        (lambda: tf.connect_tcp("localhost", 0), ValueError, "port must be at least 1, got 0"),
        (lambda: tf.connect_tcp("localhost", 65536), ValueError, "port must be at most 65535, got 65536"),
        (lambda: tf.connect_unix(3), TypeError, "path must be a path, got 3"),
        (lambda: tf.connect_unix(""), ValueError, "path must not be empty"),
    ],
)
def test_R1_a_wrong_address_is_refused_when_the_value_is_built(
    make: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((3, 0, None), TypeError, "serve_tcp expects a function, got 3"),
        ((echo, -1, None), ValueError, "port must be at least 0, got -1"),
        ((echo, 0, 3), TypeError, "host must be a str or None, got 3"),
    ],
)
async def test_a_server_refuses_wrong_arguments(
    arguments: tuple[Any, Any, Any], error: type[Exception], said: str
) -> None:
    handler, port, host = arguments
    with pytest.raises(error, match=said):
        await tf.serve_tcp(handler, port, host=host)


async def fail_at_once(duplex: Duplex) -> None:
    raise ZeroDivisionError("of this client")


async def fail_in_a_run_that_only_reads(duplex: Duplex) -> None:
    await duplex.pipe(tf.map(lambda chunk: 1 // 0)).pipe(tf.drain())


async def fail_after_half_of_the_answer(duplex: Duplex) -> None:
    async with duplex.writable.open() as send:
        await send.send(b"half")
        await wait_all_tasks_blocked()
        raise ZeroDivisionError


async def fail_in_two_tasks(duplex: Duplex) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_at_once, duplex)
        nursery.start_soon(fail_at_once, duplex)


@pytest.mark.parametrize(
    "fail", [fail_at_once, fail_in_a_run_that_only_reads, fail_after_half_of_the_answer, fail_in_two_tasks]
)
async def test_R13_an_exception_in_a_handler_resets_only_its_connection_and_is_logged_once(
    fail: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    first = True

    async def serve(duplex: Duplex) -> None:
        nonlocal first
        if first:
            first = False
            await echo(duplex)
        else:
            await fail(duplex)

    async def ask(stream: trio.SocketStream) -> None:
        await stream.send_all(b"b")
        await read_all(stream)

    async with serving(serve) as port, await trio.open_tcp_stream(HOST, port) as other:
        await other.send_all(b"a")
        assert await other.receive_some() == b"a"
        for _ in range(3):
            async with await trio.open_tcp_stream(HOST, port) as failing:
                with pytest.raises(trio.BrokenResourceError):  # not an end, which could pass for a complete answer
                    await ask(failing)
        await other.send_all(b"c")
        assert await other.receive_some() == b"c"

    assert [(record.name, record.levelname) for record in caplog.records] == [("trioflow", "ERROR")] * 3
    assert all("127.0.0.1" in record.getMessage() for record in caplog.records)
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_leaves_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    ended = trio.Event()

    async def answer(duplex: Duplex) -> None:
        try:
            await echo(duplex)
        finally:
            ended.set()

    async with serving(answer) as port:
        client = await trio.open_tcp_stream(HOST, port)
        await wait_all_tasks_blocked()
        reset(client)
        await ended.wait()
        assert await tf.pipeline([b"a"], tf.connect_tcp(HOST, port), tf.join()) == b"a"

    [record] = caplog.records
    assert (record.name, record.levelname, record.exc_info) == ("trioflow", "WARNING", None)
    assert "broke" in record.getMessage()


async def test_R17_an_interrupt_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    is_cancelled = False

    async def stop(duplex: Duplex) -> None:
        nonlocal is_cancelled
        async with duplex.readable.open() as receive:
            try:
                await receive.receive()
            except trio.Cancelled:
                is_cancelled = True
                raise
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), ZeroDivisionError()])

    async def ask() -> None:
        async with (
            serving(stop) as port,
            await trio.open_tcp_stream(HOST, port),
            await trio.open_tcp_stream(HOST, port) as other,
        ):
            await wait_all_tasks_blocked()
            await other.send_all(b"x")
            await trio.sleep_forever()

    with trio.fail_after(60), pytest.raises(BaseExceptionGroup) as caught:
        await ask()

    assert is_cancelled
    assert caught.group_contains(KeyboardInterrupt)
    assert not caught.group_contains(ZeroDivisionError)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_R2_a_connection_value_that_never_runs_opens_nothing() -> None:
    duplex = tf.connect_tcp(HOST, 9)

    await duplex.aclose()

    assert repr(duplex) == "<Duplex connect_tcp('127.0.0.1', 9)>"
    with pytest.raises(trio.ClosedResourceError, match="is closed"):
        await duplex.readable.pipe(tf.join())
