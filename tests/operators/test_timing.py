"""The operators of time, each against a simple model, on a mock clock: what comes out, and exactly when."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.conformance.entries import TRANSFORMS
from tests.consumers import Boom, Sink, Source, timed

Timed = list[tuple[float, Any]]

# Arrivals are whole seconds apart and limits lie in between, because events at the same moment have no order.
GAPS = st.lists(st.integers(0, 5), max_size=12)
LIMITS = st.integers(0, 4).map(lambda n: n + 0.37)


def arrivals(gaps: list[int]) -> list[tuple[float, int]]:
    return [(sum(gaps[: n + 1]), n) for n in range(len(gaps))]


@pytest.mark.parametrize(
    "name",
    [name for name in TRANSFORMS if re.match("throttle|debounce|sample|delay|timeout|keep_alive", name)],
)
async def test_R12_held_items_are_not_emitted_after_a_failure(name: str, autojump_clock: MockClock) -> None:
    sink = Sink()

    with pytest.raises(Boom):
        await Source(range(3), then=Boom()).readable.pipe(TRANSFORMS[name].make()).pipe(sink.writable)

    assert (sink.got, sink.how) == ([], "Cancelled")


# ticks


@settings(max_examples=30)
@given(interval=st.floats(0.001, 1000), begin=st.floats(0, 1e6))
def test_ticks_do_not_drift(interval: float, begin: float) -> None:
    async def main() -> list[tuple[float, float]]:
        await trio.sleep(begin)
        start = trio.current_time()
        got = []
        async with tf.ticks(interval).pipe(tf.take(200)).open() as times:
            async for time in times:
                got.append((time - start, trio.current_time() - start))
        return got

    for n, (due, came) in enumerate(trio.run(main, clock=MockClock(autojump_threshold=0))):
        assert due == pytest.approx(n * interval, abs=1e-8)
        assert came == pytest.approx(n * interval, abs=1e-8)


@settings(max_examples=50)
@given(interval=st.integers(1, 4), pauses=st.lists(st.integers(0, 20), max_size=8))
def test_ticks_for_which_the_reader_had_no_room_are_skipped(interval: int, pauses: list[int]) -> None:
    got: list[tuple[float, float]] = []

    async def main() -> None:
        async with tf.ticks(interval).open(capacity=1) as times:
            for pause in pauses:
                await trio.sleep(pause + 0.5)
                got.append((await times.receive(), trio.current_time()))

    trio.run(main, clock=MockClock(autojump_threshold=0))

    values = [due for due, _ in got]
    assert values == sorted(set(values))
    assert all(due % interval == 0 for due in values)
    assert all(due <= came for due, came in got)
    # One waits in the channel and one in the source's hand: what comes after them is no older than the last read.
    for (_, read), (due, _) in zip(got, got[2:], strict=False):
        assert due > read - interval


# throttle


@settings(max_examples=100)
@given(
    gaps=GAPS,
    rate=st.sampled_from([0.5, 1, 2, 4]),
    burst=st.integers(1, 4),
    costs=st.lists(st.integers(0, 6), min_size=12, max_size=12),
)
def test_throttle_is_a_token_bucket(gaps: list[int], rate: float, burst: int, costs: list[int]) -> None:
    items = arrivals(gaps)
    stage: tf.Transform[int, int] = tf.throttle(rate * 2, per=2, burst=burst, cost=lambda n: costs[n])

    got = timed(items, sum(gaps), stage)

    tokens, at = float(burst), 0.0
    expected = []
    for came, n in items:
        came = max(came, at)
        tokens = min(burst, tokens + (came - at) * rate)
        at = came + max(0, costs[n] - tokens) / rate
        tokens = max(0, tokens - costs[n])
        expected.append((at, n))
    assert got == expected


async def test_a_throttle_spaces_items_evenly_and_lets_a_burst_pass_after_a_quiet_time(
    autojump_clock: MockClock,
) -> None:
    got: list[float] = []

    async with tf.from_iterable(range(6)).pipe(tf.throttle(2, burst=3)).open() as receive:
        async for _ in receive:
            got.append(trio.current_time())

    assert got == pytest.approx([0, 0, 0, 0.5, 1, 1.5])


async def test_a_throttle_refuses_an_invalid_cost() -> None:
    def later(n: int) -> Any:
        return trio.sleep(n)  # noqa: ASYNC105 - this is the mistake

    wrong: list[tuple[Any, str]] = [
        (lambda n: -1, "cost must return 0 or more, got -1"),
        (lambda n: "1", "cost must return a number, got '1'"),
        (later, "cost: the function returned a coroutine"),
    ]
    for cost, complaint in wrong:
        with pytest.raises((TypeError, ValueError), match=complaint) as caught:
            await tf.from_iterable([1]).pipe(tf.throttle(1, cost=cost)).pipe(tf.drain())
        assert caught.value.__notes__[0].startswith("in stage 2 of 3: throttle(1, cost=")


# debounce, sample, delay


@settings(max_examples=100)
@given(gaps=GAPS, last=st.integers(0, 6), quiet=LIMITS)
def test_debounce_emits_the_items_that_are_followed_by_quiet(gaps: list[int], last: int, quiet: float) -> None:
    items = arrivals(gaps)
    end = sum(gaps) + last

    got = timed(items, end, tf.debounce(quiet))

    followed_at = [at for at, _ in items[1:]] + [math.inf]
    expected = [(at + quiet, n) for (at, n), then in zip(items, followed_at, strict=False) if then > at + quiet]
    assert got == [(min(at, end), n) for at, n in expected]


@settings(max_examples=100)
@given(gaps=GAPS, last=st.integers(0, 6), every=LIMITS)
def test_sample_emits_the_last_item_of_each_interval(gaps: list[int], last: int, every: float) -> None:
    items = [(at + 0.001, n) for at, n in arrivals(gaps)]  # never at a time of a sample
    end = sum(gaps) + last + 0.001

    got = timed(items, end, tf.sample(every))

    stretches = {math.ceil(at / every): n for at, n in items}
    assert got == [(min(count * every, end), n) for count, n in stretches.items()]


@settings(max_examples=50)
@given(gaps=GAPS, by=LIMITS)
def test_delay_keeps_the_intervals_between_items(gaps: list[int], by: float) -> None:
    items = arrivals(gaps)

    assert timed(items, sum(gaps), tf.delay(by)) == [(at + by, n) for at, n in items]


@settings(max_examples=50)
@given(gaps=GAPS, by=LIMITS, capacity=st.integers(1, 3))
def test_a_full_delay_emits_every_item_in_order_and_none_too_early(gaps: list[int], by: float, capacity: int) -> None:
    items = arrivals(gaps)

    got = timed(items, sum(gaps), tf.delay(by, capacity=capacity))

    assert [n for _, n in got] == [n for _, n in items]
    assert all(at.expected >= came + by - 1e-9 for (at, _), (came, _) in zip(got, items, strict=True))


# timeout, keep_alive


@settings(max_examples=100)
@given(gaps=GAPS, last=st.integers(0, 6), limit=LIMITS)
def test_timeout_fails_in_the_first_gap_that_is_too_long(gaps: list[int], last: int, limit: float) -> None:
    items = arrivals(gaps)
    waits = [*gaps, last]
    late = next((n for n, gap in enumerate(waits) if gap > limit), None)

    if late is None:
        assert timed(items, sum(waits), tf.timeout(limit)) == items
    else:
        with pytest.raises(trio.TooSlowError) as caught:
            timed(items, sum(waits), tf.timeout(limit))
        assert str(caught.value) == f"nothing has arrived for {limit:g} s"
        assert caught.value.__notes__ == [f"in stage 2 of 2: timeout({limit})"]


async def test_a_timeout_does_not_count_the_time_its_reader_takes(autojump_clock: MockClock) -> None:
    async def slowly(n: int) -> None:
        await trio.sleep(100)

    await tf.pipeline(range(5), tf.timeout(1), tf.for_each(slowly), capacity=1)

    assert trio.current_time() == pytest.approx(500)


async def test_a_timeout_that_fails_ends_everything_upstream(autojump_clock: MockClock) -> None:
    source = Source([1], then=None)
    got: list[int] = []

    with pytest.raises(trio.TooSlowError):
        await source.readable.pipe(tf.timeout(3)).pipe(tf.for_each(got.append))

    assert (got, source.ended) == ([1], 1)
    assert trio.current_time() == pytest.approx(3)


@settings(max_examples=100)
@given(gaps=GAPS, last=st.integers(0, 6), quiet=LIMITS)
def test_keep_alive_fills_every_gap(gaps: list[int], last: int, quiet: float) -> None:
    items = arrivals(gaps)
    made = iter(range(-1, -1000, -1))

    got = timed(items, sum(gaps) + last, tf.keep_alive(quiet, lambda: next(made)))

    expected: Timed = []
    before = 0.0
    fill = -1
    for at, n in [*items, (sum(gaps) + last, None)]:
        for k in range(1, math.ceil((at - before) / quiet)):
            expected.append((before + k * quiet, fill))
            fill -= 1
        if n is not None:
            expected.append((at, n))
        before = at
    assert got == expected


async def test_keep_alive_emits_its_item_unchanged_and_refuses_a_coroutine(autojump_clock: MockClock) -> None:
    quiet = Source([], then=None)

    def later() -> Any:
        return trio.sleep(1)  # noqa: ASYNC105 - this is the mistake

    kept = await quiet.readable.pipe(tf.keep_alive(5, b": \n\n")).pipe(tf.take(2)).pipe(tf.collect())
    assert kept == [b": \n\n"] * 2
    assert trio.current_time() == pytest.approx(10)
    with pytest.raises(TypeError, match="keep_alive: the function returned a coroutine"):
        await quiet.readable.pipe(tf.keep_alive(5, later)).pipe(tf.drain())


async def test_keep_alive_items_do_not_pile_up_before_a_slow_reader(autojump_clock: MockClock) -> None:
    quiet = Source([], then=None)

    async with quiet.readable.pipe(tf.keep_alive(1, None)).open(capacity=1) as receive:
        await trio.sleep(100.5)
        await receive.receive()
        await receive.receive()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.ticks(0), "interval must be above 0, got 0"),
        (lambda: tf.throttle("1"), "rate must be a number, got '1'"),
        (lambda: tf.throttle(-1), "rate must be above 0, got -1"),
        (lambda: tf.throttle(1, per=0), "per must be above 0, got 0"),
        (lambda: tf.throttle(1, per=math.inf), "per must be finite and rate not too small, got rate=1, per=inf"),
        (lambda: tf.throttle(1, burst=0), "burst must be above 0, got 0"),
        (lambda: tf.throttle(1, cost=3), "cost expects a function, got 3"),
        (lambda: tf.throttle(1, cost=trio.sleep), "cost expects a plain function"),
        (lambda: tf.debounce(math.nan), "seconds must be above 0, got nan"),
        (lambda: tf.sample(True), "seconds must be a number, got True"),
        (lambda: tf.delay(-1), "seconds must be above 0, got -1"),
        (lambda: tf.delay(1, capacity=0), "capacity must be at least 1, got 0"),
        (lambda: tf.timeout(None), "seconds must be a number, got None"),
        (lambda: tf.keep_alive(0, 1), "seconds must be above 0, got 0"),
        (lambda: tf.keep_alive(1, trio.sleep), "keep_alive: item must be an item or a plain function"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (tf.ticks(0.5), "<Readable ticks(0.5)>"),
        (tf.throttle(10, burst=2, cost=len), "<Transform throttle(10, burst=2, cost=len)>"),
        (tf.delay(1, capacity=2), "<Transform delay(1, capacity=2)>"),
        (tf.keep_alive(1, b"x"), "<Transform keep_alive(1, b'x')>"),
    ],
)
def test_the_repr_of_a_stage_is_the_call_that_made_it(stage: object, text: str) -> None:
    assert repr(stage) == text
