"""Frames are joined and separated again, however the chunks are cut."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import through
from tests.cutting import cut, places

FRAMES = [b"one", b"", b"four", b"x" * 300]
WIRE = b"".join(struct.pack(">I", len(frame)) + frame for frame in FRAMES)


@settings(max_examples=60)
@given(
    frames=st.lists(st.binary(max_size=20), max_size=8),
    places=places,
    width=st.integers(1, 8),
    byteorder=st.sampled_from(["big", "little"]),
    capacity=st.sampled_from([1, 3, 256]),
)
async def test_any_chunking_gives_the_frames_back(
    frames: list[bytes], places: list[int], width: int, byteorder: Any, capacity: int
) -> None:
    wire = b"".join(await through(frames, tf.length_prefixed(width, byteorder=byteorder), capacity=capacity))

    parse = tf.parse_length_prefixed(width, byteorder=byteorder)
    assert await through(cut(wire, places), parse, capacity=capacity) == frames


@settings(max_examples=40)
@given(frames=st.lists(st.text("a-b", max_size=6).map(str.encode), max_size=8), places=places)
async def test_any_chunking_of_delimited_frames_gives_the_frames_back_or_the_frames_are_refused(
    frames: list[bytes], places: list[int]
) -> None:
    refused = [n for n, frame in enumerate(frames, 1) if b"--" in frame or frame.endswith(b"-")]
    if refused:
        with pytest.raises(ValueError, match=f"^item {refused[0]} contains the delimiter b'--'\n"):
            await through(frames, tf.delimited(b"--"))
    else:
        wire = b"".join(await through(frames, tf.delimited(b"--")))
        assert await through(cut(wire, places), tf.split(b"--", strict=True)) == frames


@settings(max_examples=40)
@given(length=st.integers(1, len(WIRE) - 1), places=places)
async def test_R10_an_input_that_ends_inside_a_frame_is_an_error(length: int, places: list[int]) -> None:
    ends = [0]
    for frame in FRAMES:
        ends.append(ends[-1] + 4 + len(frame))
    if length in ends:
        assert await through(cut(WIRE[:length], places), tf.parse_length_prefixed()) == FRAMES[: ends.index(length)]
        return
    number = sum(end < length for end in ends)
    inside = "" if length - ends[number - 1] >= 4 else "the length of "
    with pytest.raises(EOFError, match=f"^the input ends inside {inside}frame {number}"):
        await through(cut(WIRE[:length], places), tf.parse_length_prefixed())


@pytest.mark.parametrize("places", [[], [2], [4], [7]])
async def test_R7_a_frame_over_the_limit_is_refused_before_its_bytes_are_buffered(places: list[int]) -> None:
    with pytest.raises(ValueError, match="frame 2 has 4294967295 bytes, more than max_length, 16777216") as caught:
        await through(cut(b"\0\0\0\x01a" + b"\xff" * 4, places), tf.parse_length_prefixed())
    assert caught.value.__notes__ == ["in stage 2 of 3: parse_length_prefixed()"]


async def test_an_item_too_long_for_its_length_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 2 has 256 bytes, more than max_length, 255"):
        await through([b"x" * 255, b"x" * 256], tf.length_prefixed(1, max_length=math.inf))


async def test_views_and_arrays_are_framed_as_bytes() -> None:
    items = [bytearray(b"ab"), memoryview(b"abcd").cast("H")]

    assert b"".join(await through(items, tf.length_prefixed(1))) == b"\2ab\4abcd"
    assert b"".join(await through(items, tf.delimited(b";"))) == b"ab;abcd;"


@pytest.mark.parametrize(
    "make", [tf.length_prefixed, tf.parse_length_prefixed, lambda: tf.delimited(b";")], ids=["prefix", "parse", "delim"]
)
async def test_items_that_are_not_bytes_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="expects bytes, got str"):
        await through(["text"], make())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.length_prefixed(0), ValueError, "width must be at least 1, got 0"),
        (lambda: tf.length_prefixed(9), ValueError, "width must be at most 8, got 9"),
        (lambda: tf.parse_length_prefixed("4"), TypeError, "width must be an int, got '4'"),
        (lambda: tf.parse_length_prefixed(byteorder="up"), ValueError, "byteorder must be 'big' or 'little', got 'up'"),
        (lambda: tf.parse_length_prefixed(max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: tf.delimited(";"), TypeError, "delimited expects a delimiter of bytes, got str ';'"),
        (lambda: tf.delimited(b""), ValueError, "the delimiter must not be empty"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.parse_length_prefixed(2, max_length=9)) == "<Transform parse_length_prefixed(width=2, max_length=9)>"
    assert repr(tf.delimited(b";")) == "<Transform delimited(b';')>"
