"""R8 to R10: the end arrives after the items, a reader that stops ends all upstream, a cut-off unit is an error."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, left_early, to_the_end


@pytest.mark.parametrize("capacity", [1, 256])
async def test_R8_the_flush_runs_once_after_all_items(capacity: int) -> None:
    flushed = []

    @tf.transform
    async def flushing(items: AsyncIterable[int]) -> AsyncIterator[Any]:
        async for item in items:
            yield item
        flushed.append("generator")
        yield "flush"

    async def channels(source: tf.ReceiveChannel[Any], output: tf.SendChannel[Any]) -> None:
        async for item in source:
            await output.send(item)
        flushed.append("channels")
        await output.send("second flush")

    got = await tf.pipeline([1, 2], flushing(), tf.Transform(channels), tf.batch(3), tf.collect(), capacity=capacity)

    assert got == [[1, 2, "flush"], ["second flush"]]
    assert flushed == ["generator", "channels"]


async def test_R8_a_reader_gets_the_buffered_items_and_then_the_end_at_every_call() -> None:
    send, receive = tf.open_channel[int]()
    send.send_nowait(1)
    send.close()

    assert await receive.receive() == 1
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()
        with pytest.raises(trio.EndOfChannel):
            receive.receive_nowait()
        with pytest.raises(trio.EndOfChannel):
            await receive.receive_many()


async def test_R8_an_operator_that_stops_early_is_not_flushed_but_those_after_it_are() -> None:
    got = await tf.from_iterable(range(100)).pipe(tf.batch(2)).pipe(tf.take(1)).pipe(tf.batch(5)).pipe(tf.collect())

    assert got == [[[0, 1]]]


async def test_R9_a_reader_that_leaves_ends_a_source_that_sleeps() -> None:
    source = Source([1], then=None)

    assert await left_early(source.readable) == [1]
    assert source.ended == 1


@pytest.mark.parametrize("n", [0, 1, 2])
async def test_R9_a_take_in_the_middle_ends_a_source_that_sleeps(n: int) -> None:
    source = Source([1, 2], then=None)

    got = await to_the_end(source.readable.pipe(tf.map(str)).pipe(tf.take(n)).pipe(tf.map(int)))

    assert got == [1, 2][:n]
    assert source.ended == 1


async def test_R9_stages_downstream_continue_after_those_upstream_have_ended() -> None:
    source = Source(itertools.count())
    ended_when_read = []

    async with source.readable.pipe(tf.take(3)).open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        async for item in receive:
            await wait_all_tasks_blocked()
            ended_when_read.append((item, source.ended))

    assert ended_when_read == [(0, 1), (1, 1), (2, 1)]


async def test_R9_a_take_ends_its_source_before_a_slow_reader_has_received_the_last_item() -> None:
    source = Source([1, 2], then=None)

    async with source.readable.pipe(tf.take(2)).open(capacity=1) as receive:
        await wait_all_tasks_blocked()

        assert receive.statistics().items == 1
        assert source.ended == 1


async def test_R9_a_sink_that_returns_early_ends_everything_upstream() -> None:
    source = Source(itertools.count())
    middle = []

    @tf.transform
    async def passing(items: AsyncIterable[int]) -> AsyncIterator[int]:
        try:
            async for item in items:
                yield item
        finally:
            middle.append("closed")

    async def fetch_two(receive: tf.ReceiveChannel[int]) -> list[int]:
        return [await receive.receive(), await receive.receive()]

    assert await source.readable.pipe(passing()).pipe(tf.Writable(fetch_two)) == [0, 1]
    assert (source.ended, middle) == (1, ["closed"])


async def test_R9_a_transform_that_returns_early_ends_its_source_and_its_reader_sees_the_end() -> None:
    source = Source([1, 2], then=None)

    async def one(receive: tf.ReceiveChannel[int], send: tf.SendChannel[int]) -> None:
        await send.send(await receive.receive())

    sink = Sink()
    assert await source.readable.pipe(tf.Transform(one)).pipe(sink.writable) == "result"
    assert (sink.got, sink.how, source.ended) == ([1], "the end", 1)


async def test_R9_a_writer_outside_gets_no_error_when_its_sink_stops_early() -> None:
    sent = []

    async with tf.first().open(capacity=1) as send:
        for n in range(100):
            await send.send(n)
            sent.append(n)

    assert len(sent) < 100


async def test_R9_a_sender_that_ignores_the_hang_up_may_finish() -> None:
    finished = []

    async def stubborn(output: tf.SendChannel[int]) -> None:
        await output.send(1)
        with trio.CancelScope(shield=True):
            with pytest.raises(trio.BrokenResourceError, match="the last reader of this channel has closed"):  # noqa: PT012
                for n in range(1000):
                    await output.send(n)
            finished.append(1)

    assert await tf.Readable(stubborn).pipe(tf.first()) == 1
    assert finished == [1]


async def test_R9_a_failure_while_a_stage_upstream_is_being_ended_is_raised() -> None:
    async def failing(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            raise Boom("in the cleanup")

    with pytest.raises(Boom, match="in the cleanup") as caught:
        await tf.Readable(failing).pipe(tf.take(1)).pipe(tf.collect())
    assert caught.value.__notes__ == ["in stage 1 of 3: failing(), while it was being cancelled"]


@pytest.mark.parametrize(
    ("run", "error", "note"),
    [
        (lambda: tf.from_iterable(["ä".encode()[:1]]).pipe(tf.decode()).pipe(tf.join()), UnicodeDecodeError, "decode"),
        (lambda: tf.from_iterable(["ä".encode()[:1]]).pipe(tf.lines()).pipe(tf.collect()), UnicodeDecodeError, "lines"),
        (lambda: tf.from_iterable(gzip.compress(b"x")[:-1]).pipe(tf.gunzip()).pipe(tf.join()), EOFError, "gunzip"),
    ],
    ids=["decode", "lines", "gunzip"],
)
async def test_R10_an_unfinished_tail_is_an_error(
    run: Callable[[], Awaitable[object]], error: type[Exception], note: str
) -> None:
    with pytest.raises(error) as caught:
        await run()

    assert f": {note}(" in caught.value.__notes__[-1]
