"""The errors for common mistakes say what is wrong and what to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import trioflow as tf
from trioflow import http

ENTER_IT = "enter it first: `async with \\.\\.\\. as entered:`"
OPEN_IT = "Readable cannot be iterated or entered; open it with `async with readable.open\\(\\) as items`"


@pytest.mark.parametrize(
    "run",
    [
        lambda: tf.from_iterable([1]).pipe(tf.collect()),
        lambda: tf.read_file("a").pipe(tf.write_file("b")),
        lambda: tf.from_iterable([1]).open().__aenter__(),
        lambda: tf.collect().open().__aenter__(),
        lambda: tf.serve_tcp(handle, 0),
    ],
)
def test_under_asyncio_the_error_says_to_use_trio(run: Callable[[], Any]) -> None:
    async def main() -> None:
        await run()

    # In a thread of its own, because the browser tests may have left an event loop in this one.
    with (
        ThreadPoolExecutor(1) as thread,
        pytest.raises(RuntimeError, match=r"trioflow runs on Trio; start your program with trio\.run\(main\)"),
    ):
        thread.submit(lambda: asyncio.run(main())).result()


async def handle(duplex: tf.Duplex[bytes, bytes]) -> None:
    pass


async def test_iterating_a_readable_says_to_open_it() -> None:
    readable: Any = tf.from_iterable([1])

    with pytest.raises(TypeError, match=OPEN_IT):
        async for _ in readable:
            pass
    with pytest.raises(TypeError, match=OPEN_IT):
        list(readable)
    with pytest.raises(TypeError, match=OPEN_IT):
        async with readable:
            pass


@pytest.mark.parametrize("stream", [tf.from_iterable([1]).pipe(tf.map(str)), tf.map(str), tf.collect()])
async def test_awaiting_a_stream_that_is_no_run_says_to_pipe_into_a_sink(stream: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be awaited; await a whole run, .*: `await source.pipe\(sink\)`"):
        await stream


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.from_iterable([1]).open(),
        lambda: tf.collect().open(),
        lambda: tf.connect_tcp("127.0.0.1", 1).open(),
        lambda: tf.broadcast(tf.empty(), 2),
        lambda: tf.hub(tf.empty()),
        lambda: tf.inspect(),
    ],
)
async def test_using_a_block_without_entering_it_says_to_enter_it(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=ENTER_IT):
        await make()
    with pytest.raises(TypeError, match=ENTER_IT):
        _a, _b = make()
    with pytest.raises(TypeError, match=ENTER_IT):
        async for _ in make():
            pass
    with pytest.raises(AttributeError, match="has no attribute 'receive'; " + ENTER_IT):
        make().receive  # noqa: B018


async def test_iterating_a_channel_without_async_says_to_use_async_for() -> None:
    @tf.transform
    async def doubled(items: Any) -> AsyncIterator[int]:
        for item in items:
            yield 2 * item

    @tf.writable
    async def total(items: Any) -> int:
        return sum(items)

    for sink in (doubled().pipe(tf.collect()), total()):
        with pytest.raises(TypeError, match="not iterable") as caught:
            await tf.from_iterable([1]).pipe(sink)
        assert "loop over a channel with `async for`, not `for`" in caught.value.__notes__


async def test_yielding_inside_a_nursery_says_to_send_to_a_channel() -> None:
    @tf.readable
    async def numbers() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            while True:
                yield 1

    with pytest.raises(BaseExceptionGroup) as caught:
        async with numbers().open() as receive:
            await receive.receive()

    hint = "do not yield inside a nursery: write an async function that sends to a channel"
    assert caught.value.__notes__ == ["in stage 1 of 1: numbers()", hint]


async def test_other_libraries_do_not_see_a_channel_as_an_iterable() -> None:
    async with tf.from_iterable([1]).open() as receive:
        assert not isinstance(receive, Iterable)
        assert isinstance(receive, AsyncIterable)


@pytest.mark.parametrize("function", [str, print, len, lambda item: item])
def test_piping_into_a_plain_function_suggests_map(function: Any) -> None:
    name = function.__name__

    with pytest.raises(TypeError, match=f"got the function {name}; use tf.map\\({name}\\), or tf.for_each"):
        tf.from_iterable([1]).pipe(function)


def test_piping_into_a_factory_says_to_call_it() -> None:
    @tf.transform
    async def numbered(items: AsyncIterable[Any]) -> AsyncIterator[Any]:
        yield items

    with pytest.raises(TypeError, match="got the function numbered; call it first"):
        tf.from_iterable([1]).pipe(numbered)  # type: ignore[call-overload]


def test_a_transform_without_a_yield_is_refused_with_a_message_that_says_so() -> None:
    async def forgot(items: Any) -> None:
        pass

    async def forgot_too(items: Any, start: int = 1) -> None:
        pass

    for function in (forgot, forgot_too):
        with pytest.raises(TypeError, match=f"transform: {function.__name__} has no yield; yield its output, or"):
            tf.transform(function)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("serve", "name"), [(lambda f: tf.serve_tcp(f, 0), "serve_tcp"), (lambda f: http.serve(f, port=0), "serve")]
)
async def test_a_plain_function_is_refused_as_a_handler(serve: Callable[[Any], Any], name: str) -> None:
    def handler(*args: object) -> None:
        pass

    with pytest.raises(TypeError, match=f"{name} expects an async function, got handler; define it with `async def`"):
        await serve(handler)


async def test_the_error_for_a_port_in_use_names_host_and_port() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def respond(request: http.Request, response: http.Response) -> None:
        pass

    async with listener:
        for serve in (
            partial(tf.serve_tcp, handle, port, host="127.0.0.1"),
            partial(http.serve, respond, port=port),
        ):
            with pytest.raises(
                OSError, match=rf"Address already in use: '127.0.0.1, port {port}'\nstop the program that listens there"
            ):
                await serve()


@pytest.mark.slow
def test_redis_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules['coredis'] = None; import trioflow.redis"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr.endswith("ImportError: trioflow.redis needs coredis: pip install 'trioflow[redis]'\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.batch(-1), "batch: size must be at least 1, got -1"),
        (lambda: tf.take("3"), "take: n must be an int, got '3'"),  # type: ignore[arg-type]
        (lambda: tf.gunzip(max_output=0), "gunzip: max_output must be at least 1, got 0"),
        (lambda: tf.lines(strict=1), "lines: strict must be a bool, got 1"),  # type: ignore[arg-type]
        (lambda: tf.timeout(0), "timeout: seconds must be above 0, got 0"),
        (lambda: tf.empty().open(capacity=0), "open: capacity must be at least 1, got 0"),
        (lambda: http.Limits(body_size=0), "Limits: body_size must be at least 1, got 0"),
        (lambda: tf.ByteBuffer(limit=0), "ByteBuffer: limit must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named_with_the_function_that_was_called(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (tf.gzip(), "gzip expects bytes, got str; pipe through tf.encode\\(\\) first"),
        (tf.process(["cat"]), "a byte stream expects bytes, got 'text'; pipe through tf.encode\\(\\) first"),
        (tf.split(b"-"), "split expects chunks of bytes, .* got str; pipe through tf.encode\\(\\) first"),
    ],
)
async def test_text_instead_of_bytes_is_an_error_that_suggests_encode(stage: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        await tf.from_iterable(["text"]).pipe(stage).pipe(tf.drain())


@pytest.mark.parametrize(
    "stage", [tf.encode(), tf.map(str.upper), tf.filter(lambda line: " 500 " in line), tf.map(lambda s: s.split(" "))]
)
async def test_bytes_instead_of_text_are_an_error_that_suggests_lines_and_decode(tmp_path: Path, stage: Any) -> None:
    (tmp_path / "log").write_bytes(b"a 500 b\n")

    with pytest.raises(TypeError) as caught:
        await tf.read_file(tmp_path / "log").pipe(stage).pipe(tf.drain())

    assert "pipe through tf.lines() or tf.decode() first" in "\n".join([str(caught.value), *caught.value.__notes__])
