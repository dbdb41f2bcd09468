from __future__ import annotations

import json
import signal
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import cancelled_at_each_step
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis.address import Address

pytestmark = pytest.mark.needs("redis-server")

LEASE = 0.6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").ask("FLUSHALL")


@pytest.fixture
def url(server: Server) -> str:
    return server.url


async def fill(url: str, items: Any, name: str = "jobs") -> None:
    async with redis.open_sender(url, name, capacity=10_000) as send:
        await send.send_many(items)


async def take_all(url: str, name: str = "jobs") -> list[Any]:
    with trio.fail_after(PATIENCE):
        source = redis.readable(url, name, group="g", lease=LEASE)
        return await source.pipe(redis.acknowledge()).pipe(tf.collect())


# ---- the two ends


async def test_R18_items_are_received_in_order_and_then_the_stream_ends(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        await send.send({"n": 1})
        await send.send_many([2, None, "", False, "é"])

    got = []
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g") as receive:
            async for delivery in receive:
                async with delivery:
                    got.append(delivery.value)
                assert delivery.times == 1

    assert got == [{"n": 1}, 2, None, "", False, "é"]
    assert (await redis.status(url, "jobs"))[:8] == (0, 0, 0, 0, True, True, 0, 0)


async def test_R6_senders_wait_while_capacity_entries_are_unread_or_unacknowledged(url: str) -> None:
    peak = 0

    async def send(first: int) -> None:
        async with redis.open_sender(url, "jobs", capacity=10) as sender:
            await sender.send_many(range(first, first + 50))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, redis.open_sender(url, "jobs") as coordinator:
            nursery.start_soon(send, 0)
            nursery.start_soon(send, 100)
            await until(lambda: has_entries(url, 10))
            got = []
            async with redis.open_receiver(url, "jobs", group="g", prefetch=4) as receive:
                for _ in range(100):
                    delivery = await receive.receive()
                    peak = max(peak, (await redis.status(url, "jobs")).entries)
                    async with delivery:
                        got.append(delivery.value)
                await coordinator.aclose()
                with pytest.raises(trio.EndOfChannel):
                    await receive.receive()

    assert peak == 10
    assert sorted(got) == [*range(50), *range(100, 150)]


async def has_entries(url: str, count: int) -> bool:
    return (await redis.status(url, "jobs")).entries == count


async def test_receivers_of_a_group_share_the_work_and_all_see_the_end(url: str) -> None:
    await fill(url, range(100))
    got: list[list[int]] = [[], [], []]
    all_have_one = trio.Event()

    async def work(mine: list[int]) -> None:
        async with redis.open_receiver(url, "jobs", group="g") as receive:
            async for delivery in receive:
                async with delivery:
                    mine.append(delivery.value)
                    if all(got):
                        all_have_one.set()
                    await all_have_one.wait()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for mine in got:
                nursery.start_soon(work, mine)

    assert sorted(n for mine in got for n in mine) == list(range(100))
    assert await take_all(url) == []  # a late receiver gets the end too


async def test_a_failing_block_gives_its_delivery_back_until_it_is_a_dead_letter(url: str) -> None:
    await fill(url, ["bad", "good"])
    seen: Counter[tuple[str, int]] = Counter()

    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", tries=3, lease=LEASE) as receive:
            async for delivery in receive:
                with suppress(ValueError):
                    async with delivery:
                        seen[delivery.value, delivery.times] += 1
                        if delivery.value == "bad":
                            raise ValueError("no")

    assert seen == {("bad", 1): 1, ("bad", 2): 1, ("bad", 3): 1, ("good", 1): 1}
    [letter] = await redis.dead_letters(url, "jobs")
    assert (json.loads(letter.raw), letter.tries) == ("bad", 3)
    assert (await redis.status(url, "jobs")).dead == 1


async def test_entries_given_back_by_a_cancelled_block_or_a_leaving_receiver_count_as_never_tried(url: str) -> None:
    await fill(url, range(5))
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", prefetch=5) as receive:
            with trio.CancelScope() as scope:
                async with await receive.receive():
                    scope.cancel()
                    await trio.sleep_forever()
        async with redis.open_receiver(url, "jobs", group="g", prefetch=5) as receive:
            got = []
            async for delivery in receive:
                async with delivery:
                    got.append((delivery.value, delivery.times))

    assert sorted(got) == [(n, 1) for n in range(5)]


async def test_cancelling_receive_loses_nothing(url: str) -> None:
    got = []
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_sender(url, "jobs") as send,
            redis.open_receiver(url, "jobs", group="g") as receive,
        ):
            for n in range(20):
                with trio.move_on_after(0.001):
                    await receive.receive()
                await send.send(n)
                async with await receive.receive() as delivery:
                    got.append(delivery.value)

    assert got == list(range(20))


