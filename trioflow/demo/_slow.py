"""A slow reader, and its effect on the stages upstream, shown live."""

from __future__ import annotations

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
    visit, inspector = visit_of(request), tf.Inspector()
    async with trio.open_nursery() as nursery:
        run = partial[Any](tf.pipeline, capacity=CAPACITY, monitor=inspector)
        nursery.start_soon(run, counting(50), squared(), slowly(visit))
        request.path = "/events"
        await http.inspector(inspector, every=0.1)(request, response)
        nursery.cancel_scope.cancel()


async def pace(request: http.Request, response: http.Response) -> None:
    visit_of(request).pace = number_in(request, "per_second", 12, low=1, high=200)
