"""Sinks: what is special to each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source


async def add_later(total: int, n: int) -> int:
    await trio.lowlevel.checkpoint()
    return total + n


async def nothing_later(n: int) -> None:
    await trio.lowlevel.checkpoint()


async def test_for_each_calls_in_order() -> None:
    called: list[int] = []

    async def call(n: int) -> None:
        await trio.lowlevel.checkpoint()
        called.append(n)

    await tf.from_iterable(range(5)).pipe(tf.for_each(called.append))
    await tf.from_iterable(range(5, 8)).pipe(tf.for_each(call))

    assert called == list(range(8))


@pytest.mark.parametrize(
    ("sink", "name"),
    [
        (lambda: tf.for_each(lambda n: nothing_later(n)), "for_each"),
        (lambda: tf.reduce(lambda total, n: add_later(total, n), 0), "reduce"),
    ],
)
async def test_a_plain_function_that_returns_a_coroutine_is_refused_with_advice_to_pass_the_coroutine_function(
    sink: Callable[[], tf.Writable[Any, Any]], name: str
) -> None:
    message = f"{name}: the function returned a coroutine; pass the async function itself"
    with pytest.raises(TypeError, match=message):
        await tf.from_iterable([1]).pipe(sink())


async def test_a_stop_iteration_in_a_function_is_not_the_end() -> None:
    def stop(*args: Any) -> Any:
        raise StopIteration

    for sink in (tf.for_each(stop), tf.reduce(stop, 0)):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await tf.from_iterable([1]).pipe(sink)


async def test_first_raises_an_error_if_there_is_no_item() -> None:
    with pytest.raises(LookupError, match=r"first: the source ended without an item") as caught:
        await tf.from_iterable([]).pipe(tf.first())

    assert caught.value.__notes__ == ["in stage 2 of 2: first()"]


async def test_first_ends_a_source_that_sleeps() -> None:
    source = Source([1], then=None)

    assert await source.readable.pipe(tf.first()) == 1
    assert source.ended == 1


async def test_first_ends_an_endless_flat_map() -> None:
    assert await tf.from_iterable([3]).pipe(tf.flat_map(itertools.count)).pipe(tf.first()) == 3


async def test_join_refuses_chunks_of_different_types() -> None:
    for chunks, sink in (([b"a", "b"], tf.join()), ([1], tf.join()), ([b"a"], tf.join(", "))):
        with pytest.raises(TypeError) as caught:
            await tf.from_iterable(chunks).pipe(sink)
        assert ": join(" in caught.value.__notes__[0]


async def test_to_channel_aborts_a_trioflow_channel_when_it_is_cancelled() -> None:
    send, receive = tf.open_channel[int](1)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: Source([1], then=None).readable.pipe(tf.to_channel(send)))
            await wait_all_tasks_blocked()
            scope.cancel()

    with pytest.raises(trio.BrokenResourceError, match="the sender has failed"):
        await receive.receive()


async def test_to_channel_closes_another_kind_of_channel_however_it_ends() -> None:
    send, receive = trio.open_memory_channel[int](10)

    with pytest.raises(Boom):
        await Source([1], then=Boom()).readable.pipe(tf.to_channel(send))

    got = [item async for item in receive]
    assert got in ([], [1])
    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(1)


async def test_to_channel_waits_for_a_slow_reader() -> None:
    send, receive = tf.open_channel[int](2)
    source = Source(itertools.count())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline(source.readable, tf.to_channel(send), capacity=3))
        await wait_all_tasks_blocked()

        assert source.sent <= 3 + 3 + 2  # in the run's channel, in the batch at hand, and in the channel itself
        assert await receive.receive() == 0
        nursery.cancel_scope.cancel()
