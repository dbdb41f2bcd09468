"""`retry` and `recover`: sent items arrive once, and a failure is handled where that was requested."""

from __future__ import annotations

import itertools
import math
import os
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.conformance.entries import failing_after
from tests.consumers import Boom, Sink, Source
from trioflow._core.backoff import Backoff
from trioflow._core.conformance import CAPACITIES, Check
from trioflow.operators.failing import _Failures


@settings(max_examples=50)
@given(counts=st.lists(st.integers(0, 5), max_size=4), capacity=st.sampled_from([1, 2, 256]), slow=st.booleans())
def test_a_source_that_resumes_yields_each_item_once(counts: list[int], capacity: int, slow: bool) -> None:
    begin, asked = failing_after(*counts)
    got: list[int] = []

    async def main() -> None:
        async with tf.retry(begin).open(capacity=capacity) as receive:
            async for n in receive:
                got.append(n)
                if slow:
                    await trio.sleep(1)

    trio.run(main, clock=MockClock(autojump_threshold=0))

    sums = [sum(counts[:n]) for n in range(len(counts) + 1)]
    assert asked == sums
    assert got == list(range(max(9, sums[-1])))


async def test_a_plain_source_starts_again_after_items_if_repeats_are_allowed(autojump_clock: MockClock) -> None:
    runs = 0

    @tf.readable
    async def flaky() -> AsyncIterator[int]:
        nonlocal runs
        runs += 1
        yield runs
        yield 0
        if runs < 3:
            raise Boom

    assert await tf.retry(flaky(), repeats=True).pipe(tf.collect()) == [1, 0, 2, 0, 3, 0]


CONTENT = bytes(range(256)) * 800


def chunks_of(content: bytes, break_off: bool) -> Source:
    chunks: list[Any] = [content[i : i + 7000] for i in range(0, len(content), 7000)]
    chunks[1:2] = [memoryview(bytearray(chunk)).cast("H") for chunk in chunks[1:2]]
    return Source(chunks, then=OSError("broke off") if break_off else "end")


def copy_that_breaks_at(*sizes: int) -> tuple[Callable[[tf.Delivered], tf.Readable[bytes]], list[tf.Delivered]]:
    """Make a function that resumes `CONTENT` after what was delivered: its attempts break off after `sizes` bytes."""
    told: list[tf.Delivered] = []

    def begin(delivered: tf.Delivered) -> tf.Readable[bytes]:
        told.append(delivered)
        rest = CONTENT[delivered.bytes :]
        if len(told) > len(sizes):
            return chunks_of(rest, break_off=False).readable
        return chunks_of(rest[: sizes[len(told) - 1]], break_off=True).readable

    return begin, told


def from_the_beginning(size: int) -> tf.Readable[bytes]:
    """Make a source that starts again at each run: the first breaks off after `size` bytes, later ones do not."""
    runs = itertools.chain([chunks_of(CONTENT[:size], break_off=True)], itertools.repeat(chunks_of(CONTENT, False)))
    return tf.Readable(lambda output: next(runs).run(output))


def same_again(size: int) -> tf.Readable[bytes]:
    return tf.retry(from_the_beginning(size))


def other_copy(size: int) -> tf.Readable[bytes]:
    return from_the_beginning(size).pipe(tf.recover(lambda failure: tf.from_iterable(CONTENT)))


def file_and_another(size: int) -> tf.Readable[bytes]:
    return tf.concat(from_the_beginning(size), tf.from_iterable(CONTENT))


def each_item_by_itself(size: int) -> tf.Readable[bytes]:
    return from_the_beginning(size).pipe(tf.on_item_error(tf.map(lambda chunk: chunk), "drop"))


@pytest.mark.parametrize("capacity", [1, 256])
@pytest.mark.parametrize("flow", [same_again, other_copy, file_and_another, each_item_by_itself])
async def test_half_of_a_source_and_a_fresh_start_never_pass_for_one_whole(
    autojump_clock: MockClock, tmp_path: Path, flow: Any, capacity: int
) -> None:
    path = tmp_path / "copy"
    with pytest.raises(OSError, match="broke off"):
        await tf.pipeline(flow(150_000), tf.write_file(path), capacity=capacity)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("flow", [same_again, other_copy])
async def test_a_source_that_fails_before_its_first_item_may_start_again(
    autojump_clock: MockClock, tmp_path: Path, flow: Any
) -> None:
    path = tmp_path / "copy"

    assert await flow(0).pipe(tf.write_file(path)) == len(CONTENT)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("capacity", [1, 2, 256])
