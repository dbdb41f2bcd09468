"""A server that stops: what it waits for, what it cuts off, and what a handler can see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import cancelled_at_each_step
from tests.http.client import Client, connected, ran, read_all, read_until, serving
from trioflow import http
from trioflow.http import Request, Response
from trioflow.http import _running as running

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FEED = GET.replace(b"/ ", b"/feed ")
UPGRADE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"


async def feed(request: Request, response: Response) -> None:
    """Send one item, and then nothing more."""
    async with response.open() as body:
        await body.send(b"first")
        await trio.sleep_forever()


async def feed_or_work(request: Request, response: Response) -> None:
    """Answer `/feed` as `feed` does, and anything else after three seconds."""
    if request.path == "/feed":
        await feed(request, response)
    await trio.sleep(3)
    await response.send(b"done")


@asynccontextmanager
async def asked(handler: Any, *requests: bytes, until: bytes = b"first\r\n") -> AsyncGenerator[list[trio.SocketStream]]:
    """Serve, send each request on its own connection, read the first response up to `until`, run the block, stop."""
    streams: list[trio.SocketStream] = []
    try:
        async with serving(handler) as port:
            for request in requests:
                streams.append(await trio.open_tcp_stream("127.0.0.1", port))
                await streams[-1].send_all(request)
            await read_until(streams[0], until)
            await wait_all_tasks_blocked()
            yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def read_rest(stream: trio.SocketStream, got: list[bytes]) -> None:
    """Read to the end, and close, as a client does."""
    async with stream:
        got.append(await read_all(stream))


async def test_a_server_ends_whenever_it_is_cancelled() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")

    async def start_ask_and_stop() -> None:
        async with serving(handler) as port, connected(port) as stream:
            assert (await Client(stream).ask("GET", "/"))[2] == b"hello"

    await cancelled_at_each_step(start_ask_and_stop)


async def test_a_quiet_feed_does_not_delay_the_shutdown_for_the_grace_period(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with asked(feed, GET, GET):
        pass

    assert 1 <= trio.current_time() - began < 1.5


async def test_a_quiet_feed_continues_while_a_request_is_in_progress(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    got: list[bytes] = []

    async with trio.open_nursery() as nursery:
        async with asked(feed_or_work, FEED, GET) as [_, worker]:
            nursery.start_soon(read_rest, worker, got)
        assert 3 <= trio.current_time() - began < 3.5

    assert got[0].endswith(b"done")


async def test_a_feed_whose_client_has_gone_does_not_delay_the_shutdown(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with asked(feed, GET) as [stream]:
        await stream.aclose()

    assert trio.current_time() - began < 1.5


async def test_a_quiet_upgraded_connection_does_not_delay_the_shutdown(autojump_clock: MockClock) -> None:
    async def chat(request: Request, response: Response) -> None:
        connection = await response.upgrade("chat")
        async with connection.writable.open() as send:
            await send.send(b"first\r\n")
            await trio.sleep_forever()

    began = trio.current_time()
    async with asked(chat, UPGRADE):
        pass

    assert 1 <= trio.current_time() - began < 1.5


@pytest.mark.parametrize("kind", ["sends", "length", "silent", "after", "closed"])
async def test_a_response_that_may_still_end_gets_the_grace_period(kind: str, autojump_clock: MockClock) -> None:
    async def handler(request: Request, response: Response) -> None:
        if kind == "sends":
            await tf.ticks(0.5).pipe(tf.map(lambda _: b"first")).pipe(response)
        elif kind == "after":
            await response.send(b"first\r\n")
        elif kind == "closed":
            connection = await response.upgrade("chat")
            async with connection.open() as stream:
                await stream.send_all(b"first\r\n")
        elif kind == "length":
            response.headers["content-length"] = "1000"
            async with response.open() as body:
                await body.send(b"first\r\n")  # not in chunks
                await trio.sleep_forever()
        await trio.sleep_forever()

    began = trio.current_time()
    asking = UPGRADE if kind == "closed" else GET
    async with asked(handler, asking, until=b"" if kind == "silent" else b"first\r\n"):
        pass

    assert 5 <= trio.current_time() - began < 5.5


async def test_a_handler_can_see_that_the_server_stops_and_end_its_feed_properly(autojump_clock: MockClock) -> None:
    seen: list[bool] = []

    async def handler(request: Request, response: Response) -> None:
        seen.append(request.stopping.is_set())
        news = tf.merge(tf.from_iterable([b"first"]), tf.ticks(60).pipe(tf.drop(1)).pipe(tf.map(lambda _: b"more")))
        await news.pipe(tf.take_until(request.stopping)).pipe(response)
        await request.stopping.wait()
        seen.append(request.stopping.is_set())

    began = trio.current_time()
    got: list[bytes] = []

    async with trio.open_nursery() as nursery, asked(handler, GET) as [stream]:
        nursery.start_soon(read_rest, stream, got)
        await wait_all_tasks_blocked()

    assert got == [b"0\r\n\r\n"]
    assert seen == [False, True]
    assert trio.current_time() == began
    assert not hasattr(http.Stopping, "set")


@pytest.mark.needs("curl")
async def test_curl_reads_a_feed_to_its_end_when_the_server_stops() -> None:
    begun = trio.Event()
    got: list[bytes] = []

    async def handler(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"first, ")
            begun.set()
            await request.stopping.wait()
            await body.send(b"last")

    async def listen(port: int) -> None:
        got.append(await ran("curl", "-sSN", "-m", "60", f"http://127.0.0.1:{port}"))  # fails if cut off

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, serving(handler, limits=http.Limits(grace=600)) as port:
            nursery.start_soon(listen, port)
            await begun.wait()

    assert got == [b"first, last"]


async def test_a_health_page_without_counters_shows_that_the_server_stops() -> None:
    healthy = http.health()

    async def handler(request: Request, response: Response) -> None:
        await response.inform(103)
        await request.stopping.wait()
        await healthy(request, response)

    got: list[bytes] = []

    async with trio.open_nursery() as nursery, asked(handler, GET, until=b"\r\n\r\n") as [stream]:
        nursery.start_soon(read_rest, stream, got)
        await wait_all_tasks_blocked()

    assert got[0].startswith(b"HTTP/1.1 503 ")
    assert got[0].endswith(b'{"status": "stopping"}\n')


# `http.run`: a server as a whole program.


def test_run_prints_its_address_and_returns_at_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    got: list[bytes] = []

    async def handler(request: Request, response: Response) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await request.stopping.wait()
        got.append(b"answered")
        await response.send(b"hello")

    def ask(urls: Any) -> None:
        trio.run(partial(_ask, int(urls[0].rpartition(":")[2])))

    class Asking(running._Greeting):
        def started(self, value: Any = None) -> None:
            super().started(value)
            thread = threading.Thread(target=ask, args=[value])
            threads.append(thread)
            thread.start()

    async def _ask(port: int) -> None:
        async with connected(port) as stream:
            got.append((await Client(stream).ask("GET", "/"))[2])

    threads: list[threading.Thread] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_Greeting", Asking)
        http.run(handler, port=0)
        http.run(handler, port=0, greeting=None)
    for thread in threads:
        thread.join()

    printed = capsys.readouterr().out
    assert printed.startswith("Serving at http://127.0.0.1:")
    assert printed.count("\n") == 1
    assert sorted(got) == [b"answered", b"answered", b"hello", b"hello"]
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_run_raises_the_exceptions_of_serve() -> None:
    with pytest.raises(ValueError, match=r"^run: port must be at most 65535, got 65536"):
        http.run(feed, port=65536)
    unknown: Any = {"novelty": 1}
    with pytest.raises(TypeError, match="novelty"):
        http.run(feed, **unknown)


def test_run_works_in_a_thread_without_signals() -> None:
    async def handler(request: Request, response: Response) -> None:
        raise SystemExit

    ended: list[type[BaseException]] = []

    class Asking(running._Greeting):
        def started(self, value: Any = None) -> None:
            trio.lowlevel.spawn_system_task(_ask, int(value[0].rpartition(":")[2]))

    async def _ask(port: int) -> None:
        async with connected(port) as stream:
            await stream.send_all(GET)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    def serve() -> None:
        try:
            http.run(handler, port=0)
        except SystemExit as exc:
            ended.append(type(exc))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_Greeting", Asking)
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join(60)

    assert ended == [SystemExit]


def test_run_has_the_options_of_serve() -> None:
    import inspect

    options = [name for name in inspect.signature(http.serve).parameters if name not in ("handler", "task_status")]
    assert [*running.Options.__annotations__] == options


PROGRAM = """
import trio
import trio.testing
from trioflow import http

async def handler(request, response):
    async with response.open() as body:
        await body.send(b"first")
        await trio.testing.wait_all_tasks_blocked()  # until it has been sent
        while request.path == "/block":
            pass
        await trio.sleep_forever()

http.run(handler, port=0)
print("returned", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("path", ["/", "/block"])
async def test_a_second_signal_ends_the_process_whatever_a_handler_does(number: signal.Signals, path: str) -> None:
    process = await trio.lowlevel.open_process([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with ExitStack() as stack, trio.fail_after(60):
        stack.callback(process.kill)  # harmless once it has ended
        async with process.stdout:
            line = await read_until(process.stdout, b"\n")
            async with connected(int(line.rpartition(b":")[2])) as stream:
                await stream.send_all(GET.replace(b"/ ", path.encode() + b" "))
                await read_until(stream, b"first\r\n")
                process.send_signal(number)
                while path == "/block" and process.poll() is None:  # the system may merge two signals into one
                    process.send_signal(number)
                    await trio.sleep(0.01)
            rest = await read_until(process.stdout, b"\n")
            status = await process.wait()

    assert (rest, status) == ((b"", -number) if path == "/block" else (b"returned\n", 0))
