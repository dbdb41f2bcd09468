"""What stays in the server and for how long: senders, their state, and dead letters."""

from __future__ import annotations

import math

import pytest
import trio

from tests.redis.server import PATIENCE, Server
from trioflow import redis

pytestmark = pytest.mark.needs("redis-server")


async def send_one_each(url: str, *producers: str | None) -> None:
    for producer in producers:
        async with redis.open_sender(url, "jobs", producer=producer) as send:
            await send.send(1)


async def test_nothing_is_kept_of_a_closed_sender_without_a_name(server: Server) -> None:
    async with redis.open_sender(server.url, "jobs", producer="coordinator"):
        await send_one_each(server.url, *[None] * 20)

        assert server.ask("HLEN", "{jobs}:meta") == b":3\r\n"  # the coordinator's token; closing, length
        assert (await redis.status(server.url, "jobs"))[:8] == (20, 0, 0, 1, False, False, 0, 0)


async def test_a_closed_sender_with_a_name_is_remembered_for_a_week(server: Server) -> None:
    async with redis.open_sender(server.url, "jobs", producer="coordinator"):
        await send_one_each(server.url, "p", "q")
        assert (await redis.status(server.url, "jobs")).remembered == 2
        async with redis.open_sender(server.url, "jobs", producer="p") as send:
            assert send.stored == 1
            assert (await redis.status(server.url, "jobs")).remembered == 1
        server.ask("ZADD", "{jobs}:closed", 1, "q")  # long ago
        await send_one_each(server.url, "r")

        assert (await redis.status(server.url, "jobs")).remembered == 2
        async with redis.open_sender(server.url, "jobs", producer="q") as send:
            assert send.stored == 0


async def test_a_failed_sender_is_listed_and_can_be_dropped_so_that_the_stream_ends(server: Server) -> None:
    async def send_and_fail() -> None:
        async with redis.open_sender(server.url, "jobs") as send:
            await send.send(1)
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        await send_and_fail()

    [sender] = await redis.senders(server.url, "jobs")
    assert sender == (sender.producer, 1, math.inf)
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(server.url, "jobs", group="g") as receive:
            async with await receive.receive():
                pass
            assert not await redis.drop_sender(server.url, "jobs", "nobody")
            assert await redis.drop_sender(server.url, "jobs", sender.producer)
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()
    assert await redis.senders(server.url, "jobs") == []
    with pytest.raises(ValueError, match="producer must be a word"):
        await redis.drop_sender(server.url, "jobs", "")


async def test_a_sender_dropped_while_alive_registers_again_and_stores_nothing_twice(server: Server) -> None:
    async with (
        redis.open_sender(server.url, "jobs", producer="coordinator"),
        redis.open_sender(server.url, "jobs", producer="p") as send,
    ):
        await send.send(1)
        assert await redis.drop_sender(server.url, "jobs", "p")
        await send.send(2)
        status = await redis.status(server.url, "jobs")
        assert (status.entries, status.senders, status.remembered) == (2, 2, 0)


async def test_a_sender_with_a_lease_is_listed_with_the_remaining_time(server: Server) -> None:
    server.ask("ZADD", "{jobs}:senders", int(server.ask("TIME").split(b"\r\n")[2]) * 1000 + 60_000, "p")

    [sender] = await redis.senders(server.url, "jobs")
    assert 50 < sender.lease <= 61


async def test_the_newest_dead_letters_are_kept_and_the_rest_are_counted(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        async with redis.open_sender(server.url, "jobs") as send:
            await send.send_many(range(10))
        async with redis.open_receiver(
            server.url, "jobs", group="g", prefetch=10, tries=1, lease=0.3, dead_letters=3
        ) as receive:
            async for delivery in receive:
                delivery.give_back()

    assert [letter.raw for letter in await redis.dead_letters(server.url, "jobs")] == [b"7", b"8", b"9"]
    status = await redis.status(server.url, "jobs")
    assert (status.dead, status.dropped, status.is_ended) == (3, 7, True)
