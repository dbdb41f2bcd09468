"""A slow reader, and what it does to all that is before it: watched as it goes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import number_in
from trioflow.demo._visits import Visit, visit_of

CAPACITY: Final = 32


@tf.readable
async def counting(numbers: tf.SendChannel[int], per_second: float) -> None:
    number = 0
    while True:
        await numbers.send(number := number + 1)
        await trio.sleep(1 / per_second)


@tf.transform
async def squared(numbers: tf.ReceiveChannel[int], squares: tf.SendChannel[int]) -> None:
    async for number in numbers:
        await squares.send(number * number)


@tf.writable
async def slowly(squares: tf.ReceiveChannel[int], visit: Visit) -> None:
    async for _ in squares:
        await trio.sleep(1 / visit.pace)


async def slow_reader(request: http.Request, response: http.Response) -> None:
    visit, watch = visit_of(request), tf.monitor()
    response.headers["content-type"] = "text/event-stream"
    async with trio.open_nursery() as nursery:
        run = partial[Any](tf.pipeline, capacity=CAPACITY, monitor=watch)
        nursery.start_soon(run, counting(50), squared(), slowly(visit))
        looks = tf.from_iterable(watch.snapshots(every=0.1))
        await looks.pipe(tf.map(as_data)).pipe(http.events()).pipe(response)


def as_data(look: Any) -> str:
    return json.dumps(look.as_dict())


async def pace(request: http.Request, response: http.Response) -> None:
    visit_of(request).pace = number_in(request, "per_second", 12, low=1, high=200)
