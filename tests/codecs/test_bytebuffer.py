"""ByteBuffer compared with plain `bytes` that do the same slowly, its bounds and its cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import trioflow as tf

few_bytes = st.text("ab;", max_size=6).map(str.encode)


class AgainstBytes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = tf.ByteBuffer(limit=20)
        self.bytes = b""

    @rule(data=few_bytes, kind=st.sampled_from([bytes, bytearray, memoryview]), is_back=st.booleans())
    def put(self, data: bytes, kind: Callable[[bytes], Any], is_back: bool) -> None:
        put = self.buffer.put_back if is_back else self.buffer.feed
        if len(self.bytes) + len(data) > 20:
            with pytest.raises(BufferError, match=f"{len(self.bytes)} bytes held and {len(data)} more exceed the"):
                put(kind(data))
        else:
            put(kind(data))
            self.bytes = data + self.bytes if is_back else self.bytes + data

    @rule(count=st.integers(0, 10))
    def take(self, count: int) -> None:
        if count > len(self.bytes):
            assert self.buffer.take(count) is None
        else:
            assert self.buffer.take(count) == self.bytes[:count]
            self.bytes = self.bytes[count:]

    @rule()
    def take_all(self) -> None:
        assert self.buffer.take_all() == self.bytes
        self.bytes = b""

    @rule(delimiter=st.sampled_from([b";", b"aa", b"ab;"]))
    def take_until(self, delimiter: bytes) -> None:
        before, found, behind = self.bytes.partition(delimiter)
        if found:
            assert self.buffer.take_until(delimiter) == before
            self.bytes = behind
        else:
            assert self.buffer.take_until(delimiter) is None

    @precondition(lambda self: b"ab" in self.bytes)
    @rule(less=st.integers(1, 9))
    def take_until_what_is_too_far(self, less: int) -> None:
        with pytest.raises(
            ValueError, match=f"there is no b'ab' within max_length, {self.bytes.find(b'ab') - less} bytes"
        ):
            self.buffer.take_until(b"ab", max_length=self.bytes.find(b"ab") - less)

    @rule(count=st.integers(0, 10))
    def peek(self, count: int) -> None:
        assert self.buffer.peek(count) == self.bytes[:count]

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.buffer) == len(self.bytes)
        assert self.buffer.peek() == self.bytes


TestAgainstBytes = AgainstBytes.TestCase
TestAgainstBytes.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_delimiter_split_across_chunks_is_found() -> None:
    buffer = tf.ByteBuffer()
    for part in (b"one\r", b"", b"\ntwo"):
        assert buffer.take_until(b"\r\n") is None
        buffer.feed(part)

    assert buffer.take_until(b"\r\n") == b"one"
    assert buffer.take_until(b"\r\n") is None
    assert buffer.take_all() == b"two"


def test_a_byte_buffer_shows_its_size() -> None:
    buffer = tf.ByteBuffer()

    buffer.feed(b"4 data")
    buffer.take(2)

    assert repr(buffer) == "<ByteBuffer 4 bytes>"


def test_the_search_for_another_delimiter_starts_at_the_beginning() -> None:
    buffer = tf.ByteBuffer()
    buffer.feed(b"a,b")

    assert buffer.take_until(b";") is None
    assert buffer.take_until(b",") == b"a"


def test_an_unfinished_piece_is_refused_as_soon_as_it_is_certainly_too_long() -> None:
    buffer = tf.ByteBuffer()
    buffer.feed(b"12345\r")
    assert buffer.take_until(b"\r\n", max_length=5) is None  # the \r may be half of the delimiter
    buffer.feed(b"6")
    with pytest.raises(ValueError, match=r"^there is no b'\\r\\n' within max_length, 5 bytes$"):
        buffer.take_until(b"\r\n", max_length=5)
    assert buffer.take_all() == b"12345\r6"


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: tf.ByteBuffer(0), ValueError, "limit must be at least 1, got 0"),
        (lambda: tf.ByteBuffer("1"), TypeError, "limit must be an int or math.inf, got '1'"),
        (lambda: tf.ByteBuffer().feed("text"), TypeError, "ByteBuffer expects bytes, got str"),
        (lambda: tf.ByteBuffer().put_back(3), TypeError, "ByteBuffer expects bytes, got int"),
        (lambda: tf.ByteBuffer().take(-1), ValueError, "count must be at least 0, got -1"),
        (lambda: tf.ByteBuffer().peek(1.5), TypeError, "count must be an int, got 1.5"),
        (lambda: tf.ByteBuffer().take_until(b""), ValueError, "the delimiter must not be empty"),
        (lambda: tf.ByteBuffer().take_until(";"), TypeError, "take_until expects a delimiter of bytes, got str"),
    ],
)
def test_a_wrong_argument_is_refused(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act()


def test_a_delimiter_that_was_put_back_is_found_even_if_a_search_has_passed_its_place() -> None:
    buffer = tf.ByteBuffer()
    buffer.feed(b"no line")
    assert buffer.take_until(b"\n") is None

    buffer.put_back(b"a\n")

    assert buffer.take_until(b"\n") == b"a"


def search(buffer: tf.ByteBuffer) -> None:
    buffer.feed(b"x")
    assert buffer.take_until(b"\r\n") is None


def take(buffer: tf.ByteBuffer) -> None:
    assert buffer.take(1) == b"\0"


def put_back(buffer: tf.ByteBuffer) -> None:
    buffer.put_back(b"x")


@pytest.mark.parametrize("work", [search, take, put_back])
def test_the_work_for_a_byte_does_not_depend_on_how_many_are_held(work: Callable[[tf.ByteBuffer], None]) -> None:
    buffer = tf.ByteBuffer()
    buffer.feed(bytes(1 << 23))
    began = time.process_time()
    for _ in range(10_000):
        work(buffer)

    assert time.process_time() - began < 1  # takes 0.02 s; looking at or moving all held bytes each time, 3 s
