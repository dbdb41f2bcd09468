"""`on_item_error`: an item that fails is dropped or put aside, and all others are unaffected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.conformance.entries import FALLIBLE, half, half_later
from tests.consumers import CONSUMERS, Boom, Consumer, Sink, Source

every_transform = pytest.mark.parametrize(("make", "expected"), FALLIBLE.values(), ids=FALLIBLE.keys())


@pytest.mark.parametrize("consume", CONSUMERS)
@every_transform
async def test_every_consumer_gets_its_items_and_no_failed_item_is_lost(
    make: Any, expected: list[Any], consume: Consumer
) -> None:
    source = Source(range(10))
    letters = Sink()

    got = await consume(source.readable.pipe(tf.on_item_error(make(), letters.writable)))

    assert got == expected[: len(got)]
    assert len(got) == len(expected) or consume in CONSUMERS[2:]
    assert source.started == source.ended == 1
    assert letters.how == "the end" or (consume is CONSUMERS[3] and letters.how == "Cancelled")
    assert [item for item, _ in letters.got] == [1, 3, 5, 7, 9][: len(letters.got)]
    assert all(type(failure) is Boom and failure.args == (item,) for item, failure in letters.got)
    assert len(letters.got) == 5 or consume in CONSUMERS[2:]


@pytest.mark.parametrize(("capacity", "count"), [(1, 1), (2, 3), (2, 5), (4, 8)])
async def test_the_writable_ends_normally_whenever_the_reader_leaves(capacity: int, count: int) -> None:
    for _ in range(
        60
    ):  # tasks run in random order: if upstream could cancel the writable, one run in fifteen would fail
        letters = Sink()
        readable = Source(range(200)).readable.pipe(tf.on_item_error(tf.tap(half), letters.writable))

        async with readable.open(capacity=capacity) as receive:
            for _ in range(count):
                await receive.receive()

        assert letters.how == "the end"


@settings(max_examples=40)
@given(
    items=st.lists(st.integers(0, 9), max_size=30),
    capacity=st.sampled_from([1, 2, 256]),
    name=st.sampled_from([*FALLIBLE]),
)
async def test_every_item_is_either_passed_on_or_put_aside(items: list[int], capacity: int, name: str) -> None:
    make, _ = FALLIBLE[name]
    letters = Sink()

    got = await tf.pipeline(items, tf.on_item_error(make(), letters.writable), tf.collect(), capacity=capacity)

    good = [n for n in items if n % 2 == 0]
    assert got == await tf.pipeline(good, make(), tf.collect())
    assert [item for item, _ in letters.got] == [n for n in items if n % 2]


@every_transform
async def test_stop_returns_the_transform_itself(make: Any, expected: list[Any]) -> None:
    transform = make()

    assert tf.on_item_error(transform, "stop") is transform


@every_transform
async def test_an_exception_that_is_not_named_stops_the_flow_and_cancels_the_writable(
    make: Any, expected: list[Any]
) -> None:
    letters = Sink()

    for action in ("drop", letters.writable):
        with pytest.raises(Boom) as caught:
            # Only one item fails: of several concurrent calls, the first to fail would be raised, not the first item.
            await tf.pipeline(range(3), tf.on_item_error(make(), action, on=OSError), tf.collect())
        assert caught.value.args == (1,)
        assert [note.partition(": on_item_error(")[0] for note in caught.value.__notes__] == ["in stage 2 of 4"]
    assert letters.how == "Cancelled"


async def test_concurrent_calls_stay_concurrent_and_in_order(autojump_clock: MockClock) -> None:
    at_once = most = 0

    async def work(n: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(10 - n)
        at_once -= 1
        return half(n)

    letters = Sink()
    calls = tf.on_item_error(tf.map_async(work, concurrency=4), letters.writable)

    assert await tf.from_iterable(range(10)).pipe(calls).pipe(tf.collect()) == [0, 1, 2, 3, 4]
    assert [n for n, _ in letters.got] == [1, 3, 5, 7, 9]
    assert most == 4


async def test_a_group_is_handled_only_if_all_its_exceptions_are_named() -> None:
    async def fails(n: int) -> int:
        raise ExceptionGroup("two", [OSError(n), Boom(n)])

    drop = tf.on_item_error(tf.map(fails), "drop", on=(OSError, Boom))
    assert await tf.from_iterable([1, 2]).pipe(drop).pipe(tf.collect()) == []
    with pytest.raises(ExceptionGroup):
        await tf.from_iterable([1]).pipe(tf.on_item_error(tf.map(fails), "drop", on=OSError)).pipe(tf.collect())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_interrupts_stop_the_flow(interrupt: type[BaseException]) -> None:
    def fail(n: int) -> int:
        raise interrupt

    with pytest.raises(interrupt):
        await tf.from_iterable([1]).pipe(tf.on_item_error(tf.map(fail), "drop")).pipe(tf.collect())


async def test_a_lambda_that_returns_a_coroutine_is_not_mistaken_for_a_failed_item() -> None:
    for operator in (tf.map, tf.filter, tf.flat_map, tf.tap):
        with pytest.raises(TypeError, match=": the function returned a coroutine"):
            await (
                tf.from_iterable([1])
                .pipe(tf.on_item_error(operator(lambda n: half_later(n)), "drop"))
                .pipe(tf.collect())
            )


async def test_a_reader_that_stops_early_lets_the_writable_finish(tmp_path: Path) -> None:
    path = tmp_path / "failed.txt"
    letters = tf.map(lambda pair: f"{pair[0]}\n".encode()).pipe(tf.write_file(path))
    source = Source([1, 2, 3, 4], then=None)

    got = await source.readable.pipe(tf.on_item_error(tf.map(half), letters)).pipe(tf.take(2)).pipe(tf.collect())

    assert got == [1, 2]
    assert path.read_text() == "1\n3\n"
    assert source.ended == 1


async def test_a_writable_that_does_not_finish_after_the_reader_has_left_raises_too_slow_error(
    autojump_clock: MockClock,
) -> None:
    async def slow(pairs: tf.ReceiveChannel[Any]) -> None:
        await trio.sleep(1000)

    numbers = tf.on_item_error(tf.map(half), tf.Writable(slow))
    with pytest.raises(trio.TooSlowError, match="failed items were not written within 10 s"):
        await Source([1, 2], then=None).readable.pipe(numbers).pipe(tf.first())
    assert trio.current_time() == pytest.approx(10)


async def test_a_cancelled_flow_cancels_the_writable_at_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "failed.txt"
    letters = Sink()
    source = Source([1], then=None)

    with trio.move_on_after(3) as scope:
        await source.readable.pipe(tf.on_item_error(tf.map(half), letters.writable)).pipe(tf.collect())

    assert scope.cancelled_caught
    assert (len(letters.got), letters.how) == (1, "Cancelled")
    assert trio.current_time() == pytest.approx(3)
    assert not path.exists()


async def test_a_block_that_fails_cancels_the_writable() -> None:
    letters = Sink()

    async def fail() -> None:
        source = Source([1, 2], then=None)
        async with source.readable.pipe(tf.on_item_error(tf.map(half), letters.writable)).open() as receive:
            await receive.receive()
            raise Boom

    with pytest.raises(Boom):
        await fail()
    assert letters.how == "Cancelled"


async def test_a_failure_elsewhere_cancels_the_writable() -> None:
    letters = Sink()

    with pytest.raises(Boom):
        await (
            Source([1, 2], then=Boom()).readable.pipe(tf.on_item_error(tf.map(half), letters.writable)).pipe(tf.drain())
        )

    assert letters.how == "Cancelled"


async def test_a_writable_that_stops_when_all_failed_items_have_been_sent_but_not_received_is_a_failure() -> None:
    async def receives_one(pairs: tf.ReceiveChannel[Any]) -> None:
        await wait_all_tasks_blocked()
        await pairs.receive()

    with pytest.raises(trio.BrokenResourceError, match="the writable for failed items stopped reading"):
        await tf.from_iterable([1, 3]).pipe(tf.on_item_error(tf.map(half), tf.Writable(receives_one))).pipe(tf.drain())
    await tf.from_iterable([1]).pipe(tf.on_item_error(tf.map(half), tf.Writable(receives_one))).pipe(tf.drain())


async def test_a_writable_that_fails_or_stops_early_is_a_failure() -> None:
    failure = OSError("disk full")

    async def fails(pairs: tf.ReceiveChannel[Any]) -> None:
        await pairs.receive()
        raise failure

    with pytest.raises(OSError, match="disk full") as caught:
        await tf.from_iterable(range(10)).pipe(tf.on_item_error(tf.map(half), tf.Writable(fails))).pipe(tf.drain())
    assert caught.value is failure

    async def slowly(output: tf.SendChannel[int]) -> None:
        for n in (1, 3):
            await output.send(n)
            await wait_all_tasks_blocked()

    with pytest.raises(trio.BrokenResourceError, match="the writable for failed items stopped reading"):
        await tf.Readable(slowly).pipe(tf.on_item_error(tf.map(half), tf.first())).pipe(tf.drain())


async def test_a_slow_writable_slows_the_flow() -> None:
    source = Source([1] * 100, then=None)

    async def never(pairs: tf.ReceiveChannel[Any]) -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with source.readable.pipe(tf.on_item_error(tf.map(half), tf.Writable(never))).open(capacity=2):
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    assert source.sent < 16


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: tf.on_item_error(half, "drop"),
            "on_item_error expects a Transform, got the function half; call it first",
        ),
        (
            lambda: tf.on_item_error(tf.batch(2), "drop"),
            r"for each item, such as .*, got <Transform batch\(2\)",
        ),
        (lambda: tf.on_item_error(tf.map(half).pipe(tf.map(half)), "drop"), r"got <Transform map\(half\) \| map\(half"),
        (lambda: tf.on_item_error(tf.map(half), "ignore"), "action must be 'stop', 'drop' or a Writable, got 'ignore'"),
        (lambda: tf.on_item_error(tf.map(half), print), "on_item_error expects 'stop', 'drop' or a Writable, got the"),
        (lambda: tf.on_item_error(tf.map(half), "drop", on=BaseException), "on must be an Exception class"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_item_that_fails_after_some_results_emits_none_of_them(is_async: bool) -> None:
    def results(n: int) -> Iterator[int]:
        yield n
        yield half(n)

    async def results_later(n: int) -> AsyncIterator[int]:
        for result in results(n):
            yield result

    stage = tf.on_item_error(tf.flat_map(results_later if is_async else results), "drop")

    assert await tf.from_iterable([2, 3, 4]).pipe(stage).pipe(tf.collect()) == [2, 1, 4, 2]
