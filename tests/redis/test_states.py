"""Temporary states of a server, and what both ends do: everything that `trioflow/redis/answers.py` distinguishes."""

from __future__ import annotations

import math
import re
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.redis.flow import LEASE, Counts, flow, until_some
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis import client

pytestmark = pytest.mark.needs("redis-server")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, "--busy-reply-threshold", "10") as server:
        yield server


def inline(server: Server, *lines: str) -> socket.socket:
    """Send lines on a connection of their own, and do not wait for an answer."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    sock.sendall("".join(f"{line}\r\n" for line in lines).encode())
    return sock


async def until_refused(server: Server, word: str) -> None:
    already = server.refusals(word)
    await until(lambda: server.refusals(word) > already + 1)


@asynccontextmanager
async def busy(server: Server) -> AsyncGenerator[None, None]:
    with inline(server, "eval 'while true do end' 0"):
        await until(lambda: server.ask("PING").startswith(b"-BUSY"))
        yield
        await trio.sleep(0.3)  # nothing counts errors in this state
        assert server.ask("SCRIPT", "KILL") == b"+OK\r\n"


@asynccontextmanager
async def no_replicas(server: Server) -> AsyncGenerator[None, None]:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    yield
    await until_refused(server, "NOREPLICAS")
    server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


@asynccontextmanager
async def failed_save(server: Server) -> AsyncGenerator[None, None]:
    obstacle = server.place / "dump.rdb"
    obstacle.mkdir()
    server.ask("SET", "something", "to save")
    server.ask("CONFIG", "SET", "save", "3600 1")
    server.ask("BGSAVE")
    await until(lambda: b"rdb_last_bgsave_status:err" in server.ask("INFO", "persistence"))
    yield
    await until_refused(server, "MISCONF")
    obstacle.rmdir()
    server.ask("BGSAVE")


@asynccontextmanager
async def demotion(server: Server) -> AsyncGenerator[None, None]:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    await until_refused(server, "READONLY")
    server.ask("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def password(server: Server) -> AsyncGenerator[None, None]:
    server.ask("CONFIG", "SET", "requirepass", "x")
    with inline(server, "AUTH x", "CLIENT KILL TYPE normal") as sock:
        yield

        def has_refused() -> bool:
            sock.sendall(b"INFO errorstats\r\n")
            return b"errorstat_NOAUTH" in sock.recv(1 << 16)

        await until(has_refused)
        sock.sendall(b"CONFIG SET requirepass ''\r\n")
        await until(lambda: server.ask("PING") == b"+PONG\r\n")


State: TypeAlias = Callable[[Server], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("state", [busy, no_replicas, failed_save, demotion, password])
async def test_both_ends_wait_for_a_temporary_state_and_lose_nothing(server: Server, state: State) -> None:
    counts = Counts()
    async with flow(server.url, counts, 100, pause=0.002):
        await until_some(counts, 30)
        async with state(server):
            pass

    counts.check(FAULTS[state.__name__])


FAULTS = {
    "busy": "server busy with a script (`BUSY`)",
    "no_replicas": "too few replicas (`NOREPLICAS`)",
    "failed_save": "a failed `BGSAVE` (`MISCONF`)",
    "demotion": "server made a replica and a master again (`READONLY`)",
    "password": "a password set and taken away (`NOAUTH`)",
}


@pytest.mark.parametrize("state", [busy, no_replicas, failed_save, demotion])
async def test_opening_waits_in_the_states_in_which_a_run_waits(server: Server, state: State) -> None:
    opened = trio.Event()

    async def send() -> None:
        async with redis.open_sender(server.url, "jobs") as sender:
            opened.set()
            await sender.send(1)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, state(server):
            nursery.start_soon(send)
            await wait_all_tasks_blocked(0.05)
            assert not opened.is_set()

    assert (await redis.status(server.url, "jobs")).entries == 1


async def test_a_query_waits_until_the_server_is_not_busy(server: Server) -> None:
    asked: list[redis.Status] = []

    async def ask() -> None:
        asked.append(await redis.status(server.url, "jobs"))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, busy(server):
            nursery.start_soon(ask)
            await wait_all_tasks_blocked(0.05)
            assert not asked

    assert asked[0].entries == 0


async def test_a_send_cancelled_while_the_server_cannot_write_sends_nothing(server: Server) -> None:
    async with redis.open_sender(server.url, "jobs", producer="p", patience=0) as send:
        server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send.send, 1)
            await until(lambda: server.refusals("NOREPLICAS") > 1)
            nursery.cancel_scope.cancel()
        assert send.stored == 0
        server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        await send.send(2)
        assert send.stored == 1


async def test_waiting_for_room_ends_if_the_server_forbids_it(server: Server) -> None:
    async def send() -> None:
        async with redis.open_sender(server.url, "jobs", capacity=1) as sender:
            await sender.send(1)
            server.ask("ACL", "SETUSER", "default", "-blpop")
            await sender.send(2)

    with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError, match="cannot be waited for: NOPERM"):
        await send()


# ---- deleted streams


async def test_receivers_join_a_destroyed_group_again_whether_they_wait_or_hold_entries(
    server: Server,
) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            redis.open_sender(server.url, "jobs") as send,
            redis.open_receiver(server.url, "jobs", group="g") as full,
        ):
            await send.send(1)
            first = await full.receive()
            async with redis.open_receiver(server.url, "jobs", group="g") as reading:
                server.ask("XGROUP", "DESTROY", "{jobs}:stream", "g")
                again = await reading.receive()
                again.done()
            first.give_back()
            await send.send(2)
            async with await full.receive() as delivery:
                assert (first.value, again.value, delivery.value) == (1, 1, 2)


async def lose(server: Server, *command: str) -> dict[str, str]:
    """Lose three entries of a sender and a receiver; return what each has raised."""
    raised: dict[str, str] = {}
    ready = [trio.Event(), trio.Event()]

    async def run(name: str, use: Callable[[trio.Event], Awaitable[None]], is_ready: trio.Event) -> None:
        try:
            await use(is_ready)
        except redis.StreamLost as exc:
            raised[name] = str(exc)

    async def sending(is_ready: trio.Event) -> None:
        async with redis.open_sender(server.url, "jobs") as send:
            await send.send_many(range(3))
            is_ready.set()
            await until(lambda: not int(server.ask("EXISTS", "{jobs}:stream")[1:]))
            await send.send(3)

    async def receiving(is_ready: trio.Event) -> None:
        async with redis.open_receiver(server.url, "jobs", group="g", prefetch=2, lease=LEASE) as receive:
            await receive.receive()
            is_ready.set()
            await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "sender", sending, ready[0])
            nursery.start_soon(run, "receiver", receiving, ready[1])
            for event in ready:
                await event.wait()
            server.ask(*command)
            await until(lambda: "receiver" in raised)
            nursery.cancel_scope.cancel()
    return raised


async def test_the_sender_of_a_deleted_stream_and_only_the_first_receiver_to_open_get_an_error(server: Server) -> None:
    async with redis.open_sender(server.url, "jobs") as send:
        await send.send_many(range(3))
        server.ask("DEL", "{jobs}:stream")
        with pytest.raises(redis.StreamLost, match=r"\{jobs\}:stream is gone, with 3 entries"):
            await send.send(3)
        with pytest.raises(redis.StreamLost, match="with 3 entries"):
            async with redis.open_receiver(server.url, "jobs", group="g"):
                pass
        async with redis.open_receiver(server.url, "jobs", group="g") as receive:
            await send.send(4)
            async with await receive.receive() as delivery:
                assert delivery.value == 4


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("DEL", "{jobs}:stream"), r"\{jobs\}:stream is gone, with 3 entries: it was deleted or evicted"),
        (("FLUSHALL",), r"\{jobs\}:stream is gone, with entries in hand here and all that were unread"),
    ],
)
async def test_a_receiver_whose_entries_are_lost_gets_an_error(
    server: Server, command: tuple[str, ...], complaint: str
) -> None:
    raised = await lose(server, *command)

    assert re.search(complaint, raised["receiver"])


async def test_after_a_flush_a_receiver_with_nothing_in_hand_warns_and_all_go_on_with_new_items(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.fail_after(PATIENCE):
        async with redis.open_receiver(server.url, "jobs", group="g") as receive:
            async with redis.open_sender(server.url, "jobs") as send:
                server.ask("FLUSHALL")
                await until(lambda: bool(caplog.messages))
                assert (await redis.status(server.url, "jobs")).senders == 0
                await send.send(1)
                assert (await redis.status(server.url, "jobs")).senders == 1
            async with await receive.receive() as delivery:
                assert delivery.value == 1
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()

    [message] = caplog.messages
    assert message.startswith(
        "joined the stream 'jobs' again: the server did not know this receiver any more; if it was"
    )


async def test_a_receiver_that_renews_its_lease_notices_that_the_server_does_not_know_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis.open_receiver(server.url, "jobs", group="g", receiver="r", lease=LEASE):
        server.ask("DEL", "{jobs}:names")
        await until(lambda: bool(caplog.messages))
        [receiver] = (await redis.status(server.url, "jobs")).receivers

    assert receiver.name == "r"
    assert "joined the stream 'jobs' again" in caplog.text


async def test_closing_a_sender_of_a_stream_that_was_deleted_does_not_end_it(server: Server) -> None:
    async def send_and_close() -> None:
        async with redis.open_sender(server.url, "jobs") as send:
            await send.send(1)
            server.ask("DEL", "{jobs}:stream")

    with pytest.raises(redis.StreamLost):
        await send_and_close()
    assert not (await redis.status(server.url, "jobs")).is_closed


async def test_a_server_that_starts_to_evict_keys_is_noticed_during_a_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHECK_INTERVAL", 0.05)

    async def send() -> None:
        async with redis.open_sender(server.url, "jobs"):
            server.ask("CONFIG", "SET", "maxmemory", 1 << 30, "maxmemory-policy", "allkeys-lru")
            await trio.sleep_forever()

    with (
        trio.fail_after(PATIENCE),
        pytest.raises(trio.BrokenResourceError, match="must be noeviction, not allkeys-lru"),
    ):
        await send()


# ---- servers that do not answer


class Hole:
    """A port that accepts no connection and refuses none, as when the network drops all packets."""

    def __init__(self, port: int = 0) -> None:
        self._stack = ExitStack()
        listener = self._stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(2):  # more connections than it has room for
            filler = self._stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        self.port = listener.getsockname()[1]

    def __enter__(self) -> Hole:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


async def test_packets_dropped_for_a_while_break_neither_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    timed_out = trio.Event()
    connect = client.open_connection

    async def connect_and_note(*args: Any) -> Any:
        try:
            return await connect(*args)
        except (trio.Cancelled, BaseExceptionGroup):
            timed_out.set()
            raise

    monkeypatch.setattr(client, "open_connection", connect_and_note)
    async with flow(server.url, counts, 100, pause=0.002):
        await until_some(counts, 30)
        server.stop(signal.SIGKILL)
        with Hole(server.port):
            await timed_out.wait()
        await trio.to_thread.run_sync(server.start)

    counts.check("the network drops all packets for five seconds")


async def test_a_server_that_does_not_answer_at_the_opening_is_an_error(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    with Hole() as hole, pytest.raises(OSError, match=r"no Redis server at .*: no answer within 5 s"):
        async with redis.open_sender(f"redis://127.0.0.1:{hole.port}", "jobs"):
            pass


async def test_tls_to_a_server_without_tls_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    with pytest.raises(OSError, match="no Redis server at"):
        async with redis.open_sender(server.url.replace("redis:", "rediss:"), "jobs"):
            pass


async def test_a_query_raises_the_documented_errors(server: Server, mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    server.ask("SET", "{jobs}:stream", "text")
    server.ask("SET", "{jobs}:dead", "text")
    with pytest.raises(OSError, match="refuses: WRONGTYPE"):
        await redis.status(server.url, "jobs")
    with pytest.raises(OSError, match="refuses: WRONGTYPE"):
        await redis.dead_letters(server.url, "jobs")
    server.freeze()
    mock_clock.autojump_threshold = 0
    for question in (redis.status, redis.dead_letters):
        with pytest.raises(trio.BrokenResourceError, match="for 5 s"):
            await question(server.url, "jobs")


@pytest.mark.parametrize("end", ["sender", "receiver"])
async def test_cancelling_while_the_server_is_frozen_ends_within_five_seconds(
    server: Server, end: str, mock_clock: MockClock
) -> None:
    mock_clock.rate = 1  # until the server is frozen

    def freeze() -> None:
        server.freeze()
        mock_clock.autojump_threshold = 0

    async def send() -> None:
        async with redis.open_sender(server.url, "jobs") as sender:
            freeze()
            await sender.send(1)

    async def receive() -> None:
        async with redis.open_sender(server.url, "jobs") as sender:
            await sender.send(1)
            async with redis.open_receiver(server.url, "jobs", group="g") as receive:
                delivery = await receive.receive()
                freeze()
                delivery.done()
                await trio.sleep_forever()

    with trio.move_on_after(60) as scope:
        await (send() if end == "sender" else receive())

    assert scope.cancelled_caught
    assert trio.current_time() - scope.deadline < 5.1


async def test_an_idle_sender_does_not_exceed_its_patience(server: Server, mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with redis.open_sender(server.url, "jobs", patience=100) as send:
        server.stop(signal.SIGKILL)
        mock_clock.autojump_threshold = 0
        await trio.sleep(400)  # longer than patience, during which checks for eviction fail
        mock_clock.autojump_threshold = math.inf
        await trio.to_thread.run_sync(server.start)
        await send.send(1)

    assert (await redis.status(server.url, "jobs")).entries == 1
