"""The propagation matrix of the web platform's pipes: an end or a failure, forward or backward, in every state of both sides.

Each cell runs with every kind of stage in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, tasks


@tf.transform
async def by_generator(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item


@tf.transform
async def by_channels(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
    async for item in source:
        await output.send(item)


async def same(n: int) -> int:
    return n


BETWEEN: dict[str, Callable[[], tf.Transform[int, int]]] = {
    "a plain function": tf.passthrough,
    "a generator": by_generator,
    "channels": by_channels,
    "workers": lambda: tf.map_async(same, concurrency=2),
    "several": lambda: tf.passthrough().pipe(by_generator()).pipe(tf.buffer(2)).pipe(by_channels()),
}
between = pytest.mark.parametrize("stage", BETWEEN.values(), ids=BETWEEN.keys())


class Slow(Sink):
    """A sink that does not take its second item until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()

    async def run(self, source: tf.ReceiveChannel[Any]) -> str:
        self.how = "running"
        try:
            async for item in source:
                self.got.append(item)
                await self.go_on.wait()
        except BaseException as exc:
            self.how = type(exc).__name__
            raise
        self.how = "the end"
        return "result"


async def overfill(send: tf.SendChannel[int]) -> None:
    while True:
        await send.send(1)


# Failures, forward: the source fails


@between
@pytest.mark.parametrize("items", [[], [1], range(600)], ids=["at once", "behind one item", "behind many"])
async def test_WPT_error_forward_cancels_the_sink_and_is_raised_itself(stage: Any, items: Any) -> None:
    before, failure, sink = tasks(), Boom(), Sink()

    with pytest.raises(Boom) as caught:
        await Source(items, then=failure).readable.pipe(stage()).pipe(sink.writable)

    assert caught.value is failure
    assert sink.how in ("Cancelled", "not run")
    assert tasks() == before


@between
async def test_WPT_error_forward_does_not_wait_for_a_busy_sink(stage: Any) -> None:
    failure, sink = Boom(), Slow()

    with pytest.raises(Boom) as caught:
        await Source([1], then=failure).readable.pipe(stage()).pipe(sink.writable)

    assert caught.value is failure
    assert sink.how in ("Cancelled", "not run")


@between
async def test_WPT_error_forward_is_kept_for_an_idle_reader(stage: Any) -> None:
    failure = Boom()

    async with Source([1], then=failure).readable.pipe(stage()).open() as receive:
        await wait_all_tasks_blocked()
        with pytest.raises(Boom) as caught:
            await receive.receive()

    assert caught.value is failure


# Failures, backward: the sink fails


@between
@pytest.mark.parametrize("then", [None, "end"], ids=["quiet", "at its end"])
@pytest.mark.parametrize("count", [0, 1, 5])
async def test_WPT_error_backward_ends_the_source_and_is_raised_itself(stage: Any, then: Any, count: int) -> None:
    before, failure, source = tasks(), Boom(), Source(range(5), then=then)

    async def fail(receive: tf.ReceiveChannel[int]) -> None:
        for _ in range(count):
            await receive.receive()
        raise failure

    with pytest.raises(Boom) as caught:
        await source.readable.pipe(stage()).pipe(tf.Writable(fail))

    assert caught.value is failure
    assert source.started == source.ended
    assert tasks() == before


@between
async def test_WPT_error_backward_reaches_a_waiting_writer(stage: Any) -> None:
    failure = Boom()

    async def fail(receive: tf.ReceiveChannel[int]) -> None:
        await wait_all_tasks_blocked()
        raise failure

    async with stage().pipe(tf.Writable(fail)).open(capacity=1) as send:
        with pytest.raises(Boom) as caught:
            await overfill(send)

    assert caught.value is failure


# Ends, forward: the source ends


@between
@pytest.mark.parametrize("items", [[], [1], [*range(600)]], ids=["at once", "behind one item", "behind many"])
async def test_WPT_close_forward_ends_the_sink_after_all_items(stage: Any, items: Any) -> None:
    sink = Sink()

    assert await Source(items).readable.pipe(stage()).pipe(sink.writable) == "result"

    assert (sink.got, sink.how) == (items, "the end")


