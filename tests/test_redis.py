from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.redis_server import Server
from trioflow import redis

pytestmark = pytest.mark.needs("redis-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").ask("FLUSHALL")


@pytest.fixture
def url(server: Server) -> str:
    return server.url


async def test_what_was_sent_is_received_in_order_and_then_ends(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send({"n": 1})
        await send.send_many([2, None, "four"])

    got = []
    with trio.fail_after(10):
        async with redis.open_receiver(url, "jobs", group="g") as receive:
            async for delivery in receive:
                async with delivery:
                    got.append(delivery.value)
                assert delivery.times == 1

    assert got == [{"n": 1}, 2, None, "four"]
    assert await redis.status(url, "jobs") == (0, 0, 0, 0, True, True)


async def test_from_end_to_end_an_entry_is_acknowledged_when_its_result_is_stored(url: str) -> None:
    async def double(n: int) -> int:
        return n * 2

    await tf.from_iterable(range(100)).pipe(redis.writable(url, "jobs"))
    with trio.fail_after(10):
        stored = (
            await redis.readable(url, "jobs", group="g").pipe(tf.map_async(double)).pipe(redis.writable(url, "results"))
        )
        results: list[Any] = await (
            redis.readable(url, "results", group="g").pipe(redis.acknowledge()).pipe(tf.collect())
        )

    assert stored == 100
    assert results == [n * 2 for n in range(100)]
