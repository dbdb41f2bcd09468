"""The demo: each handler does what its part of the page says."""

from __future__ import annotations

import ast
import gzip
import hashlib
import inspect
import json
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.http.client import Client, connected, read_until, serving
from trioflow import demo, http
from trioflow.demo import _asked, _feed, _handlers, _media, _memory, _sources, _visits, _whole

PAGE = Path(demo.__file__).parent / "page"
INSPECTOR = Path(http.__file__).parent / "inspector_page"
MEDIA = Path(demo.__file__).parent / "media"


@asynccontextmanager
async def demonstrating() -> AsyncGenerator[tuple[Client, int], None]:
    async with serving(demo.handler()) as port, connected(port) as stream:
        with trio.fail_after(60):
            yield Client(stream), port
    assert not _visits._visits


@asynccontextmanager
async def answering(port: int, request: bytes) -> AsyncGenerator[trio.SocketStream, None]:
    """Send a request whose response continues; yield its stream."""
    async with connected(port) as stream:
        await stream.send_all(request + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        yield stream


async def beats_until(pulse: trio.SocketStream, is_wanted: Any) -> Any:
    """Read a pulse until a beat meets a condition."""
    while True:
        for line in (await read_until(pulse, b"\n\n\r\n")).splitlines():
            if line.startswith(b"data: ") and is_wanted(beat := json.loads(line[6:])):
                return beat


async def wait_until(is_so: Any) -> None:
    """Wait for something that happens in the server, or in another of its tasks."""
    while not is_so():  # noqa: ASYNC110 - nothing tells of it
        await trio.sleep(0.01)


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
            if name in ("href", "src") and not (value or "").startswith("#"):
                self.files.append(value or "")
            elif name == "data-source":
                self.sources.append(value or "")
            elif name == "id":
                self.ids.append(value or "")


SCRIPTS = sorted(path.name for path in PAGE.glob("*.js"))
TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "webp": "image/webp",
}


def file_of(name: str) -> Path:
    """Return the file that is served under a name; the script of the inspector's page also draws the slow reader."""
    return INSPECTOR / name.removeprefix("inspector/") if name.startswith("inspector/") else PAGE / name


# ---- the page


async def test_the_page_and_all_it_refers_to_are_served() -> None:
    async with demonstrating() as (client, _):
        for name in ["", *Page().files, *SCRIPTS]:
            status, headers, body = await client.ask("GET", f"/{name}")

            assert status == 200
            assert body == file_of(name or "index.html").read_bytes()
            assert headers["content-type"].split(";")[0] == TYPES[(name or "index.html").rpartition(".")[2]]
            assert headers["content-security-policy"].startswith("default-src '")
        assert (await client.ask("GET", "/missing"))[0] == 404


def test_the_page_needs_no_other_host() -> None:
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")

        assert not re.search(r"https?://|//[a-z]+\.", text)


def test_the_scripts_find_the_elements_they_use() -> None:
    ids = set(Page().ids)
    for name in SCRIPTS:
        script = (PAGE / name).read_text()

        assert set(re.findall(r'\bat\("([\w-]+)"\)', script)) <= ids
        asked = {path for path in re.findall(r'(?:fetch|ask|url)\("([\w/.-]+)"', script) if "/" not in path}
        assert {f"/{path}" for path in asked} <= _handlers._ROUTES.keys()
        assert all(file_of(other).exists() for other in re.findall(r'(?:from|import) "\./([^"]+)"', script))


async def test_the_source_that_runs_is_shown_and_short() -> None:
    async with demonstrating() as (client, _):
        for names in Page().sources:
            status, headers, body = await client.ask("GET", f"/source?of={names}")

            assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
            functions = ast.parse(body).body
            assert [function.name for function in functions if isinstance(function, ast.AsyncFunctionDef)] == (
                names.split(",")
            )
            for function in functions:
                assert isinstance(function, ast.AsyncFunctionDef)
                assert function.end_lineno is not None
                assert function.end_lineno - function.lineno < 20
        whole = [inspect.getsource(module) for module in _sources._MODULES]
        assert all(any(source in text for text in whole) for source in _sources.sources().values())
        for unknown in ("/source", "/source?of=novelty", "/source?of=rows,__file__"):
            assert (await client.ask("GET", unknown))[0] == 404


def test_the_media_are_ours_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in MEDIA.iterdir()}

    assert set(sizes) == {"picture.webp", "melody.mp3", "clip.mp4"}
    assert sum(sizes.values()) < 1_500_000


