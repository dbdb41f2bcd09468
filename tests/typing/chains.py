"""Chains keep the types of items from end to end, also through lambdas; a wrong pipe is refused."""

from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeGuard, assert_type

import trio.testing
from typing_extensions import TypeIs

import trioflow as tf

numbers = tf.from_iterable([1, 2, 3])
words = tf.from_iterable(["a", "b"])
chunks = tf.from_iterable([b"a"])
mixed: tf.Readable[int | str] = tf.from_iterable([1, "a"])


async def to_text(n: int) -> str:
    return str(n)


async def is_small(n: int) -> bool:
    return n < 2


def is_word(item: int | str) -> TypeGuard[str]:
    return isinstance(item, str)


def is_number(item: object) -> TypeIs[int]:
    return isinstance(item, int)


async def counted(n: int) -> list[str]:
    return [str(n)]


async def parts(n: int) -> AsyncIterator[str]:
    yield str(n)


async def add(total: float, n: int) -> float:
    return total + n


async def next_page(n: int) -> tuple[str, int] | None:
    return (str(n), n + 1) if n else None


async def show(n: int) -> None:
    print(n)


# Sources
assert_type(numbers, tf.Readable[int])
assert_type(words, tf.Readable[str])
assert_type(tf.from_iterable(b"bytes"), tf.Readable[bytes])
assert_type(tf.from_iterable("text"), tf.Readable[str])
assert_type(tf.from_iterable({1: "a"}), tf.Readable[int])
assert_type(tf.repeat("x"), tf.Readable[str])
assert_type(tf.repeat(1, 3), tf.Readable[int])
assert_type(tf.unfold(lambda n: (str(n), n + 1) if n < 9 else None, 0), tf.Readable[str])
assert_type(tf.unfold(next_page, 0), tf.Readable[str])
assert_type(tf.empty(), tf.Readable[Any])
assert_type(tf.failed(ValueError("no")), tf.Readable[Any])

