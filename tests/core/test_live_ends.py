"""A run closes every live end that it was given, even one that it never reads, so that no sender waits forever."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from anyio import create_memory_object_stream

import trioflow as tf

Ends = Callable[..., tf.Readable[Any]]

OPERATORS: dict[str, Ends] = {
    "concat": tf.concat,
    "interleave": tf.interleave,
    "merge": tf.merge,
    "merge_sorted": tf.merge_sorted,
    "retry": lambda a, b: tf.concat(tf.retry(a), tf.retry(b)),
    "recover": lambda a, b: tf.concat(*(each.pipe(tf.recover(lambda _: ())) for each in (a, b))),
    "flat_map_merge": lambda a, b: tf.from_iterable([a, b]).pipe(tf.flat_map_merge(lambda each: each)),
    "a duplex of two": lambda a, b: tf.concat(a, b.pipe(tf.Duplex(b, tf.drain()))),
    "zip": tf.zip,
    "zip_latest": tf.zip_latest,
    "one inside another": lambda a, b: tf.concat(tf.from_iterable([1]), tf.merge(a, tf.concat(tf.empty(), b))),
    "after operators": lambda a, b: tf.concat(a.pipe(tf.map(lambda n: n)), b.pipe(tf.map(lambda n: n))),
}


def test_the_table_has_every_operator_that_takes_several_readables() -> None:
    several = {
        name
        for name in tf.__all__
        if callable(made := getattr(tf, name))
        and not isinstance(made, type)
        and any(
            each.kind is each.VAR_POSITIONAL and "Readable" in str(each.annotation)
            for each in inspect.signature(made).parameters.values()
        )
    }
    assert several
    assert several <= set(OPERATORS)


def fails(_: object) -> object:
    raise OSError("a sink that fails")


@pytest.mark.parametrize("ending", ["enough", "failure", "cancellation"])
@pytest.mark.parametrize("operator", OPERATORS)
async def test_the_senders_of_a_run_that_ends_get_an_error(operator: str, ending: str, autojump_clock: object) -> None:
    told: list[str] = []

    async def produce(send: tf.SendChannel[int], name: str) -> None:
        try:
            async with send:
                for n in range(1000):
                    await send.send(n)
                    await trio.sleep(1)
        except trio.BrokenResourceError:
            told.append(name)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            readables = []
            for name in "ab":
                send, receive = tf.open_channel[int](8)
                nursery.start_soon(produce, send, name)
                readables.append(tf.from_iterable(receive))
            source = OPERATORS[operator](*readables)
            if ending == "enough":
                await source.pipe(tf.first())
            elif ending == "failure":
                with pytest.raises(OSError, match="a sink that fails"):
                    await source.pipe(tf.map(fails)).pipe(tf.drain())
            else:
                with trio.move_on_after(5) as scope:
                    await source.pipe(tf.drain())
                assert scope.cancelled_caught

    assert sorted(told) == ["a", "b"]


BLOCKS: dict[str, Callable[[tf.Readable[int]], Any]] = {
    "balance": lambda source: tf.balance(source, 2),
    "broadcast": lambda source: tf.broadcast(source, 2),
    "hub": tf.hub,
    "hub that waits": lambda source: tf.hub(source, start_after=1),
    "open": lambda source: tf.concat(tf.repeat(1), source).open(),
    "partition": lambda source: tf.partition(source, lambda n: n % 2, 2),
}


@pytest.mark.parametrize("is_failing", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
async def test_the_senders_of_a_block_that_is_left_get_an_error(block: str, is_failing: bool) -> None:
    send, receive = tf.open_channel[int](1)
    with contextlib.suppress(OSError):
        async with BLOCKS[block](tf.from_iterable(receive)):
            if is_failing:
                raise OSError("a block that fails")

    with pytest.raises(trio.BrokenResourceError):
        await send.send(1)


async def test_a_source_that_switch_map_replaced_before_it_started_is_closed(autojump_clock: object) -> None:
    ends = [tf.open_channel[int](1) for _ in range(3)]
    sources = [tf.from_iterable(receive) for _, receive in ends]

    numbers = tf.from_iterable(range(3)).pipe(tf.throttle(1)).pipe(tf.switch_map(sources.__getitem__))
    with trio.move_on_after(10):
        await numbers.pipe(tf.drain())

    assert [send.statistics().open_receive_channels for send, _ in ends] == [0, 0, 0]


async def test_a_replacement_that_recover_could_not_use_is_closed(autojump_clock: object) -> None:
    send, receive = tf.open_channel[int](1)
    other = tf.from_iterable(receive)
    with pytest.raises(ZeroDivisionError):
        await (
            tf.from_iterable([1, 0])
            .pipe(tf.map(lambda n: 1 // n))
            .pipe(tf.batch(1))
            .pipe(tf.recover(lambda _: other))
            .pipe(tf.collect())
        )
    with pytest.raises(trio.BrokenResourceError):
        await send.send(1)


class Closes:
    """A live end of some kind, and whether it was closed."""

    def __init__(self, end: Any, is_closed: Callable[[], Any]) -> None:
        self.end = end
        self.is_closed = is_closed


async def a_channel(stack: AsyncExitStack, path: Path) -> Closes:
    send, receive = tf.open_channel[int](1)
    return Closes(receive, lambda: send.statistics().open_receive_channels == 0)


async def a_memory_channel(stack: AsyncExitStack, path: Path) -> Closes:
    send, receive = trio.open_memory_channel[int](1)
    return Closes(receive, lambda: send.statistics().open_receive_channels == 0)


async def a_stream_of_anyio(stack: AsyncExitStack, path: Path) -> Closes:
    send, receive = create_memory_object_stream[int](1)
    stack.enter_context(send)
    return Closes(receive, lambda: send.statistics().open_receive_streams == 0)


async def a_byte_stream(stack: AsyncExitStack, path: Path) -> Closes:
    _, receive = trio.testing.memory_stream_one_way_pair()
    closed: list[bool] = []
    receive.close_hook = lambda: closed.append(True)
    return Closes(receive, lambda: closed)


async def an_open_file(stack: AsyncExitStack, path: Path) -> Closes:
    file = path.open()
    return Closes(file, lambda: file.closed)


async def a_file_of_trio(stack: AsyncExitStack, path: Path) -> Closes:
    file = await trio.open_file(path)
    return Closes(file, lambda: file.closed)


async def a_queue(stack: AsyncExitStack, path: Path) -> Closes:
    queue = tf.queue[int](1)
    return Closes(queue, lambda: queue.offer(1) == "closed")


async def a_branch(stack: AsyncExitStack, path: Path) -> Closes:
    [branch] = await stack.enter_async_context(tf.broadcast(tf.from_iterable([1]), 1))
    return Closes(branch, lambda: branch._receive._closed)


async def a_group(stack: AsyncExitStack, path: Path) -> Closes:
    pairs = await stack.enter_async_context(tf.from_iterable([1]).pipe(tf.group_by(lambda n: n)).open())
    _, group = await pairs.receive()
    return Closes(group, lambda: group._stages[0].channel._is_used)


def two_way_stream() -> tuple[trio.abc.Stream, list[bool]]:
    ours, _ = trio.testing.memory_stream_pair()
    closed: list[bool] = []
    ours.receive_stream.close_hook = lambda: closed.append(True)
    return ours, closed


async def a_duplex_that_has_written_all(stack: AsyncExitStack, path: Path) -> Closes:
    ours, closed = two_way_stream()
    duplex = tf.Duplex.from_stream(ours)
    await tf.empty().pipe(duplex.writable)
    return Closes(duplex, lambda: closed)


async def an_exchange(stack: AsyncExitStack, path: Path) -> Closes:
    ours, closed = two_way_stream()
    return Closes(tf.from_iterable([b"1"]).pipe(tf.Duplex.from_stream(ours)), lambda: closed)


async def a_duplex_of_two(stack: AsyncExitStack, path: Path) -> Closes:
    send, receive = tf.open_channel[int](1)
    readable = tf.from_iterable([1]).pipe(tf.Duplex(tf.from_iterable(receive), tf.drain()))
    return Closes(readable, lambda: send.statistics().open_receive_channels == 0)


KINDS = [
    a_channel,
    a_memory_channel,
    a_stream_of_anyio,
    a_byte_stream,
    an_open_file,
    a_file_of_trio,
    a_queue,
    a_branch,
    a_group,
    a_duplex_that_has_written_all,
    an_exchange,
    a_duplex_of_two,
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_live_end_of_any_kind_is_closed_by_a_run_that_never_reads_it(kind: Any, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        path = tmp_path / "file"
        path.touch()
        live = await kind(stack, path)
        source = tf.from_iterable(live.end)

        assert await tf.concat(tf.repeat(1), source).pipe(tf.first()) == 1

        assert live.is_closed()
        with pytest.raises(trio.ClosedResourceError):  # and a run of it says so
            await source.pipe(tf.drain())


async def test_a_source_without_a_live_end_can_run_again_after_a_run_that_never_read_it() -> None:
    numbers = tf.from_iterable([1, 2])

    assert await tf.concat(numbers, numbers).pipe(tf.first()) == 1

    assert await numbers.pipe(tf.collect()) == [1, 2]


async def test_an_endpoint_that_was_not_opened_can_be_used_after_a_run_that_never_read_it() -> None:
    echo = tf.process(["cat"])

    assert await tf.concat(tf.repeat(b"1"), echo.readable).pipe(tf.first()) == b"1"

    assert await tf.from_iterable([b"2"]).pipe(echo).pipe(tf.collect()) == [b"2"]
    async with echo:
        assert await tf.from_iterable([b"3"]).pipe(echo.writable) == 1


async def test_a_two_way_stream_that_a_run_never_reads_stays_open() -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    await tf.concat(tf.repeat(b"1"), tf.from_iterable(ours)).pipe(tf.first())

    await ours.send_all(b"still open")
    assert await theirs.receive_some() == b"still open"