@pytest.mark.parametrize(
    ("method", "target", "status", "told"),
    [
        ("POST", "/crowd?how=eaten", 400, "how must be whole or piped, got 'eaten'"),
        ("POST", "/crowd?how=piped&clients=0", 400, "clients must be a whole number from 1 to 50, got '0'"),
        ("POST", "/crowd?how=piped&clients=51", 400, "clients must be a whole number from 1 to 50, got '51'"),
        ("GET", "/picture?size=1e3", 400, "size must be a whole number from 100 to 65536, got '1e3'"),
        ("GET", "/picture?pause=-1", 400, "pause must be a whole number from 0 to 200, got '-1'"),
        ("GET", "/picture?pause=%D9%A1", 400, "pause must be a whole number from 0 to 200, got '١'"),
        ("GET", f"/picture?pause={'9' * 5000}", 400, "pause must be a whole number from 0 to 200, got '" + "9" * 40),
        ("POST", "/pace?per_second=", 400, "per_second must be a whole number from 1 to 200, got ''"),
        ("GET", "/list?start=1", 400, "start must be a whole number from 2 to 1000000, got '1'"),
        ("GET", "/changed?how=lower", 400, "how must be upper, numbers or gzip, got 'lower'"),
        ("GET", f"/pulse?visit={'v' * 65}", 400, "visit must have at most 64 characters"),
        ("GET", f"/list?{'a=1&' * 40}", 400, "the query has too many fields"),
        ("POST", "/piece", 409, "nothing reads these pieces; request /changed first"),
        ("POST", "/picture", 405, "/picture expects GET, got POST"),
        ("GET", "/upload", 405, "/upload expects POST, got GET"),
    ],
)
async def test_invalid_values_are_refused_with_a_message(method: str, target: str, status: int, told: str) -> None:
    async with demonstrating() as (client, _):
        got, headers, body = await client.ask(method, target)

    assert got == status
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert body.decode().startswith(told)
    assert body.count(b"\n") == 1


# ---- 1: the whole file, or a stream


