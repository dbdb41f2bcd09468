"""A pipeline of up to ten stages has the type of its sink, and a stage that does not fit the one before is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeGuard, assert_type

import trio
import trio.testing

import trioflow as tf

numbers = tf.from_iterable([1, 2, 3])
words = tf.from_iterable(["a", "b"])

mixed: tf.Readable[int | str] = tf.from_iterable([1, "a"])


def is_word(item: int | str) -> TypeGuard[str]:
    return isinstance(item, str)


def double_length(word: str) -> int:
    return 2 * len(word)


async def to_text(n: int) -> str:
    return str(n)


async def parts(n: int) -> AsyncIterator[str]:
    yield str(n)


async def runs() -> None:
    # Stages with types of their own, and what the sink makes of the last items
    assert_type(await tf.pipeline(numbers, tf.map(to_text), tf.collect()), list[str])
    assert_type(await tf.pipeline(numbers, tf.map(to_text), tf.map(len), tf.collect()), list[int])
    assert_type(await tf.pipeline(parts(1), tf.map(str.upper), tf.map(len), tf.first()), int)
    assert_type(await tf.pipeline(tf.read_file("a"), tf.lines(), tf.encode(), tf.write_file("b")), int)
    assert_type(await tf.pipeline(tf.read_file("a"), tf.lines(), tf.map(len), tf.collect(), capacity=2), list[int])
    assert_type(await tf.pipeline(tf.read_file("a"), tf.lines(), tf.collect(), monitor=tf.monitor()), list[str])

    # Lambdas, and stages for items of any type
    assert_type(
        await tf.pipeline(numbers, tf.map(lambda n: n + 0.5), tf.map(lambda n: str(n.is_integer())), tf.collect()),
        list[str],
    )
    assert_type(
        await tf.pipeline(tf.read_file("a"), tf.lines(), tf.filter(lambda line: " 500 " in line), tf.count()), int
    )
    assert_type(await tf.pipeline(words, tf.take(2), tf.tap(print), tf.distinct(str), tf.encode(), tf.join()), bytes)
    assert_type(await tf.pipeline(words, tf.filter(bool), tf.changes(str), tf.drop_while(bool), tf.count()), int)
    assert_type(await tf.pipeline(mixed, tf.filter(is_word), tf.map(str.upper), tf.collect()), list[str])
    assert_type(await tf.pipeline(mixed, tf.filter(is_word), tf.collect()), list[str])

    # If such a stage determines the result of the sink, pyright infers it, and mypy infers Any, which any annotation
    # accepts. Both are exact if the sink has its own type, and if such a stage is piped to the source.
    floats: tf.Writable[float, list[float]] = tf.collect()
    assert_type(await tf.pipeline(numbers, tf.map(lambda n: n + 0.5), floats), list[float])
    lists: tf.Writable[list[int], list[list[int]]] = tf.collect()
    assert_type(await tf.pipeline(numbers, tf.map(to_text), tf.map(len), tf.batch(2), lists), list[list[int]])
    longest: tf.Writable[str, str] = tf.reduce(lambda a, b: max(a, b), "")
    assert_type(await tf.pipeline(words, tf.take(2), longest), str)
    assert_type(await tf.pipeline(numbers, tf.map(to_text).pipe(tf.batch(2)).pipe(tf.collect())), list[list[str]])
    assert_type(await tf.pipeline(words.pipe(tf.take(2)), tf.collect()), list[str])
    assert_type(await tf.pipeline(numbers.pipe(tf.map(lambda n: n + 0.5)), tf.collect(), capacity=2), list[float])
    assert_type(await tf.pipeline(words.pipe(tf.flat_map(lambda word: word)), tf.map(str.upper), tf.first()), str)

    # Ten stages
    ten = await tf.pipeline(
        tf.read_file("a"),
        tf.gunzip(),
        tf.lines(),
        tf.filter(lambda line: line.startswith("a")),
        tf.tap(print),
        tf.map(str.upper),
        tf.take(9),
        tf.encode(end="\n"),
        tf.gzip(),
        tf.write_file("b"),
    )
    assert_type(ten, int)
    many: list[Any] = [words, *[tf.map(str.upper)] * 20, tf.collect()]
    await tf.pipeline(*many)

    # Foreign ends
    send, receive = tf.open_channel[int](16)
    assert_type(await tf.pipeline(receive, tf.map(to_text), tf.encode(), tf.write_file("a")), int)
    assert_type(await tf.pipeline(["1"], tf.map(int), send), int)
    near, _ = trio.testing.memory_stream_pair()
    assert_type(await tf.pipeline(words, tf.map(str.upper), tf.take(2), tf.encode(), near), int)
    assert_type(await tf.pipeline(tf.from_iterable(near), tf.lines(), tf.encode(), near), int)
    duplex = tf.connect_tcp("localhost", 80)
    assert_type(await tf.pipeline(duplex, tf.lines(), tf.encode(), tf.process(["sort"]), duplex), int)


# What must fail. Mypy names the place if it knows the type before; otherwise it says that it finds none that fits both.
tf.pipeline(tf.read_file("a"), tf.encode(), tf.write_file("b"))  # type: ignore[misc, unused-coroutine]
tf.pipeline(tf.read_file("a"), tf.lines(), 5, "nonsense")  # type: ignore[call-overload]
tf.pipeline(tf.read_file("a"), tf.lines(), tf.write_file("b"))  # type: ignore[arg-type, unused-coroutine]
tf.pipeline(tf.read_file("a"), tf.lines(), tf.gzip(), tf.write_file("b"))  # type: ignore[misc, unused-coroutine]
tf.pipeline(tf.read_file("a"), tf.lines(), tf.map(len), tf.join())  # type: ignore[arg-type, unused-coroutine]
tf.pipeline(words, tf.map(len), tf.open_channel[str]()[0])  # type: ignore[arg-type, unused-coroutine]
tf.pipeline(words, tf.collect)  # type: ignore[arg-type, unused-coroutine]
tf.pipeline(Path("a"), tf.lines(), tf.collect())  # type: ignore[call-overload]
tf.pipeline(words)  # type: ignore[call-overload]

# A transform of a lambda that is assigned to a name needs an annotation.
double: tf.Transform[int, int] = tf.map(lambda n: 2 * n)
assert_type(numbers.pipe(double), tf.Readable[int])
assert_type(words.pipe(tf.recover(lambda failure: [1])), tf.Readable[str | int])
assert_type(words.pipe(tf.recover(lambda failure: ())), tf.Readable[str])
assert_type(words.pipe(tf.recover(lambda failure: numbers)), tf.Readable[str | int])
assert_type(words.pipe(tf.keep_alive(1, None)), tf.Readable[str | None])
assert_type(words.pipe(tf.on_item_error(tf.map(int), "drop")), tf.Readable[int])
# At the start of a chain of transforms, only a typed function says what arrives.
lengths: tf.Transform[str, bytes] = tf.map(double_length).pipe(tf.json_lines())
assert_type(words.pipe(lengths), tf.Readable[bytes])
