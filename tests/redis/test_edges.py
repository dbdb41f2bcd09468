"""Rare events in a stream in Redis: refused commands, names taken over, an end that a dead receiver had taken."""

from __future__ import annotations

import dataclasses
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioflow as tf
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis.receiver_scripts import RENEW
from trioflow.redis.scripts import Script

pytestmark = pytest.mark.needs("redis-server")

LEASE = 0.3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, "--appendonly", "no", "--user", "me", "on", ">me", "~*", "&*", "+@all") as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.url.replace("//", "//me:me@")


async def fill(url: str, items: Any, name: str = "jobs") -> None:
    async with redis.open_sender(url, name) as send:
        await send.send_many(items)


async def take_all(url: str, name: str = "jobs", **options: Any) -> list[Any]:
    with trio.fail_after(PATIENCE):
        source = redis.readable(url, name, group="g", lease=LEASE, **options)
        return await source.pipe(redis.acknowledge()).pipe(tf.collect())


async def test_the_end_that_a_dead_receiver_had_taken_is_delivered_to_others(server: Server, url: str) -> None:
    async with redis.open_receiver(url, "jobs", group="g"):
        pass
    await fill(url, [])
    assert b"end" in server.ask("XREADGROUP", "GROUP", "g", "dead", "STREAMS", "{jobs}:stream", ">")

    assert await take_all(url) == []
    assert await take_all(url) == []


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have its attributes set."""

    code: int


def refuse(_: object) -> Any:
    raise Frozen(403)


async def test_R11_an_exception_that_rejects_attributes_is_raised_itself(url: str) -> None:
    async def in_a_sender() -> None:
        async with redis.open_sender(url, "jobs"):
            refuse(1)

    async def in_a_receiver() -> None:
        async with redis.open_receiver(url, "jobs", group="g"):
            refuse(1)

    async def in_a_delivery() -> None:
        await fill(url, [1])
        async with redis.open_receiver(url, "jobs", group="g") as receive, await receive.receive():
            refuse(1)

    for run in (
        in_a_sender,
        in_a_receiver,
        in_a_delivery,
        lambda: tf.from_iterable([1]).pipe(redis.writable(url, "others", encode=refuse)),
        lambda: redis.readable(url, "jobs", group="g", decode=refuse).pipe(redis.acknowledge()).pipe(tf.drain()),
    ):
        with trio.fail_after(PATIENCE), pytest.raises(Frozen) as caught:
            await run()
        assert caught.value.code == 403


async def nothing_comes(receive: tf.ReceiveChannel[Any], answered: Counter[Script]) -> None:
    """Check that nothing is delivered while a receiver with room queries several times."""
    renewed = answered[RENEW] + 4
    await until(lambda: answered[RENEW] >= renewed)
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()


async def test_an_entry_gets_its_last_try_only_when_no_other_is_in_progress(
    url: str, answered: Counter[Script]
) -> None:
    await fill(url, range(3))
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", prefetch=3, tries=2, lease=LEASE) as receive:
            first, second, third = [await receive.receive() for _ in range(3)]
            assert repr(first).startswith("<Delivery ")
            first.give_back(together=True)
            await nothing_comes(receive, answered)
            second.done()
            third.give_back(together=True)  # its last try too, and the two are not delivered together
            again = await receive.receive()
            await nothing_comes(receive, answered)
            again.done()
            last = await receive.receive()
            last.done()

    assert (first.value, third.value) == (again.value, last.value)
    assert (again.times, last.times) == (2, 2)


@pytest.mark.parametrize("stage", [tf.flat_map, tf.filter])
async def test_a_function_that_fails_gives_its_entry_back_whatever_it_returns(url: str, stage: Any) -> None:
    def give(n: int) -> list[int]:
        return [12 // n]

    await fill(url, [0, 1, 2])
    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", on_error="return", tries=1, lease=LEASE)
        stored = await jobs.pipe(stage(give)).pipe(redis.writable(url, "results"))

    assert stored == 2
    assert (await redis.status(url, "jobs")).dead == 1


async def test_all_entries_of_a_list_that_fails_are_given_back(url: str, mock_clock: MockClock) -> None:
    tried = []

    async def store(numbers: list[int]) -> int:
        mock_clock.rate = (
            1  # the clock stands still until the first list, which is full however late its entries arrive
        )
        tried.append(numbers)
        if len(numbers) > 1:
            raise ValueError("too many")
        return sum(numbers)

    await fill(url, [1, 2, 3])
    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", on_error="return", tries=2, lease=LEASE)
        stored = (
            await jobs.pipe(tf.batch(3, within=0.25)).pipe(tf.map_async(store)).pipe(redis.writable(url, "results"))
        )

    assert tried[0] == [1, 2, 3]
    assert sorted(tried[1:]) == [[1], [2], [3]]  # the last try, each alone
    assert stored == 3


async def test_a_refused_permission_is_raised_and_not_retried(server: Server, url: str) -> None:
    async def sending() -> None:
        async with redis.open_sender(url, "jobs") as send:
            server.ask("ACL", "SETUSER", "me", "-evalsha")
            await send.send(1)

    async def reading() -> None:
        async with redis.open_receiver(url, "jobs", group="g"):
            server.ask("ACL", "SETUSER", "me", "-xreadgroup")
            await trio.sleep_forever()

    async def settling() -> None:
        await fill(url, [1], "others")
        async with redis.open_receiver(url, "others", group="g") as receive:
            delivery = await receive.receive()
            server.ask("ACL", "SETUSER", "me", "-evalsha")
            delivery.done()
            await trio.sleep_forever()

    async def opening() -> None:
        server.ask("ACL", "SETUSER", "me", "-evalsha")
        async with redis.open_sender(url, "jobs"):
            pass

    async def joining() -> None:
        server.ask("ACL", "SETUSER", "me", "-evalsha")
        async with redis.open_receiver(url, "jobs", group="g"):
            pass

    async def closing() -> None:
        async with redis.open_sender(url, "jobs"):
            server.ask("ACL", "SETUSER", "me", "-evalsha")

    for use, complaint in (
        (sending, "'jobs' cannot be sent to"),
        (reading, "'jobs' cannot be read"),
        (settling, "'others' cannot be (acknowledged|read)"),
        (opening, "'jobs' cannot be sent to"),
        (joining, "'jobs' cannot be read"),
        (closing, "cannot be closed"),
    ):
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError, match=complaint):
            await use()
        server.ask("ACL", "SETUSER", "me", "+@all")


async def test_a_closed_receiver_gets_nothing_more_and_loses_nothing(url: str) -> None:
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g") as receive:
            receive.close()
            await fill(url, [1])

    assert await take_all(url) == [1]


async def test_a_receiver_whose_name_was_taken_over_gets_an_error(server: Server, url: str) -> None:
    async def receive() -> None:
        async with redis.open_receiver(url, "jobs", group="g", receiver="r", lease=LEASE):
            server.ask("HSET", "{jobs}:names", "r", "another 9999999999999")
            await trio.sleep_forever()

    with (
        trio.fail_after(PATIENCE),
        pytest.raises(
            trio.BrokenResourceError, match="the stream 'jobs' was taken over by another receiver called 'r'"
        ),
    ):
        await receive()


async def test_leaving_while_the_server_is_down_takes_a_limited_time(
    server: Server, url: str, mock_clock: MockClock
) -> None:
    mock_clock.rate = 1
    await fill(url, [1])
    async with redis.open_receiver(url, "jobs", group="g", lease=LEASE) as receive:
        delivery = await receive.receive()
        server.stop(signal.SIGKILL)
        mock_clock.autojump_threshold = 0
        began = trio.current_time()
        delivery.done()

    assert delivery.value == 1
    assert trio.current_time() - began < 5.1


async def test_a_sender_of_a_stream_that_has_ended_gets_an_error(server: Server, url: str) -> None:
    async def send() -> None:
        async with redis.open_sender(url, "jobs", patience=0) as sender:
            server.ask("HSET", "{jobs}:meta", "closed", 1)
            await sender.send(1)

    with pytest.raises(trio.BrokenResourceError, match="has ended: all its senders had closed"):
        await send()


async def test_work_that_takes_longer_than_the_lease_is_not_taken_over_at_either_end(url: str) -> None:
    lease = 2.0  # long enough for a busy machine, because it is renewed three times as often

    async def slow(n: int) -> int:
        await trio.sleep(lease * 1.5 * n)
        return n

    async def other() -> None:  # without work, it would close the results
        jobs = redis.readable(url, "jobs", group="g", prefetch=1, lease=lease)
        await jobs.pipe(tf.map_async(slow)).pipe(redis.writable(url, "results", lease=lease))

    await fill(url, [0, 1, 0, 1])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            nursery.start_soon(other)

    assert sorted(await take_all(url, "results")) == [0, 0, 1, 1]


@pytest.mark.parametrize("is_done", [True, False])
async def test_an_ended_stream_of_results_is_an_error_only_if_others_have_not_done_the_entry(
    server: Server, url: str, *, is_done: bool
) -> None:
    begun, may_go = trio.Event(), trio.Event()

    async def work(n: int) -> int:
        begun.set()
        await may_go.wait()
        return n

    outcome: list[object] = []

    async def run() -> None:
        jobs = redis.readable(url, "jobs", group="g", lease=LEASE)
        try:
            stages = jobs.pipe(tf.map_async(work)).pipe(tf.batch(9, within=0.01))
            outcome.append(await stages.pipe(redis.writable(url, "results")))
        except trio.BrokenResourceError as exc:
            outcome.append(exc)

    await fill(url, [1])
    await fill(url, [], "results")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await begun.wait()
            if is_done:
                entry = server.ask("XRANGE", "{jobs}:stream", "-", "+").split(b"\r\n")[3].decode()
                server.ask("XACK", "{jobs}:stream", "g", entry)
                server.ask("XDEL", "{jobs}:stream", entry)
            may_go.set()

    assert outcome == [0] or (not is_done and "has ended" in str(outcome))
    if not is_done:
        assert (await redis.status(url, "jobs")).entries == 1


@pytest.mark.parametrize("has_died", [False, True])
async def test_only_an_entry_whose_receiver_died_once_gets_its_last_try_alone(
    server: Server, url: str, answered: Counter[Script], has_died: bool
) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_sender(url, "jobs") as send,
            redis.open_receiver(url, "jobs", group="g", prefetch=3, tries=3, lease=LEASE) as receive,
        ):
            await send.send(0)
            first = await receive.receive()
            if has_died:
                server.ask("XCLAIM", "{jobs}:stream", "g", "dead", 0, first.id, "JUSTID")
            else:
                first.give_back(error=ValueError())
            second = await receive.receive()
            await send.send(1)
            other = await receive.receive()
            second.give_back(error=ValueError())
            if has_died:
                await nothing_comes(receive, answered)
                other.done()
            last = await receive.receive()

            assert (last.value, last.times, other.value) == (0, 3, 1)
            last.done()