async def test_a_receiver_leaves_its_group_whenever_it_is_cancelled(url: str) -> None:
    async def take_one() -> None:
        async with redis.open_receiver(url, "jobs", group="g", receiver="r") as receive, await receive.receive():
            pass

    await fill(url, range(1000))
    with trio.fail_after(PATIENCE):
        await cancelled_at_each_step(take_one)

    assert (await redis.status(url, "jobs")).receivers == ()


async def fill_and_fail(url: str) -> None:
    async with redis.open_sender(url, "jobs", producer="p") as send:
        await send.send_many([1, 2])
        1 / 0  # noqa: B018


async def test_R13_a_sender_whose_block_fails_does_not_end_the_stream(url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await fill_and_fail(url)
    assert (await redis.status(url, "jobs"))[:8] == (2, 0, 0, 1, False, False, 0, 0)

    async with redis.open_sender(url, "jobs", producer="p") as send:
        assert send.stored == 2
        await send.send(3)

    assert await take_all(url) == [1, 2, 3]


async def test_of_two_senders_with_one_name_the_newer_continues(url: str) -> None:
    async with redis.open_sender(url, "jobs", producer="p") as newer:
        async with redis.open_sender(url, "jobs", producer="q") as other:
            with pytest.raises(
                trio.BrokenResourceError, match="a newer sender to the stream 'jobs' called 'p' replaced this one"
            ):
                await overtaken(url)
            await other.send(1)
        assert (await redis.status(url, "jobs"))[:8] == (2, 0, 0, 1, False, False, 0, 1)
        with pytest.raises(trio.BrokenResourceError, match="called 'p' replaced this one"):
            await newer.send(1)
        with pytest.raises(trio.BrokenResourceError, match="called 'p' replaced this one"):
            await newer.aclose()
        await newer.aclose()
        with pytest.raises(trio.ClosedResourceError, match="this sender is closed"):
            await newer.send_many([])


async def overtaken(url: str) -> None:
    async with (
        redis.open_sender(url, "jobs", producer="p") as older,
        redis.open_sender(url, "jobs", producer="p") as newer,
    ):
        await newer.send("newer")
        await older.send("older")


async def test_a_stream_that_has_ended_accepts_no_more_items(url: str) -> None:
    await fill(url, [])

    with pytest.raises(trio.BrokenResourceError, match="the stream 'jobs' has ended"):
        await fill(url, [1])


async def test_a_second_group_is_refused(url: str) -> None:
    async with redis.open_receiver(url, "jobs", group="g"):
        with pytest.raises(ValueError, match=r"'jobs' is read by the group 'g'.*for the group 'other'"):
            async with redis.open_receiver(url, "jobs", group="other"):
                pass


async def test_a_lost_delivery_says_so_and_acknowledging_it_late_is_harmless(url: str) -> None:
    await fill(url, [1])
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", receiver="slow", lease=LEASE) as receive:
            delivery = await receive.receive()
            assert not await delivery.is_lost()
            await steal(url, delivery)
            assert await delivery.is_lost()
            assert delivery.lost
            delivery.done()
            delivery.done()
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()


async def steal(url: str, delivery: redis.Delivery[Any]) -> None:
    port = int(url.rpartition(":")[2])
    server = Server.at(port)
    server.ask("XCLAIM", "{jobs}:stream", "g", "thief", 0, delivery.id)


async def test_an_item_that_cannot_be_encoded_or_decoded_is_an_error(url: str) -> None:
    async with redis.open_sender(url, "jobs") as send:
        with pytest.raises(TypeError, match="not JSON serializable"):
            await send.send(object())
        with pytest.raises(ValueError, match="JSON"):
            await send.send(float("nan"))
        await send.send(1)

    async with redis.open_receiver(url, "jobs", group="g", decode=lambda raw: b"\xff".decode()) as receive:
        delivery = await receive.receive()
        with pytest.raises(UnicodeDecodeError):
            delivery.value  # noqa: B018


async def test_a_server_that_is_down_or_refuses_access_is_an_error_at_once(server: Server) -> None:
    for url, complaint in (
        ("redis://127.0.0.1:1", "no Redis server at 127.0.0.1:1"),
        ("unix:///nowhere/socket", "no Redis server at /nowhere/socket"),
        (server.url.replace("//", "//user:wrong@"), "refuses"),
    ):
        with pytest.raises(OSError, match=complaint):
            async with redis.open_sender(url, "jobs"):
                pass
        with pytest.raises(OSError, match=complaint):
            async with redis.open_receiver(url, "jobs", group="g"):
                pass


async def test_a_server_that_evicts_entries_is_refused(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1 << 30, "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(OSError, match="must be noeviction, not allkeys-lru"):
            await redis.status(server.url, "jobs")
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0, "maxmemory-policy", "noeviction")


async def test_calls_fail_when_patience_has_run_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Server(tmp_path_factory.mktemp("patience"))
    server.start()

    async def send_on() -> None:
        async with redis.open_sender(server.url, "jobs", patience=0.2) as send:
            await send.send(1)
            server.stop(signal.SIGKILL)
            await send.send(2)

    try:
        with pytest.raises(
            trio.BrokenResourceError, match=r"no answer from the Redis server at 127.0.0.1:\d+ for 0.2 s"
        ):
            await send_on()
    finally:
        server.stop(signal.SIGKILL)  # harmless if it has ended


async def test_a_server_that_restarts_without_persistence_can_be_used_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = Server(tmp_path_factory.mktemp("forgetful"), "--appendonly", "no")
    with server:
        with trio.fail_after(PATIENCE):
            async with (
                redis.open_sender(server.url, "jobs") as send,
                redis.open_receiver(server.url, "jobs", group="g", lease=LEASE) as receive,
            ):
                await send.send(1)
                async with await receive.receive() as delivery:
                    assert delivery.value == 1
                await until(lambda: has_entries(server.url, 0))
                server.stop(signal.SIGKILL)
                server.start()
                await send.send(2)
                async with await receive.receive() as delivery:
                    assert delivery.value == 2
                await send.aclose()
                with pytest.raises(trio.EndOfChannel):
                    await receive.receive()


async def test_passwords_databases_and_unix_sockets(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("unix")
    server = Server(place, "--unixsocket", str(place / "socket"), "--user", "me", "on", ">se/cret", "~*", "&*", "+@all")
    with server:
        unix = f"unix://me:se%2Fcret@{place}/socket?db=2"
        tcp = server.url.replace("//", "//me:se%2Fcret@")
        await fill(unix, [1])
        assert [(await redis.status(tcp + db, "jobs")).entries for db in ("/2", "?db=2", "/?db=2")] == [1, 1, 1]
        assert await take_all(tcp + "?db=2") == [1]
        assert (await redis.status(server.url, "jobs")).is_ended is False  # there is no such stream in database 0


# ---- chains


async def double(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return n * 2


async def test_in_a_chain_an_entry_is_acknowledged_when_its_result_is_stored(url: str) -> None:
    await tf.from_iterable(range(100)).pipe(redis.writable(url, "jobs"))

    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g")
        stored = await jobs.pipe(tf.map_async(double)).pipe(redis.writable(url, "results"))

    assert stored == 100
    assert await take_all(url, "results") == [n * 2 for n in range(100)]


@pytest.mark.parametrize(
    ("transforms", "results"),
    [
        ([tf.filter(lambda n: n % 10 == 0)], [0, 10, 20]),
        ([tf.flat_map(lambda n: [n] * (n % 3 == 0)), tf.map(str)], [str(n) for n in range(0, 30, 3)]),
        ([tf.flat_map(lambda n: [n, n]), tf.filter(lambda n: n > 27), tf.tap(str)], [28, 28, 29, 29]),
        ([tf.batch(4, within=0.02), tf.map(sum)], None),
        (
            [tf.buffer(3), tf.delay(0.001), tf.throttle(100_000), tf.timeout(9), tf.map_async(double)],
            [*range(0, 60, 2)],
        ),
        ([tf.map_in_threads(lambda n: -n, workers=2, ordered=False)], None),
        ([tf.map(lambda n: (n, n)), tf.batch(7, within=0.02), tf.flat_map(list)], [[n, n] for n in range(30)]),
        ([tf.map_in_processes(abs, workers=1)], [*range(30)]),
    ],
    ids=lambda value: ",".join(repr(stage) for stage in value)[:60] if value and hasattr(value[0], "pipe") else "",
)
async def test_entries_followed_through_transforms_are_all_acknowledged(
    url: str, transforms: list[Any], results: list[Any] | None
) -> None:
    await fill(url, range(30))

    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", prefetch=8)
        await tf.pipeline(jobs, *transforms, redis.writable(url, "results"))

    assert (await redis.status(url, "jobs"))[:8] == (0, 0, 0, 0, True, True, 0, 0)
    got = await take_all(url, "results")
    if results is not None:
        assert got == results
    else:
        assert abs(sum(got)) == sum(range(30))


@pytest.mark.parametrize(
    "stage",
    [
        tf.take(3),
        tf.batch(3),
        tf.scan(max, 0),
        tf.enumerate(),
        tf.throttle(9, cost=lambda n: 1),
        tf.buffer(1, overflow="drop_oldest"),
    ],
    ids=repr,
)
def test_a_stage_that_could_lose_track_of_entries_is_refused_when_piped(stage: Any) -> None:
    jobs = redis.readable("redis://localhost", "jobs", group="g")

    with pytest.raises(TypeError, match="an entry of Redis cannot be followed through"):
        jobs.pipe(stage)
    with pytest.raises(TypeError, match="an entry of Redis cannot be followed through"):
        tf.pipeline(jobs, stage, redis.writable("redis://localhost", "results"))


def test_a_duplex_or_an_object_that_is_not_a_stream_is_refused() -> None:
    jobs: Any = redis.readable("redis://localhost", "jobs", group="g")

    with pytest.raises(TypeError, match="cannot be followed through"):
        jobs.pipe(tf.connect_tcp("localhost", 1))
    with pytest.raises(TypeError, match="pipe expects a Transform"):
        jobs.pipe(7)


async def test_a_sink_that_does_not_report_what_it_has_stored_is_refused() -> None:
    jobs = redis.readable("redis://localhost", "jobs", group="g").pipe(tf.map(str))

    for run in (lambda: jobs.pipe(tf.collect()), lambda: tf.pipeline(jobs, tf.count())):
        with pytest.raises(TypeError, match=r"nothing acknowledges the entries of .*; pipe it into redis.writable\(\)"):
            run()
    with pytest.raises(TypeError, match=r"nothing acknowledges the entries of redis.readable\('jobs', group='g'\)"):
        async with jobs.open() as receive:
            await receive.receive()


async def test_acknowledge_requires_followed_items() -> None:
    with pytest.raises(TypeError, match="must come after redis"):
        await tf.from_iterable([1]).pipe(redis.acknowledge()).pipe(tf.collect())


async def test_any_stage_may_follow_acknowledge(url: str) -> None:
    await fill(url, range(9))

    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", prefetch=3)
        got = await jobs.pipe(tf.map(str)).pipe(redis.acknowledge()).pipe(tf.batch(4)).pipe(tf.collect())

    assert got == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8"]]


async def test_R11_a_failing_function_stops_the_run_and_only_its_entry_counts_as_tried(url: str) -> None:
    def fail(n: int) -> int:
        if n == 1:
            raise KeyError(n)
        return n

    await fill(url, range(4))
    jobs = redis.readable(url, "jobs", group="g").pipe(tf.map(fail))
    with trio.fail_after(PATIENCE), pytest.raises(KeyError) as caught:
        await jobs.pipe(redis.writable(url, "results"))

    assert any("map(fail)" in note for note in caught.value.__notes__)
    tries = {}
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(url, "jobs", group="g", prefetch=9) as receive:
            async for delivery in receive:
                async with delivery:
                    tries[delivery.value] = delivery.times
    assert tries.pop(1) == 2
    assert set(tries.values()) <= {1}


async def test_with_on_error_return_the_run_continues_and_leaves_a_dead_letter(url: str) -> None:
    async def fail(n: int) -> int:
        if n % 4 == 1:
            raise KeyError(n)
        return n

    await fill(url, range(12))
    with trio.fail_after(PATIENCE):
        jobs = redis.readable(url, "jobs", group="g", on_error="return", tries=2, lease=LEASE)
        followed = jobs.pipe(tf.map_async(fail)).pipe(tf.flat_map(lambda n: [n]))
        stored = await followed.pipe(redis.writable(url, "results"))

    assert stored == 9
    letters = await redis.dead_letters(url, "jobs")
    assert sorted(json.loads(letter.raw) for letter in letters) == [1, 5, 9]
    assert {letter.tries for letter in letters} == {2}


@pytest.mark.parametrize("on_error", ["stop", "return"])
async def test_an_entry_that_cannot_be_decoded_counts_as_tried_and_is_given_back(url: str, on_error: str) -> None:
    await fill(url, [1])

    async def run() -> object:
        jobs = redis.readable(url, "jobs", group="g", on_error=on_error, tries=1, lease=LEASE, decode=lambda raw: 1 / 0)
        with trio.fail_after(PATIENCE):
            return await jobs.pipe(redis.acknowledge()).pipe(tf.collect())

    if on_error == "stop":
        with pytest.raises(ZeroDivisionError):
            await run()
    else:
        assert await run() == []
        assert (await redis.status(url, "jobs")).dead == 1


async def test_a_result_that_cannot_be_encoded_counts_as_a_try(url: str) -> None:
    await fill(url, [1])
    jobs = redis.readable(url, "jobs", group="g").pipe(tf.map(lambda n: object()))
    with trio.fail_after(PATIENCE), pytest.raises(TypeError, match="not JSON serializable"):
        await jobs.pipe(redis.writable(url, "results"))

    async with redis.open_receiver(url, "jobs", group="g") as receive:
        delivery = await receive.receive()

    assert delivery.times == 2


async def test_an_empty_stream_makes_an_empty_stream_that_has_ended(url: str) -> None:
    await fill(url, [])
    with trio.fail_after(PATIENCE):
        for _ in range(2):
            jobs = redis.readable(url, "jobs", group="g")
            assert await jobs.pipe(tf.map(str)).pipe(redis.writable(url, "results")) == 0

    assert await take_all(url, "results") == []


async def test_R16_a_cancelled_run_gives_back_entries_whose_results_are_not_stored(url: str) -> None:
    await fill(url, range(20))
    begun = []

    async def work(n: int) -> int:
        begun.append(n)
        await trio.sleep_forever()
        return n

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await (
                    redis.readable(url, "jobs", group="g").pipe(tf.map_async(work)).pipe(redis.writable(url, "results"))
                )

            nursery.start_soon(run)
            await until(lambda: len(begun) == 8)
            scope.cancel()

    status = await redis.status(url, "jobs")
    assert status.entries == 20
    assert sorted(await take_all(url)) == list(range(20))


# ---- arguments


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"url": 7}, "url must be a str"),
        ({"url": "http://localhost"}, "url must be redis://"),
        ({"url": "redis://:secret@/x"}, "url must be redis://"),
        ({"url": "redis://localhost/x"}, "the database must be a number, got 'x'"),
        ({"url": "redis://localhost/٣"}, "the database must be a number, got '٣'"),
        ({"url": "redis://localhost?db=x"}, "the database must be a number, got 'x'"),
        ({"url": "redis://localhost/1?db=2"}, "the database is given 2 times"),
        ({"url": "unix:///s?db=1&db=1"}, "the database is given 2 times"),
        ({"url": "rediss://localhost?ssl_ca_certs=ca.pem"}, "'ssl_ca_certs', only db is allowed; pass ssl_context="),
        ({"url": "redis://localhost?socket_timeout=1"}, "unknown option 'socket_timeout', only db is allowed$"),
        ({"url": "redis://localhost?db="}, "the database must be a number, got ''"),
        ({"url": "unix://socket/path"}, "url must be redis://"),
        ({"url": "redis://me:a/secret@localhost"}, "percent-encoded"),
        ({"url": "redis://me:a?secret=1@localhost"}, "percent-encoded"),
        ({"url": "redis://me:a#secret@localhost"}, "percent-encoded"),
        ({"url": "redis://localhost:secret"}, "percent-encoded"),
        ({"url": "redis://[secret"}, "percent-encoded"),
        ({"url": "redis+sentinel://one,two:1"}, "the name of the master must follow the sentinels"),
        ({"url": "redis+sentinel://one,,two/jobs-db"}, "url must be .* got redis.sentinel://..."),
        ({"url": "redis+sentinel://one,two:secret/jobs-db"}, "percent-encoded"),
        ({"url": "unix+sentinel://one/jobs-db"}, "got unix.sentinel://..."),
        ({"url": "redis+sentinel://one,two/jobs-db/1?db=2"}, "the database is given 2 times"),
        ({"ssl_context": "ca.pem", "url": "rediss://localhost"}, "ssl_context must be an SSLContext or None"),
        ({"ssl_context": ssl.create_default_context()}, "ssl_context needs a url that begins with rediss://"),
        ({"name": ""}, "name must be a word"),
        ({"name": b"jobs"}, "name must be a str"),
        ({"name": "a{b}"}, "name must be a word"),
        ({"group": "two words"}, "group must be a word"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"lease": 0}, "lease must be above 0"),
        ({"lease": float("inf")}, "lease must be finite"),
        ({"tries": 0.5}, "tries must be an int"),
        ({"dead_letters": 0}, "dead_letters must be at least 1"),
        ({"patience": -1}, "patience must be above 0"),
        ({"receiver": 7}, "receiver must be a str"),
        ({"decode": "json"}, "decode expects a function"),
    ],
    ids=str,
)
def test_R1_arguments_of_receivers_are_checked_at_once(changed: dict[str, Any], complaint: str) -> None:
    arguments: dict[str, Any] = {"url": "redis://localhost", "name": "jobs", "group": "g"} | changed

    for function in (redis.readable, redis.open_receiver):
        with pytest.raises((TypeError, ValueError), match=complaint) as caught:
            function(**arguments)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"capacity": 0}, "capacity must be at least 1"),
        ({"producer": ""}, "producer must be a word"),
        ({"encode": None}, "encode expects a function"),
        ({"patience": "long"}, "patience must be a number"),
        ({"wait_replicas": -1}, "wait_replicas must be at least 0, got -1"),
        ({"wait_replicas": 1.0}, "wait_replicas must be an int, got 1.0"),
    ],
    ids=str,
)
def test_R1_arguments_of_senders_are_checked_at_once(changed: dict[str, Any], complaint: str) -> None:
    arguments: dict[str, Any] = {"url": "redis://localhost", "name": "jobs"} | changed

    for function in (redis.writable, redis.open_sender):
        with pytest.raises((TypeError, ValueError), match=complaint):
            function(**arguments)


