"""Slow readers of a large file, and the memory they cost the server. Run `python -m tests.benchmarks.slow_readers`.

`trioflow serve` serves a 2 GiB file with holes to one client that reads 1 MiB a second, then to many at once. The
server's resident memory (VmRSS) is read every half second. Prints the results; exit code 1 if the growth is above
the limit: 10 MiB for one client, 64 KiB each for many.

Rule 1: a server has answered a request before it is measured, so that everything is loaded.
Rule 2: every client checks that it gets the file at its pace until the end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LIMIT_ALONE, LIMIT_EACH = 10 * MIB, 64 * KIB


def resident(pid: int) -> int:
    """Return a process's resident memory, in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * KIB


@asynccontextmanager
async def served(directory: str) -> AsyncGenerator[tuple[int, int], None]:
    """Run `trioflow serve`; yield its process id and port."""
    command = [sys.executable, "-m", "trioflow", "serve", directory, "--port", "0"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
        yield process.pid, int(line.rpartition(b":")[2])
    finally:
        process.kill()  # a signal would let the current downloads continue
        await process.wait()
        await process.stdout.aclose()


async def warm_up(port: int) -> None:
    for _ in range(3):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some()
    await trio.sleep(0.5)


class Reader:
    """A client that reads `rate` bytes a second."""

    def __init__(self, port: int, size: int, rate: float) -> None:
        self._port = port
        self._size = size
        self._rate = rate
        self.bytes = 0

    async def run(self) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with stream:
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await stream.receive_some()
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
            head, _, first = head.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 ") or b"Content-Length: %d" % self._size not in head:
                raise AssertionError(f"the server answered {head!r}")
            began = trio.current_time()
            self.bytes = len(first)
            while True:
                await trio.sleep_until(began + self.bytes / self._rate)
                chunk = await stream.receive_some(16 * KIB)
                if not chunk:
                    raise AssertionError(f"the server stopped after {self.bytes} bytes")
                self.bytes += len(chunk)


async def measure(directory: str, clients: int, seconds: float, rate: float, least: int = 0) -> tuple[int, int]:
    """Return by how many bytes a server grew at most, and how many each client read at least.

    It takes `seconds`, or longer if a client has not read `least` bytes by then.
    """
    size = os.stat(f"{directory}/large").st_size
    async with served(directory) as (pid, port):
        await warm_up(port)
        before = most = resident(pid)
        readers = [Reader(port, size, rate) for _ in range(clients)]
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.run)
            over = trio.current_time() + seconds
            while trio.current_time() < over or min(reader.bytes for reader in readers) < least:
                await trio.sleep(0.5)
                most = max(most, resident(pid))
            nursery.cancel_scope.cancel()
    return most - before, min(reader.bytes for reader in readers)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="slow_readers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they read (default: %(default)g)")
    parser.add_argument("--clients", type=int, default=200, help="how many at once (default: %(default)d)")
    parser.add_argument("--rate", type=float, default=1.0, help="MiB a second for each (default: %(default)g)")
    options = parser.parse_args(argv)
    is_good = True
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "large").touch()
        os.truncate(Path(directory, "large"), 2 * GIB)
        for clients, limit in ((1, LIMIT_ALONE), (options.clients, LIMIT_EACH * options.clients)):
            grown, least = trio.run(measure, directory, clients, options.seconds, options.rate * MIB)
            is_good = is_good and grown < limit
            print(
                f"{clients} readers for {options.seconds:g} s at {options.rate:g} MiB/s: the server grew by "
                f"{grown / KIB:,.0f} KiB, {grown / KIB / clients:,.1f} KiB each (limit {limit / KIB / clients:,.0f}); "
                f"each read {least / MIB:.1f} MiB or more",
                flush=True,
            )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
