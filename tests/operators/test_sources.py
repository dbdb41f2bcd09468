"""Sources without I/O, and the sink `last`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom


def halves(n: int) -> tuple[int, int] | None:
    return (n, n // 2) if n else None


async def halves_later(n: int) -> tuple[int, int] | None:
    await trio.lowlevel.checkpoint()
    return halves(n)


async def test_R6_unfold_calls_its_function_only_as_often_as_there_is_room() -> None:
    for fn in (halves, halves_later):
        async with tf.unfold(fn, 2**100).open(capacity=3) as receive:
            await wait_all_tasks_blocked()
            assert receive.statistics().used == 3


@pytest.mark.parametrize("wrong", [3, (1,), [1, 2], (1, 2, 3), False])
async def test_unfold_refuses_a_function_that_does_not_return_a_pair(wrong: Any) -> None:
    async def wrong_later(state: object) -> Any:
        return wrong

    for fn in (lambda state: wrong, wrong_later):
        with pytest.raises(
            TypeError, match=r"the function given to unfold must return a pair \(item, next state\) or None, got"
        ):
            await tf.unfold(fn, 0).pipe(tf.collect())


async def test_unfold_refuses_a_plain_function_that_returns_a_coroutine() -> None:
    with pytest.raises(TypeError, match="unfold: the function returned a coroutine"):
        await tf.unfold(lambda n: halves_later(n), 1).pipe(tf.collect())


async def test_a_failure_in_unfold_names_its_stage() -> None:
    def fail(state: int) -> tuple[int, int]:
        raise Boom

    with pytest.raises(Boom) as caught:
        await tf.unfold(fail, 1).pipe(tf.collect())
    assert caught.value.__notes__ == ["in stage 1 of 2: unfold(fail, 1)"]


async def test_R11_failed_raises_the_same_object() -> None:
    error = Boom("out of order")

    with pytest.raises(Boom) as caught:
        await tf.failed(error).pipe(tf.collect())

    assert caught.value is error


async def test_R4_failed_given_a_class_raises_a_new_error_in_each_run() -> None:
    source = tf.failed(Boom)
    errors = []
    for _ in range(2):
        with pytest.raises(Boom) as caught:
            await source.pipe(tf.collect())
        errors.append(caught.value)

    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.repeat(1, -1), ValueError, "times must be at least 0, got -1"),
        (lambda: tf.repeat(1, 1.5), TypeError, "times must be an int or math.inf, got 1.5"),
        (lambda: tf.unfold(3, 0), TypeError, "unfold expects a function, got 3"),
        (lambda: tf.failed("no"), TypeError, "failed expects an exception, got str 'no'"),
        (lambda: tf.failed(int), TypeError, "failed expects an exception, got the function int"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_source_is_the_call_that_made_it() -> None:
    assert repr(tf.repeat(1)) == "<Readable repeat(1)>"
    assert repr(tf.repeat(1, 2)) == "<Readable repeat(1, 2)>"
    assert repr(tf.repeat(1, math.inf)) == "<Readable repeat(1)>"
    assert repr(tf.unfold(halves, 1)) == "<Readable unfold(halves, 1)>"
    assert repr(tf.empty()) == "<Readable empty()>"


async def test_last_returns_the_last_item_and_raises_without_items() -> None:
    assert await tf.from_iterable(range(1000)).pipe(tf.last()) == 999
    assert await tf.empty().pipe(tf.last(default=None)) is None
    with pytest.raises(LookupError, match=r"last: the source ended without an item") as caught:
        await tf.empty().pipe(tf.last())
    assert caught.value.__notes__ == ["in stage 2 of 2: last()"]
    assert repr(tf.last(default=3)) == "<Writable last(default=3)>"


async def test_repeat_and_unfold_yield_as_many_items_as_are_taken() -> None:
    assert await tf.pipeline(tf.repeat(2), tf.take(3), tf.collect()) == [2, 2, 2]
    assert await tf.unfold(lambda n: (n, n + 1), 0).pipe(tf.take(300)).pipe(tf.collect()) == list(
        itertools.islice(itertools.count(), 300)
    )