# Transforms
assert_type(numbers.pipe(tf.map(lambda n: n + 0.5)), tf.Readable[float])
assert_type(numbers.pipe(tf.map(str)), tf.Readable[str])
assert_type(numbers.pipe(tf.map(to_text)), tf.Readable[str])
assert_type(words.pipe(tf.map(lambda word: word.upper())).pipe(tf.map(lambda word: len(word))), tf.Readable[int])
assert_type(numbers.pipe(tf.filter(lambda n: n > 1)), tf.Readable[int])
assert_type(numbers.pipe(tf.filter(is_small)), tf.Readable[int])
assert_type(words.pipe(tf.filter(str.isdigit)).pipe(tf.map(int)), tf.Readable[int])
assert_type(mixed.pipe(tf.filter(is_word)), tf.Readable[str])
assert_type(mixed.pipe(tf.filter(is_number)).pipe(tf.map(lambda n: n + 1)), tf.Readable[int])
assert_type(mixed.pipe(tf.filter(lambda item: item)), tf.Readable[int | str])
assert_type(tf.filter(is_word), tf.Transform[int | str, str])
assert_type(tf.filter(is_small), tf.Transform[int, int])
assert_type(words.pipe(tf.flat_map(lambda word: word.split())), tf.Readable[str])
assert_type(numbers.pipe(tf.flat_map(lambda n: range(n))), tf.Readable[int])
assert_type(numbers.pipe(tf.flat_map(counted)), tf.Readable[str])
assert_type(numbers.pipe(tf.flat_map(parts)), tf.Readable[str])
assert_type(numbers.pipe(tf.take(2)), tf.Readable[int])
assert_type(numbers.pipe(tf.drop(2)), tf.Readable[int])
assert_type(numbers.pipe(tf.take(2)).pipe(tf.map(lambda n: n.bit_length())), tf.Readable[int])
assert_type(words.pipe(tf.drop(2)).pipe(tf.map(lambda word: word.upper())), tf.Readable[str])
assert_type(numbers.pipe(tf.scan(lambda total, n: total + n, 0.5)), tf.Readable[float])
assert_type(numbers.pipe(tf.scan(add, 0.5)), tf.Readable[float])
assert_type(numbers.pipe(tf.tap(print)), tf.Readable[int])
assert_type(numbers.pipe(tf.tap(lambda n: print(n + 1))), tf.Readable[int])
assert_type(numbers.pipe(tf.tap(show)), tf.Readable[int])
assert_type(numbers.pipe(tf.batch(2)), tf.Readable[list[int]])
assert_type(numbers.pipe(tf.batch(2)).pipe(tf.map(lambda items: sum(items))), tf.Readable[int])
assert_type(numbers.pipe(tf.window(2)), tf.Readable[tuple[int, ...]])
assert_type(numbers.pipe(tf.pairwise()), tf.Readable[tuple[int, int]])
assert_type(numbers.pipe(tf.pairwise()).pipe(tf.map(lambda pair: pair[1] - pair[0])), tf.Readable[int])
assert_type(numbers.pipe(tf.take_while(lambda n: n < 2)), tf.Readable[int])
assert_type(numbers.pipe(tf.take_while(is_small)), tf.Readable[int])
assert_type(numbers.pipe(tf.take_until(trio.Event())), tf.Readable[int])
assert_type(numbers.pipe(tf.drop_while(lambda n: n < 2)), tf.Readable[int])
assert_type(numbers.pipe(tf.distinct()), tf.Readable[int])
assert_type(words.pipe(tf.distinct(lambda word: word.lower())), tf.Readable[str])
assert_type(numbers.pipe(tf.distinct(to_text)), tf.Readable[int])
assert_type(words.pipe(tf.changes(lambda word: word.lower())), tf.Readable[str])
assert_type(numbers.pipe(tf.changes()), tf.Readable[int])
assert_type(numbers.pipe(tf.enumerate()), tf.Readable[tuple[int, int]])
assert_type(words.pipe(tf.enumerate(1)), tf.Readable[tuple[int, str]])
# Unlike mypy, pyright does not infer a list's item type through an Iterable's: it needs an annotation or a function.
flat: tf.Transform[Iterable[int], int] = tf.flatten()
assert_type(numbers.pipe(tf.batch(2)).pipe(flat), tf.Readable[int])
assert_type(numbers.pipe(tf.batch(2)).pipe(tf.flat_map(lambda items: items)), tf.Readable[int])
assert_type(words.pipe(tf.intersperse(", ")), tf.Readable[str])
assert_type(words.pipe(tf.intersperse(None)), tf.Readable[str | None])
assert_type(numbers.pipe(tf.passthrough()), tf.Readable[int])
assert_type(chunks.pipe(tf.lines(newlines="crlf", strict=True)), tf.Readable[str])
assert_type(words.pipe(tf.lines()), tf.Readable[str])
assert_type(chunks.pipe(tf.split(b"-", strict=True)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.parse_json_lines()), tf.Readable[Any])
assert_type(words.pipe(tf.parse_json_lines()), tf.Readable[Any])
assert_type(numbers.pipe(tf.json_lines(default=str)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.length_prefixed()), tf.Readable[bytes])
assert_type(chunks.pipe(tf.parse_length_prefixed(2, byteorder="little")), tf.Readable[bytes])
assert_type(chunks.pipe(tf.delimited(b";")), tf.Readable[bytes])
assert_type(chunks.pipe(tf.rechunk(2)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.limit_bytes(2)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.digest()), tf.Readable[bytes])
assert_type(tf.digest().hexdigest(), str)
assert_type(chunks.pipe(tf.deflate(raw=True)).pipe(tf.inflate(raw=True)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.zstd()).pipe(tf.unzstd(max_output=9)), tf.Readable[bytes])
assert_type(chunks.pipe(tf.brotli()).pipe(tf.unbrotli(max_output=9)), tf.Readable[bytes])
assert_type(tf.rechunk(2).pipe(tf.digest()), tf.Transform[bytes, bytes])
assert_type(tf.ByteBuffer().take(2), bytes | None)
assert_type(tf.map(to_text), tf.Transform[int, str])
assert_type(tf.map(to_text).pipe(tf.map(len)), tf.Transform[int, int])
assert_type(tf.map(to_text).pipe(tf.batch(2)), tf.Transform[int, list[str]])

