"""HTTP over loopback: one process serves, another sends requests and discards the responses.

Rule 1: each sample starts a new server, and lets it answer once before it is measured.
Rule 2: the client is cheaper than any server: large bodies are dropped in the kernel, small ones counted by wrk.
Rule 3: CPU seconds are the server's alone; on a machine with few cores they say more than wall time.
"""

from __future__ import annotations

import os
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import _place, _servers
from tests.benchmarks._harness import Failed, Need, Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, Server, run, with_trioflow, wrk

GIB = 1 << 30
Measure = Callable[[Server, Path, Scale], Sample]


@contextmanager
def _root(name: str, file: Path) -> Iterator[Path]:
    """Return a directory with one of our files in it."""
    with _place.scratch() as root:
        os.link(file, root / name)
        yield root


def _on(kind: _servers.Kind, measure: Measure, prepare: Callable[[int], Path], name: str) -> Callable[[Scale], Sample]:
    def measured(scale: Scale) -> Sample:
        with _root(name, prepare(scale.size)) as root, kind.start(root) as server:
            return measure(server, root, scale)

    return measured


def _client(program: str, *arguments: object) -> dict[str, Any]:
    """Run a client with our Python, whose CPU time counts for no peer."""
    return run([*with_trioflow(), PEERS / program, *map(str, arguments)])


def _first_answer(server: Server, path: str, file: Path) -> None:
    """Send one request and check the whole response; later ones are only counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        expect("the first answer", answer.read() == file.read_bytes(), True)


def read_large(readers: int) -> Measure:
    """Make the measurement of one large file, read by several clients at once."""

    def measure(server: Server, root: Path, scale: Scale) -> Sample:
        file = root / "file.bin"
        _client("load_read.py", server.port, "/file.bin", file, 1)
        cpu = server.cpu_seconds()
        told = _client("load_read.py", server.port, "/file.bin", file, readers)
        expect("the bytes received", told["bytes"], scale.size * readers)
        return Sample.rate(scale.size * readers, told["wall"], server.cpu_seconds() - cpu)

    return measure


def many_small(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure how often a small file is served over 16 keep-alive connections."""
    _first_answer(server, "/file.bin", root / "file.bin")
    return _asked_again(server, "/file.bin", 16, scale.size, scale.seconds)


def _asked_again(server: Server, path: str, connections: int, size: int, seconds: float) -> Sample:
    """Measure how often something of `size` bytes or more is served over keep-alive connections."""
    if seconds:
        wrk(server, path, connections, 1)
    cpu = server.cpu_seconds()
    told = wrk(server, path, connections, max(1, round(seconds)))
    cpu = server.cpu_seconds() - cpu
    expect("the answers that failed", told["errors"], 0)
    # A response in transit when the time is over is counted in bytes or in requests, never in both.
    if told["requests"] < 1 or told["bytes"] < (told["requests"] - connections) * size:
        raise Failed(f"{told['requests']} answers had {told['bytes']} bytes, not {size} each")
    return Sample.rate(told["requests"], told["wall"], cpu)


