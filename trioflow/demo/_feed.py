"""Streams without an end: events, a list that grows as you scroll, the page's status updates."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import as_json, number_in
from trioflow.demo._memory import resident
from trioflow.demo._visits import Visit, visit_of, visiting

LISTED = 20  # entries in one answer


@tf.readable
async def tides(visit: Visit, count: int) -> AsyncIterator[http.Event]:
    with visit.source("feed") as source:  # until its reader leaves
        while True:
            level = 3 + 2.4 * math.sin(count / 7) + 0.3 * math.sin(count * 1.3)
            yield http.Event(f"{level:.2f}", id=str(count := count + 1))
            source["made"] += 1
            await trio.sleep(0.25)


async def feed(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/event-stream"
    seen = http.last_event_id(request) or ""
    since = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 12 else 0
    levels = tides(visit_of(request), since).pipe(tf.take_until(request.stopping))
    await levels.pipe(http.events()).pipe(response)


@tf.readable
async def entries(visit: Visit, start: int) -> AsyncIterator[dict[str, object]]:
    with visit.source(f"list from {start}") as source:
        for number in range(start, start + LISTED):
            yield {"number": number, "factors": factors(number)}
            source["made"] += 1
            await trio.sleep(0.05)


async def listed(request: http.Request, response: http.Response) -> None:
    start = number_in(request, "start", 2, low=2, high=1_000_000)
    response.headers["content-type"] = "application/x-ndjson"
    await entries(visit_of(request), start).pipe(tf.map(as_json)).pipe(response)


def factors(number: int) -> list[int]:
    """Return the prime factors of a number."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found + [number] * (number > 1)


async def pulse(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/event-stream"
    with visiting(request) as visit:
        beats = tf.ticks(0.1).pipe(tf.map(lambda _: json.dumps({"memory": resident(), **visit.shown()})))
        await beats.pipe(tf.take_until(request.stopping)).pipe(http.events()).pipe(response)