# Time
assert_type(tf.ticks(1), tf.Readable[float])
assert_type(numbers.pipe(tf.throttle(10, per=60, burst=3)), tf.Readable[int])
assert_type(words.pipe(tf.throttle(10, cost=len)), tf.Readable[str])
assert_type(words.pipe(tf.throttle(10, cost=lambda word: len(word))), tf.Readable[str])
assert_type(numbers.pipe(tf.debounce(1)), tf.Readable[int])
assert_type(numbers.pipe(tf.sample(1)).pipe(tf.map(lambda n: n + 0.5)), tf.Readable[float])
assert_type(numbers.pipe(tf.delay(1, capacity=2)), tf.Readable[int])
assert_type(numbers.pipe(tf.timeout(1)), tf.Readable[int])
assert_type(numbers.pipe(tf.keep_alive(1, 0)), tf.Readable[int])
assert_type(numbers.pipe(tf.keep_alive(1, lambda: 0)), tf.Readable[int])

# Failures
assert_type(tf.retry(numbers, attempts=3, on=(OSError, LookupError)), tf.Readable[int])
assert_type(tf.retry(lambda delivered: numbers.pipe(tf.drop(delivered.items))), tf.Readable[int])
assert_type(tf.retry(numbers, repeats=True), tf.Readable[int])
assert_type(numbers.pipe(tf.recover(lambda failure: [len(failure.args)])), tf.Readable[int])
assert_type(numbers.pipe(tf.recover(lambda failure: numbers)).pipe(tf.map(lambda n: n + 0.5)), tf.Readable[float])
assert_type(words.pipe(tf.on_item_error(tf.map(int), "drop")), tf.Readable[int])
assert_type(words.pipe(tf.on_item_error(tf.filter(str.isdigit), tf.drain(), on=ValueError)), tf.Readable[str])
assert_type(numbers.pipe(tf.on_item_error(tf.map(to_text), tf.for_each(print))), tf.Readable[str])
assert_type(
    words.pipe(tf.on_item_error(tf.map(lambda word: int(word)), tf.for_each(lambda pair: print(pair[0].upper())))),
    tf.Readable[int],
)
letters: tf.Writable[tuple[str, Exception], list[tuple[str, Exception]]] = tf.collect()
assert_type(words.pipe(tf.on_item_error(tf.map(lambda word: int(word)), letters)), tf.Readable[int])


