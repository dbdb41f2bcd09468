"""The kinds of line ends, and strictness; what `lines` and `split` do by default is in test_text."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import Source, through
from tests.cutting import cut, places

texts = st.lists(st.sampled_from(["\n", "\r", "\r\n", "a", "bc", "é"]), max_size=20).map("".join)


@settings(max_examples=80)
@given(text=texts, places=places, keep_ends=st.booleans(), as_bytes=st.booleans())
@example(text="a\r\nb", places=[2, 2], keep_ends=False, as_bytes=False)
@example(text="\r\n\n", places=[1, 2], keep_ends=True, as_bytes=True)
async def test_universal_lines_are_the_lines_that_python_reads(
    text: str, places: list[int], keep_ends: bool, as_bytes: bool
) -> None:
    chunks = cut(text.encode() if as_bytes else text, places)
    expected = list(io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline=None))

    got = await through(chunks, tf.lines(newlines="universal", keep_ends=keep_ends))

    assert got == (expected if keep_ends else [line.removesuffix("\n") for line in expected])


@settings(max_examples=80)
@given(text=texts, places=places, keep_ends=st.booleans(), limit=st.integers(1, 4))
@example(text="a\r", places=[1], keep_ends=False, limit=4)
async def test_crlf_lines_that_contain_a_lone_cr_or_lf_are_refused_in_any_chunking(
    text: str, places: list[int], keep_ends: bool, limit: int
) -> None:
    expected = text.split("\r\n")
    wrong = [n for n, line in enumerate(expected, 1) if len(line) > limit or re.search(r"[\r\n]", line)]
    transform = tf.lines(newlines="crlf", keep_ends=keep_ends, max_length=limit)

    if wrong:
        line = expected[wrong[0] - 1]
        alone = "a line feed alone" if "\n" in line else "a carriage return alone"
        reason = f"is longer than max_length, {limit} " if len(line) > limit else f"contains {alone}"
        with pytest.raises(ValueError, match=f"^line {wrong[0]} {reason}"):
            await through(cut(text, places), transform)
    else:
        end = "\r\n" if keep_ends else ""
        whole = [line + end for line in expected[:-1]]
        assert await through(cut(text, places), transform) == whole + [line for line in expected[-1:] if line]


async def test_a_carriage_return_ends_a_universal_line_at_once() -> None:
    async with Source(["ready\r"], then=None).readable.pipe(tf.lines(newlines="universal")).open() as receive:
        assert await receive.receive() == "ready"


@pytest.mark.parametrize(
    ("make", "chunk", "message"),
    [
        (lambda: tf.lines(strict=True), "a\nb", "the input ends inside line 2"),
        (lambda: tf.lines(strict=True, newlines="crlf"), "a\r\nb", "the input ends inside line 2"),
        (lambda: tf.lines(strict=True, newlines="universal"), "a\rb", "the input ends inside line 2"),
        (lambda: tf.split(b"--", strict=True), b"a--b-", "the input ends inside piece 2"),
    ],
)
@pytest.mark.parametrize("places", [[], [1], [1, 2, 3]])
async def test_R10_an_unfinished_last_line_is_an_error_if_strict(
    make: Any, chunk: Any, message: str, places: list[int]
) -> None:
    with pytest.raises(EOFError, match=message):
        await through(cut(chunk, places), make())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.lines(newlines="\r"), ValueError, "newlines must be 'common', 'universal' or 'crlf', got "),
        (lambda: tf.lines(strict=1), TypeError, "strict must be a bool, got 1"),
        (lambda: tf.split(b"-", strict="no"), TypeError, "strict must be a bool, got 'no'"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.lines(newlines="crlf", strict=True)) == "<Transform lines(newlines='crlf', strict=True)>"
    assert repr(tf.split(b"-", strict=True)) == "<Transform split(b'-', strict=True)>"