def test_on_error_and_the_lease_of_a_writable_are_checked() -> None:
    with pytest.raises(ValueError, match="on_error must be 'stop' or 'return', got 'go on'"):
        redis.readable("redis://localhost", "jobs", group="g", on_error="go on")
    with pytest.raises(ValueError, match="lease must be above 0"):
        redis.writable("redis://localhost", "jobs", lease=-1)


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=1),
    st.text(min_size=1).filter(lambda text: text.strip() == text),
    st.integers(1, 65535),
    st.integers(0, 99),
)
@settings(max_examples=50)
def test_an_address_is_parsed(user: str, password: str, port: int, db: int) -> None:
    from urllib.parse import quote

    address = Address.of(f"rediss://{quote(user)}:{quote(password, safe='')}@host:{port}/{db}")

    assert address == ((("host", port),), "", user, password, db, True, "")
    assert str(address) == f"host:{port}"


def test_an_address_of_sentinels_has_all_of_them_and_the_name_of_the_master() -> None:
    address = Address.of("rediss+sentinel://me:p%2Fw@one,two:1/jobs%20db/3")

    assert address == ((("one", 26379), ("two", 1)), "", "me", "p/w", 3, True, "jobs db")
    assert str(address) == "jobs db (known to the sentinels at one:26379, two:1)"
