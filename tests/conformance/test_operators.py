"""Every public stage passes the kit's checks and works with the four consumers, as its entry in `entries.py` says."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

import trioflow as tf
from tests.conformance import entries
from tests.conformance.entries import BYTES, ELSEWHERE, SINKS, SOURCES, STAGES, TRANSFORMS, Entry, public_names
from tests.consumers import CONSUMERS, Consumer, serve
from trioflow.testing import check_readable, check_transform, check_writable

# An echo server; in a process of its own, because the kit checks the descriptors of this one.
ECHO = """
import contextlib, shutil, socketserver, sys, threading
from pathlib import Path

class Echo(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self):
        with contextlib.suppress(OSError):
            shutil.copyfileobj(self.rfile, self.wfile)

class Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True

class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

tcp = Tcp(("127.0.0.1", 0), Echo)
unix = Unix("echo", Echo)
threading.Thread(target=tcp.serve_forever, daemon=True).start()
threading.Thread(target=unix.serve_forever, daemon=True).start()
Path("port").write_text(str(tcp.server_address[1]))
print("ready", flush=True)
sys.stdin.read()
"""


TABLE = Path(entries.__file__).relative_to(Path(__file__).parents[2])
MADE = {"given", "taken", "log", "echo", "port"}  # files for the entries, and of their servers


@pytest.fixture(autouse=True, scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a directory that has a file to read and the sockets of servers to connect to."""
    with contextlib.chdir(tmp_path_factory.mktemp("conformance")):
        Path("given").write_bytes(BYTES)
        with subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield
            server.kill()


@pytest.fixture(autouse=True)
def _leaves_no_file() -> Iterator[None]:
    yield
    assert {*os.listdir()} <= MADE, "a temporary file was left"


def names(table: dict[str, Entry], *, timed: bool, variants_are_slow: bool = False) -> list[Any]:
    """Return the names of entries; variants, such as "gzip: noise", can be marked slow because there are so many."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if entry.slow or (variants_are_slow and ":" in name) else name
        for name, entry in table.items()
        if entry.timed is timed
    ]


async def check(name: str) -> None:
    if name in SOURCES:
        entry = SOURCES[name]
        await check_readable(entry.make, expected=entry.expected, limit=30)
    elif name in TRANSFORMS:
        entry = TRANSFORMS[name]
        await check_transform(
            entry.make, entry.items, entry.expected, is_stream=entry.is_stream, holds=entry.holds, limit=30
        )
    else:
        entry = SINKS[name]
        await check_writable(entry.make, entry.items, entry.expected, limit=30)


def test_every_public_name_has_its_entry() -> None:
    known = public_names([*STAGES, *ELSEWHERE])
    missing, unknown = {*tf.__all__} - known, known - {*tf.__all__}

    assert not missing, (
        f"{TABLE}: add an entry for {', '.join(sorted(missing))}, or say in ELSEWHERE where it is tested"
    )
    assert not unknown, f"{TABLE}: {', '.join(sorted(unknown))} is not a public name: remove or rename its entries"


def test_no_name_is_in_two_parts_of_the_table() -> None:
    parts = [*map(public_names, (SOURCES, TRANSFORMS, SINKS, ELSEWHERE))]

    assert len(set.union(*parts)) == sum(map(len, parts)), TABLE


def test_every_entry_without_a_bound_says_why() -> None:
    """Byte streams are bounded by weight, not by items, which their own tests check."""
    assert [
        name
        for name, entry in TRANSFORMS.items()
        if entry.holds is None
        and not entry.is_stream
        and not entry.but
        and name not in ("broadcast", "hub", "partition")
    ] == []


@pytest.mark.parametrize("name", names(STAGES, timed=False, variants_are_slow=True))
async def test_every_stage_follows_the_rules(name: str) -> None:
    await check(name)


@pytest.mark.parametrize("name", names(STAGES, timed=True))
async def test_every_timed_stage_follows_the_rules(name: str, autojump_clock: MockClock) -> None:
    await check(name)


async def consumed(name: str, consume: Consumer) -> None:
    if name in TRANSFORMS:
        entry = TRANSFORMS[name]
        await serve(lambda readable: readable.pipe(entry.make()), entry.items, entry.expected, consume)
        return
    entry = SOURCES[name]
    if entry.expected is None:
        got = await consume(entry.make().pipe(tf.take(3)))
        assert len(got) == 3 or consume in CONSUMERS[2:]
        return
    got = await consume(entry.make())
    assert got == entry.expected[: len(got)]
    assert len(got) == len(entry.expected) or consume in CONSUMERS[2:]


@pytest.mark.parametrize("name", names(SOURCES | TRANSFORMS, timed=False))
async def test_it_works_with_every_consumer(name: str) -> None:
    for consume in CONSUMERS:
        await consumed(name, consume)


@pytest.mark.parametrize("name", names(SOURCES | TRANSFORMS, timed=True))
async def test_every_timed_stage_works_with_every_consumer(name: str, autojump_clock: MockClock) -> None:
    for consume in CONSUMERS:
        await consumed(name, consume)
