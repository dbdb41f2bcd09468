"""Items taken apart, numbered, spaced or passed on: each operator proved against the rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import CONSUMERS, Consumer, Source, serve
from trioflow.testing import check_transform

OPERATORS: list[tuple[str, Callable[[], tf.Transform[Any, Any]], Any, list[Any]]] = [
    ("flatten", lambda: tf.flatten(), [[1, 2], [], (3,), {4: 5}, "ab"], [1, 2, 3, 4, "a", "b"]),
    ("enumerate", lambda: tf.enumerate(), "abc", [(0, "a"), (1, "b"), (2, "c")]),
    ("enumerate from", lambda: tf.enumerate(-1), "abc", [(-1, "a"), (0, "b"), (1, "c")]),
    ("intersperse", lambda: tf.intersperse(None), [1, 2, 3], [1, None, 2, None, 3]),
    ("intersperse one", lambda: tf.intersperse(0), [1], [1]),
    ("intersperse some", lambda: tf.intersperse(0, every=2), [1, 2, 3, 4, 5], [1, 2, 0, 3, 4, 0, 5]),
    ("passthrough", lambda: tf.passthrough(), [1, None, 3], [1, None, 3]),
]
NAMES = [name for name, *_ in OPERATORS]


@pytest.mark.parametrize(("name", "make", "items", "expected"), OPERATORS, ids=NAMES)
async def test_an_operator_keeps_the_rules(
    name: str, make: Callable[[], tf.Transform[Any, Any]], items: Any, expected: list[Any], autojump_clock: MockClock
) -> None:
    await check_transform(make, items, expected, holds=4)


@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize(("name", "make", "items", "expected"), OPERATORS, ids=NAMES)
async def test_an_operator_serves_every_consumer(
    name: str, make: Any, items: Any, expected: list[Any], consume: Consumer
) -> None:
    await serve(lambda readable: readable.pipe(make()), items, expected, consume)


async def test_an_endless_iterable_is_taken_piece_by_piece() -> None:
    chain = tf.from_iterable([[1], itertools.count(2)]).pipe(tf.flatten()).pipe(tf.take(4))

    assert await chain.pipe(tf.collect()) == [1, 2, 3, 4]


async def test_flatten_says_what_it_cannot_iterate() -> None:
    with pytest.raises(TypeError, match="'int' object is not iterable") as caught:
        await tf.pipeline([1], tf.flatten(), tf.collect())
    assert caught.value.__notes__ == ["in stage 2 of 3: flatten()"]


@settings(max_examples=40, deadline=None)
@given(items=st.lists(st.integers(), max_size=30), every=st.integers(1, 5), capacity=st.sampled_from([1, 2, 7, 256]))
async def test_no_capacity_changes_a_result(items: list[int], every: int, capacity: int) -> None:
    async def through(*stages: tf.Transform[Any, Any]) -> Any:
        return await tf.pipeline(Source(items).readable, *stages, tf.collect(), capacity=capacity)

    spaced = await through(tf.intersperse(None, every=every))

    assert [item for item in spaced if item is not None] == items
    assert [place for place, item in enumerate(spaced) if item is None] == [
        place for place in range(len(spaced)) if place % (every + 1) == every
    ]
    assert await through(tf.enumerate(5)) == list(enumerate(items, 5))
    assert await through(tf.batch(every), tf.flatten()) == items


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.enumerate("1"), TypeError, "start must be an int, not '1'"),
        (lambda: tf.intersperse(0, every=0), ValueError, "every must be 1 or more, not 0"),
    ],
)
def test_R1_a_wrong_argument_is_told_when_the_value_is_built(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_stage_shows_the_call_that_made_it() -> None:
    assert repr(tf.enumerate(1).pipe(tf.intersperse(None))) == "<Transform enumerate(1) | intersperse(None)>"
    assert repr(tf.enumerate().pipe(tf.passthrough())) == "<Transform enumerate() | passthrough()>"
