"""The types that users write in annotations, with the values that have them."""

from collections.abc import Callable
from typing import assert_type

import trioflow as tf

numbers: tf.Readable[int] = tf.from_iterable([1, 2])
policy: tf.Overflow = "drop_oldest"
form: tf.CsvFormat = {"delimiter": ";"}
sha256: tf.Digest = tf.digest()
seen: tf.Monitor[int] = tf.monitor()


def log(restart: tf.Restart) -> None:
    assert_type(restart.attempt, int)
    assert_type(restart.delivered, tf.Delivered)


def resume(delivered: tf.Delivered) -> tf.Readable[bytes]:
    return tf.read_file("a", start=delivered.bytes)


tell: Callable[[tf.Restart], None] = log
assert_type(tf.retry(resume, tell=tell), tf.Readable[bytes])


async def annotated(queue: tf.queue[int], chunks: tf.ReceiveChannel[bytes]) -> None:
    async with tf.broadcast(numbers, 2, overflow=policy) as branches:
        slow: tf.Branch[int] = branches[0]
        now: tf.ChannelStatistics = slow.statistics()
        assert_type(now.dropped, int)
    async with tf.hub(numbers, start_after=1) as made:
        feed: tf.Hub[int] = made
        assert_type(feed.subscribe(overflow=policy), tf.Readable[int])
        assert_type(await feed.subscribe().pipe(tf.drain()), int)
    outcome: tf.Offered = queue.offer(1)
    assert_type(outcome == "dropped", bool)
    body: tf.Buffered = tf.buffered(chunks)
    assert_type(await body.receive_exactly(2), bytes)
    snapshot: tf.Snapshot = seen.snapshot()
    stage: tf.StageSnapshot = snapshot.stages[0]
    assert_type(stage.name, str)


assert_type(tf.from_iterable([b"a"]).pipe(tf.parse_csv()), tf.Readable[dict[str, str]])
assert_type(tf.from_iterable(["a"]).pipe(tf.parse_csv(header=["a"], delimiter=";")), tf.Readable[dict[str, str]])
assert_type(tf.from_iterable(["a"]).pipe(tf.parse_csv(header=False)), tf.Readable[list[str]])
assert_type(tf.from_iterable([{"a": 1}]).pipe(tf.csv_rows()), tf.Readable[bytes])
assert_type(numbers.pipe(tf.window_time(1, slide=0.5)), tf.Readable[list[int]])
assert_type(tf.merge_sorted(numbers, numbers, key=lambda n: -n), tf.Readable[int])

pairs: tf.Readable[tuple[str, int]] = tf.from_iterable([("a", 1)])


def repeated(text: str, times: int) -> str:
    return text * times


assert_type(pairs.pipe(tf.starmap(repeated)), tf.Readable[str])
assert_type(pairs.pipe(tf.starmap(lambda text, times: times)), tf.Readable[int])
numbers.pipe(tf.starmap(repeated))  # type: ignore[arg-type]
numbers.pipe(tf.parse_csv())  # type: ignore[arg-type]
tf.parse_csv(separator=";")  # type: ignore[call-overload]
