"""The decorators: their forms, their parameters, and what they refuse."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.consumers import Boom, Source
from trioflow.testing import check_readable, check_transform, check_writable


@tf.readable
async def numbers(stop: int, *, start: int = 0) -> AsyncIterator[int]:
    """Count."""
    for n in range(start, stop):
        yield n


@tf.readable
async def sent(output: tf.SendChannel[int], stop: int) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(stop):
            nursery.start_soon(output.send, n)
            await trio.lowlevel.checkpoint()


@tf.transform
async def numbered(items: AsyncIterable[str], start: int = 1, *, sign: str = ".") -> AsyncIterator[str]:
    async for item in items:
        yield f"{start}{sign} {item}"
        start += 1


@tf.transform
async def repeated(source: tf.ReceiveChannel[str], output: tf.SendChannel[str], times: int) -> None:
    async for item in source:
        for _ in range(times):
            await output.send(item)


@tf.writable
async def longest(words: AsyncIterable[str], default: str = "") -> str:
    return max([word async for word in words], key=len, default=default)


async def test_each_form_follows_the_rules() -> None:
    await check_readable(lambda: numbers(300, start=2), expected=range(2, 300))
    await check_transform(lambda: numbered(sign=":"), "ab", ["1: a", "2: b"], holds=1)
    await check_transform(lambda: repeated(2), "ab", ["a", "a", "b", "b"], holds=1)
    await check_writable(longest, ["a", "abc", "ab"], "abc")
    await check_writable(lambda: longest(default="none"), [], "none")


async def test_a_source_may_send_from_many_tasks() -> None:
    assert sorted(await sent(20).pipe(tf.collect())) == list(range(20))


def test_a_factory_has_the_signature_of_its_function_without_the_channels() -> None:
    assert (numbers.__name__, numbers.__doc__) == ("numbers", "Count.")
    assert str(inspect.signature(numbers)) == "(stop: 'int', *, start: 'int' = 0) -> 'AsyncIterator[int]'"
    assert list(inspect.signature(sent).parameters) == ["stop"]
    assert list(inspect.signature(numbered).parameters) == ["start", "sign"]
    assert list(inspect.signature(repeated).parameters) == ["times"]
    assert list(inspect.signature(longest).parameters) == ["default"]


def test_a_stage_is_named_after_its_call() -> None:
    assert repr(numbers(3, start=1).pipe(numbered(sign="-"))) == "<Readable numbers(3, start=1) | numbered(sign='-')>"
    assert repr(longest("x")) == "<Writable longest('x')>"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbers(), "missing a required argument: 'stop'"),
        (lambda: numbers(1, 2), "too many positional arguments"),
        (lambda: sent(1, 2), "too many positional arguments"),
        (lambda: numbered(signs=":"), "got an unexpected keyword argument 'signs'"),
        (lambda: repeated(), "missing a required argument: 'times'"),
        (lambda: longest(1, 2), "too many positional arguments"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_factory_is_called(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


async def yields(items: Any) -> AsyncIterator[int]:
    yield 1


def plain(source: Any, output: Any) -> None:
    pass


async def no_parameters() -> None:
    pass


@pytest.mark.parametrize(
    ("decorate", "function", "message"),
    [
        (tf.readable, plain, "readable expects an async function or an async generator function, got plain"),
        (tf.transform, plain, "transform expects an async function or an async generator function, got plain"),
        (tf.writable, plain, "writable expects an async function or an async generator function, got plain"),
        (tf.readable, 3, "readable expects an async function or an async generator function, got 3"),
        (tf.writable, yields, "writable expects an async function that returns a result, but yields yields"),
        (
            tf.readable,
            no_parameters,
            "expects a function with at least 1 channel parameters, but no_parameters takes 0",
        ),
        (tf.transform, no_parameters, "transform: no_parameters has no yield; yield its output, or take two"),
    ],
)
def test_R1_what_is_not_a_stage_is_refused_when_it_is_decorated(decorate: Any, function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        decorate(function)


async def test_arguments_are_the_same_in_every_run() -> None:
    counter = numbers(3)

    assert await counter.pipe(tf.collect()) == await counter.pipe(tf.collect()) == [0, 1, 2]


async def test_a_generator_can_use_every_method_of_a_receive_channel() -> None:
    @tf.transform
    async def mixed(source: tf.ReceiveChannel[int]) -> AsyncIterator[Any]:
        yield await source.receive()
        yield await source.receive_many(2)
        async for item in source:
            yield item
            if item == 4:
                break
        yield source.receive_nowait()
        yield source.statistics().items
        async for items in source.batches():
            yield items
        for ask in (source.receive, source.receive_many):
            with pytest.raises(trio.EndOfChannel):
                await ask()

    got = await tf.from_iterable(range(8)).pipe(mixed()).pipe(tf.collect())

    assert got[:2] == [0, [1, 2]]
    assert got[2:5] == [3, 4, 5]
    assert [item for items in got[6:] for item in items] == [6, 7]


async def test_receive_nowait_in_a_generator_raises_would_block_if_nothing_has_arrived() -> None:
    @tf.transform
    async def impatient(source: tf.ReceiveChannel[int]) -> AsyncIterator[str]:
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()
        yield "nothing yet"

    assert await Source([], then=None).readable.pipe(impatient()).pipe(tf.collect()) == ["nothing yet"]


async def test_a_generator_that_closes_its_source_cannot_receive_any_more_and_continues() -> None:
    @tf.transform
    async def two(source: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        yield await source.receive()
        source.close()
        for ask in (source.receive, source.receive_many):
            with pytest.raises(trio.ClosedResourceError):
                await ask()
        with pytest.raises(trio.ClosedResourceError):
            source.receive_nowait()
        yield 99

    assert await numbers(10**9).pipe(two()).pipe(tf.collect()) == [0, 99]


async def test_a_generator_does_not_continue_after_a_failure_upstream_even_if_it_was_shielded() -> None:
    flushed = []

    @tf.transform
    async def stubborn(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            yield item
        flushed.append(1)

    @tf.readable
    async def failing() -> AsyncIterator[int]:
        yield 1
        yield 2
        await trio.lowlevel.checkpoint()
        raise Boom

    with pytest.raises(Boom) as caught:
        await tf.pipeline(failing(), stubborn(), tf.collect(), capacity=2)

    assert caught.value.__notes__ == ["in stage 1 of 3: failing()"]
    assert flushed == []


async def test_several_tasks_of_a_generator_may_share_its_source() -> None:
    @tf.transform
    async def workers(source: tf.ReceiveChannel[int]) -> AsyncIterator[int]:
        done: list[int] = [await source.receive()]

        async def work() -> None:
            async for item in source:
                await trio.lowlevel.checkpoint()
                done.append(item)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
        for item in done:
            yield item

    for _ in range(5):  # Trio runs tasks in random order
        assert sorted(await sent(500).pipe(workers()).pipe(tf.collect())) == list(range(500))