async def runs() -> None:
    # Sinks
    assert_type(await numbers.pipe(tf.collect()), list[int])
    assert_type(await words.pipe(tf.join()), str)
    assert_type(await words.pipe(tf.join(", ")), str)
    assert_type(await chunks.pipe(tf.join()), bytes)
    assert_type(await numbers.pipe(tf.for_each(print)), None)
    assert_type(await numbers.pipe(tf.for_each(lambda n: print(n + 1))), None)
    assert_type(await numbers.pipe(tf.for_each(show)), None)
    assert_type(await numbers.pipe(tf.reduce(lambda total, n: total + n, 0)), int)
    assert_type(await numbers.pipe(tf.reduce(add, 0.5)), float)
    # If any object is allowed, the state keeps the type of its initial value.
    print(await numbers.pipe(tf.reduce(lambda total, n: total + n, 0)), await numbers.pipe(tf.reduce(add, 0.5)))
    print(await tf.pipeline(numbers, tf.reduce(lambda total, n: total + n, 0)))
    print(await numbers.pipe(tf.reduce(lambda total, n: total.upper(), 0)))  # type: ignore[attr-defined]
    assert_type(await numbers.pipe(tf.first()), int)
    assert_type(await numbers.pipe(tf.first(default="none")), int | str)
    assert_type(await numbers.pipe(tf.first(default=0)), int)
    assert_type(await numbers.pipe(tf.first(default=None)), int | None)
    assert_type(await numbers.pipe(tf.last()), int)
    assert_type(await numbers.pipe(tf.last(default="none")), int | str)
    assert_type(await numbers.pipe(tf.count()), int)
    assert_type(await numbers.pipe(tf.drain()), int)
    send, receive = tf.open_channel[int](16)
    assert_type(send, tf.SendChannel[int])
    assert_type(receive, tf.ReceiveChannel[int])
    assert_type(await numbers.pipe(tf.to_channel(send)), int)
    assert_type(tf.from_iterable(receive), tf.Readable[int])
    assert_type(tf.map(to_text).pipe(tf.collect()), tf.Writable[int, list[str]])

    # Open
    async with numbers.pipe(tf.map(to_text)).open(capacity=2) as texts:
        assert_type(texts, tf.ReceiveChannel[str])
        assert_type(await texts.receive(), str)
        assert_type(await texts.receive_many(), list[str])
        async for text in texts:
            assert_type(text, str)
    async with chunks.open() as opened:
        assert_type(await tf.buffered(opened).receive_exactly(2), bytes)
    async with tf.map(to_text).pipe(tf.collect()).open() as into:
        assert_type(into, tf.SendChannel[int])
        await into.send(1)
        await into.send("x")  # type: ignore[arg-type]

    # Pipelines
    assert_type(await tf.pipeline([1, 2], tf.collect()), list[int])
    assert_type(await tf.pipeline(numbers, tf.collect(), capacity=2), list[int])
    assert_type(await tf.pipeline([1], send), int)
    near, _ = trio.testing.memory_stream_pair()
    duplex = tf.Duplex.from_stream(near)
    assert_type(duplex, tf.Duplex[bytes, bytes])
    assert_type(chunks.pipe(duplex), tf.Readable[bytes])
    assert_type(await tf.pipeline([b"x"], near), int)
    assert_type(await tf.pipeline([b"x"], duplex), int)


def coroutine() -> Coroutine[Any, Any, list[int]]:
    return numbers.pipe(tf.collect())


# What must fail
numbers.pipe(tf.collect())  # type: ignore[unused-coroutine]
numbers.pipe(tf.map(len))  # type: ignore[arg-type]
numbers.pipe(tf.map(lambda n: n.upper()))  # type: ignore[attr-defined]
words.pipe(tf.take(1)).pipe(tf.map(to_text))  # type: ignore[arg-type]
words.pipe(tf.map(to_text))  # type: ignore[arg-type]
numbers.pipe(tf.join())  # type: ignore[arg-type, unused-coroutine]
numbers.pipe(tf.collect)  # type: ignore[call-overload]
numbers.pipe(tf.take_while(len))  # type: ignore[arg-type]
words.pipe(tf.distinct(lambda word: word.bit_length()))  # type: ignore[attr-defined]
tf.window("3")  # type: ignore[arg-type]
tf.lines(newlines="\n")  # type: ignore[arg-type]
tf.length_prefixed(byteorder="up")  # type: ignore[arg-type]
numbers.pipe(tf.parse_json_lines())  # type: ignore[arg-type]
words.pipe(tf.rechunk(2))  # type: ignore[arg-type]
numbers.pipe(print)  # type: ignore[call-overload]
tf.collect().pipe(tf.count())  # type: ignore[attr-defined]
tf.from_iterable(3)  # type: ignore[call-overload]
numbers.pipe(tf.recover(lambda failure: 3))  # type: ignore[arg-type, return-value]
tf.on_item_error(tf.map(to_text), "ignore")  # type: ignore[arg-type]
tf.retry(numbers, on=BaseException)  # type: ignore[arg-type]
numbers.pipe(tf.throttle(10, cost=len))  # type: ignore[arg-type]
tf.timeout("1")  # type: ignore[arg-type]
tf.take("3")  # type: ignore[arg-type]
tf.open_channel[int](capacity="many")  # type: ignore[arg-type]
tf.open_channel[int](overflow="spill")  # type: ignore[arg-type]
