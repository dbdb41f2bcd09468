"""Windows of time, against a simple model, on a mock clock."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import timed

# Arrivals are whole seconds apart and windows end in between, unless a test says otherwise.
GAPS = st.lists(st.integers(0, 5), max_size=12)


def model(arrivals: list[tuple[float, Any]], end: float, every: float, slide: float, *, empty: bool) -> list[Any]:
    found = []
    seen: set[Any] = set()
    for number in range(math.floor((end - every) / slide) + 2 if end >= every else 1):
        opens, closes = number * slide, number * slide + every
        items = [item for at, item in arrivals if opens <= at < closes]
        if closes <= end:
            if items or empty:
                found.append((closes, items))
            seen.update(items)
        elif set(items) - seen:
            found.append((end, items))
            break
        else:
            break
    return found


@given(gaps=GAPS, every=st.integers(1, 9), slide=st.integers(1, 9), last=st.integers(0, 9), empty=st.booleans())
def test_each_window_has_the_items_that_arrived_in_its_time(
    gaps: list[int], every: int, slide: int, last: int, empty: bool
) -> None:
    arrivals = [(sum(gaps[: n + 1]) + 0.5, n) for n in range(len(gaps))]
    end = (arrivals[-1][0] if arrivals else 0) + last + 0.25

    got = timed(arrivals, end, tf.window_time(every, slide=slide, empty=empty))

    assert got == model(arrivals, end, every, slide, empty=empty)


def test_an_item_that_arrives_as_a_window_ends_is_in_the_next_one() -> None:
    assert timed([(0, "a"), (10, "b")], 15, tf.window_time(10)) == [(10, ["a"]), (15, ["b"])]


def test_empty_windows_are_emitted_on_request() -> None:
    assert timed([(1, "a"), (31, "b")], 35, tf.window_time(10, empty=True)) == [
        (10, ["a"]),
        (20, []),
        (30, []),
        (35, ["b"]),
    ]


def test_windows_do_not_drift() -> None:
    ends = [at for at, _ in timed([(0.05 + n / 10, n) for n in range(1000)], 100, tf.window_time(0.1))]

    assert ends == [pytest.approx((n + 1) / 10) for n in range(1000)]


@pytest.mark.parametrize("every", [0.1, 0.3, 0.7, 1.1])
def test_an_item_at_the_border_of_two_windows_is_in_one_of_them_however_the_border_is_rounded(every: float) -> None:
    borders = [at for n in range(1, 1000, 3) for at in (n * every, (n - 1) * every + every)]
    times = sorted(at for border in borders for at in (math.nextafter(border, 0), border))

    got = timed([(at, n) for n, at in enumerate(times)], 1000, tf.window_time(every))

    assert [*itertools.chain(*(items for _, items in got))] == [*range(len(times))]


@pytest.mark.parametrize(("every", "slide"), [(0.3, 0.1), (0.7, 0.1), (2.1, 0.7)])
def test_windows_that_overlap_have_equally_many_items_however_their_borders_are_rounded(
    every: float, slide: float
) -> None:
    got = timed([(n * slide, n) for n in range(1000)], 1000 * slide, tf.window_time(every, slide=slide))

    assert {len(items) for _, items in got[:-1]} == {round(every / slide)}


async def test_R7_a_full_window_makes_its_source_wait_until_it_ends(autojump_clock: MockClock) -> None:
    source = tf.from_iterable(range(10)).pipe(tf.window_time(1, most=4))

    assert await source.pipe(tf.collect()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert trio.current_time() == pytest.approx(2)


async def test_an_item_that_arrives_while_the_reader_is_slow_is_in_the_window_in_which_it_is_received(
    autojump_clock: MockClock,
) -> None:
    got: list[list[float]] = []

    async def slow(items: list[float]) -> None:
        got.append(items)
        await trio.sleep(3.5)

    await tf.ticks(1).pipe(tf.take(9)).pipe(tf.window_time(2, most=3)).pipe(tf.for_each(slow))

    together = [*itertools.chain(*got)]
    assert together == sorted(together)
    assert len(together) == 9


@pytest.mark.parametrize(
    ("args", "options", "error", "words"),
    [
        ((0,), {}, ValueError, "every must be above 0"),
        (("1",), {}, TypeError, "every must be a number"),
        ((math.inf,), {}, ValueError, "every must be finite"),
        ((1,), {"slide": 0}, ValueError, "slide must be above 0"),
        ((1,), {"empty": 1}, TypeError, "empty must be a bool"),
        ((1,), {"most": 0}, ValueError, "most must be at least 1"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_stage_is_built(
    args: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tf.window_time(*args, **options)