def listing(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure how often a page that lists `scale.size` names is served over 4 keep-alive connections."""
    names = root / "names"
    names.mkdir()
    for number in range(scale.size):
        (names / f"photo {number:04}.jpeg").write_bytes(b"x" * number)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/names/", timeout=60) as answer:
        page = answer.read()
    expect("the names in order", re.findall(rb">photo (\d+)\.jpeg<", page), [b"%04d" % n for n in range(scale.size)])
    expect("the links", len(re.findall(rb'href="(?:\./)?photo%20\d+\.jpeg"', page)), scale.size)
    return _asked_again(server, "/names/", 4, len(page), scale.seconds)


def feed(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure the CPU time of each event that reaches a client, of many that read one feed."""
    seconds = scale.seconds or 1
    told = _client("load_feed.py", server.port, "/feed", scale.size, seconds, server.session)
    if told["events"] < scale.size * seconds:
        raise Failed(f"{told['events']} events reached {scale.size} clients in {seconds:g} seconds: the feed is late")
    return Sample(told["cpu"] / told["events"], None, told["wall"], told["cpu"])


def post(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure a large body sent to be written to a file."""
    file, upload = root / "file.bin", root / "upload.bin"
    _place.make_ready(file, upload)
    cpu = server.cpu_seconds()
    told = _client("load_send.py", server.port, "/upload", file)
    cpu = server.cpu_seconds() - cpu
    expect("the answer", told["answer"], str(scale.size))
    expect("what was written", _place.fresh_digest(upload), _place.fresh_digest(file))
    return Sample.rate(scale.size, told["wall"], cpu)


def packed(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure a text that is compressed while it is sent; the rate counts the bytes of the text."""
    cpu = server.cpu_seconds()
    told = _client("load_gzip.py", server.port, "/gzip")
    cpu = server.cpu_seconds() - cpu
    expect("the unpacked text", told["digest"], _place.fresh_digest(root / "file.txt"))
    if told["bytes"] > scale.size / 2:
        raise Failed(f"{told['bytes']} bytes came for {scale.size}: it is not packed")
    return Sample.rate(scale.size, told["wall"], cpu)


def first_byte(path: str) -> Measure:
    """Make the measurement of the time from connecting to the first byte of a body, repeatedly."""

    def measure(server: Server, root: Path, scale: Scale) -> Sample:
        times = 200 if scale.seconds else 3
        _client("load_first_byte.py", server.port, path, root / "file.bin", max(1, times // 10))
        cpu = server.cpu_seconds()
        told = _client("load_first_byte.py", server.port, path, root / "file.bin", times)
        cpu = server.cpu_seconds() - cpu
        return Sample(told["median"], None, told["wall"] / times, cpu / times)

    return measure


def slow_readers(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure the server's memory for each of many who read a large file slowly, at its highest."""
    readers, seconds = (1000, 8) if scale.seconds else (10, 1)
    _client("load_first_byte.py", server.port, "/file.bin", root / "file.bin", 3)
    idle, cpu = server.private_bytes(), server.cpu_seconds()
    highest, over = [idle], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            highest.append(server.private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        told = _client("load_slow.py", server.port, "/file.bin", root / "file.bin", readers, seconds)
    finally:
        over.set()
        watcher.join()
    expect("the readers that were served to the end", told["served"], readers)
    return Sample.level((max(highest) - idle) / readers, told["wall"], server.cpu_seconds() - cpu)


def beside_a_crowd(server: Server, root: Path, scale: Scale) -> Sample:
    """Measure how much longer a small request takes beside many slow readers and many slow heads."""
    readers, tricklers, seconds = (1000, 200, 4) if scale.seconds else (10, 5, 1)
    (root / "small.txt").write_bytes(b"x" * 1017 + b"the end")
    cpu = server.cpu_seconds()
    told = _client("load_beside.py", server.port, "/file.bin", "/small.txt", readers, tricklers, seconds)
    return Sample.level(told["beside"] / told["alone"], told["wall"], server.cpu_seconds() - cpu)


def _work(
    name: str,
    title: str,
    unit: str,
    sizes: tuple[int, int],
    measure: Measure,
    peers: Sequence[tuple[_servers.Kind, float | None, float | None]],
    *,
    prepare: Callable[[int], Path] = _place.random_file,
    file: str = "file.bin",
    is_cost: bool = False,
    seconds: float = 0.0,
    needs: Sequence[Need] = (),
    ours: _servers.Kind = _servers.OURS,
) -> Work:
    made = [
        Peer(
            kind.name,
            _on(kind, measure, prepare, file),
            [*kind.needs, *needs],
            target,
            cpu_target,
            is_limit=kind is _servers.BARE or (kind is _servers.NGINX and name.startswith("large")),
        )
        for kind, target, cpu_target in [(ours, None, None), *peers]
    ]
    return Work(f"http-{name}", f"HTTP: {title}", unit, *sizes, made, is_cost, seconds)


_FILES = [
    (_servers.NGINX, 1.0, None),
    (_servers.NODE, 3.0, None),
    (_servers.AIOHTTP, 1.0, None),
    (_servers.UVICORN, None, None),
    (_servers.HYPERCORN, 12.0, None),
]
_SMALL_FILES = [
    (_servers.BARE, 0.4, None),
    (_servers.NGINX, None, None),
    (_servers.NODE, 1.0, 1.5),
    (_servers.AIOHTTP, 5.0, None),
    (_servers.UVICORN, None, None),
    (_servers.HYPERCORN, 20.0, None),
]
_MIB = 1 << 20

WORKS = [
    _work("large-1", "a file of 1 GiB, one reader", "B/s", (GIB, _MIB), read_large(1), _FILES),
    _work("large-8", "a file of 1 GiB, eight readers", "B/s", (GIB, _MIB), read_large(8), _FILES),
    *(
        _work(
            f"small-{kib}k",
            f"a file of {kib} KiB, 16 connections that stay",
            "requests/s",
            (kib << 10, kib << 10),
            many_small,
            _SMALL_FILES,
            seconds=4.0,
            needs=[_place.WRK],
        )
        for kib in (1, 64)
    ),
    _work(
        "log",
        "a file of 1 KiB, 16 connections that stay, with the log of the command",
        "requests/s",
        (1 << 10, 1 << 10),
        many_small,
        [(_servers.UNLOGGED, 0.9, 0.9), (_servers.BARE, 0.36, None)],
        seconds=4.0,
        needs=[_place.WRK],
        ours=_servers.LOGGED,
    ),
    _work(
        "downloads",
        "200 downloads at once, 10 MiB each",
        "B/s",
        (10 * _MIB, 64 << 10),
        read_large(200),
        [(_servers.NODE, 1.0, None), (_servers.NGINX, None, None)],
    ),
    _work(
        "listing",
        "a page of 1,000 names, 4 connections that stay",
        "requests/s",
        (1000, 10),
        listing,
        [(_servers.NODE, 1.0, None)],
        seconds=4.0,
        needs=[_place.WRK],
    ),
    _work(
        "feed",
        "server-sent events to 1,000 clients: CPU time of the server for each event that reaches one",
        "s",
        (1000, 10),
        feed,
        [(_servers.NODE, 1.0, None)],
        is_cost=True,
        seconds=5.0,
    ),
    _work(
        "post",
        "POST of 1 GiB to a file",
        "B/s",
        (GIB, _MIB),
        post,
        [(_servers.NODE, 1.0, None), (_servers.AIOHTTP, 1.0, None), (_servers.UVICORN, 1.0, None)],
    ),
    _work(
        "gzip",
        "a text of 100 MB, gzip on the fly",
        "B/s",
        (100_000_000, _MIB),
        packed,
        [(_servers.NODE, 1.0, None), (_servers.UVICORN_GZIP, None, None)],
        prepare=_place.log_file,
        file="file.txt",
    ),
    _work(
        "memory",
        "memory for each of 1,000 slow readers of 1 GiB",
        "B",
        (GIB, 8 * _MIB),
        slow_readers,
        [(_servers.NODE, 1.0, None), (_servers.NGINX, None, None)],
        is_cost=True,
        seconds=8.0,
    ),
    _work(
        "crowd",
        "time of a small request beside 1,000 slow readers and 200 slow heads, as a multiple of it alone",
        "x",
        (GIB, 8 * _MIB),
        beside_a_crowd,
        [(_servers.NODE, None, None), (_servers.NGINX, None, None)],
        is_cost=True,
        seconds=4.0,
    ),
    _work(
        "first-byte",
        "time to the first byte of a file of 1 GiB",
        "s",
        (GIB, _MIB),
        first_byte("/file.bin"),
        [(_servers.NODE, 1.0, None), (_servers.NGINX, None, None)],
        is_cost=True,
        seconds=1.0,
    ),
    _work(
        "first-byte-chain",
        "time to the first byte of 1 GiB through three transforms",
        "s",
        (GIB, _MIB),
        first_byte("/chain"),
        [(_servers.NODE, 1.2, None)],
        is_cost=True,
        seconds=1.0,
    ),
]
