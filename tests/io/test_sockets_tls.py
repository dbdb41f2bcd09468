"""TLS over real sockets: a connection as a stage, as two directions and as a stream; and certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trustme

import trioflow as tf

HOST = "127.0.0.1"
AUTHORITY = trustme.CA()
Stream = trio.SSLStream[trio.SocketStream]


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the system's own certificates takes 36 ms
    AUTHORITY.configure_trust(context)
    return context


@asynccontextmanager
async def serving(handler: Callable[[Stream], Awaitable[object]]) -> AsyncGenerator[int, None]:
    """Serve over TLS until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(HOST).configure_cert(context)

    async def handle(stream: Stream) -> None:
        try:
            await handler(stream)
        except trio.BrokenResourceError:
            pass  # the client does not trust the certificate, or has left
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_ssl_over_tcp, handle, 0, context, host=HOST))
        yield listener.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def shout_a_line(stream: Stream) -> None:
    """Answer one line, then end."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive_some()
    await stream.send_all(line.upper())
    await stream.aclose()


def connect(port: int, **options: Any) -> tf.Duplex[bytes, bytes]:
    return tf.connect_tls(HOST, port, ssl_context=trusting(), **options)


async def test_as_a_transform_it_sends_the_items_and_emits_the_answer_in_each_run() -> None:
    with trio.fail_after(60):
        async with serving(shout_a_line) as port:
            chain = tf.from_iterable([b"hel", b"lo\n"]).pipe(connect(port))
            assert await chain.pipe(tf.join()) == b"HELLO\n"
            assert await chain.pipe(tf.join()) == b"HELLO\n"


async def test_R4_the_two_directions_share_one_connection_and_each_runs_once() -> None:
    with trio.fail_after(60):
        async with serving(shout_a_line) as port, connect(port) as duplex:
            assert await tf.from_iterable(b"hello\n").pipe(duplex.writable) == 6
            assert await duplex.pipe(tf.join()) == b"HELLO\n"
            with pytest.raises(trio.ClosedResourceError, match="can only run once"):
                await duplex.pipe(tf.join())


async def test_each_open_makes_a_stream_with_its_own_connection() -> None:
    with trio.fail_after(60):
        async with serving(shout_a_line) as port:
            duplex = connect(port)
            for _ in range(2):
                async with duplex.open() as stream:
                    await stream.send_all(b"hello\n")
                    assert b"".join([chunk async for chunk in stream]) == b"HELLO\n"


async def test_R9_a_reader_that_stops_early_closes_the_connection() -> None:
    left = trio.Event()

    async def talk(stream: Stream) -> None:
        await stream.send_all(b"hello")
        try:
            await stream.receive_some()
        finally:
            left.set()

    with trio.fail_after(60):
        async with serving(talk) as port:
            assert await connect(port).readable.pipe(tf.first()) == b"hello"
            await left.wait()


async def test_a_connection_that_is_only_written_to_ends_with_close_notify() -> None:
    got: list[bytes | bytearray] = []
    ended = trio.Event()

    async def listen(stream: Stream) -> None:
        while chunk := await stream.receive_some():
            got.append(chunk)
        ended.set()

    with trio.fail_after(60):
        async with serving(listen) as port:
            async with connect(port) as duplex:
                assert await tf.from_iterable(b"hello").pipe(duplex.writable) == 5
            await ended.wait()

    assert b"".join(got) == b"hello"


async def test_R13_a_cancelled_writer_sends_no_close_notify() -> None:
    failures: list[BaseException] = []
    seen, gone = trio.Event(), trio.Event()

    async def listen(stream: Stream) -> None:
        try:
            while await stream.receive_some():
                seen.set()
        except trio.BrokenResourceError as exc:
            failures.append(exc)
            gone.set()

    with trio.fail_after(60):
        async with serving(listen) as port:
            async with trio.open_nursery() as nursery:
                endless = tf.repeat(b"more").pipe(tf.throttle(100))
                nursery.start_soon(lambda: endless.pipe(connect(port)).pipe(tf.drain()))
                await seen.wait()
                nursery.cancel_scope.cancel()
            await gone.wait()

    assert len(failures) == 1


async def test_R10_an_end_without_close_notify_is_a_failure_unless_https_compatible() -> None:
    async def cut_off(stream: Stream) -> None:
        await stream.send_all(b"hel")
        await stream.transport_stream.send_eof()
        await trio.sleep_forever()

    with trio.fail_after(60):
        async with serving(cut_off) as port:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await connect(port).readable.pipe(tf.join())
            assert caught.value.__notes__ == [f"in stage 1 of 2: connect_tls('{HOST}', {port}).readable"]
            assert await connect(port, https_compatible=True).readable.pipe(tf.join()) == b"hel"


async def test_an_untrusted_certificate_is_refused_before_anything_is_sent() -> None:
    got: list[bytes | bytearray] = []

    async def listen(stream: Stream) -> None:
        got.append(await stream.receive_some())

    with trio.fail_after(60):
        async with serving(listen) as port:
            strange = tf.connect_tls(HOST, port)
            with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
                await tf.from_iterable(b"secret").pipe(strange).pipe(tf.drain())
            with pytest.raises(ssl.SSLCertVerificationError, match=r"elsewhere\.invalid"):
                await connect(port, server_hostname="elsewhere.invalid").readable.pipe(tf.drain())

    assert got == []


async def test_a_server_without_tls_is_an_ssl_error() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 hello, this is not TLS\r\n")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, plain, 0, host=HOST))
        with trio.fail_after(60), pytest.raises(ssl.SSLError):
            await connect(listener.socket.getsockname()[1]).readable.pipe(tf.drain())
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": 5}, TypeError, "host must be a str, got 5"),
        ({"host": ""}, ValueError, "host must be a name or an address, got an empty str"),
        ({"port": 0}, ValueError, "port must be at least 1, got 0"),
        ({"ssl_context": 3}, TypeError, "ssl_context must be an SSLContext or None, got 3"),
        ({"server_hostname": 3}, TypeError, "server_hostname must be a str or None, got 3"),
    ],
)
def test_R1_arguments_are_checked_when_the_value_is_built(options: Any, error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"host": HOST, "port": 443, **options}

    with pytest.raises(error, match=message):
        tf.connect_tls(**arguments)