async def test_a_file_is_complete_if_each_attempt_resumes_at_the_byte_it_is_given(
    autojump_clock: MockClock, tmp_path: Path, capacity: int
) -> None:
    begin, told = copy_that_breaks_at(150_000, 0, 1, 20_001)
    path = tmp_path / "copy"

    await tf.pipeline(tf.retry(begin), tf.write_file(path), capacity=capacity)

    assert path.read_bytes() == CONTENT
    assert [delivered.bytes for delivered in told] == [0, 150_000, 150_000, 150_001, 170_002]
    assert [delivered.items for delivered in told] == [0, 22, 22, 23, 26]


async def test_an_attempt_that_splits_lines_discards_its_unfinished_line_when_it_fails(
    autojump_clock: MockClock,
) -> None:
    parts = iter([b"one\ntw", b"three\n"])

    @tf.readable
    async def feed() -> AsyncIterator[bytes]:
        part = next(parts)
        yield part
        await trio.sleep(1)
        if not part.endswith(b"\n"):
            raise ConnectionResetError

    assert await tf.retry(feed().pipe(tf.lines()), repeats=True).pipe(tf.collect()) == ["one", "three"]


async def test_the_failure_of_a_source_that_may_not_start_again_names_the_alternatives(
    autojump_clock: MockClock,
) -> None:
    failure = Boom()
    flows = {
        "retry: not run again": tf.retry(Source([b"ab", b"c"], then=failure).readable),
        "recover: the other Readable did not take over": Source([b"ab", b"c"], then=failure).readable.pipe(
            tf.recover(lambda failure: tf.empty())
        ),
    }
    for what, flow in flows.items():
        with pytest.raises(Boom) as caught:
            await flow.pipe(tf.collect())

        assert caught.value is failure
        [note] = [note for note in failure.__notes__ if note.startswith(what)]
        assert "because 2 items (3 bytes) had been passed on" in note
        assert "retry(lambda delivered: ...)" in note
        assert "repeats=True" in note
    assert trio.current_time() == 0


async def test_after_an_item_a_source_that_is_closed_counts_as_a_failure_of_its_own(autojump_clock: MockClock) -> None:
    """Before an item, it would mean that the source can run only once, and the first failure would say why it ended."""
    parts = [Source(then=Boom()), Source([1], then=trio.ClosedResourceError()), Source([2])]

    def resume(delivered: tf.Delivered) -> tf.Readable[int]:
        return parts.pop(0).readable

    assert await tf.retry(resume).pipe(tf.collect()) == [1, 2]


