"""The four streams as values, `pipe`, `open`, `pipeline`, and foreign sources and sinks."""

from __future__ import annotations

import copy
import gc
import io
import math
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Sink, Source, passing
from trioflow.testing import check_readable, check_writable


async def echo(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
    async for item in source:
        await output.send(item)


# Values


def test_pipe_returns_a_longer_value_and_does_not_change_the_shorter_one() -> None:
    numbers = tf.from_iterable([1, 2])
    longer = numbers.pipe(tf.map(str)).pipe(tf.take(1))

    assert isinstance(longer, tf.Readable)
    assert repr(numbers) == "<Readable from_iterable([1, 2])>"
    assert repr(longer) == "<Readable from_iterable([1, 2]) | map(str) | take(1)>"
    assert repr(tf.map(str).pipe(tf.join(", "))) == "<Writable map(str) | join(', ')>"


def test_of_many_arguments_a_repr_shows_the_first() -> None:
    assert repr(tf.merge(*[tf.empty()] * 6)) == f"<Readable merge({', '.join(['<Readable empty()>'] * 6)})>"
    assert repr(tf.merge(*[tf.empty()] * 1000)) == f"<Readable merge({'<Readable empty()>, ' * 6}...)>"


def test_a_long_argument_is_shortened_in_a_repr() -> None:
    shown = repr(tf.map(str).pipe(tf.join("y" * 1000)))
    of_many = repr(tf.from_iterable(["x" * 1000, *range(1000)]))

    assert shown.startswith("<Writable map(str) | join('yyyy")
    assert of_many.startswith("<Readable from_iterable(['xxxx")
    assert max(len(shown), len(of_many)) < 120


async def test_transforms_compose_in_any_order_of_pipes() -> None:
    a, b, c = tf.map(lambda n: n + 1), tf.map(lambda n: n * 2), tf.filter(lambda n: n > 4)

    for run in (
        tf.from_iterable([1, 2]).pipe(a).pipe(b).pipe(c).pipe(tf.collect()),
        tf.from_iterable([1, 2]).pipe(a.pipe(b.pipe(c))).pipe(tf.collect()),
        tf.from_iterable([1, 2]).pipe(a.pipe(b).pipe(c.pipe(tf.collect()))),
        tf.pipeline([1, 2], a, b.pipe(c), tf.collect()),
    ):
        assert await run == [6]


async def test_readables_transforms_and_writables_can_be_built_from_async_functions() -> None:
    async def numbers(output: tf.SendChannel[int]) -> None:
        await output.send_many(range(3))

    async def total(source: tf.ReceiveChannel[int]) -> int:
        return sum([item async for item in source])

    assert await tf.Readable(numbers).pipe(tf.Transform(echo)).pipe(tf.Writable(total)) == 3
    await check_readable(lambda: tf.Readable(numbers), expected=range(3))
    await check_writable(lambda: tf.Writable(total), range(3), 3)


async def test_a_function_that_is_not_async_is_an_error_of_its_stage() -> None:
    with pytest.raises(TypeError, match=r"can't be (awaited|used in 'await')") as caught:
        await tf.Readable(lambda output: None).pipe(tf.collect())  # type: ignore[arg-type, return-value]

    assert caught.value.__notes__ == ["in stage 1 of 2: <lambda>()"]


def test_a_forgotten_await_warns_and_names_the_chain() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tf.from_iterable([1, 2]).pipe(tf.map(str)).pipe(tf.collect())
        tf.pipeline(["abc"], tf.take(1), tf.count())
        gc.collect()

    assert [str(warning.message) for warning in caught] == [
        "coroutine 'from_iterable([1, 2]) | map(str) | collect()' was never awaited",
        "coroutine 'from_iterable(['abc']) | take(1) | count()' was never awaited",
    ]
    assert {warning.category for warning in caught} == {RuntimeWarning}


# Open


async def test_opening_a_readable_yields_a_trio_receive_channel() -> None:
    async with tf.from_iterable(range(3)).pipe(passing()).open() as receive:
        assert isinstance(receive, trio.abc.ReceiveChannel)
        assert [item async for item in receive] == [0, 1, 2]
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()

    with pytest.raises(trio.ClosedResourceError):
        await receive.receive()


async def test_opening_a_writable_yields_a_trio_send_channel() -> None:
    sink = Sink()

    async with tf.map(str).pipe(sink.writable).open(capacity=1) as send:
        assert isinstance(send, trio.abc.SendChannel)
        for n in range(3):
            await send.send(n)

    assert (sink.got, sink.how) == (["0", "1", "2"], "the end")
    with pytest.raises(trio.ClosedResourceError):
        await send.send(1)


async def test_a_writer_outside_gets_the_failure_of_its_sink() -> None:
    failure = Boom()

    async def failing(source: tf.ReceiveChannel[int]) -> None:
        await source.receive()
        raise failure

    with pytest.raises(Boom) as caught:  # noqa: PT012
        async with tf.Writable(failing).open(capacity=1) as send:
            for n in range(100):
                await send.send(n)

    assert caught.value is failure
    assert failure.__notes__ == ["in stage 1 of 1: failing()"]


async def test_a_writer_outside_that_sends_nothing_more_gets_the_failure_at_the_end_of_the_block() -> None:
    async def failing(source: tf.ReceiveChannel[int]) -> None:
        raise Boom

    with pytest.raises(Boom):
        async with tf.Writable(failing).open():
            await wait_all_tasks_blocked()


async def test_closing_the_send_channel_inside_the_block_ends_the_input_of_the_sink() -> None:
    sink = Sink()

    async with sink.writable.open() as send:
        await send.send(1)
        send.close()
        await wait_all_tasks_blocked()
        assert sink.how == "the end"


async def test_closing_the_channel_inside_the_block_ends_the_source() -> None:
    source = Source([1], then=None)

    async with source.readable.open() as receive:
        receive.close()
        await wait_all_tasks_blocked()
        assert source.ended == 1


async def test_the_ends_of_a_run_can_be_cloned() -> None:
    async with tf.from_iterable(range(4)).open(capacity=4) as receive:
        clone = receive.clone()
        assert await receive.receive() == 0
        assert await clone.receive() == 1
        clone.close()

    async with tf.collect().open() as send:
        with send.clone() as other:
            await other.send(1)
        await send.send(2)


async def test_nested_blocks_run_independently() -> None:
    async with tf.from_iterable("ab").pipe(tf.flat_map(list)).open() as outer:
        async for letter in outer:
            async with tf.from_iterable([1, 2]).open() as inner:
                assert [f"{letter}{n}" async for n in inner] == [f"{letter}1", f"{letter}2"]


# Foreign sources


class Plain:
    def __iter__(self) -> Any:
        return iter([1, 2])


class Asynchronous:
    async def __aiter__(self) -> AsyncIterator[int]:  # type: ignore[override, misc]
        for n in (1, 2):
            yield n


def a_generator() -> Any:
    yield 1
    yield 2


async def an_async_generator() -> AsyncIterator[int]:
    yield 1
    await trio.lowlevel.checkpoint()
    yield 2


def our_channel() -> tf.ReceiveChannel[int]:
    send, receive = tf.open_channel[int]()
    with send:
        send.send_many_nowait([1, 2])
    return receive


def trios_channel() -> trio.abc.ReceiveChannel[int]:
    send, receive = trio.open_memory_channel[int](2)
    with send:
        send.send_nowait(1)
        send.send_nowait(2)
    return receive


FOREIGN: list[Callable[[], Any]] = [
    lambda: [1, 2],
    lambda: (1, 2),
    lambda: {1: "", 2: ""},
    lambda: range(1, 3),
    lambda: iter([1, 2]),
    Plain,
    Asynchronous,
    a_generator,
    an_async_generator,
    our_channel,
    trios_channel,
]


@pytest.mark.parametrize("make", FOREIGN)
async def test_a_readable_can_be_made_of_any_kind_of_iterable(make: Callable[[], Any]) -> None:
    assert await tf.pipeline(make(), tf.map(str), tf.join()) == "12"
    await check_readable(lambda: tf.from_iterable(make()), expected=[1, 2])


@pytest.mark.parametrize("item", ["text", b"bytes", bytearray(b"array"), memoryview(b"view")])
async def test_a_str_or_bytes_object_is_one_item(item: Any) -> None:
    assert await tf.from_iterable(item).pipe(tf.collect()) == [item]


async def test_a_byte_stream_can_be_read_and_is_closed_at_the_end() -> None:
    send, receive = memory_stream_one_way_pair()
    await send.send_all(b"some bytes")
    await send.aclose()

    assert await tf.from_iterable(receive).pipe(tf.join()) == b"some bytes"
    with pytest.raises(trio.ClosedResourceError):
        await receive.receive_some()


async def test_a_two_way_stream_is_read_and_not_closed() -> None:
    near, far = memory_stream_pair()
    await far.send_all(b"ping")
    await far.send_eof()

    assert await tf.from_iterable(near).pipe(tf.join()) == b"ping"
    await near.send_all(b"pong")
    assert await far.receive_some() == b"pong"


async def test_a_file_object_yields_lines_and_is_closed() -> None:
    file = io.StringIO("a\nb\n")

    assert await tf.from_iterable(file).pipe(tf.collect()) == ["a\n", "b\n"]
    assert file.closed


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_a_live_source_is_closed_however_it_was_read(consume: Consumer) -> None:
    closed = []

    async def live() -> AsyncIterator[int]:
        try:
            for n in range(5):
                yield n
        finally:
            closed.append("async")

    def plain() -> Any:
        try:
            yield from range(5)
        finally:
            closed.append("plain")

    receive = our_channel()
    for source in (live(), plain(), receive):
        got = await consume(tf.from_iterable(source))
        assert got

    assert closed == ["async", "plain"]
    with pytest.raises(trio.ClosedResourceError):
        receive.receive_nowait()


@pytest.mark.parametrize("failing", ["plain", "async"])
async def test_a_failing_iterable_is_a_failure_of_its_stage(failing: str) -> None:
    def plain() -> Any:
        yield 1
        raise Boom

    async def live() -> AsyncIterator[int]:
        yield 1
        raise Boom

    with pytest.raises(Boom) as caught:
        await tf.pipeline(plain() if failing == "plain" else live(), tf.map(str), tf.collect())

    assert caught.value.__notes__[0].startswith("in stage 1 of 3: from_iterable(")


async def test_an_iterable_whose_iter_fails_is_a_failure_of_the_run() -> None:
    class Bad:
        def __iter__(self) -> Any:
            raise Boom

    readable = tf.from_iterable(Bad())
    with pytest.raises(Boom):
        await readable.pipe(tf.collect())


# Foreign sinks


async def test_items_can_be_sent_to_a_channel_of_ours_or_trios_which_is_closed_at_the_end() -> None:
    ours, receive = tf.open_channel[int]()
    trios, trios_receive = trio.open_memory_channel[int](math.inf)

    assert await tf.pipeline(range(3), ours) == 3
    assert await tf.pipeline(range(3), tf.map(abs), trios) == 3

    assert [item async for item in receive] == [0, 1, 2]
    assert [item async for item in trios_receive] == [0, 1, 2]


async def test_small_chunks_are_joined_before_they_are_sent_to_a_byte_stream() -> None:
    send, receive = memory_stream_one_way_pair()
    sizes = []
    written = send.send_all

    async def send_all(data: bytes) -> None:
        sizes.append(len(data))
        await written(data)

    send.send_all = send_all  # type: ignore[method-assign]
    chunks = [b"x" * 1000] * 100 + [bytes(100_000), b"", bytearray(b"y"), memoryview(b"zz")]

    count = await tf.pipeline(chunks, tf.to_stream(send))
    got = b"".join([part async for part in receive])

    assert count == len(got) == 200_003
    assert got == b"".join(chunks)
    assert len(sizes) < 30
    assert max(sizes) == 100_000
    assert 0 not in sizes


async def test_writing_to_a_two_way_stream_ends_only_its_send_direction() -> None:
    near, far = memory_stream_pair()

    assert await tf.pipeline([b"ping"], near) == 4
    assert await far.receive_some() == b"ping"
    assert await far.receive_some() == b""
    await far.send_all(b"pong")
    assert await near.receive_some() == b"pong"


async def test_a_byte_stream_refuses_and_names_an_item_that_is_not_bytes() -> None:
    near, _ = memory_stream_one_way_pair()

    with pytest.raises(TypeError, match="a byte stream expects bytes, got 'text'") as caught:
        await tf.pipeline(["text"], near)

    assert caught.value.__notes__[0].startswith("in stage 2 of 2: to_stream(")


# pipeline


async def test_a_pipeline_can_begin_and_end_with_duplexes() -> None:
    near, far = memory_stream_pair()
    await far.send_all(b"abc")
    await far.send_eof()
    duplex = tf.Duplex.from_stream(near)

    assert await tf.pipeline(duplex, tf.map(bytes.upper), duplex) == 3
    assert await far.receive_some() == b"ABC"
    assert await far.receive_some() == b""


async def test_the_capacity_of_a_pipeline_applies_to_every_channel() -> None:
    source = Source(range(100))
    made = []

    async def slow(receive: tf.ReceiveChannel[int]) -> None:
        await wait_all_tasks_blocked()
        made.append(source.sent)
        async for _ in receive:
            pass

    await tf.pipeline(source.readable, tf.Writable(slow), capacity=7)
    await tf.pipeline(source.readable, tf.Writable(slow), capacity=math.inf)

    assert made == [7, 100 + 100]


async def test_a_duplex_has_a_repr_and_runs_after_its_unused_block_was_closed() -> None:
    near, _ = memory_stream_pair()
    apart = tf.Duplex(tf.from_iterable([b"x"]), tf.collect())

    assert repr(apart) == "<Duplex Duplex()>"
    assert repr(tf.Duplex.from_stream(near)).startswith("<Duplex from_stream(")
    async with apart as same:
        assert same is apart
    await apart.aclose()
    assert await apart.pipe(tf.join()) == b"x"
    assert await apart.pipe(tf.map(bytes.upper)).pipe(tf.join()) == b"X"


def test_a_generator_function_without_a_decorator_is_refused_with_advice_to_decorate_it() -> None:
    async def ticks() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"Readable expects an async function over channels, but ticks yields"):
        tf.Readable(ticks)  # type: ignore[arg-type]


