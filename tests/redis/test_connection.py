"""One connection shared by tasks: one of them reads for all, and each gets its own answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.redis.server import until
from trioflow.redis.address import Address
from trioflow.redis.connection import Connection, ErrorAnswer, command, open_connection


@dataclass
class Peer:
    """A server that reads everything, and answers when the test says so."""

    stream: trio.SocketStream | None = None
    received: bytearray = field(default_factory=bytearray)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        async for data in stream:
            self.received += data
            if data.startswith(b"*2\r\n$5\r\nHELLO"):
                await stream.send_all(b"%1\r\n$5\r\nproto\r\n:3\r\n")

    async def answer(self, data: bytes) -> None:
        assert self.stream is not None
        await self.stream.send_all(data)


@asynccontextmanager
async def connected(peer: Peer) -> AsyncGenerator[Connection, None]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, peer.serve, [listener])
            address = Address.of(f"redis://127.0.0.1:{port}")
            connection = await open_connection(address, address.places[0], None)
            yield connection
            connection.close()
            nursery.cancel_scope.cancel()


class Calls:
    """Calls, each made by its own task, and their results."""

    def __init__(self, connection: Connection, nursery: trio.Nursery) -> None:
        self.came: dict[str, object] = {}
        self._connection, self._nursery = connection, nursery

    async def make(self, *names: str, scope: trio.CancelScope | None = None) -> None:
        for name in names:
            self._nursery.start_soon(self._make, name, scope or trio.CancelScope())
            await wait_all_tasks_blocked(0.001)

    async def _make(self, name: str, scope: trio.CancelScope) -> None:
        with scope:
            try:
                self.came[name] = await self._connection.call(command(name))
            except (OSError, trio.ClosedResourceError, ErrorAnswer) as exc:
                self.came[name] = type(exc)


async def test_each_of_several_callers_gets_its_own_answer_however_the_answers_are_cut() -> None:
    peer = Peer()
    async with connected(peer) as connection, trio.open_nursery() as nursery:
        calls = Calls(connection, nursery)
        await calls.make("A", "B", "C", "D")
        for piece in (b"+", b"a\r\n$1\r", b"\nb\r\n>1\r\n+pushed\r\n-ERR c\r\n", b":4\r\n"):
            await peer.answer(piece)
            await wait_all_tasks_blocked(0.001)

    assert calls.came == {"A": b"a", "B": b"b", "C": ErrorAnswer, "D": 4}


@pytest.mark.parametrize("cancelled", ["A", "B"])
async def test_a_cancelled_call_breaks_the_connection_for_all_callers(cancelled: str) -> None:
    peer, scope = Peer(), trio.CancelScope()
    async with connected(peer) as connection, trio.open_nursery() as nursery:
        calls = Calls(connection, nursery)
        for name in "ABC":
            await calls.make(name, scope=scope if name == cancelled else None)
        scope.cancel()
        await wait_all_tasks_blocked(0.001)

        assert set(calls.came) == set("ABC") - {cancelled}
        assert all(issubclass(kind, (OSError, trio.ClosedResourceError)) for kind in calls.came.values())  # type: ignore[arg-type]
        assert not connection.is_open
        with pytest.raises(ConnectionError, match="is closed"):
            await connection.call(command("D"))


async def test_the_end_of_the_connection_ends_all_calls() -> None:
    peer = Peer()
    async with connected(peer) as connection, trio.open_nursery() as nursery:
        calls = Calls(connection, nursery)
        await calls.make("A", "B")
        assert peer.stream is not None
        await peer.stream.send_eof()

    assert calls.came == {"A": ConnectionError, "B": ConnectionError}


async def test_commands_larger_than_the_systems_buffers_are_sent_whole_and_in_order() -> None:
    peer = Peer()
    large = [command("SET", bytes([65 + n]) * (2 << 20)) for n in range(3)]
    async with connected(peer) as connection, trio.open_nursery() as nursery:
        before = len(peer.received)
        answers: list[object] = []

        async def call(data: bytes) -> None:
            answers.append(await connection.call(data))

        for data in large:
            nursery.start_soon(call, data)
        await until(lambda: len(peer.received) - before == sum(map(len, large)))
        await peer.answer(b"+OK\r\n" * 3)

    sent = sorted(large, key=peer.received.index)
    assert peer.received[before:] == b"".join(sent)
    assert answers == [b"OK"] * 3