@between
async def test_WPT_close_forward_waits_for_a_busy_sink(stage: Any) -> None:
    source, sink = Source([1, 2]), Slow()
    result = ""

    async def run() -> None:
        nonlocal result
        result = await source.readable.pipe(stage()).pipe(sink.writable)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        assert (source.ended, sink.got, sink.how) == (1, [1], "running")
        sink.go_on.set()

    assert (sink.got, sink.how, result) == ([1, 2], "the end", "result")


@between
async def test_WPT_close_forward_raises_a_failure_of_the_closing_sink(stage: Any) -> None:
    failure = Boom()

    async def closing(receive: tf.ReceiveChannel[int]) -> None:
        async for _ in receive:
            pass
        raise failure

    with pytest.raises(Boom) as caught:
        await Source([1]).readable.pipe(stage()).pipe(tf.Writable(closing))

    assert caught.value is failure


# Ends, backward: the sink stops early


@between
@pytest.mark.parametrize("then", [None, "end"], ids=["quiet", "at its end"])
@pytest.mark.parametrize("count", [0, 1, 5])
async def test_WPT_close_backward_ends_the_source_without_an_error(stage: Any, then: Any, count: int) -> None:
    before, source = tasks(), Source(range(5), then=then)

    async def enough(receive: tf.ReceiveChannel[int]) -> list[int]:
        return [await receive.receive() for _ in range(count)]

    with trio.fail_after(60):
        got = await source.readable.pipe(stage()).pipe(tf.Writable(enough))

    assert got == [*range(count)]
    assert source.started == source.ended
    assert tasks() == before


@between
async def test_WPT_close_backward_raises_broken_resource_error_in_a_waiting_writer(stage: Any) -> None:
    async def enough(receive: tf.ReceiveChannel[int]) -> str:
        await wait_all_tasks_blocked()
        return "enough"

    async with stage().pipe(tf.Writable(enough)).open(capacity=1) as send:
        with pytest.raises(trio.BrokenResourceError):
            await overfill(send)


@between
async def test_WPT_close_backward_raises_a_failure_of_the_closing_source(stage: Any) -> None:
    failure = Boom()

    async def closing(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            raise failure

    with pytest.raises(Boom) as caught:
        await tf.Readable(closing).pipe(stage()).pipe(tf.first())

    assert caught.value is failure


# Both at once


@between
async def test_WPT_multiple_failures_of_both_sides_are_raised_as_a_group(stage: Any) -> None:
    forward, backward = Boom("forward"), Boom("backward")

    async def closing(receive: tf.ReceiveChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise backward

    with pytest.raises(ExceptionGroup) as caught:
        await Source([], then=forward).readable.pipe(stage()).pipe(tf.Writable(closing))

    assert {*caught.value.exceptions} == {forward, backward}


@between
async def test_WPT_multiple_a_sink_that_fails_after_the_source_has_ended_raises_its_failure(
    stage: Any,
) -> None:
    failure = Boom()

    async def fail(receive: tf.ReceiveChannel[int]) -> None:
        async for _ in receive:
            raise failure

    with pytest.raises(Boom) as caught:
        await Source([1]).readable.pipe(stage()).pipe(tf.Writable(fail))

    assert caught.value is failure


# Kept open: preventClose, preventAbort, preventCancel


async def test_WPT_prevent_close_closing_a_clone_leaves_the_channel_open() -> None:
    send, receive = tf.open_channel[int]()

    for n in (1, 2):
        await tf.pipeline([n], send.clone())
    send.close()

    assert [item async for item in receive] == [1, 2]


async def test_WPT_prevent_cancel_leaving_a_clone_leaves_the_channel_open() -> None:
    send, receive = tf.open_channel[int]()
    send.send_many_nowait([1, 2, 3])

    first = await tf.from_iterable(receive.clone()).pipe(tf.first())

    await send.send(4)
    assert first == 1
    assert (await receive.receive_many())[-1] == 4


async def test_WPT_prevent_abort_a_failure_handled_in_a_block_does_not_reach_the_channel() -> None:
    send, receive = tf.open_channel[int]()

    async def one_then_fail(output: tf.SendChannel[int]) -> None:
        await output.send(1)
        await wait_all_tasks_blocked()
        raise Boom

    async with tf.Readable(one_then_fail).open() as items:
        await send.send(await items.receive())
        with pytest.raises(Boom):
            await items.receive()
    await send.send(2)
    send.close()
    got = [item async for item in receive]

    assert got == [1, 2]
