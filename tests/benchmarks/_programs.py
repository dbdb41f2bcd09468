"""Programs to measure, each in its own process and session, so that everything it starts is counted and ended with it.

Rule 1: a program times itself, from when it is ready until it is done; starting it is not measured.
Rule 2: a server's CPU time and memory are read from outside, for its whole session.
Rule 3: nothing that was started here outlives the block or the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.benchmarks import _place
from tests.benchmarks._harness import Failed

PATIENCE = 900.0  # s for one program
READY = 30.0  # s for a server to accept
PEERS = Path(__file__).parent / "peers"
ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


def with_trioflow() -> list[str]:
    """Return the command that runs our Python, which can import trioflow and Trio."""
    return [sys.executable, "-X", "utf8"]


def with_peers() -> list[str]:
    """Return the command that runs the Python of the peers' environment."""
    return [str(_place.peers_python())]


def with_node() -> list[str]:
    """Return the command that runs Node."""
    return ["node"]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(entry for entry in [str(ROOT), os.environ.get("PYTHONPATH", "")] if entry)
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "NODE_ENV": "production"}


@contextlib.contextmanager
def _started(argv: Sequence[str], complaints: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        start_new_session=True,
        env=_environment(),
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _failed(argv: Sequence[str], why: str, complaints: IO[bytes]) -> Failed:
    complaints.seek(0)
    last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
    program = next((word for word in argv if word.endswith((".py", ".js"))), argv[0])
    return Failed(": ".join([f"{Path(program).name} {why}", *last]))


def run(argv: Sequence[str | Path | int | float], patience: float = PATIENCE) -> dict[str, Any]:
    """Run a program and return the JSON object in the last line it prints.

    Raises:
        Failed: its exit code is not 0, it prints something else, or takes longer than `patience` seconds.
    """
    command = [str(word) for word in argv]
    with tempfile.TemporaryFile() as complaints, _started(command, complaints) as process:
        try:
            printed, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise _failed(command, f"took more than {patience:.0f} s", complaints) from None
        if process.returncode != 0:
            raise _failed(command, f"ended with {process.returncode}", complaints)
        try:
            answer = json.loads(printed.splitlines()[-1])
        except (ValueError, IndexError):
            answer = None
        if not isinstance(answer, dict):
            raise _failed(command, "printed no JSON object", complaints)
        return answer


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, and what it has used."""

    port: int
    session: int

    def children(self) -> list[int]:
        """Return the running processes that the first one has started."""
        return [
            int(entry.name)
            for entry, fields in _processes(self.session)
            if int(fields[1]) == self.session and fields[0] != "Z"
        ]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes that still run."""
        ticks = 0
        for _, fields in _processes(self.session):
            ticks += int(fields[11]) + int(fields[12])  # utime, stime
        return ticks / _TICKS

    def private_bytes(self) -> int:
        """Return the memory that would be freed if all its processes ended."""
        total = 0
        for entry, _ in _processes(self.session):
            with contextlib.suppress(OSError):
                for line in (entry / "smaps_rollup").read_text().splitlines():
                    if line.startswith(("Private_", "Swap:")):
                        total += int(line.split()[1]) * 1024
        return total


def _processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    """Return the directory in /proc of each process of a session, and its fields from the state on."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        if int(fields[3]) == session:
            yield entry, fields


@contextlib.contextmanager
def serving(argv: Sequence[str | Path | int], port: int = 0) -> Iterator[Server]:
    """Run a server while the block runs; it prints its port as JSON, or uses `port`.

    Raises:
        Failed: it does not accept connections soon.
    """
    command = [str(word) for word in argv]
    with tempfile.TemporaryFile() as complaints, _started(command, complaints) as process:
        deadline = time.monotonic() + READY
        if not port:
            port = _told_port(command, process, complaints)
        while True:
            if process.poll() is not None:
                raise _failed(command, f"ended with {process.returncode}", complaints)
            try:
                socket.create_connection(("127.0.0.1", port), timeout=READY).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise _failed(command, "does not accept connections", complaints) from None
                time.sleep(0.05)
        yield Server(port, process.pid)
        if process.poll() is not None:
            raise _failed(command, f"ended with {process.returncode}", complaints)


def wrk(server: Server, path: str, connections: int, seconds: int) -> dict[str, Any]:
    """Request a path over keep-alive connections with wrk, and return what `report.lua` counts."""
    command = [_place.find("wrk") or "wrk", "-t", 1, "-c", connections, "-s", PEERS / "report.lua", "-d", f"{seconds}s"]
    return run([*command, f"http://127.0.0.1:{server.port}{path}"])


def _told_port(command: Sequence[str], process: subprocess.Popen[bytes], complaints: IO[bytes]) -> int:
    assert process.stdout is not None
    line = b""
    if select.select([process.stdout], [], [], READY)[0]:
        line = process.stdout.readline()
    try:
        return int(json.loads(line)["port"])
    except (ValueError, KeyError, TypeError):
        raise _failed(command, f"printed no port but {line!r:.60}", complaints) from None