def test_none_instead_of_a_stage_is_refused() -> None:
    with pytest.raises(TypeError, match="expects a Transform or a Duplex, got NoneType None"):
        tf.pipeline([1], None, tf.collect())  # type: ignore[arg-type]


def test_a_pipe_in_a_loop_copies_no_stages() -> None:
    stage, count = tf.map(abs), 4000
    made: list[tf.Readable[int]] = [tf.from_iterable([-1])]
    tracemalloc.start()
    try:
        for _ in range(count):
            made.append(made[-1].pipe(stage))
        assert len(made[-1]._stages) == count + 1
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 500 * count  # all shorter chains are alive; copying the stages would take 16,000 a pipe


async def test_a_stream_of_thousands_of_stages_runs_and_is_freed() -> None:
    readable: tf.Readable[int] = tf.from_iterable([1])
    transform: tf.Transform[int, int] = tf.map(abs)
    writable: tf.Writable[int, list[int]] = tf.collect()
    for _ in range(1000):
        readable = readable.pipe(tf.map(lambda n: n + 1))
        transform = transform.pipe(tf.map(lambda n: n + 1))
        writable = tf.map(lambda n: n + 1).pipe(writable)

    assert await readable.pipe(transform).pipe(writable) == [3001]
    assert copy.copy(readable)._stages == readable._stages
    with pytest.raises(AttributeError, match="'Readable' object has no attribute 'pip'"):
        getattr(readable, "pip")  # noqa: B009
