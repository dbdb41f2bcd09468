"""Operators that call a function for each item: several in a row run as one loop, whose failures name the function."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import Boom


class Faulty:
    """A function that fails at its call number `fails_at`, and otherwise returns what `function` does."""

    def __init__(self, function: Callable[..., Any], fails_at: int | None) -> None:
        self.function = function
        self.fails_at = fails_at
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == self.fails_at:
            raise Boom
        return self.function(*args)


# By name: the operator, its function, and the results for one item as a list.
STEPS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[Any], list[Any]]]] = {
    "map": (tf.map, lambda pair: (pair[1], pair[0] + 1), lambda pair: [(pair[1], pair[0] + 1)]),
    "starmap": (tf.starmap, lambda a, b: (b, a * 3), lambda pair: [(pair[1], pair[0] * 3)]),
    "filter": (tf.filter, lambda pair: sum(pair) % 3, lambda pair: [pair] if sum(pair) % 3 else []),
    "tap": (tf.tap, lambda pair: None, lambda pair: [pair]),
    "flat_map": (tf.flat_map, lambda pair: [pair, (1, 1)], lambda pair: [pair, (1, 1)]),
}
PAIRS = [(n, n + 1) for n in range(700)]


@given(st.lists(st.sampled_from([*STEPS]), max_size=40))
async def test_a_chain_of_functions_emits_what_its_functions_would_one_after_another(names: list[str]) -> None:
    wanted: list[Any] = PAIRS[:20]
    transforms: list[Any] = []
    for name in names:
        if name == "flat_map" and len(wanted) > 200:
            continue
        operator, function, one = STEPS[name]
        wanted = [result for item in wanted for result in one(item)]
        transforms.append(operator(function))

    assert await tf.pipeline(PAIRS[:20], *transforms, tf.collect()) == wanted


@given(st.lists(st.sampled_from([*STEPS]), min_size=1, max_size=20), st.data())
async def test_R11_a_failure_names_the_function_that_raised_it(names: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(names) - 1))
    call = data.draw(st.integers(1, 400))
    functions = [Faulty(STEPS[name][1], call if i == at else None) for i, name in enumerate(names)]
    transforms: list[Any] = [STEPS[name][0](function) for name, function in zip(names, functions, strict=True)]
    head = tf.from_iterable(PAIRS[: 700 if "flat_map" not in names else 20])

    try:
        await tf.pipeline(head, *transforms, tf.drain())
    except Boom as exc:
        [place] = exc.__notes__
        assert place.startswith(f"in stage {at + 2} of {len(names) + 2}: {names[at]}(")
        assert functions[at].calls == call
    else:
        assert functions[at].calls < call


async def test_R11_a_failure_in_a_c_function_names_the_function() -> None:
    source = tf.from_iterable([*"12345678", "x"])

    with pytest.raises(ValueError, match="invalid literal") as caught:
        await source.pipe(tf.map(str)).pipe(tf.tap(len)).pipe(tf.map(int)).pipe(tf.map(abs)).pipe(tf.collect())

    assert caught.value.__notes__ == ["in stage 4 of 6: map(int)"]


async def test_the_traceback_of_a_failure_has_no_line_of_the_loop() -> None:
    def fails(n: int) -> int:
        return 1 // (n - 3)

    with pytest.raises(ZeroDivisionError) as caught:
        await tf.from_iterable(range(9)).pipe(tf.map(abs)).pipe(tf.map(fails)).pipe(tf.collect())

    places = traceback.extract_tb(caught.value.__traceback__)
    assert places[-1].line == "return 1 // (n - 3)"
    assert not [place for place in places if place.filename.startswith("<")]


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("name", ["map", "filter", "tap"])
async def test_a_plain_function_that_returns_a_coroutine_is_refused_anywhere_in_the_chain(
    name: str, position: int
) -> None:
    async def later(n: int) -> int:
        return n

    transforms: list[Any] = [tf.map(lambda n: n)] * 3
    transforms[position] = getattr(tf, name)(lambda n: later(n))

    with pytest.raises(TypeError, match=f"{name}: the function returned a coroutine") as caught:
        await tf.pipeline(range(5), *transforms, tf.collect())

    assert caught.value.__notes__[0].startswith(f"in stage {position + 2} of 5: {name}")


@pytest.mark.parametrize("name", ["map", "filter", "tap"])
async def test_a_plain_function_that_returns_a_coroutine_is_refused_even_if_it_gets_its_first_item_late(
    name: str,
) -> None:
    async def later(n: int) -> int:
        return n

    operator: Callable[..., tf.Transform[Any, Any]] = getattr(tf, name)
    late = tf.map(abs).pipe(tf.filter(lambda n: n > 600))

    with pytest.raises(TypeError, match=f"{name}: the function returned a coroutine"):
        await tf.from_iterable(range(700)).pipe(late).pipe(operator(lambda n: later(n))).pipe(tf.collect())


@pytest.mark.parametrize("name", ["map", "filter", "tap"])
async def test_a_stop_iteration_from_a_function_is_an_error_and_not_the_end(name: str) -> None:
    numbers = iter(range(5))
    operator: Callable[..., tf.Transform[Any, Any]] = getattr(tf, name)

    with pytest.raises(RuntimeError, match=f"the function given to {name} raised StopIteration"):
        await (
            tf.from_iterable(range(9)).pipe(tf.map(abs)).pipe(operator(lambda _: next(numbers) + 1)).pipe(tf.collect())
        )


async def test_an_observer_counts_what_each_function_has_returned() -> None:
    odd, kept = tf.filter(lambda n: n % 2), tf.filter(lambda n: n % 3)
    steps: list[Any] = [tf.map(abs), odd, tf.map(abs), tf.tap(abs), kept, tf.map(abs)]
    watch = tf.monitor()

    await tf.pipeline(range(120), *steps, tf.drain(), monitor=watch)

    assert [stage.items for stage in watch.snapshot().stages] == [120, 120, 60, 60, 60, 40, 40, 40]


async def test_two_runs_of_one_value_share_no_state() -> None:
    doubled = tf.map(partial(pow, 2)).pipe(tf.filter(bool))

    assert [await tf.pipeline(range(600), doubled, tf.count()) for _ in range(2)] == [600, 600]
