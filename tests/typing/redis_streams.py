"""Streams in Redis: a `readable` yields what `decode` returns, also through lambdas."""

from typing import Any, assert_type

import trioflow as tf
from trioflow import redis

URL = "redis://localhost"


def number(raw: bytes) -> int:
    return int(raw)


async def to_text(n: int) -> str:
    return str(n)


assert_type(redis.readable(URL, "jobs", group="g"), tf.Readable[Any])
jobs = redis.readable(URL, "jobs", group="g", decode=number)
assert_type(jobs, tf.Readable[int])
assert_type(jobs.pipe(tf.map_async(to_text)).pipe(tf.filter(lambda text: text.isdigit())), tf.Readable[str])
assert_type(jobs.pipe(redis.acknowledge()), tf.Readable[int])
assert_type(redis.writable(URL, "results"), tf.Writable[Any, int])


def trace(entry: redis.Entry) -> str:
    return entry.headers["traceparent"]


assert_type(redis.readable(URL, "jobs", group="g", decode=trace), tf.Readable[str])
redis.writable(URL, "results", encode=lambda item: redis.Entry(str(item), key="k"))
redis.Entry(b"", headers={"n": 1})  # type: ignore[dict-item]
redis.readable(URL, "jobs")  # type: ignore[call-arg]
redis.writable(URL, "results", capacity="9")  # type: ignore[arg-type]


async def by_hand() -> None:
    assert_type(await jobs.pipe(redis.writable(URL, "results")), int)
    async with redis.open_sender(URL, "jobs") as send, redis.open_receiver(URL, "jobs", group="g") as receive:
        await send.send_many([1, "two"])
        await send.send(3, headers={"a": "b"}, key="k", delay=1, ttl=9.5, idempotency_key="3")
        async for delivery in receive:
            async with delivery:
                assert_type(delivery.times, int)
                assert_type(delivery.value, Any)
