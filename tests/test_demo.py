"""The demo: each handler does what its part of the page says."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
import trio

import trioflow as tf
from tests.http_client import Client, connected, read_until, serving
from trioflow import demo
from trioflow.demo import _handlers, _memory

PAGE = Path(demo.__file__).parent / "page"
SOURCE = Path(_handlers.__file__).read_text()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handlers, "reader", dict(_handlers.reader))
    monkeypatch.setattr(_handlers, "progress", {})


@asynccontextmanager
async def demonstrating() -> AsyncGenerator[Client, None]:
    async with serving(demo.handler()) as port, connected(port) as stream:
        with trio.fail_after(20):
            yield Client(stream)


class Page(HTMLParser):
    """What the page refers to: files, handlers' sources, ids."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed((PAGE / "index.html").read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src"):
                self.files.append(value or "")
            elif name == "data-source":
                self.sources += (value or "").split()
            elif name == "id":
                self.ids.append(value or "")


async def test_the_page_and_all_it_refers_to_are_served() -> None:
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    async with demonstrating() as client:
        for name in ["", *Page().files]:
            status, headers, body = await client.ask("GET", f"/{name}")

            assert status == 200
            assert body == (PAGE / (name or "index.html")).read_bytes()
            assert headers["content-type"].split(";")[0] == types[(name or "index.html").rpartition(".")[2]]
            assert headers["content-security-policy"].startswith("default-src 'self';")
        assert (await client.ask("GET", "/missing"))[0] == 404


def test_the_page_needs_no_other_host() -> None:
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")

        assert not re.search(r"https?://|//[a-z]+\.", text)


def test_the_script_finds_what_it_looks_for() -> None:
    script = (PAGE / "page.js").read_text()

    assert set(re.findall(r'\bat\("([\w-]+)"\)', script)) <= set(Page().ids)
    asked = set(re.findall(r'(?:fetch|values)\(\s*["`]([\w-]+)', script))
    assert {f"/{path}" for path in asked} <= _handlers._ROUTES.keys()


async def test_the_source_that_runs_is_shown() -> None:
    async with demonstrating() as client:
        for name in Page().sources:
            status, headers, body = await client.ask("GET", f"/source?of={name}")

            assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
            assert body.decode() in SOURCE
            [function] = ast.parse(body).body
            assert isinstance(function, ast.AsyncFunctionDef)
            assert function.name == name
            assert body.startswith(b"@tf.") is bool(function.decorator_list)
        both = await client.ask("GET", "/source?of=rows&of=piped")
        assert both[2].count(b"async def ") == 2
        for unknown in ("/source", "/source?of=novelty", "/source?of=rows&of=__file__"):
            assert (await client.ask("GET", unknown))[0] == 404


@pytest.mark.parametrize("path", ["/whole", "/piped"])
async def test_whole_and_piped_give_the_same_rows(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(_handlers, "MEGABYTES", 1)
    async with demonstrating() as client:
        status, headers, body = await client.ask("GET", path)

    assert status == 200
    assert body == b"".join(b"%015d\n" % number * 4096 for number in range(16))
    assert headers.get("content-length") == ("1048576" if path == "/whole" else None)


async def test_an_upload_is_digested_and_its_progress_kept() -> None:
    data = bytes(range(256)) * 1000
    async with demonstrating() as client:
        answer = await client.ask("POST", "/upload", [("Transfer-Encoding", "chunked")], [data] * 3)

    expected = {"bytes": 3 * len(data), "sha256": hashlib.sha256(data * 3).hexdigest()}
    assert json.loads(answer[2]) == expected
    assert _handlers.progress == expected


async def test_lines_come_back_while_others_are_still_to_be_sent() -> None:
    async with serving(demo.handler()) as port, connected(port) as stream:
        with trio.fail_after(10):
            await stream.send_all(b"POST /shout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            await stream.send_all(b"6\r\nhello\n\r\n")
            got = await read_until(stream, b"HELLO\n\r\n")
            await stream.send_all(b"3\r\nbye\r\n0\r\n\r\n")
            rest = await read_until(stream, b"0\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"BYE\n" in rest


async def test_the_source_waits_when_the_slow_readers_channel_is_full(autojump_clock: trio.testing.MockClock) -> None:
    seen = []
    async with demonstrating() as client:
        assert (await client.ask("POST", "/pace?per_second=5"))[0] == 200
    async with serving(demo.handler()) as port, connected(port) as stream:
        await stream.send_all(b"GET /slow-reader HTTP/1.1\r\nHost: x\r\n\r\n")
        while len(seen) < 40:
            seen += [
                json.loads(line) for line in (await read_until(stream, b"}\n\r\n")).splitlines() if line[:1] == b"{"
            ]

    assert [each["taken"] for each in seen] == list(range(1, len(seen) + 1))
    assert max(each["held"] for each in seen) == 63  # of 64, when one has just been taken
    assert all(each["sent"] == each["taken"] + each["held"] for each in seen)


async def test_a_slow_readers_response_ends_when_its_numbers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handlers, "ticking", lambda per_second: tf.from_iterable([1, 2]))
    _handlers.reader["per_second"] = 1000.0
    async with demonstrating() as client:
        assert (await client.ask("GET", "/slow-reader"))[2].count(b"\n") == 2


async def test_the_pulse_beats_with_the_servers_memory() -> None:
    async with serving(demo.handler()) as port, connected(port) as stream:
        await stream.send_all(b"GET /pulse HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await read_until(stream, b"}\n\r\n")

    beat = json.loads(next(line for line in got.splitlines() if line.startswith(b"{")))
    assert beat["memory"] > 1 << 20
    assert isinstance(beat["upload"], dict)


@pytest.mark.parametrize(
    ("query", "pace"),
    [
        ("per_second=20", 20),
        ("per_second=0", 1),
        ("per_second=1e9", 1000),
        ("per_second=x", 10),
        ("", 10),
        ("per_second=nan", 1),
    ],
)
async def test_a_pace_out_of_bounds_is_brought_back(query: str, pace: float) -> None:
    async with demonstrating() as client:
        await client.ask("POST", f"/pace?{query}")

    assert _handlers.reader["per_second"] == pace


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_where_there_is_no_proc_the_most_memory_ever_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    monkeypatch.setattr(_memory, "_STATM", tmp_path / "missing")
    monkeypatch.setattr(_memory.sys, "platform", platform)

    assert _memory.resident() % unit == 0
    assert _memory.resident() > 1 << 10
