"""Concurrent stages keep the types of items too, through lambdas, tuples and branches."""

from collections.abc import AsyncIterator
from typing import assert_type

import trioflow as tf

numbers = tf.from_iterable([1, 2, 3])
words = tf.from_iterable(["a", "b"])


async def to_text(n: int) -> str:
    return str(n)


async def parts(word: str) -> AsyncIterator[int]:
    yield len(word)


# Calls
assert_type(numbers.pipe(tf.map_async(to_text)), tf.Readable[str])
assert_type(numbers.pipe(tf.map_async(lambda n: to_text(n), concurrency=2)), tf.Readable[str])
assert_type(numbers.pipe(tf.map_in_threads(lambda n: n + 0.5, workers=2)), tf.Readable[float])
assert_type(numbers.pipe(tf.map_in_threads(str)), tf.Readable[str])
assert_type(numbers.pipe(tf.map_in_processes(str, workers=2, retries=1)), tf.Readable[str])
assert_type(words.pipe(tf.map_in_processes(lambda word: len(word))), tf.Readable[int])
numbers.pipe(tf.map_in_processes(len))  # type: ignore[arg-type]
numbers.pipe(tf.map_async(len))  # type: ignore[arg-type]

# Joining
assert_type(tf.merge(numbers, numbers), tf.Readable[int])
assert_type(tf.concat(words, words), tf.Readable[str])
assert_type(tf.merge(numbers, words), tf.Readable[int | str])
assert_type(tf.concat(numbers, words, tf.from_iterable([b"a"])), tf.Readable[int | str | bytes])
assert_type(tf.interleave(*[numbers, numbers]), tf.Readable[int])
assert_type(tf.merge(numbers), tf.Readable[int])
assert_type(tf.merge(numbers, numbers, numbers), tf.Readable[int])
assert_type(tf.interleave(numbers, numbers).pipe(tf.map(lambda n: n.bit_length())), tf.Readable[int])
assert_type(tf.zip(numbers, words), tf.Readable[tuple[int, str]])
assert_type(tf.zip(numbers, words, strict=True).pipe(tf.map(lambda pair: pair[1])), tf.Readable[str])
assert_type(tf.zip(numbers, words, words), tf.Readable[tuple[int, str, str]])
assert_type(tf.zip(*[numbers, numbers]), tf.Readable[tuple[int, ...]])
assert_type(tf.zip_latest(numbers, words), tf.Readable[tuple[int, str]])
tf.merge([1, 2])  # type: ignore[call-overload]
tf.zip(words, "ab")  # type: ignore[call-overload]

# Flattening
assert_type(numbers.pipe(tf.flat_map_merge(lambda n: tf.repeat(str(n), 2))), tf.Readable[str])
assert_type(words.pipe(tf.flat_map_merge(lambda word: word.split(), concurrency=2)), tf.Readable[str])
assert_type(words.pipe(tf.flat_map_merge(parts)), tf.Readable[int])
assert_type(numbers.pipe(tf.switch_map(lambda n: range(n))), tf.Readable[int])
assert_type(numbers.pipe(tf.switch_map(lambda n: tf.ticks(n))), tf.Readable[float])
tf.flat_map_merge(to_text)  # type: ignore[arg-type]

# Keys
assert_type(words.pipe(tf.group_by(lambda word: len(word))), tf.Readable[tuple[int, tf.Readable[str]]])
assert_type(numbers.pipe(tf.group_by(str, groups=2)), tf.Readable[tuple[str, tf.Readable[int]]])
words.pipe(tf.group_by(lambda word: [word]))  # type: ignore[type-var]

# Buffering
assert_type(numbers.pipe(tf.buffer(2, overflow="drop_oldest")), tf.Readable[int])
pushed = tf.queue[str](16)
assert_type(pushed.pipe(tf.map(lambda text: text.upper())), tf.Readable[str])
pushed.offer(1)  # type: ignore[arg-type]
tf.buffer(1, overflow="spill")  # type: ignore[arg-type]


async def split() -> None:
    # Splitting
    async with tf.broadcast(numbers, 2, capacity=4, overflow=["wait", "drop_oldest"]) as (a, b):
        assert_type(await a.pipe(tf.collect()), list[int])
        assert_type(b.pipe(tf.map(lambda n: n + 0.5)), tf.Readable[float])
        assert_type(b.statistics().dropped, int)
    async with tf.balance(words, 3) as workers:
        assert_type(tf.merge(*workers), tf.Readable[str])
    async with tf.partition(words, lambda word: word.isupper(), 2) as branches:
        assert_type(branches[0].pipe(tf.map(len)), tf.Readable[int])
    tf.broadcast(numbers, 2, overflow="spill")  # type: ignore[arg-type]
    tf.partition(numbers, lambda n: n.upper(), 2)  # type: ignore[attr-defined]
