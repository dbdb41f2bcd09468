"""Bytes and requests, below the messages."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Turns
from tests.http.client import RESET, connected, exchanged, serving, tcp_pair
from trioflow.http import Headers, Limits, Request, RequestError, Response
from trioflow.http.wire import sendfile
from trioflow.http.wire import socket as _transport
from trioflow.http.wire.exchange import Exchange, Wire
from trioflow.http.wire.limits import Patience
from trioflow.http.wire.request_head import Head
from trioflow.http.wire.response_sender import ResponseSender
from trioflow.http.wire.socket import SocketTransport

REQUESTS = (
    b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"
    b"\r\n"
    b"POST /two HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nyo"
    b"PUT /three HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nTrailer: x\r\n\r\n"
    b"HEAD /four HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
)
WANTED = [
    ("GET", "/one", b""),
    ("POST", "/two", b"hello\r\n\r\nyo"),
    ("PUT", "/three", b"hello!"),
    ("HEAD", "/four", b""),
]


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def transport_over(sock: socket.socket, *, stall: float = 30, rate: float = 0) -> tuple[SocketTransport, list[str]]:
    lost: list[str] = []
    return SocketTransport(sock, stall=stall, rate=rate, on_loss=lambda: lost.append("lost")), lost


# Limits.


def test_limits_have_defaults_and_can_be_lifted() -> None:
    assert Limits().head_size == 32768
    assert Limits(body_size=math.inf, drain=0, grace=0, write_rate=0).body_size == math.inf
    assert hash(Limits()) == hash(Limits())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"head_size": 0}, ValueError),
        ({"head_size": 1.5}, TypeError),
        ({"connections": -1}, ValueError),
        ({"idle": 0}, ValueError),
        ({"idle": "5"}, TypeError),
        ({"write_stall": -1}, ValueError),
        ({"write_rate": -1}, ValueError),
        ({"first_byte": 0}, ValueError),
        ({"requests": 0}, ValueError),
        ({"grace": -1}, ValueError),
        ({"drain": -1}, ValueError),
    ],
)
def test_an_invalid_limit_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{next(iter(options))} must be"):
        Limits(**options)


# Requests in bytes.


async def read_requests(data: bytes, cuts: list[int]) -> list[tuple[str, str, bytes]]:
    """Feed `data` cut at `cuts`, answer each request, and return what was read."""
    got = []
    with pair() as (ours, theirs):
        transport, _ = transport_over(ours)
        wire = Wire(transport, Limits())

        async def feed() -> None:
            for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
                theirs.send(data[start:stop])
                await trio.testing.wait_all_tasks_blocked()
            theirs.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            while await wire.wait():
                exchange = await wire.read_head()
                body = b""
                while chunks := await exchange.read_body():
                    body += b"".join(chunks)
                got.append((exchange.request.method, exchange.request.target, body))
                pieces = [exchange.writer.write_head(204, Headers(), None), exchange.writer.end()]
                await exchange.write([piece for piece in pieces if piece])
                if not exchange.finish():
                    break
            nursery.cancel_scope.cancel()
    return got


@settings(max_examples=40)
@given(st.lists(st.integers(1, len(REQUESTS) - 1), max_size=12, unique=True).map(sorted))
def test_requests_are_the_same_for_any_chunking(cuts: list[int]) -> None:
    assert trio.run(read_requests, REQUESTS, cuts) == WANTED


async def test_a_body_of_tiny_chunks_is_received_in_batches_and_lets_other_tasks_run() -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pair() as (ours, theirs):
        wire = Wire(transport_over(ours)[0], Limits())
        theirs.send(head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
        assert await wire.wait()
        exchange = await wire.read_head()
        sizes = []
        turns = Turns()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.take)
            while chunks := await exchange.read_body():
                sizes.append(len(chunks))
            nursery.cancel_scope.cancel()

    assert sum(sizes) == 1000
    assert max(sizes) <= 64
    assert turns.count >= len(sizes) // 2


@pytest.mark.parametrize(("padding", "is_known"), [(0, True), (3000, False)])
async def test_a_small_head_that_is_repeated_is_not_parsed_again(padding: int, is_known: bool) -> None:
    data = b"GET /a%20b?c HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + b"x" * padding + b"\r\n\r\n"
    heads: list[Head] = []
    for _ in range(2):
        with pair() as (ours, theirs):
            wire = Wire(transport_over(ours)[0], Limits())
            theirs.send(data)
            assert await wire.wait()
            heads.append((await wire.read_head()).request)

    assert (heads[0] is heads[1]) is is_known
    assert heads[1].path() == ("/a%20b", "c", "/a b")
    assert heads[1].headers["host"] == "localhost"
    with pytest.raises(RuntimeError, match="read-only"):
        heads[1].headers["host"] = "elsewhere"


async def test_a_finished_exchange_neither_sends_nor_receives() -> None:
    with pair() as (ours, theirs):
        wire = Wire(transport_over(ours)[0], Limits())
        theirs.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
        assert await wire.wait()
        exchange = await wire.read_head()

        assert not exchange.finish()
        for act in (exchange.read_body, lambda: exchange.write([b"x"]), lambda: exchange.write_file(0, 0, 1)):
            with pytest.raises(trio.ClosedResourceError, match="the handler has returned"):
                await act()


async def test_a_receive_that_waits_when_the_exchange_ends_takes_nothing() -> None:
    failures: list[BaseException] = []

    async def read(exchange: Exchange) -> None:
        try:
            await exchange.read_body()
        except trio.ClosedResourceError as exc:
            failures.append(exc)

    with pair() as (ours, theirs):
        wire = Wire(transport_over(ours)[0], Limits())
        theirs.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        assert await wire.wait()
        exchange = await wire.read_head()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, exchange)
            await trio.testing.wait_all_tasks_blocked()
            exchange.finish()
            theirs.send(b"hello")

    assert len(failures) == 1


async def test_a_100_continue_that_is_being_sent_is_not_mixed_with_the_response() -> None:
    with pair() as (ours, theirs):
        wire = Wire(transport_over(ours)[0], Limits(idle=math.inf))
        theirs.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert await wire.wait()
        exchange = await wire.read_head()
        filled = fill(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.read_body)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(
                exchange.write,
                [exchange.writer.write_head(204, Headers([("date", "now")]), None), exchange.writer.end()],
            )
            await trio.testing.wait_all_tasks_blocked()
            got = b""
            while not got.endswith(b"Date: now\r\n\r\n"):
                await trio.lowlevel.wait_readable(theirs)
                got += theirs.recv(1 << 20)
            theirs.send(b"x")

    assert got[filled:] == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"


def fill(sock: socket.socket) -> int:
    """Send until there is no room, and return how much was sent."""
    count = 0
    try:
        while True:
            count += sock.send(bytes(65536))
    except BlockingIOError:
        return count


def test_every_limit_is_in_the_reference_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))

    assert told == {field.name: f"{field.default:.0f}" for field in dataclasses.fields(Limits)}


def test_a_request_error_carries_its_status() -> None:
    error = RequestError(413, "too large")

    assert (error.status, str(error)) == (413, "too large")
    assert isinstance(error, trio.BrokenResourceError)


# The socket.


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=20) | st.integers(1, 300_000).map(bytes), min_size=1, max_size=8))
def test_data_sent_in_pieces_arrives_whole(pieces: list[bytes]) -> None:
    async def main() -> bytes:
        with pair() as (ours, theirs):
            transport, _ = transport_over(ours)
            got = bytearray()

            async def receive() -> None:
                while len(got) < len(want):
                    await trio.lowlevel.wait_readable(theirs)
                    got.extend(theirs.recv(50_000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await transport.send(list(pieces))
            return bytes(got)

    want = b"".join(pieces)

    assert trio.run(main) == want


async def test_more_pieces_than_a_system_call_accepts_are_sent() -> None:
    with pair() as (ours, theirs):
        transport, _ = transport_over(ours)
        await transport.send([b"x"] * 5000)

        assert theirs.recv(10_000) == b"x" * 5000


async def test_a_client_that_receives_nothing_is_given_up(autojump_clock: MockClock) -> None:
    with pair() as (ours, _theirs):
        transport, lost = transport_over(ours, stall=7)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="the client read only 0 bytes in 7 seconds"):
            await transport.send([bytes(10 << 20)])

        assert 7 <= trio.current_time() - began < 15
        assert lost == ["lost"]


async def test_a_client_that_receives_slowly_is_not_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(100, 0, -1))
    monkeypatch.setattr(_transport, "unsent", lambda sock: next(left))
    with pair() as (ours, theirs):
        transport, lost = transport_over(ours, stall=7)
        filled = fill(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_writable)
            await trio.sleep(100)
            taken = 0
            while taken < filled:
                taken += len(theirs.recv(1 << 20))

    assert not lost


async def test_a_client_that_receives_too_slowly_is_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([1000, 929, 860])
    monkeypatch.setattr(_transport, "unsent", lambda sock: next(left))
    with pair() as (ours, _theirs):
        transport, lost = transport_over(ours, stall=7, rate=10)
        fill(ours)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="the client read only 69 bytes in 7 seconds"):
            await transport.wait_writable()

        assert 14 <= trio.current_time() - began < 15
        assert lost == ["lost"]


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="only Linux has such sockets")
def test_a_socket_whose_unsent_bytes_are_unknown_counts_as_having_none() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        assert _transport.unsent(sock) == 0


async def test_a_client_that_has_gone_breaks_every_call() -> None:
    with pair() as (ours, theirs):
        transport, lost = transport_over(ours)
        theirs.close()

        assert await transport.receive() == b""
        assert transport.at_end
        with pytest.raises(trio.BrokenResourceError) as caught:
            await transport.send([b"x"])
        assert isinstance(caught.value.__cause__, OSError)
        assert lost == ["lost"]


async def test_R16_closing_twice_is_harmless() -> None:
    with pair() as (ours, theirs):
        transport, _ = transport_over(ours)
        transport.close()
        transport.close()
        transport.cut()

        assert theirs.recv(1) == b""


async def test_lingering_reads_to_the_end(autojump_clock: MockClock) -> None:
    with pair() as (ours, theirs):
        transport, _ = transport_over(ours)
        theirs.send(bytes(100_000))
        theirs.shutdown(socket.SHUT_WR)
        await transport.linger(Patience(3, 100))

        assert transport.at_end
        assert transport.counters.received == 100_000
        assert theirs.recv(1) == b""


@pytest.mark.parametrize(("size", "rate", "seconds"), [(0, 100, 3), (50, 100, 6), (90, 100, 22), (1, 0, math.inf)])
async def test_lingering_lasts_as_long_as_data_arrives_fast_enough(
    size: int, rate: float, seconds: float, autojump_clock: MockClock
) -> None:
    with pair() as (ours, theirs):
        transport, _ = transport_over(ours)

        async def send_each_second() -> None:
            while size:
                theirs.send(bytes(size))
                await trio.sleep(1)

        began = trio.current_time()
        with trio.move_on_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_each_second)
                await transport.linger(Patience(3, rate))
                nursery.cancel_scope.cancel()

        assert trio.current_time() - began == pytest.approx(min(seconds, 1000), abs=1)


async def test_lingering_for_a_client_that_has_gone_ends_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    for before in (True, False):
        ours, theirs = tcp_pair()
        with ours, theirs:
            ours.setblocking(False)
            transport, _ = transport_over(ours)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if before:
                theirs.close()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.linger, Patience(3, 100))
                await trio.testing.wait_all_tasks_blocked()
                theirs.close()

            assert not transport.at_end
            assert trio.current_time() == began


# Files to sockets.


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(os.urandom(5_000_000))
    return path


@pytest.mark.parametrize("cached", [True, False, None])
@pytest.mark.parametrize(("start", "stop"), [(0, 5_000_000), (1, 4_999_999), (7, 7), (3_000_000, 3_000_001)])
async def test_a_range_of_a_file_is_sent_by_the_event_loop_or_a_thread(
    content: Path, start: int, stop: int, cached: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cached is not None:
        monkeypatch.setattr(sendfile, "is_cached", lambda fd, start, stop: cached)
    got = bytearray()
    told: list[int] = []
    with pair() as (ours, theirs), content.open("rb") as file:
        want = os.pread(file.fileno(), stop - start, start)
        transport, _ = transport_over(ours)

        async def receive() -> None:
            while len(got) < stop - start:
                await trio.lowlevel.wait_readable(theirs)
                got.extend(theirs.recv(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await transport.send_file(file.fileno(), start, stop, told.append)

    assert got == want
    assert sum(told) == transport.counters.sent == stop - start


@pytest.mark.parametrize("trip", [0.0, 1.0])
async def test_the_rest_of_a_file_is_sent_by_a_thread_to_a_client_that_keeps_up(
    content: Path, trip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = threading.get_ident()
    in_loop: list[int] = []
    in_thread: list[int] = []
    really = os.sendfile

    def watched(out: int, fd: int, start: int, size: int) -> int:
        sent = really(out, fd, start, size)
        (in_loop if threading.get_ident() == loop else in_thread).append(sent)
        return sent

    asked: list[int] = []

    def is_cached(fd: int, start: int, stop: int) -> bool:
        asked.append(start)
        return True

    monkeypatch.setattr(os, "sendfile", watched)
    monkeypatch.setattr(sendfile, "is_cached", is_cached)
    monkeypatch.setattr(sendfile, "WINDOW", 100_000)
    monkeypatch.setattr(sendfile, "_FAST", 200_000)
    monkeypatch.setattr(sendfile, "TRIP", trip)
    monkeypatch.setattr(sendfile, "PATIENCE", 5000)
    got = bytearray()
    with pair() as (ours, theirs), content.open("rb") as file:
        want = os.pread(file.fileno(), 5_000_000, 0)
        theirs.setblocking(True)
        transport, _ = transport_over(ours)

        def receive() -> None:
            while len(got) < 5_000_000:
                got.extend(theirs.recv(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, receive)
            await transport.send_file(file.fileno(), 0, 5_000_000, lambda sent: None)

    assert got == want
    assert sum(in_loop) < 500_000 < sum(in_thread)
    assert sum(in_loop) + sum(in_thread) == 5_000_000
    assert len(asked) <= len(in_loop) + 1  # the thread does not query the page cache


async def test_a_client_that_pauses_does_not_occupy_a_thread(content: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sendfile, "is_cached", lambda fd, start, stop: True)
    monkeypatch.setattr(sendfile, "WINDOW", 1000)
    monkeypatch.setattr(sendfile, "_FAST", 2000)
    limiter = trio.to_thread.current_default_thread_limiter()
    got = bytearray()
    with pair() as (ours, theirs), content.open("rb") as file:
        want = os.pread(file.fileno(), 5_000_000, 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        transport, _ = transport_over(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send_file, file.fileno(), 0, 5_000_000, lambda sent: None)
            await trio.testing.wait_all_tasks_blocked()
            while limiter.borrowed_tokens:
                await trio.testing.wait_all_tasks_blocked()

            while len(got) < 5_000_000:
                await trio.lowlevel.wait_readable(theirs)
                got.extend(theirs.recv(1 << 20))

    assert got == want


@pytest.mark.parametrize("cached", [True, False])
async def test_R10_a_file_that_ends_while_it_is_sent_is_an_error(
    content: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sendfile, "is_cached", lambda fd, start, stop: cached)
    monkeypatch.setattr(sendfile, "_PIECE", 1000)
    told: list[int] = []
    with pair() as (ours, _theirs), content.open("rb") as file:
        transport, _ = transport_over(ours)
        with pytest.raises(EOFError, match="the file ended at byte 5000000, 100 bytes before it should"):
            await transport.send_file(file.fileno(), 4_990_000, 5_000_100, told.append)

    assert sum(told) == 10_000


async def test_R10_a_file_that_is_too_short_is_an_error(content: Path) -> None:
    told: list[int] = []
    with pair() as (ours, _theirs), content.open("rb") as file:
        transport, lost = transport_over(ours)
        with pytest.raises(EOFError, match="the file ended at byte 5000000, 100 bytes before it should"):
            await transport.send_file(file.fileno(), 4_999_990, 5_000_100, told.append)

        assert not lost
    assert told == [10]


async def test_a_client_that_leaves_while_a_file_is_sent_breaks_the_transfer(content: Path) -> None:
    told: list[int] = []
    with pair() as (ours, theirs), content.open("rb") as file:
        transport, lost = transport_over(ours)
        theirs.close()
        with pytest.raises(trio.BrokenResourceError):
            await transport.send_file(file.fileno(), 0, 5_000_000, told.append)

        assert lost == ["lost"]
    assert told == []


# The response.


def test_a_response_is_a_writable_and_leaves_nothing_for_the_garbage_collector() -> None:
    with pair() as (ours, _):
        wire = Wire(transport_over(ours)[0], Limits())
        head = Head("GET", "/", [], is_old=False)
        assert isinstance(Response(ResponseSender(Exchange(wire, head))), tf.Writable)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                response = Response(ResponseSender(Exchange(wire, head)))
                response.headers["x"] = response.trailers["x"] = "y"
            del response
            assert gc.collect() < 10
        finally:
            gc.enable()


# Everything together, on a small scale.


@settings(max_examples=15)
@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=6), st.integers(1, 300))
def test_an_echo_handler_returns_what_was_sent(chunks: list[bytes], step: int) -> None:
    async def echo(request: Request, response: Response) -> None:
        await request.body.pipe(response)

    async def main() -> bytes:
        data = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % sum(map(len, chunks)) + b"".join(chunks)
        async with serving(echo) as port:
            return await exchanged(port, *(data[at : at + step] for at in range(0, len(data), step)))

    assert trio.run(main).partition(b"\r\n\r\n")[2] == b"".join(chunks)


async def test_two_clients_do_not_wait_for_each_other() -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.path == "/quiet":
            await trio.sleep_forever()
        await tf.from_iterable([b"ok"]).pipe(response)

    async with serving(handler, limits=Limits(grace=0)) as port, connected(port) as quiet:
        await quiet.send_all(b"GET /quiet HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = await exchanged(port, b"GET / HTTP/1.0\r\n\r\n")

        assert got.endswith(b"ok")
