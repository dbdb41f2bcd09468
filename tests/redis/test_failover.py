"""Replicas, sentinels and clusters: what a failover loses, and how both ends find the server that took over."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from tests.redis.flow import Counts, flow, until_some
from tests.redis.server import PATIENCE, Sentinel, Server, until
from trioflow import redis
from trioflow.redis import client

pytestmark = pytest.mark.needs("redis-server")

Start: TypeAlias = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers, each in its own directory, and kill them at the end."""
    servers: list[Server] = []

    def start(kind: type[Server] = Server, *args: Any) -> Server:
        place = tmp_path / str(len(servers))
        place.mkdir()
        servers.append(kind(place, *args))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


async def replica_of(start: Start, master: Server) -> Any:
    replica = start(Server, "--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0")
    await until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
    return replica


async def test_both_ends_follow_the_master_of_a_sentinel_and_lose_nothing_that_replicas_have(
    start: Start,
) -> None:
    master = start(Server, "--repl-diskless-sync-delay", "0")
    for _ in range(2):
        await replica_of(start, master)
    sentinel = start(Sentinel, master)
    await until(lambda: b"slaves=2" in sentinel.ask("INFO", "sentinel"))
    gone = Server(master.place)
    url = f"redis+sentinel://127.0.0.1:{gone.port},127.0.0.1:{sentinel.port}/jobs-db"
    counts = Counts()

    async with flow(url, counts, 300, pause=0.002, wait_replicas=1):
        await until_some(counts, 50)
        master.stop(signal.SIGKILL)

    counts.check("`kill -9` of the master, a failover by Sentinel, with `wait_replicas=1`")
    assert (await redis.status(url, "jobs")).is_ended


def waits_of(server: Server) -> int:
    """Return how often the server was told to wait for replicas."""
    found = re.search(rb"cmdstat_wait:calls=(\d+)", server.ask("INFO", "commandstats"))
    return int(found[1]) if found else 0


@pytest.mark.parametrize("wait_replicas", [0, 1])
async def test_a_failover_loses_entries_that_replicas_lack_unless_the_sender_waits_for_them(
    start: Start, monkeypatch: pytest.MonkeyPatch, wait_replicas: int
) -> None:
    monkeypatch.setattr(client, "REPLICAS_TIMEOUT", 0.05)
    master = start(Server, "--repl-diskless-sync-delay", "0")
    replica = await replica_of(start, master)
    sent: list[int] = []
    is_promoted = trio.Event()

    async with redis.open_sender(master.url, "jobs", producer="p", wait_replicas=wait_replicas) as send:

        async def send_all() -> None:
            for n in range(100):
                if n == 50:
                    await is_promoted.wait()
                await send.send(n)
                sent.append(n)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all)
                await until(lambda: len(sent) == 50)
                replica.ask("REPLICAOF", "NO", "ONE")
                is_promoted.set()
                if wait_replicas:
                    await until(lambda: waits_of(master) > 53)
                    assert len(sent) == 50
                else:
                    await until(lambda: len(sent) > 60)
                master.stop(signal.SIGKILL)
                replica.ask("CONFIG", "SET", "port", master.port)
                if wait_replicas:
                    await replica_of(start, master)
        assert send.stored == 100

    entries = (await redis.status(master.url, "jobs")).entries
    assert entries == 100 if wait_replicas else entries < 100


@pytest.mark.parametrize("fault", ["a replica before it waits", "a replica while it waits", "forbidden to wait"])
async def test_an_item_that_was_stored_but_not_confirmed_does_not_take_the_next_ones_place(
    start: Start, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    master = start(Server, "--repl-diskless-sync-delay", "0")
    replica = await replica_of(start, master)
    call = client.Client.call

    async def demote_and_call(self: client.Client, *command: Any, **options: Any) -> Any:
        if command[0] == "WAIT":
            master.ask("REPLICAOF", "127.0.0.1", "1")
        return await call(self, *command, **options)

    with trio.fail_after(PATIENCE):
        async with redis.open_sender(master.url, "jobs", producer="p", wait_replicas=1) as send:
            replica.ask("REPLICAOF", "NO", "ONE")
            if fault == "forbidden to wait":
                master.ask("ACL", "SETUSER", "default", "-wait")
                with pytest.raises(trio.BrokenResourceError, match="replicas cannot be waited for: NOPERM"):
                    await send.send(1)
                master.ask("ACL", "SETUSER", "default", "+wait")
            else:
                if fault == "a replica before it waits":
                    monkeypatch.setattr(client.Client, "call", demote_and_call)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send.send, 1)
                    if fault == "a replica while it waits":
                        await until(lambda: b"blocked_clients:1" in master.ask("INFO", "clients"))
                        master.ask("REPLICAOF", "127.0.0.1", "1")
                    await until(lambda: master.refusals("READONLY") > 0)
                    nursery.cancel_scope.cancel()
                monkeypatch.undo()
                master.ask("REPLICAOF", "NO", "ONE")
            replica.ask("REPLICAOF", "127.0.0.1", master.port)
            await send.send(2)

    assert (await redis.status(master.url, "jobs")).entries == 2


