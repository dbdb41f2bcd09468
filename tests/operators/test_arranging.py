"""flatten, enumerate, intersperse, passthrough: what is special to each operator."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import Source


async def test_an_endless_iterable_is_read_piece_by_piece() -> None:
    chain = tf.from_iterable([[1], itertools.count(2)]).pipe(tf.flatten()).pipe(tf.take(4))

    assert await chain.pipe(tf.collect()) == [1, 2, 3, 4]


async def test_flatten_refuses_what_it_cannot_iterate_and_names_its_stage() -> None:
    with pytest.raises(TypeError, match="'int' object is not iterable") as caught:
        await tf.pipeline([1], tf.flatten(), tf.collect())
    assert caught.value.__notes__ == ["in stage 2 of 3: flatten()"]


@settings(max_examples=40)
@given(items=st.lists(st.integers(), max_size=30), every=st.integers(1, 5), capacity=st.sampled_from([1, 2, 7, 256]))
async def test_the_capacity_does_not_change_the_result(items: list[int], every: int, capacity: int) -> None:
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
        (lambda: tf.enumerate("1"), TypeError, "start must be an int, got '1'"),
        (lambda: tf.intersperse(0, every=0), ValueError, "every must be at least 1, got 0"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.enumerate(1).pipe(tf.intersperse(None))) == "<Transform enumerate(1) | intersperse(None)>"
    assert repr(tf.enumerate().pipe(tf.passthrough())) == "<Transform enumerate() | passthrough()>"
