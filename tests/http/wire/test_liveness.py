"""Which connections have gone, and which have been idle for too long."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http.client import RESET, tcp_pair
from trioflow.http.wire import liveness
from trioflow.http.wire.liveness import IdleConnections


@pytest.mark.parametrize("kind", [liveness.EpollWatch, liveness.PollingWatch])
async def test_a_reset_is_reported_once_and_a_half_close_never(kind: type[Any], autojump_clock: MockClock) -> None:
    if kind is liveness.EpollWatch and liveness.open_watch().__class__ is not kind:
        pytest.skip("there is no epoll here")
    watch = kind()
    lost: list[str] = []
    ours, theirs = tcp_pair()
    other, quiet = tcp_pair()
    with ours, theirs, other, quiet:
        watch.add(ours, lambda: lost.append("ours"))
        watch.add(other, lambda: lost.append("other"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            theirs.shutdown(socket.SHUT_WR)
            quiet.sendall(b"x")
            await trio.sleep(3)

            assert lost == []

            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            theirs.close()
            await trio.sleep(3)

            assert lost == ["ours"]

            watch.remove(ours)
            watch.remove(other)
            watch.remove(other)
            nursery.cancel_scope.cancel()
    watch.close()


def test_without_epoll_each_connection_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(liveness.select, "epoll", raising=False)

    assert isinstance(liveness.open_watch(), liveness.PollingWatch)


class Connection:
    """Notes when it expires."""

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


async def test_a_connection_that_is_used_in_time_does_not_expire_and_its_time_begins_anew(
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


async def test_a_connection_that_is_added_after_all_others_have_gone_expires_too(autojump_clock: MockClock) -> None:
    connections = [Connection(), Connection()]
    async with expiring(10) as idle:
        for connection in connections:
            idle.add(connection)
            await trio.sleep(50)

    assert [len(connection.expired) for connection in connections] == [1, 1]
