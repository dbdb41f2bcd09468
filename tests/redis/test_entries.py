"""The options of an entry: headers, a delay, a time to live, a key for order, and an idempotency key."""

from __future__ import annotations

import json
import math
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from tests.redis.server import PATIENCE, Server, until
from trioflow import redis

pytestmark = pytest.mark.needs("redis-server")

LEASE = 0.6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    server.ask("FLUSHALL")
    return server.url


async def take_all(url: str, **options: Any) -> list[redis.Delivery[Any]]:
    """Return all deliveries until the end of the stream, each of them done."""
    got = []
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", **{"lease": LEASE, **options}) as receive:
            async for delivery in receive:
                got.append(delivery)
                delivery.done()
    return got


async def test_headers_and_the_key_arrive_with_the_item_by_hand_and_in_chains(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send(1)
        await send.send(2, headers={"traceparent": "00-ä", "content-type": ""}, key="k")

    def decode(entry: redis.Entry) -> tuple[int, str]:
        return json.loads(entry), entry.headers.get("traceparent", "none")

    def encode(item: tuple[int, str]) -> redis.Entry:
        return redis.Entry(json.dumps(item[0]), headers={"trace": item[1]}, key=f"key {item[0]}")

    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", decode=decode)
        await jobs.pipe(redis.writable(url, "results", encode=encode))
        async with redis.open_receiver(url, "results", group="g", prefetch=2) as receive:
            first, second = await receive.receive(), await receive.receive()

    assert (first.value, first.headers, first.key) == (1, {"trace": "none"}, "key 1")
    assert (second.value, second.headers, second.key) == (2, {"trace": "00-ä"}, "key 2")
    with pytest.raises(TypeError):
        second.headers["x"] = "y"  # type: ignore[index]


async def test_an_entry_passes_one_that_was_sent_before_it_and_is_delayed(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send("late", delay=PATIENCE * 2)
        await send.send("now")
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_receiver(url, "jobs", group="g", prefetch=9, lease=LEASE) as receive,
            await receive.receive() as first,
        ):
            status = await redis.status(url, "jobs")

    assert first.value == "now"
    assert (status.waiting, status.delayed, [receiver.held for receiver in status.receivers]) == (1, 1, [1])


async def test_a_delayed_entry_arrives_when_it_is_due_and_the_stream_ends_after_it(url: str) -> None:
    begun = trio.current_time()
    async with redis.open_sender(url, "jobs") as send:
        await send.send("late", delay=0.7)
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", prefetch=9, lease=LEASE) as receive:
            async with await receive.receive() as delivery:
                seconds = trio.current_time() - begun
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()

    assert (delivery.value, delivery.times) == ("late", 1)
    assert seconds > 0.69


async def test_a_receiver_that_leaves_or_dies_does_not_advance_a_delayed_entry(server: Server, url: str) -> None:
    begun = trio.current_time()
    async with redis.open_sender(url, "jobs") as send:
        await send.send(1, delay=1)
    async with redis.open_receiver(url, "jobs", group="g", receiver="a"):
        await until(lambda: waits(url, 1))
    server.ask("XREADGROUP", "GROUP", "g", "a", "STREAMS", "{jobs}:stream", ">")

    [delivery] = await take_all(url, receiver="a")

    assert (delivery.times, trio.current_time() - begun > 0.99) == (1, True)


async def waits(url: str, count: int) -> bool:
    return (await redis.status(url, "jobs")).waiting == count


async def pauses(url: str, give_back: Callable[[redis.Delivery[Any]], None], **options: Any) -> list[float]:
    """Return how long the second and third delivery of an item took to arrive after the one before was given back."""
    async with redis.open_sender(url, "jobs") as send:
        await send.send(1)
    found: list[float] = []
    given_back = trio.current_time()
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", tries=3, lease=0.15, **options) as receive:
            async for delivery in receive:
                if delivery.times > 1:
                    found.append(trio.current_time() - given_back)
                given_back = trio.current_time()
                give_back(delivery)
    assert (await redis.status(url, "jobs")).dead == 1
    return found


async def test_a_retry_waits_twice_as_long_each_time(url: str) -> None:
    first, second = await pauses(url, lambda delivery: delivery.give_back(), retry_delay=0.4, max_retry_delay=0.7)

    assert first > 0.19  # 0.4, shortened at random by up to half; the server counts whole milliseconds
    assert second > 0.34  # 0.7, too


async def test_a_retry_waits_as_long_as_the_handler_says(url: str) -> None:
    def say(delivery: redis.Delivery[Any]) -> None:
        delivery.give_back(delay=0.5 if delivery.times == 1 else 0)

    first, second = await pauses(url, say, retry_delay=1000)

    assert first > 0.49
    assert second < 500  # fails after PATIENCE if it waits for so long


async def test_expired_entries_are_deleted_and_counted_wherever_they_were(server: Server, url: str) -> None:
    async with redis.open_sender(url, "jobs", capacity=5) as send:
        await send.send("unread", ttl=0.1)
        await send.send("delayed", ttl=0.1, delay=9)
        await send.send("kept", ttl=99)
        await send.send("tried", ttl=2)  # long enough for a busy machine to deliver it before
    with trio.fail_after(PATIENCE):
        await trio.sleep(0.12)
        async with redis.open_receiver(url, "jobs", group="g", lease=LEASE) as receive:
            async with await receive.receive() as first:
                pass
            second = await receive.receive()
            await trio.sleep(2)
            second.give_back()
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()

    assert (first.value, second.value) == ("kept", "tried")
    status = await redis.status(url, "jobs")
    assert (status.expired, status.entries, status.waiting, status.delayed, status.is_ended) == (3, 0, 0, 0, True)


async def test_an_item_whose_idempotency_key_is_known_is_not_stored_again(server: Server, url: str) -> None:
    def grow_old() -> None:
        server.ask("ZADD", "{jobs}:once", "XX", 1, "order-1", 1, "order-2")

    async with redis.open_sender(url, "jobs", capacity=3, idempotency_window=1000) as send:
        with trio.fail_after(PATIENCE):
            for n in (1, 1, 1, 2, 1):  # more than there is room for
                await send.send(n, idempotency_key=f"order-{n}")
        async with redis.open_sender(url, "jobs") as other:
            await other.send(1, idempotency_key="order-1")
        assert send.stored == 5
        status = await redis.status(url, "jobs")
        assert (status.entries, status.idempotency_keys) == (2, 2)
        grow_old()
        await send.send(1, idempotency_key="order-1")
        assert server.ask("ZCARD", "{jobs}:once") == b":1\r\n"  # keys that are too old are forgotten
        grow_old()

    assert server.ask("EXISTS", "{jobs}:once") == b":0\r\n"
    assert [delivery.value for delivery in await take_all(url)] == [1, 2, 1]


async def test_entries_of_one_key_are_processed_in_order_one_at_a_time_even_if_receivers_die_or_fail(
    server: Server, url: str
) -> None:
    chance = random.Random(7)
    keys, each = 6, 6
    done: dict[str, list[int]] = defaultdict(list)
    busy: Counter[str] = Counter()
    failed: set[tuple[str, int]] = set()
    leavers = 0

    async def handle(delivery: redis.Delivery[Any]) -> None:
        key, n = delivery.value
        busy[key] += 1
        assert delivery.key is None or busy[key] == 1
        try:
            await trio.sleep(chance.random() / 200)
        finally:
            busy[key] -= 1
        if n in (1, 4) and (key, n) not in failed:
            failed.add((key, n))
            delivery.give_back(delay=chance.choice([0, 0.05]))
        else:
            done[key].append(n)
            delivery.done()

    async def work(nursery: trio.Nursery) -> None:
        nonlocal leavers
        async with (
            redis.open_receiver(url, "jobs", group="g", prefetch=5, tries=99, lease=LEASE) as receive,
            trio.open_nursery() as tasks,
        ):
            async for delivery in receive:
                tasks.start_soon(handle, delivery)
                if leavers < 5 and delivery.value[1] > 1:
                    leavers += 1
                    nursery.start_soon(work, nursery)
                    tasks.cancel_scope.cancel()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, nursery)
            async with redis.open_sender(url, "jobs", capacity=500) as send:
                for n in range(each):
                    for key in map(str, range(keys)):
                        await send.send([key, n], key=key)
                    await send.send(["plain", n])
                    # The first entries of some keys, and some that follow others.
                    server.ask("XREADGROUP", "GROUP", "g", "dead", "COUNT", 3, "STREAMS", "{jobs}:stream", ">")
                    nursery.start_soon(work, nursery)

    assert len(failed) == 2 * (keys + 1)
    assert leavers == 5
    for key in map(str, range(keys)):
        assert done[key] == [*range(each)]
    assert sorted(done["plain"]) == [*range(each)]
    assert server.ask("EXISTS", "{jobs}:order", "{jobs}:later", "{jobs}:why") == b":0\r\n"


