"""How a Python program times itself, and the functions that all programs apply.

Prints one JSON object: `runs` of the work, the `wall` and `cpu` seconds of all of them, and the last one's `result`.
"""

import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


def plus_one(n: int) -> int:
    return n + 1


def twice(n: int) -> int:
    return n * 2


def is_kept(n: int) -> bool:
    return n % 3 != 0


def summary(numbers: list[int]) -> list[int]:
    return [len(numbers), sum(numbers)]


async def repeated(job: Callable[[int], Awaitable[list[int]]], count: int, seconds: float) -> None:
    """Warm up with a twentieth of the work, then repeat all of it for `seconds` at least."""
    await job(max(1, count // 20))
    runs = 0
    cpu, wall = time.process_time(), time.perf_counter()
    while True:
        result = await job(count)
        runs += 1
        took = time.perf_counter() - wall
        if took >= seconds:
            break
    tell(runs, took, time.process_time() - cpu, summary(result))


async def once_each(job: Callable[[], Awaitable[int]], times: int) -> None:
    """Warm up with a twentieth, then repeat a small work `times` times."""
    result = 0
    for _ in range(max(1, times // 20)):
        result += await job()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        result += await job()
    tell(times, time.perf_counter() - wall, time.process_time() - cpu, result)


async def once(job: Callable[[], Awaitable[Any]]) -> None:
    """Do a large work once."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = await job()
    tell(1, time.perf_counter() - wall, time.process_time() - cpu, result)


def tell(runs: int, wall: float, cpu: float, result: Any) -> None:
    print(json.dumps({"runs": runs, "wall": wall, "cpu": cpu, "result": result}))


def waiting(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Make an async function of a plain one."""

    async def run(*args: Any) -> Any:
        return function(*args)

    return run


def drive(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
    """Run an async function that never waits, without an event loop."""
    try:
        function(*args).send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits")