@pytest.mark.parametrize("how", ["whole", "piped"])
async def test_many_clients_get_the_file_read_whole_or_piped(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(_whole, "MEGABYTES", 1)
    monkeypatch.setattr(_whole, "SPEED", 1 << 30)
    async with demonstrating() as (client, _):
        status, _headers, body = await client.ask("POST", f"/crowd?how={how}&clients=3")

    answer = json.loads(body)
    assert status == 200
    assert 3 << 20 < answer["bytes"] < (3 << 20) + 3000  # with the heads
    assert answer["seconds"] > 0


@pytest.mark.slow
async def test_a_second_group_of_clients_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with demonstrating() as (client, port):
        async with answering(port, b"POST /crowd?how=piped&clients=1"):
            await wait_until(lambda: _whole._crowds.borrowed_tokens)
            status, _headers, body = await client.ask("POST", "/crowd?how=whole&clients=1")
        await wait_until(lambda: not _whole._crowds.borrowed_tokens)  # a client that leaves ends its group

    assert (status, body) == (409, b"other clients are being served; try again when they are done\n")


# ---- 2: a picture in chunks


async def test_the_picture_is_complete_for_any_chunk_size() -> None:
    async with demonstrating() as (client, _):
        status, headers, body = await client.ask("GET", "/picture?size=50000&pause=1")

    assert status == 200
    assert headers["content-type"] == "image/webp"
    assert headers["access-control-allow-origin"] == "*"
    assert body == (MEDIA / "picture.webp").read_bytes()


async def test_the_picture_is_sent_a_thousand_bytes_at_a_time_with_pauses() -> None:
    got = b""
    async with demonstrating() as (_, port):
        began = trio.current_time()
        async with answering(port, b"GET /picture") as stream:
            while got.count(b"\r\n3e8\r\n") < 5:
                got += await stream.receive_some()

    assert trio.current_time() - began >= 0.04


async def test_the_pulse_reports_how_much_of_a_picture_was_sent() -> None:
    size = (MEDIA / "picture.webp").stat().st_size
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        await client.ask("GET", "/picture?visit=v&size=60000&pause=0")
        beat = await beats_until(pulse, lambda beat: beat["picture"]["bytes"] >= size)  # not while it is being sent

    assert beat["picture"] == {"chunks": -(-size // 60000), "bytes": size}


# ---- 3: audio and video


@pytest.mark.parametrize("name", ["picture.webp", "melody.mp3", "clip.mp4"])
async def test_media_are_served_in_ranges_which_the_pulse_reports(name: str) -> None:
    data = (MEDIA / name).read_bytes()
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        status, headers, body = await client.ask("GET", f"/media/{name}?visit=v", [("Range", "bytes=1000-1999")])
        beat = await beats_until(pulse, lambda beat: beat["ranges"] and beat["ranges"][0]["sent"] != "being sent")

    assert (status, headers["content-type"], body) == (206, TYPES[name.rpartition(".")[2]], data[1000:2000])
    range_ = f"206 bytes 1000-1999/{len(data)}"
    assert beat["ranges"] == [{"file": f"/media/{name}", "asked": "bytes=1000-1999", "sent": range_}]


# ---- 4: a slow reader


async def test_channels_fill_up_and_the_source_stops(autojump_clock: trio.testing.MockClock) -> None:
    looks: list[Any] = []
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        await client.ask("POST", "/pace?visit=v&per_second=5")
        async with answering(port, b"GET /slow-reader?visit=v") as stream:
            while len(looks) < 60:
                got = await read_until(stream, b"\n\n\r\n")
                looks += [json.loads(line[6:])["runs"] for line in got.splitlines() if line.startswith(b"data: ")]

    looks = [look[0] for look in looks if look]
    assert [stage["name"] for stage in looks[0]["stages"]] == ["counting", "squared", "slowly"]
    source, squares, reader = looks[-1]["stages"]
    assert source["fill"] == 1  # so the source waits
    assert squares["fill"] > 0.9
    assert source["items"] - looks[-11]["stages"][0]["items"] <= 6  # in a second, in which it could make 50
    assert 25 <= reader["items"] <= 31


# ---- 5: request bodies


async def test_an_upload_is_written_to_disk_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = bytes(range(256)) * 1000
    expected = {"bytes": 3 * len(data), "sha256": hashlib.sha256(data * 3).hexdigest()}
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        answer = await client.ask("POST", "/upload?visit=v", [("Transfer-Encoding", "chunked")], [data] * 3)
        assert json.loads(answer[2]) == expected
        await beats_until(pulse, lambda beat: beat["upload"] == expected)

    assert not os.listdir(tmp_path)


async def test_an_aborted_upload_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with demonstrating() as (_, port):
        async with connected(port) as stream:
            await stream.send_all(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nbegun")
            await wait_until(lambda: os.listdir(tmp_path))
        await wait_until(lambda: not os.listdir(tmp_path))

    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ([b"h\xc3", b"\xa9llo"], 200, "héllo"),
        ([], 200, ""),
        ([b"\xff"], 400, "the body is not valid UTF-8: invalid start byte, byte 0xff\n"),
        ([b"\xc3"], 400, "the body is not valid UTF-8: unexpected end of data, byte 0xc3\n"),
    ],
)
async def test_a_body_is_returned_as_text_or_refused_with_the_reason(body: list[bytes], status: int, told: str) -> None:
    async with demonstrating() as (client, _):
        answer = await client.ask("POST", "/echo", [("Transfer-Encoding", "chunked")], body)

    assert (answer[0], answer[2].decode()) == (status, told)


async def test_an_error_late_in_a_text_or_excessive_length_is_reported_too() -> None:
    async with demonstrating() as (client, _):
        length = [("Transfer-Encoding", "chunked")]
        late = await client.ask("POST", "/echo", length, [b"a" * 300_000, b"\xff"])
    async with demonstrating() as (client, _):
        long = await client.ask("POST", "/echo", length, [b"a" * ((1 << 20) + 1)])

    assert (late[0], late[2]) == (400, b"the body is not valid UTF-8: invalid start byte, byte 0xff\n")
    assert (long[0], long[2]) == (413, b"the body is longer than 1,048,576 bytes\n")


# ---- 6: there and back


async def test_lines_are_returned_while_others_are_still_being_sent() -> None:
    async with demonstrating() as (_, port), connected(port) as stream:
        await stream.send_all(b"POST /shout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.send_all(b"6\r\nhello\n\r\n")
        got = await read_until(stream, b"HELLO\n\r\n")
        await stream.send_all(b"3\r\nbye\r\n0\r\n\r\n")
        rest = await read_until(stream, b"0\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"BYE\n" in rest


async def test_lines_that_are_not_text_are_no_failure_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with demonstrating() as (_, port), connected(port) as stream:
        status, _headers, body = await Client(stream).ask("POST", "/shout", [("Content-Length", "3")], [b"a\n\xff"])

    assert status == 200
    assert body.endswith(b"(THIS IS NOT UTF-8 TEXT; TRY GZIP, WHICH TAKES ANY BYTES)\n")
    assert not caplog.records


@pytest.mark.parametrize(
    ("how", "expected"),
    [("upper", b"ONE\nTWO\n"), ("numbers", b"    1  one\n    2  two\n"), ("gzip", gzip.compress(b"one\ntwo"))],
)
async def test_pieces_are_returned_transformed(how: str, expected: bytes) -> None:
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        async with connected(port) as stream:
            change = Client(stream)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_pieces, client)
                status, _headers, body = await change.ask("GET", f"/changed?visit=v&how={how}")

    assert status == 200
    if how == "gzip":
        body, expected = gzip.decompress(body), gzip.decompress(expected)
    assert body == expected


async def send_pieces(client: Client) -> None:
    length = [("Content-Length", "5")]
    while (await client.ask("POST", "/piece?visit=v", length, [b"one\nt"]))[0] == 409:  # noqa: ASYNC110
        await trio.sleep(0.01)  # the answer has not begun
    assert (await client.ask("POST", "/piece?visit=v&last=1", [("Content-Length", "2")], [b"wo"]))[0] == 200


async def test_pieces_that_are_not_text_are_an_error_and_no_more_are_received() -> None:
    async with demonstrating() as (client, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        async with answering(port, b"GET /changed?visit=v&how=upper") as stream:
            await read_until(stream, b"\r\n\r\n")
            await client.ask("POST", "/piece?visit=v", [("Content-Length", "2")], [b"\xff\n"])
            got = await read_until(stream, b"0\r\n\r\n")
            status, _headers, body = await client.ask("POST", "/piece?visit=v", [("Content-Length", "1")], [b"a"])

    assert b"(THIS IS NOT UTF-8 TEXT; TRY GZIP, WHICH TAKES ANY BYTES)" in got
    assert (status, body) == (409, b"these pieces are no longer read\n")


# ---- 7: a live feed


async def test_a_reader_that_leaves_stops_its_source_as_the_pulse_reports(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with demonstrating() as (_, port), answering(port, b"GET /pulse?visit=v") as pulse:
        await beats_until(pulse, lambda beat: True)
        async with answering(port, b"GET /feed?visit=v") as stream:
            first = await read_until(stream, b"\n\n\r\n")
            during = await beats_until(pulse, lambda beat: beat["sources"] and beat["sources"][0]["made"])
        after = await beats_until(pulse, lambda beat: not beat["sources"][0]["running"])

    assert b"text/event-stream" in first
    assert b"id: 1\ndata: 3.00\n\n" in first
    assert during["sources"][0]["running"]
    assert after["sources"][0]["name"] == "feed"
    assert after["sources"][0]["made"] <= during["sources"][0]["made"] + 1


@pytest.mark.parametrize(("last", "first"), [("41", 42), ("", 1), ("yesterday", 1)])
async def test_the_feed_resumes_after_what_a_client_already_has(last: str, first: int) -> None:
    async with demonstrating() as (_, port), connected(port) as stream:
        await stream.send_all(f"GET /feed HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {last}\r\n\r\n".encode())
        got = await read_until(stream, b"\n\n\r\n")

    assert f"id: {first}\n".encode() in got


async def test_the_list_resumes_at_the_current_position(autojump_clock: trio.testing.MockClock) -> None:
    async with demonstrating() as (client, _):
        status, headers, body = await client.ask("GET", "/list?start=360")

    entries = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert [entry["number"] for entry in entries] == list(range(360, 360 + _feed.LISTED))
    assert entries[0]["factors"] == [2, 2, 2, 3, 3, 5]
    assert entries[7]["factors"] == [367]


async def test_the_pulse_reports_the_servers_memory() -> None:
    async with demonstrating() as (_, port), answering(port, b"GET /pulse") as pulse:
        beat = await beats_until(pulse, lambda beat: True)

    assert beat["memory"] > 1 << 20
    assert beat["sources"] == beat["ranges"] == []


async def test_a_page_that_reconnects_keeps_its_new_visit() -> None:
    async with demonstrating() as (_, port):
        async with answering(port, b"GET /pulse?visit=v") as second:
            async with answering(port, b"GET /pulse?visit=v") as first:
                await beats_until(second, lambda beat: True)
                await beats_until(first, lambda beat: True)
            await beats_until(second, lambda beat: True)
        await wait_until(lambda: not _visits._visits)

    assert not _visits._visits


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_memory_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    monkeypatch.setattr(_memory, "_STATM", tmp_path / "missing")
    monkeypatch.setattr(_memory.sys, "platform", platform)

    assert _memory.resident() % unit == 0
    assert _memory.resident() > 1 << 10


def test_without_malloc_trim_releasing_memory_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory.ctypes, "CDLL", lambda name: object())

    assert _memory.give_back() is None  # type: ignore[func-returns-value]


def test_json_is_written_as_one_line() -> None:
    assert _asked.as_json({"a": "é"}) == b'{"a": "\\u00e9"}\n'
    assert _media.PICTURE.is_file()