async def test_a_dead_letter_keeps_headers_and_key_and_lets_the_next_entry_of_its_key_proceed(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        for n in range(2):
            await send.send(n, headers={"n": str(n)}, key="k")
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", prefetch=2, tries=1, lease=0.15) as receive:
            (await receive.receive()).give_back(error=ValueError())
            async with await receive.receive() as second:
                assert second.value == 1
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()

    [letter] = await redis.dead_letters(url, "jobs")
    assert (letter.raw, letter.headers, letter.key) == (b"0", {"n": "0"}, "k")
    await redis.requeue_dead_letters(url, "jobs")
    [again] = await take_all(url)
    assert (again.value, again.headers, again.key) == (0, {"n": "0"}, "k")


async def test_entries_deleted_by_others_or_lost_with_their_stream_block_nothing(server: Server, url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        for n in range(3):
            await send.send(n, key="k")
    first = server.ask("XRANGE", "{jobs}:stream", "-", "+", "COUNT", 1).split(b"\r\n")[3].decode()
    server.ask("XDEL", "{jobs}:stream", first)

    assert [delivery.value for delivery in await take_all(url, prefetch=3)] == [1, 2]
    assert server.ask("EXISTS", "{jobs}:order") == b":0\r\n"

    async with redis.open_sender(url, "others") as send:
        await send.send(1, key="k", delay=99)
    async with redis.open_receiver(url, "others", group="g"):
        await until(lambda: server.ask("ZCARD", "{others}:later") == b":1\r\n")
    server.ask("DEL", "{others}:stream")
    with pytest.raises(redis.StreamLost):
        async with redis.open_sender(url, "others"):
            pass
    assert server.ask("EXISTS", "{others}:order", "{others}:later") == b":0\r\n"


@pytest.mark.parametrize("fault", ["cut", "oom", "silent"])
async def test_faults_neither_advance_delayed_entries_nor_mix_up_keys(server: Server, url: str, fault: str) -> None:
    done: list[Any] = []
    sent_at = 0.0

    async def work() -> None:
        async with redis.open_receiver(url, "jobs", group="g", prefetch=4, lease=LEASE) as receive:
            async for delivery in receive:
                async with delivery:
                    done.append(delivery.value)
                    if delivery.value[0] == "late":
                        assert trio.current_time() - sent_at > 0.89
                    await trio.sleep(0.005)

    async def disturb() -> None:
        while True:
            if fault == "cut":
                server.cut_all()
            elif fault == "oom":
                server.ask("CONFIG", "SET", "maxmemory", 1)
                await until(lambda: server.refusals() > 0)
                server.ask("CONFIG", "SET", "maxmemory", 0)
            else:
                server.send(signal.SIGSTOP)
                await trio.sleep(0.1)
                server.send(signal.SIGCONT)
            await trio.sleep(0.1)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as disturbing:
            async with trio.open_nursery() as nursery, redis.open_sender(url, "jobs") as send:
                sent_at = trio.current_time()
                await send.send(["late", 0], delay=0.9)
                disturbing.start_soon(disturb)
                for _ in range(2):
                    nursery.start_soon(work)
                for n in range(40):
                    key = "abc"[n % 3]
                    await send.send([key, n], key=key, idempotency_key=str(n))
            disturbing.cancel_scope.cancel()
        server.ask("CONFIG", "SET", "maxmemory", 0)

    for key in "abc":
        numbers = [n for name, n in done if name == key]
        assert [*dict.fromkeys(numbers)] == [n for n in range(40) if "abc"[n % 3] == key]
    assert ["late", 0] in done


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"headers": {"n": 1}}, TypeError, "headers must be a mapping of str to str, got {'n': 1}"),
        ({"headers": [("a", "b")]}, TypeError, "headers must be a mapping of str to str"),
        ({"headers": {"a": "\udc80"}}, ValueError, "surrogates not allowed"),
        ({"key": 7}, TypeError, "key must be a str or None, got 7"),
        ({"key": ""}, ValueError, "key must be a non-empty str without NUL"),
        ({"idempotency_key": "a\0"}, ValueError, "idempotency_key must be a non-empty str without NUL"),
        ({"delay": -1}, ValueError, "delay must be above 0, got -1"),
        ({"delay": True}, TypeError, "delay must be a number, got True"),
        ({"delay": math.inf}, ValueError, "delay must be at most 1,000,000,000 seconds, got inf"),
        ({"ttl": 0}, ValueError, "ttl must be above 0, got 0"),
        ({"ttl": math.nan}, ValueError, "ttl must be above 0, got nan"),
        ({"ttl": "9"}, TypeError, "ttl must be a number, got '9'"),
    ],
    ids=str,
)
async def test_R1_options_of_an_item_are_checked(url: str, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        redis.Entry(b"", **options)
    async with redis.open_sender(url, "jobs") as send:
        with pytest.raises(error, match=message):
            await send.send(1, **options)
    assert (await redis.status(url, "jobs")).entries == 0


async def test_R1_an_entry_can_copy_the_options_of_another_and_the_ends_check_theirs() -> None:
    first = redis.Entry("ä", headers={"a": "b"}, key="k", delay=1)
    second = redis.Entry(first, key="l")
    assert (second, second.headers, second.key, second._options["delay"]) == ("ä".encode(), {"a": "b"}, "l", 1000)
    with pytest.raises(TypeError, match="data must be bytes or a str, got 7"):
        redis.Entry(7)  # type: ignore[arg-type]
    for options in ({"retry_delay": -1}, {"max_retry_delay": 0}, {"retry_delay": math.inf}):
        with pytest.raises(ValueError, match="retry_delay must be"):
            redis.open_receiver("redis://localhost", "jobs", group="g", **options)
    with pytest.raises(ValueError, match="idempotency_window must be above 0"):
        redis.open_sender("redis://localhost", "jobs", idempotency_window=0)
