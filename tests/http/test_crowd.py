"""Many slow clients, one fast one, and what is left when they have gone."""

from __future__ import annotations

import gc
import math
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.conftest import open_descriptors
from tests.http.client import Client, connected, serving
from trioflow import http

pytestmark = pytest.mark.slow  # it serves hundreds of clients and measures memory

READERS, TRICKLERS = 1000, 200
LARGE = 1 << 30
HEAD = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
EACH = 64 << 10  # bytes that each slow reader may cost


@pytest.fixture(autouse=True)
def _room_for_descriptors() -> Iterator[None]:
    # Both ends of each connection are in this process, and each download has a file.
    wanted = 2 * (READERS + TRICKLERS) + 400
    wanted += READERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, and the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident() -> int:
    """Return the memory this process holds, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def slow(port: int, stack: ExitStack) -> socket.socket:
    """Connect, with a small receive buffer."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sock.connect(("127.0.0.1", port))
    return sock


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux reports the memory of a process there")
async def test_many_slow_clients_cost_little_delay_nobody_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", LARGE)
    (tmp_path / "small.txt").write_bytes(b"small")
    counters = http.Counters()
    limits = http.Limits(connections=math.inf, per_client=math.inf)
    async with serving(http.files(tmp_path), limits=limits, counters=counters) as port, connected(port) as stream:
        client = Client(stream)

        async def ask(times: int) -> None:
            for _ in range(times):
                status, _, body = await client.ask("GET", "/small.txt")
                assert (status, body) == (200, b"small")

        async def settle() -> None:
            await wait_all_tasks_blocked(0.02)
            while trio.lowlevel.current_statistics().tasks_runnable:
                await wait_all_tasks_blocked(0.02)

        await ask(20)
        before = trio.lowlevel.current_statistics().tasks_living
        files = len(open_descriptors())
        for _ in range(2):  # memory that one crowd has used is reused by the next
            memory = resident()
            with ExitStack() as stack, trio.fail_after(60):
                readers = [slow(port, stack) for _ in range(READERS)]
                for sock in readers:
                    sock.sendall(HEAD)
                tricklers = [slow(port, stack) for _ in range(TRICKLERS)]
                for byte in HEAD[:10]:
                    for sock in tricklers:
                        sock.send(bytes([byte]))
                    await ask(5)
                await settle()
                for _ in range(3):
                    for sock in readers:
                        assert sock.recv(1000)
                    await ask(5)

                assert counters.open == 1 + READERS + TRICKLERS
                grown = resident() - memory
                assert grown < (READERS + TRICKLERS) * EACH
            with trio.fail_after(60):
                while counters.open > 1:
                    await wait_all_tasks_blocked(0.01)
            await settle()

            assert trio.lowlevel.current_statistics().tasks_living == before
            assert len(open_descriptors()) == files
            await ask(5)
        assert grown < (READERS + TRICKLERS) * EACH / 8
    assert counters.failures == 0