async def cluster(start: Start, place: Path, count: int) -> list[Any]:
    """Start the nodes of a cluster, each with its share of the slots."""
    nodes = []
    for number in range(count):
        bus = Server(place).port
        options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
        node = start(Server, *options)
        first, last = (16384 * number // count, 16384 * (number + 1) // count - 1)
        assert node.ask("CLUSTER", "ADDSLOTSRANGE", first, last) == b"+OK\r\n"
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if nodes:
            assert nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus) == b"+OK\r\n"
        nodes.append(node)
    for node in nodes:
        await until(
            lambda node=node: all(
                line in node.ask("CLUSTER", "INFO")
                for line in (b"cluster_state:ok", b"cluster_size:%d" % count, b"cluster_known_nodes:%d" % count)
            )
        )
    return nodes


class Slot:
    """The slot of the stream `jobs`, and the node that owns it."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._number = int(nodes[0].ask("CLUSTER", "KEYSLOT", "{jobs}")[1:])
        self.node = next(node for node in nodes if not node.ask("EXISTS", "{jobs}").startswith(b"-MOVED"))

    def begin_to_move(self, to: Server) -> None:
        """Tell the two nodes that the slot is being moved."""
        to.ask("CLUSTER", "SETSLOT", self._number, "IMPORTING", name_of(self.node))
        self.node.ask("CLUSTER", "SETSLOT", self._number, "MIGRATING", name_of(to))

    def move(self, to: Server) -> None:
        """Move the keys, and tell all nodes that the slot has moved."""
        while keys := re.findall(rb"\{jobs\}\S+", self.node.ask("CLUSTER", "GETKEYSINSLOT", self._number, 100)):
            words = [key.decode() for key in keys]
            assert self.node.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *words) == b"+OK\r\n"
        for node in (to, self.node, *self._nodes):
            node.ask("CLUSTER", "SETSLOT", self._number, "NODE", name_of(to))
        self.node = to


def name_of(node: Server) -> str:
    return re.findall(rb"\w{40}", node.ask("CLUSTER", "MYID"))[0].decode()


async def test_in_a_cluster_both_ends_follow_the_slot_of_their_stream_while_it_is_moved(
    start: Start, tmp_path: Path
) -> None:
    nodes = await cluster(start, tmp_path, 3)
    slot = Slot(nodes)
    others = [node for node in nodes if node is not slot.node]
    gone = Server(tmp_path)
    url = f"redis://127.0.0.1:{gone.port},127.0.0.1:{others[0].port}"
    counts = Counts()

    async with flow(url, counts, 300, pause=0.002):
        for to in (*others, slot.node):
            await until_some(counts, counts.done.total() + 40)
            slot.begin_to_move(to)
            await until(lambda: slot.node.refusals("TRYAGAIN") + slot.node.refusals("ASK") > 3)
            slot.move(to)
            slot.node.cut_all()  # the connection goes through another node again

    counts.check("its slot moved to another node of a cluster, three times")
    assert (await redis.status(url, "jobs")).is_ended
    assert await redis.dead_letters(url, "jobs") == []


async def test_a_sentinel_gets_its_password(start: Start) -> None:
    master = start()
    master.ask("CONFIG", "SET", "requirepass", "secret")
    lines = ("sentinel auth-pass jobs-db secret",)
    for sentinel in (start(Sentinel, master, *lines), start(Sentinel, master, *lines, "requirepass secret")):
        url = f"redis+sentinel://:secret@127.0.0.1:{sentinel.port}/jobs-db"
        assert (await redis.status(url, "jobs")).entries == 0
        assert await redis.dead_letters(url, "jobs") == []
        printed = await trio.run_process(
            [sys.executable, "-m", "trioflow", "redis", url, "jobs", "status", "--json"], capture_stdout=True
        )
        assert json.loads(printed.stdout)["entries"] == 0
        with pytest.raises(OSError, match=r"WRONGPASS|invalid username-password pair"):
            await redis.status(url.replace("secret", "other"), "jobs")


async def test_a_server_named_by_a_sentinel_must_be_a_master(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    master = start()
    sentinel = start(Sentinel, master)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs-db/1"
    async with redis.open_sender(url, "jobs") as send:
        await send.send(1)
        master.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(OSError, match=rf"no Redis server at jobs-db \(.*:{master.port}.* is not the master"):
            await redis.status(url, "jobs")
        master.ask("REPLICAOF", "NO", "ONE")
        with trio.fail_after(PATIENCE):
            await send.send(2)

    assert (await redis.status(f"{master.url}/1", "jobs")).entries == 2
    with pytest.raises(OSError, match="no master is called 'other'"):
        await redis.status(url.replace("jobs-db", "other"), "jobs")
    monkeypatch.setattr(client, "SENTINEL_TIMEOUT", 0.05)
    sentinel.freeze()
    with pytest.raises(OSError, match=f"127.0.0.1:{sentinel.port} does not respond"):
        await redis.status(url, "jobs")
