"""rechunk, limit_bytes and digest."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source, through
from tests.cutting import cut, places

TEXT = b"the quick brown fox"


@settings(max_examples=80)
@given(
    whole=st.binary(max_size=40),
    places=places,
    size=st.integers(1, 15),
    kind=st.sampled_from([bytes, bytearray, memoryview]),
    capacity=st.sampled_from([1, 3, 256]),
)
async def test_any_chunking_gives_the_same_chunks(
    whole: bytes, places: list[int], size: int, kind: Any, capacity: int
) -> None:
    chunks = [kind(chunk) for chunk in cut(whole, places)]

    got = await through(chunks, tf.rechunk(size), capacity=capacity)

    assert got == [whole[at : at + size] for at in range(0, len(whole), size)]
    assert all(type(chunk) is bytes for chunk in got)


async def test_a_chunk_of_the_right_size_is_passed_on_without_a_copy() -> None:
    chunk = bytes(100)

    assert (await through([chunk, chunk], tf.rechunk(100)))[1] is chunk


async def test_R7_a_large_chunk_is_split_only_as_there_is_room() -> None:
    async with tf.from_iterable([bytes(1_000_000)]).pipe(tf.rechunk(1)).open(capacity=3) as receive:
        await wait_all_tasks_blocked()
        assert receive.statistics().items == 3


@pytest.mark.parametrize("places", [[], [9], [10], [11], list(range(30))])
async def test_limit_bytes_fails_at_the_first_byte_over_the_limit(places: list[int]) -> None:
    whole = bytes(30)
    assert b"".join(await through(cut(whole, places), tf.limit_bytes(30))) == whole
    with pytest.raises(ValueError, match=r"^limit_bytes: the input is longer than 10 bytes\n") as caught:
        await through(cut(whole, places), tf.limit_bytes(10))
    assert caught.value.__notes__ == ["in stage 2 of 3: limit_bytes(10)"]


async def test_limit_bytes_counts_bytes_and_not_elements() -> None:
    with pytest.raises(ValueError, match="longer than 3 bytes"):
        await through([memoryview(bytes(8)).cast("Q")], tf.limit_bytes(3))


@settings(max_examples=40)
@given(whole=st.binary(max_size=40), places=places, algorithm=st.sampled_from(["sha256", "md5", "blake2b"]))
async def test_any_chunking_gives_the_same_digest(whole: bytes, places: list[int], algorithm: str) -> None:
    digest = tf.digest(algorithm)

    assert await through(cut(whole, places), digest) == cut(whole, places)
    assert digest.hexdigest() == hashlib.new(algorithm, whole).hexdigest()
    assert digest.digest() == hashlib.new(algorithm, whole).digest()


async def test_R4_a_digest_can_run_again_and_has_the_hash_of_its_last_run() -> None:
    digest = tf.digest()
    chain = tf.rechunk(3).pipe(digest).pipe(tf.rechunk(4))

    for whole in (TEXT, b"", b"other"):
        assert b"".join(await through([whole], chain)) == whole
        assert digest.digest() == hashlib.sha256(whole).digest()


async def test_a_run_that_did_not_end_does_not_change_the_digest() -> None:
    digest = tf.digest()
    with pytest.raises(RuntimeError, match="digest: no run has ended yet; read the hash after a run"):
        digest.hexdigest()
    with pytest.raises(Boom):
        await Source([b"x"], then=Boom()).readable.pipe(digest).pipe(tf.drain())
    async with Source([b"x"], then=None).readable.pipe(digest).open() as receive:
        assert await receive.receive() == b"x"
    with trio.move_on_after(0):
        await Source([b"x"], then=None).readable.pipe(digest).pipe(tf.drain())
    with pytest.raises(RuntimeError, match="no run has ended yet"):
        digest.digest()


@pytest.mark.parametrize("make", [lambda: tf.rechunk(3), lambda: tf.limit_bytes(3), tf.digest])
async def test_items_that_are_not_bytes_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="expects bytes, got str"):
        await through(["text"], make())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.rechunk(0), ValueError, "size must be at least 1, got 0"),
        (lambda: tf.limit_bytes(-1), ValueError, "limit must be at least 0, got -1"),
        (lambda: tf.digest(3), TypeError, "digest expects the name of an algorithm, got int 3"),
        (lambda: tf.digest("none"), ValueError, "unsupported hash .* none"),
        (lambda: tf.digest("shake_128"), ValueError, "an algorithm with a hash of fixed length, got 'shake_128'"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.digest()) == "<Digest digest()>"
    assert repr(tf.rechunk(3).pipe(tf.digest("md5"))) == "<Transform rechunk(3) | digest('md5')>"
