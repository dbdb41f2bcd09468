"""Which connections have gone, and which have been idle for too long."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http.client import RESET, tcp_pair
from trioflow.http.wire import liveness
from trioflow.http.wire.liveness import IdleConnections

Watch: TypeAlias = liveness.EpollWatch | liveness.PollingWatch


class Watched:
    """Records what is reported about its client."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def client_left(self) -> None:
        self.told.append("left")

    def client_ended(self) -> None:
        self.told.append("ended")


@pytest.fixture(params=[liveness.EpollWatch, liveness.PollingWatch])
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    if request.param is liveness.EpollWatch and liveness.open_watch().__class__ is not request.param:
        pytest.skip("there is no epoll here")
    watch: Watch = request.param()
    yield watch
    watch.close()


async def test_an_end_and_a_reset_are_each_reported_once(watch: Watch, autojump_clock: MockClock) -> None:
    leaving, staying = Watched(), Watched()
    ours, theirs = tcp_pair()
    other, quiet = tcp_pair()
    for sock in (ours, other):
        sock.setblocking(False)
    with ours, theirs, other, quiet:
        watch.add(ours, leaving)
        watch.add(other, staying)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            quiet.sendall(b"x")
            await trio.sleep(3)
            assert leaving.told == staying.told == []

            theirs.shutdown(socket.SHUT_WR)
            await trio.sleep(3)
            assert leaving.told == ["ended"]

            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            theirs.close()
            await trio.sleep(3)
            assert leaving.told == ["ended", "left"]
            assert staying.told == []

            watch.remove(ours)
            watch.remove(other)
            watch.remove(other)
            quiet.close()
            await trio.sleep(3)
            assert staying.told == []
            nursery.cancel_scope.cancel()


async def test_a_reset_without_an_end_is_reported_only_as_a_reset(watch: Watch, autojump_clock: MockClock) -> None:
    leaving = Watched()
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    with ours, theirs:
        watch.add(ours, leaving)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            theirs.close()
            await trio.sleep(3)
            nursery.cancel_scope.cancel()

    assert leaving.told == ["left"]


async def test_a_look_reports_an_end_at_once_unless_connections_are_polled(watch: Watch) -> None:
    leaving = Watched()
    ours, theirs = tcp_pair()
    with ours, theirs:
        watch.add(ours, leaving)
        watch.look()
        assert leaving.told == []

        theirs.shutdown(socket.SHUT_WR)
        watch.look()
        assert leaving.told == ([] if isinstance(watch, liveness.PollingWatch) else ["ended"])

        watch.remove(ours)


def test_without_epoll_each_connection_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(liveness.select, "epoll", raising=False)

    assert isinstance(liveness.open_watch(), liveness.PollingWatch)


class Connection:
    """Records when it expires."""

    def __init__(self) -> None:
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(trio.current_time())


@asynccontextmanager
async def expiring(limit: float) -> AsyncIterator[IdleConnections]:
    idle = IdleConnections(limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(idle.run)
        await wait_all_tasks_blocked()
        yield idle
        nursery.cancel_scope.cancel()


async def test_each_connection_expires_once_and_at_its_own_time(autojump_clock: MockClock) -> None:
    connections = [Connection(), Connection(), Connection()]
    async with expiring(10) as idle:
        start = trio.current_time()
        for connection in connections:
            idle.add(connection)
            await trio.sleep(1)
        await trio.sleep(100)

    assert [[at - start for at in connection.expired] for connection in connections] == [[10], [11], [12]]


async def test_a_connection_that_is_used_in_time_does_not_expire_and_its_time_restarts(
    autojump_clock: MockClock,
) -> None:
    connection, other = Connection(), Connection()
    async with expiring(10) as idle:
        start = trio.current_time()
        idle.add(other)
        for _ in range(5):
            idle.add(connection)
            await trio.sleep(9)
            idle.remove(connection)
        assert not connection.expired
        idle.add(connection)
        await trio.sleep(100)
        idle.remove(connection)

    assert [at - start for at in connection.expired] == [55]
    assert [at - start for at in other.expired] == [10]


async def test_a_connection_added_after_all_others_have_gone_expires_too(autojump_clock: MockClock) -> None:
    connections = [Connection(), Connection()]
    async with expiring(10) as idle:
        for connection in connections:
            idle.add(connection)
            await trio.sleep(50)

    assert [len(connection.expired) for connection in connections] == [1, 1]
