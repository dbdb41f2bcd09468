"""Dead letters have a reason, and can be listed, requeued, dropped and trimmed; `status` shows what receivers hold."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import trio

import trioflow as tf
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis.letters import MESSAGE_LENGTH

pytestmark = pytest.mark.needs("redis-server")

LEASE = 0.3


@pytest.fixture
def url(server: Server) -> str:
    return server.url


async def fill(url: str, items: Any) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send_many(items)


async def fail_all(url: str, error: BaseException | None = None, *, tries: int = 1) -> None:
    """Turn everything into dead letters, and wait for the end."""
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(
            url, "jobs", group="g", receiver="r", prefetch=10, tries=tries, lease=LEASE
        ) as receive:
            async for delivery in receive:
                if error is None:
                    delivery.give_back()
                    continue
                with suppress(Exception):
                    async with delivery:
                        raise error


async def take_all(url: str) -> list[Any]:
    with trio.fail_after(PATIENCE):
        return await redis.readable(url, "jobs", group="g").pipe(redis.acknowledge()).pipe(tf.collect())


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (ValueError("two words, and\na line: \udc80 ö"), "ValueError", "two words, and\na line: \\udc80 ö"),
        (json.JSONDecodeError("bad", "x", 0), "JSONDecodeError", "bad: line 1 column 1 (char 0)"),
        (Silent(), "Silent", ""),
        (KeyError(), "KeyError", ""),
        (ValueError("long" * 1000), "ValueError", "long" * (MESSAGE_LENGTH // 4)),
        (type("Two words", (Exception,), {})("x"), "Twowords", "x"),
        (ExceptionGroup("nursery", [ValueError("inner")]), "ValueError", "inner"),
        (ExceptionGroup("both", [ValueError(), KeyError()]), "ExceptionGroup", "both (2 sub-exceptions)"),
        (None, "", ""),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_dead_letter_has_the_error_of_its_last_try(
    url: str, error: BaseException | None, name: str, message: str
) -> None:
    await fill(url, [1])

    await fail_all(url, error)

    [letter] = await redis.dead_letters(url, "jobs")
    assert (letter.raw, letter.tries, letter.receiver, letter.error, letter.message) == (b"1", 1, "r", name, message)


async def test_a_dead_letter_of_a_chain_has_the_error_of_its_function_for_single_entries_and_lists(url: str) -> None:
    def refuse(items: list[int]) -> Any:
        raise KeyError(items[0])

    await fill(url, [1, 2])
    jobs = redis.readable(url, "jobs", group="g", on_error="return", tries=1, lease=LEASE)
    with trio.fail_after(PATIENCE):
        await jobs.pipe(tf.batch(2, within=0.1)).pipe(tf.map(refuse)).pipe(redis.writable(url, "results"))

    letters = await redis.dead_letters(url, "jobs")
    assert [(letter.raw, letter.error) for letter in letters] == [(b"1", "KeyError"), (b"2", "KeyError")]


async def test_a_dead_letter_of_a_receiver_that_died_names_it_and_not_an_earlier_error(server: Server) -> None:
    await fill(server.url, [1])
    async with redis.open_receiver(server.url, "jobs", group="g", tries=2, lease=LEASE) as receive:
        with suppress(ValueError):
            async with await receive.receive():
                raise ValueError("first")
        await until(lambda: server.ask("HLEN", "{jobs}:why") == b":1\r\n")
    assert b"1" in server.ask("XCLAIM", "{jobs}:stream", "g", "dead", 0, await entry_of(server), "RETRYCOUNT", 2)

    await fail_all(server.url, tries=2)

    [letter] = await redis.dead_letters(server.url, "jobs")
    assert letter[2:6] == (2, "dead", "", "gave no sign of life for its lease")
    assert server.ask("HLEN", "{jobs}:why") == b":0\r\n"


async def entry_of(server: Server) -> str:
    """Return the id of the first entry."""
    return server.ask("XRANGE", "{jobs}:stream", "-", "+", "COUNT", 1).split(b"\r\n")[3].decode()


async def test_an_entry_that_succeeds_in_the_end_leaves_no_error(server: Server) -> None:
    await fill(server.url, [1, 2])

    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(server.url, "jobs", group="g", lease=LEASE) as receive:
            async for delivery in receive:
                with suppress(ValueError):
                    async with delivery:
                        if delivery.times == 1:
                            raise ValueError("at first")

    assert server.ask("EXISTS", "{jobs}:why") == b":0\r\n"
    status = await redis.status(server.url, "jobs")
    assert (status.retries, status.dead, status.is_ended) == (2, 0, True)


async def test_dead_letters_can_be_requeued_and_the_stream_ends_again(url: str) -> None:
    await fill(url, range(3))
    await fail_all(url)
    one, two, three = await redis.dead_letters(url, "jobs")
    assert (await redis.status(url, "jobs")).is_ended

    assert await redis.requeue_dead_letters(url, "jobs", [two.id, "0-1"]) == 1
    status = await redis.status(url, "jobs")
    assert (status.entries, status.dead, status.is_closed, status.is_ended) == (1, 2, True, False)
    assert await take_all(url) == [1]
    assert await redis.requeue_dead_letters(url, "jobs") == 2
    assert await redis.requeue_dead_letters(url, "jobs") == 0

    assert await take_all(url) == [0, 2]
    assert await take_all(url) == []
    assert (await redis.status(url, "jobs")).is_ended
    assert one.id < three.id


async def test_dead_letters_can_be_requeued_while_a_receiver_has_taken_the_end(server: Server) -> None:
    await fill(server.url, [1])
    await fail_all(server.url)
    assert b"end" in server.ask("XREADGROUP", "GROUP", "g", "dead", "STREAMS", "{jobs}:stream", ">")

    assert await redis.requeue_dead_letters(server.url, "jobs") == 1

    assert await take_all(server.url) == [1]


async def test_more_dead_letters_than_a_page_can_be_dropped_or_trimmed(server: Server) -> None:
    for n in range(250):
        server.ask("XADD", "{jobs}:dead", f"{n + 1}-0", "v", n, "id", f"{n}-1", "tries", 1, "why", "r E m")

    assert await redis.drop_dead_letters(server.url, "jobs", ["0-1", "249-1", "300-1"]) == 2
    assert await redis.trim_dead_letters(server.url, "jobs", 240) == 8
    assert [letter.id for letter in await redis.dead_letters(server.url, "jobs", limit=2)] == ["9-1", "10-1"]
    assert await redis.drop_dead_letters(server.url, "jobs", []) == 0
    assert await redis.drop_dead_letters(server.url, "jobs") == 240
    assert await redis.trim_dead_letters(server.url, "jobs", 0) == 0


async def test_requeuing_dead_letters_of_a_deleted_stream_is_an_error(server: Server) -> None:
    server.ask("XADD", "{jobs}:dead", "*", "v", 1, "id", "1-1", "tries", 1, "why", "r E m")
    await fill(server.url, [1])
    server.ask("DEL", "{jobs}:stream")
    with pytest.raises(redis.StreamLost, match="is gone, with 1 entries"):
        await redis.requeue_dead_letters(server.url, "jobs")

    assert (await redis.status(server.url, "jobs")).dead == 1


@pytest.mark.parametrize("ids", ["1-1", [1]], ids=str)
async def test_R1_ids_that_are_not_a_list_of_str_are_refused(ids: Any) -> None:
    for function in (redis.requeue_dead_letters, redis.drop_dead_letters):
        with pytest.raises(TypeError, match="ids must be an iterable of str"):
            await function("redis://localhost", "jobs", ids)
    with pytest.raises(ValueError, match="keep must be at least 0, got -1"):
        await redis.trim_dead_letters("redis://localhost", "jobs", -1)


async def test_status_shows_what_each_receiver_holds_how_much_waits_and_for_how_long(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        async with redis.open_sender(server.url, "jobs") as send:
            assert (await redis.status(server.url, "jobs")).oldest == 0
            await send.send_many(range(5))
            async with (
                redis.open_receiver(server.url, "jobs", group="g", receiver="a", prefetch=2) as receive,
                redis.open_receiver(server.url, "jobs", group="g", receiver="b", tries=9) as other,
            ):
                first, second, third = await receive.receive(), await receive.receive(), await other.receive()
                server.ask("XCLAIM", "{jobs}:stream", "g", "dead", 0, second.id)
                third.give_back()
                fourth = await other.receive()
                status = await redis.status(server.url, "jobs")

                assert (status.lag, status.returned, fourth.times) in {(1, 1, 1), (2, 0, 2)}
                held = {receiver.name: receiver.held for receiver in status.receivers}
                assert held == {"a": 1, "b": 1, "dead": 1}
                alive = {receiver.name for receiver in status.receivers if 20 < receiver.lease <= 30}
                assert alive == {"a", "b"}
                await until(lambda: is_older(server, 0.05))
                first.done()
            assert (await redis.status(server.url, "jobs")).receivers == (("dead", 1, 0.0),)


async def is_older(server: Server, age: float) -> bool:
    return age < (await redis.status(server.url, "jobs")).oldest < PATIENCE