async def test_pauses_double_up_to_the_maximum_and_are_reset_by_an_item(autojump_clock: MockClock) -> None:
    told: list[tf.Restart] = []
    begin, _ = failing_after(0, 0, 0, 0, 0, 2, 0)

    got = await tf.retry(begin, attempts=math.inf, initial=1, maximum=5, jitter=0, tell=told.append).pipe(tf.collect())

    assert got == list(range(9))
    assert [restart.pause for restart in told] == [1, 2, 4, 5, 5, 1, 2]
    assert [restart.attempt for restart in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [restart.delivered for restart in told] == [*[(0, 0)] * 5, (2, 0), (2, 0)]
    assert [restart.failure.args for restart in told] == [(n,) for n in range(1, 8)]
    assert trio.current_time() == pytest.approx(20)


@given(
    jitter=st.floats(0, 1), initial=st.floats(0.01, 9), maximum=st.floats(0.01, 99), before_reset=st.integers(0, 2000)
)
def test_jitter_shortens_a_pause_by_at_most_its_share_and_a_reset_starts_again(
    jitter: float, initial: float, maximum: float, before_reset: int
) -> None:
    backoff = Backoff(initial, maximum, jitter)
    for _ in range(before_reset):
        assert 0 <= backoff.pause() <= maximum
    backoff.reset()

    for longest in (initial, 2 * initial, 4 * initial):
        longest = min(longest, maximum)
        assert longest * (1 - jitter) <= backoff.pause() <= longest


def test_a_backoff_without_jitter_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(0.5, 3, 0)

    assert [backoff.pause() for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_jitter_separates_backoffs_that_started_together() -> None:
    pauses = {Backoff(1, 30, 0.25).pause() for _ in range(20)}

    assert len(pauses) > 10


async def test_the_failure_of_the_last_attempt_is_raised_itself(autojump_clock: MockClock) -> None:
    begin, asked = failing_after(1, 0, 2, 0)

    with pytest.raises(Boom) as caught:
        await tf.retry(begin, attempts=3).pipe(tf.collect())

    assert caught.value.args == (3,)
    assert asked == [0, 1, 1]
    assert caught.value.__notes__ == [
        "in stage 1 of 1: run()",
        "retry: gave up after attempt 3; 3 items had been passed on",
        "in stage 1 of 2: retry(begin)",
    ]


async def test_failures_older_than_the_time_limit_do_not_count(autojump_clock: MockClock) -> None:
    begun: list[float] = []

    async def hourly(output: tf.SendChannel[int]) -> None:
        begun.append(trio.current_time())
        await trio.sleep(3600 if len(begun) < 6 else 1)
        raise Boom(len(begun))

    with pytest.raises(Boom) as caught:
        await tf.retry(tf.Readable(hourly), attempts=3, within=600, initial=1, jitter=0).pipe(tf.drain())

    assert caught.value.args == (7,)  # the fifth failure came after an hour, and two more within a second each


@pytest.mark.parametrize(("attempts", "within"), [(math.inf, math.inf), (math.inf, 9), (10**9, math.inf), (10**9, 9)])
async def test_memory_for_failures_does_not_grow_with_their_number(
    autojump_clock: MockClock, attempts: float, within: float
) -> None:
    failures = _Failures(attempts, within)
    for _ in range(1000):
        failures.add(Boom(), tf.Delivered(0, 0))
        await trio.sleep(1)

    assert failures.count == 1000
    assert len(failures._times) <= 10


async def test_a_failure_raised_by_every_attempt_has_the_traceback_of_one_run(autojump_clock: MockClock) -> None:
    failure = Boom()
    lengths: list[int] = []

    def look(restart: tf.Restart) -> None:
        lengths.append(len(traceback.extract_tb(restart.failure.__traceback__)))

    with pytest.raises(Boom):
        await tf.retry(tf.failed(failure), attempts=9, tell=look).pipe(tf.drain())

    assert lengths == [lengths[0]] * 8


async def test_only_the_named_exceptions_are_retried(autojump_clock: MockClock) -> None:
    source = Source([1], then=Boom("no"))

    with pytest.raises(Boom):
        await tf.retry(source.readable, on=(OSError, LookupError)).pipe(tf.drain())

    assert source.started == 1


async def test_two_simultaneous_failures_are_retried_only_if_both_are_named(autojump_clock: MockClock) -> None:
    attempts = 0

    async def fails_when_closed(output: tf.SendChannel[int]) -> None:
        nonlocal attempts
        attempts += 1
        try:
            await output.send(attempts)
            await trio.sleep_forever()
        finally:
            if attempts < 3:
                raise KeyError(attempts)

    def fail(n: int) -> int:
        if n < 3:
            raise Boom(n)
        return n

    source = tf.Readable(fails_when_closed).pipe(tf.map(fail))
    again = tf.retry(source, on=(Boom, KeyError))
    assert await again.pipe(tf.take(1)).pipe(tf.collect()) == [3]
    attempts = 0
    with pytest.raises(ExceptionGroup) as caught:
        await tf.retry(source, on=Boom).pipe(tf.take(1)).pipe(tf.collect())
    assert {type(failure) for failure in caught.value.exceptions} == {Boom, KeyError}


async def test_a_source_that_can_run_only_once_raises_its_failure(autojump_clock: MockClock) -> None:
    async def live() -> AsyncIterator[int]:
        for n in range(0):
            yield n
        raise Boom

    with pytest.raises(Boom) as caught:
        await tf.retry(tf.from_iterable(live())).pipe(tf.collect())

    note = "retry: the source could not be run again: async_generator can only run once, and has already run"
    what_to_do = "; pass a function that makes a new one for each attempt: retry(lambda delivered: ...)"
    assert note + what_to_do in caught.value.__notes__


@pytest.mark.parametrize("supervise", [tf.retry, lambda source: source.pipe(tf.recover(lambda failure: []))])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_interrupts_are_not_retried_or_recovered_from(supervise: Any, interrupt: type[BaseException]) -> None:
    source = Source([1], then=interrupt())

    with pytest.raises(interrupt):
        await supervise(source.readable).pipe(tf.drain())

    assert source.started == source.ended == 1


@pytest.mark.parametrize("supervise", [tf.retry, lambda source: source.pipe(tf.recover(lambda failure: []))])
async def test_R11_a_flow_with_retry_or_recover_can_be_left_and_cancelled(supervise: Any) -> None:
    source = Source([1, 2], then=None)

    assert await supervise(source.readable).pipe(tf.take(2)).pipe(tf.collect()) == [1, 2]
    with trio.move_on_after(60) as scope:
        async with supervise(source.readable).open() as receive:
            assert await receive.receive() == 1
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert source.started == source.ended == 2


async def test_a_pause_is_cancelled(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        await tf.retry(tf.failed(Boom), initial=1000, maximum=1000).pipe(tf.drain())

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5)


async def test_a_failure_downstream_is_not_retried_or_recovered_from() -> None:
    def fail(n: int) -> None:
        raise Boom(n)

    source = Source([1], then=None)
    for flow in (tf.retry(source.readable), source.readable.pipe(tf.recover(lambda failure: [2]))):
        with pytest.raises(Boom):
            await flow.pipe(tf.for_each(fail))
    assert source.started == source.ended == 2


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.retry([1]), r"retry expects a Readable, or a function that returns one, got list \[1\]"),
        (lambda: tf.retry(tf.empty(), repeats=1), "repeats must be a bool, got 1"),
        (lambda: tf.retry(lambda delivered: tf.empty(), repeats=True), "repeats is for a Readable; a function decides"),
        (lambda: tf.retry(tf.empty(), attempts=0), "attempts must be at least 1, got 0"),
        (lambda: tf.retry(tf.empty(), within=0), "within must be above 0, got 0"),
        (lambda: tf.retry(tf.empty(), initial="1"), "initial must be a number, got '1'"),
        (lambda: tf.retry(tf.empty(), maximum=-1), "maximum must be above 0, got -1"),
        (lambda: tf.retry(tf.empty(), jitter=2), "jitter must be between 0 and 1, got 2"),
        (lambda: tf.retry(tf.empty(), jitter="some"), "jitter must be a number, got 'some'"),
        (lambda: tf.retry(tf.empty(), on=BaseException), "retry: on must be an Exception class"),
        (lambda: tf.retry(tf.empty(), on=(OSError, "x")), "retry: on must be an Exception class"),
        (lambda: tf.retry(tf.empty(), tell=3), "tell expects a function, got 3"),
        (lambda: tf.retry(tf.empty(), tell=trio.sleep), "tell expects a plain function"),
        (lambda: tf.recover([1]), r"recover expects a function, got \[1\]"),
        (lambda: tf.recover(print, on=trio.Cancelled), "recover: on must be an Exception class"),
        (lambda: tf.recover(print, repeats=1), "repeats must be a bool, got 1"),
        (lambda: tf.recover(print, on=()), "recover: on must be an Exception class"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


async def test_retry_refuses_a_function_that_does_not_return_a_readable() -> None:
    async def later(delivered: tf.Delivered) -> tf.Readable[int]:
        raise AssertionError

    with pytest.raises(TypeError, match="the function given to retry must return a Readable, got list"):
        await tf.retry(lambda delivered: [delivered]).pipe(tf.drain())  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="retry: the function returned a coroutine"):
        await tf.retry(later).pipe(tf.drain())  # type: ignore[arg-type]


# recover


async def as_list(failure: Exception) -> list[object]:
    await trio.lowlevel.checkpoint()
    return [failure]


async def two_more(failure: Exception) -> AsyncIterator[int]:
    for n in range(2):
        await trio.lowlevel.checkpoint()
        yield n


RECOVERIES: list[tuple[Any, Any]] = [
    (lambda failure: [failure], lambda failure: [failure]),
    (lambda failure: (), lambda failure: []),
    (lambda failure: "gone", lambda failure: ["gone"]),
    (lambda failure: tf.from_iterable([0, failure]), lambda failure: [0, failure]),
    (as_list, lambda failure: [failure]),
    (two_more, lambda failure: [0, 1]),
]


@pytest.mark.parametrize("capacity", [1, 2, 256])
@pytest.mark.parametrize(("fn", "expected"), RECOVERIES)
async def test_items_sent_before_a_failure_arrive_before_those_of_the_recovery(
    fn: Any, expected: Any, capacity: int
) -> None:
    failure = Boom()
    source = Source([1, 2, 3], then=failure)

    got = await tf.pipeline(source.readable, tf.recover(fn, repeats=True), tf.collect(), capacity=capacity)

    assert got == [1, 2, 3, *expected(failure)]
    assert source.started == source.ended == 1


async def test_recover_follows_the_rules_except_that_sent_items_arrive_before_a_failure() -> None:
    items = list(range(9))
    check = Check(lambda: tf.recover(lambda failure: []), tf.Transform, 5)

    for how, feed in check.feeds(items):
        for capacity in CAPACITIES:
            await check.result(how, feed, items, capacity)
    await check.item_by_item(items, items)
    await check.cancelled(items)
    await check.reader_leaves(items)
    await check.run_again(items, items)
    await check.bound(items, items, 24)


async def test_every_stage_upstream_has_ended_when_the_recovery_starts() -> None:
    ended: list[str] = []

    async def slow_to_close(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            ended.append("source")

    def recovery(failure: Exception) -> list[str]:
        ended.append("fn")
        return ["recovered"]

    def fail(n: object) -> str:
        raise Boom(n)

    got = await tf.Readable(slow_to_close).pipe(tf.map(fail)).pipe(tf.recover(recovery)).pipe(tf.collect())

    assert got == ["recovered"]
    assert ended == ["source", "fn"]


async def test_stages_after_recover_continue_and_see_an_end() -> None:
    sink = Sink()

    assert await Source([1], then=Boom()).readable.pipe(tf.recover(lambda failure: [2])).pipe(sink.writable) == "result"
    assert (sink.got, sink.how) == ([1, 2], "the end")


async def test_a_failure_that_is_not_recovered_from_is_raised_itself_with_a_note() -> None:
    failure = Boom()
    sink = Sink()

    def refuse(failure: Exception) -> list[int]:
        raise

    for stage in (tf.recover(lambda failure: [], on=OSError), tf.recover(refuse)):
        failure = Boom()
        with pytest.raises(Boom) as caught:
            await Source([1], then=failure).readable.pipe(tf.map(id)).pipe(stage).pipe(sink.writable)
        assert caught.value is failure
        assert failure.__notes__[0] == "in stage 1 of 4: run()"
        assert failure.__notes__[1].startswith("in stage 3 of 4: recover(")
        assert len(failure.__notes__) == 2
        assert sink.how == "Cancelled"


async def test_the_function_of_recover_can_raise_another_failure() -> None:
    failure = Boom()

    def tell_more(failure: Exception) -> list[int]:
        raise LookupError("no such sensor")

    with pytest.raises(LookupError) as caught:
        await Source([], then=failure).readable.pipe(tf.recover(tell_more)).pipe(tf.drain())
    assert caught.value.__context__ is failure


async def test_a_failure_of_the_recovery_reaches_only_the_next_recover() -> None:
    first = tf.recover(lambda failure: Source([2], then=Boom("second")).readable, repeats=True)
    source = Source([1], then=Boom("first"))

    with pytest.raises(Boom, match="second"):
        await source.readable.pipe(first).pipe(tf.collect())
    got = await source.readable.pipe(first).pipe(tf.recover(lambda failure: [str(failure)])).pipe(tf.collect())
    assert got == [1, 2, "second"]


async def test_a_recover_in_a_transform_or_a_writable_encloses_the_stages_before_it() -> None:
    def fail_at_2(n: int) -> int:
        if n == 2:
            raise Boom(n)
        return n

    half = tf.map(fail_at_2).pipe(tf.recover(lambda failure: [-1]))
    got: list[int] = []
    assert await Source([1, 2, 3]).readable.pipe(half).pipe(tf.collect()) in ([1, -1], [-1])

    async with half.pipe(tf.for_each(got.append)).open(capacity=1) as send:
        await send.send(1)
        await wait_all_tasks_blocked()
        await send.send(2)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await send.send(3)
    assert got == [1, -1]


async def test_a_failure_of_the_block_before_a_recover_is_not_recovered_from() -> None:
    sink = Sink()

    async def fail() -> None:
        async with tf.recover(lambda failure: [-1]).pipe(sink.writable).open() as send:
            await send.send(1)
            await wait_all_tasks_blocked()
            raise Boom

    with pytest.raises(Boom):
        await fail()
    assert (sink.got, sink.how) == ([1], "Cancelled")


async def test_a_failure_of_the_block_that_reads_ends_everything(autojump_clock: MockClock) -> None:
    source = Source([1], then=None)

    async def fail() -> None:
        async with source.readable.pipe(tf.recover(lambda failure: [2])).open() as receive:
            assert await receive.receive() == 1
            raise Boom

    with pytest.raises(Boom):
        await fail()
    assert source.ended == 1


async def test_recover_refuses_a_function_that_does_not_return_a_readable_or_an_iterable() -> None:
    with pytest.raises(
        TypeError,
        match=r"the function given to recover must return a Readable or an iterable, \(\) for nothing more, got NoneType None",
    ):
        await tf.failed(Boom).pipe(tf.recover(lambda failure: None)).pipe(tf.drain())  # type: ignore[arg-type, return-value]
