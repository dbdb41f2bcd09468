"""The listing of a directory: its entries and their order, and that no name can do harm."""

from __future__ import annotations

import gzip
import os
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import open_descriptors
from tests.http.client import serving
from tests.http.file_server.test_files import asking, get
from trioflow import http
from trioflow.http.file_server import handler
from trioflow.http.file_server import listing as _listing
from trioflow.http.file_server.listing import Entry, View, render, sort_entries

ODD = [
    "<b>a&b\"q'.txt",
    "foo:bar",
    "javascript:alert(1)",
    "a b",
    "100%",
    "q?",
    "h#",
    "日本",
    "back\\slash",
    "x\ny",
    "\u202egnp.exe",
]


class Page(HTMLParser):
    """Parses a page as a browser does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[tuple[str, str]] = []
        self._open: str | None = None
        self._text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self._open, self._text = dict(attrs)["href"], ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._open is not None:
            self.links.append((self._open, self._text))
            self._open = None

    def names(self) -> list[str]:
        """Return the names in the rows, in order."""
        return [text for href, text in self.links if re.match(r"\./[^.?]", href)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for directory in ("sub/deep", ".git", "Zebra"):
        (root / directory).mkdir(parents=True)
    for name, size, time in [("b.txt", 10, 3), ("a.txt", 2000, 2), ("C.txt", 5, 1)]:
        (root / name).write_bytes(bytes(size))
        os.utime(root / name, (time, time))
    (root / ".hidden").touch()
    (root / "inside").symlink_to("sub")
    (root / "out").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    return root


async def listed(root: Path, target: str = "/", **options: Any) -> Page:
    status, _, body = await get(root, target, listing=True, **options)
    assert status == 200
    return Page(body.decode())


async def test_a_directory_without_an_index_is_listed_on_request(root: Path) -> None:
    assert (await get(root, "/"))[0] == 404
    status, headers, body = await get(root, "/", listing=True)

    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert body.startswith(b"<!doctype html>")
    assert Page(body.decode()).names() == ["inside/", "sub/", "Zebra/", "a.txt", "b.txt", "C.txt"]


async def test_an_index_takes_precedence_over_the_listing_and_a_directory_redirects_to_its_slash(root: Path) -> None:
    (root / "sub" / "index.html").write_text("mine")
    (root / "Zebra" / "index.html").mkdir()
    async with asking(http.files(root, listing=True)) as client:
        assert (await client.ask("GET", "/sub/"))[2] == b"mine"
        assert (await client.ask("GET", "/sub"))[1]["location"] == "./sub/"
        assert Page((await client.ask("GET", "/Zebra/"))[2].decode()).names() == ["index.html/"]
        assert (await client.ask("HEAD", "/"))[::2] == (200, b"")
        for missing in ("/missing/", "/a.txt/", "/.git/", "/out/", "/dangling/"):
            assert (await client.ask("GET", missing))[0] == 404


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sort=name&order=asc", ["a.txt", "b.txt", "C.txt"]),
        ("sort=name&order=desc", ["C.txt", "b.txt", "a.txt"]),
        ("sort=size", ["C.txt", "b.txt", "a.txt"]),
        ("order=desc&sort=size", ["a.txt", "b.txt", "C.txt"]),
        ("sort=date", ["C.txt", "a.txt", "b.txt"]),
        ("sort=date&order=desc", ["b.txt", "a.txt", "C.txt"]),
        ("sort=novelty&order=desc", ["a.txt", "b.txt", "C.txt"]),
        ("sort&&=&" + "x" * 5000, ["a.txt", "b.txt", "C.txt"]),
        ("sort=%00", ["a.txt", "b.txt", "C.txt"]),
        ("sort=-name", ["C.txt", "b.txt", "a.txt"]),
        ("sort=-size&q=", ["a.txt", "b.txt", "C.txt"]),
    ],
)
async def test_it_is_sorted_as_requested_with_directories_first(root: Path, query: str, names: list[str]) -> None:
    got = await listed(root, f"/?{query}")

    assert got.names()[3:] == names
    assert all(name.endswith("/") for name in got.names()[:3])


async def test_the_button_of_each_column_sorts_by_it_and_that_of_the_sorted_column_reverses_it(root: Path) -> None:
    got = await listed(root, "/?sort=size")

    assert [tag["value"] for name, tag in got.tags if name == "button"] == ["size", "name", "-size", "date"]
    assert [tag["aria-sort"] for name, tag in got.tags if name == "th" and tag] == ["ascending"]
    assert [tag["aria-sort"] for name, tag in (await listed(root, "/?sort=-date")).tags if "aria-sort" in tag] == [
        "descending"
    ]


async def test_links_to_directories_keep_the_order_and_crawlers_are_told_not_to_follow(root: Path) -> None:
    plain, sorted_ = await listed(root, "/sub/"), await listed(root, "/sub/?sort=size&order=desc&q=e")
    followed = [tag for name, tag in sorted_.tags if name == "a" and tag["href"] and "?" in tag["href"]]

    assert not [href for href, _ in plain.links if "?" in href]
    assert [href for href, _ in sorted_.links] == [
        "./../?sort=-size",
        "./?sort=-size",
        "../?sort=-size",
        "./deep/?sort=-size",
    ]
    assert {tag.get("rel") for tag in followed} == {"nofollow"}


@pytest.mark.parametrize(
    ("query", "names"),
    [("q=TXT", ["a.txt", "b.txt", "C.txt"]), ("q=ub", ["sub/"]), ("q=c.t&sort=size", ["C.txt"]), ("q=%2e%74+", [])],
)
async def test_a_listing_is_filtered_by_a_part_of_the_name(root: Path, query: str, names: list[str]) -> None:
    got = await listed(root, f"/?{query}")

    assert got.names() == names


async def test_the_filter_is_shown_in_the_search_box_and_escaped(root: Path) -> None:
    _, _, body = await get(root, "/?q=%22%3E%3Cb%3E%ff", listing=True)

    assert b"No name matches." in body
    assert [tag["value"] for name, tag in Page(body.decode()).tags if name == "input"] == ['"><b>\ufffd']
    assert b"<b>" not in body


async def test_the_filter_also_finds_names_beyond_the_listed_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listing, "MOST", 100)
    for number in range(300):
        (root / "sub" / f"{number:03}").touch()

    assert (await listed(root, "/sub/?q=299")).names() == ["299"]


async def test_a_listing_is_compressed_if_texts_are(root: Path) -> None:
    async with asking(http.files(root, listing=True, compress=True)) as client:
        status, headers, body = await client.ask("GET", "/", [("Accept-Encoding", "gzip")])
        plain = await client.ask("GET", "/")

    assert (status, headers["content-encoding"], headers["vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(body) == plain[2]
    assert (plain[1]["vary"], "content-encoding" in plain[1]) == ("Accept-Encoding", False)


async def test_unusual_names_are_escaped_and_their_links_work(root: Path) -> None:
    place = root / "sub" / "deep"
    for name in ODD:
        (place / name).write_text(name)
    async with asking(http.files(root, listing=True)) as client:
        body = (await client.ask("GET", "/sub/deep/"))[2].decode()
        got = Page(body)
        hrefs = [href for href, _ in got.links if href.startswith("./") and not href.startswith("./..")]
        read = {(await client.ask("GET", f"/sub/deep/{href[2:]}"))[2].decode() for href in hrefs if href != "./"}

    assert read == set(ODD)
    assert "[U+202E]gnp.exe" in body
    assert "\u202e" not in body
    assert "<b>" not in body
    assert {name for name, _ in got.tags} <= {
        "html", "meta", "title", "style", "main", "h1", "span", "table", "thead", "tbody", "tr", "th", "td", "a", "bdi", "time",
        "form", "p", "input", "button",
    }  # fmt: skip


async def test_a_name_that_is_not_utf8_is_shown_and_its_link_works(root: Path) -> None:
    directory = root / os.fsdecode(b"d\xff")
    directory.mkdir()
    (directory / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"coffee")
    async with asking(http.files(root, listing=True)) as client:
        body = (await client.ask("GET", "/"))[2].decode()
        assert '<a href="./d%FF/"><bdi>d\ufffd</bdi>/</a>' in body
        assert (await client.ask("GET", "/d%FF"))[1]["location"] == "./d%FF/"
        body = (await client.ask("GET", "/d%FF/"))[2].decode()
        assert '<a href="./caf%E9.txt"><bdi>caf\ufffd.txt</bdi></a>' in body
        assert (await client.ask("GET", "/d%FF/caf%E9.txt"))[::2] == (200, b"coffee")
        assert (await client.ask("GET", "/d%FF/caf%C3%A9.txt"))[0] == 404


async def test_the_path_is_shown_with_links_up_to_the_root_and_no_further(root: Path) -> None:
    got = await listed(root, "/static/files/sub/deep/", prefix="/static/files")
    up = [(href, text) for href, text in got.links if not href.startswith("?")]

    assert up == [("./../../", "/static/files"), ("./../", "sub"), ("./", "deep"), ("../", "Up one level")]
    assert "/</a><span>/</span>" not in (await get(root, "/sub/", listing=True))[2].decode().replace("</bdi>", "")
    assert [href for href, _ in (await listed(root, "/static/", prefix="/static")).links if ".." in href] == []


async def test_an_empty_directory_says_so(root: Path) -> None:
    _, _, body = await get(root, "/sub/deep/", listing=True)

    assert b"This directory is empty." in body


async def test_hidden_files_and_links_out_are_listed_if_they_are_served(root: Path) -> None:
    assert ".hidden" in (await get(root, "/", listing=True, hidden=True))[2].decode()
    names = (await listed(root, follow_symlinks=True)).names()
    assert "out" in names
    assert "dangling" not in names


async def test_a_listing_of_a_large_directory_is_truncated_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listing, "MOST", 100)
    for number in range(150):
        (root / "sub" / f"{number:03}").touch()
    got = await get(root, "/sub/", listing=True)

    assert len(Page(got[2].decode()).names()) == 100
    assert b"Only 100 names are shown" in got[2]


async def test_a_directory_that_may_not_be_read_is_forbidden(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, query: str, **options: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr("trioflow.http.file_server.handler.read_entries", refuse)

    assert (await get(root, "/", listing=True))[0] == 403


async def test_R2_a_client_that_leaves_leaves_no_directory_open(root: Path) -> None:
    async with serving(http.files(root, listing=True)) as port:
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.aclose()

    assert str(root) not in open_descriptors().values()


@pytest.mark.needs("wget")
async def test_wget_finds_everything_once_by_its_links(root: Path, tmp_path: Path) -> None:
    (root / "sub" / "deep" / "a&b <c>.txt").write_text("found")
    log: list[http.Access] = []
    async with serving(http.files(root, listing=True), log=log.append) as port:
        await trio.run_process(["wget", "-q", "-r", "-np", "-nH", f"http://127.0.0.1:{port}/"], cwd=tmp_path)

    assert (tmp_path / "sub" / "deep" / "a&b <c>.txt").read_text() == "found"
    assert (tmp_path / "a.txt").stat().st_size == 2000
    assert not [access.target for access in log if "?" in access.target]
    assert len({access.target for access in log}) == len(log)


NAME = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


@settings(max_examples=100)
@given(st.lists(NAME, unique=True, max_size=5), st.sampled_from(["", "sort=size&order=desc", "sort=date"]))
def test_any_name_makes_a_page_with_a_working_link(names: list[bytes], query: str) -> None:
    entries = [(os.fsdecode(name), len(name) % 2 == 0, len(name), 10.0**9) for name in names]
    view = View.of(query)
    got = Page(b"".join(render("/x/", 1, sort_entries(entries, view), view)).decode())
    rows = [href for href, _ in got.links if href.startswith("./")][2:]

    rows = [href.partition("?")[0] for href in rows]
    assert sorted(unquote_to_bytes(href[2:].rstrip("/")) for href in rows) == sorted(names)
    assert [tag for tag, _ in got.tags].count("tr") == 2 + len(names) + (not names)
    assert all(re.fullmatch(r"\./[A-Za-z0-9_.~%-]+/?", href) for href in rows)


@pytest.mark.parametrize("modified", [1e30, -1e30, float(2**62)])
def test_a_time_outside_the_calendar_is_left_out(modified: float) -> None:
    assert b"<time" not in b"".join(render("/", 0, [("a", False, 1, modified)], View.of("")))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1024 * 150, "150 KiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 80, "1048576 EiB"),
    ],
)
def test_sizes_are_abbreviated(size: int, shown: str) -> None:
    assert _listing._size(size) == shown


def test_an_entry_that_disappears_while_it_is_read_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        name = "gone"

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError

    class Found(list[Gone]):
        def __enter__(self) -> Found:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(_listing.os, "scandir", lambda fd: Found([Gone()]))
    found = _listing.read_entries(0, View.of(""), hidden=True, target_of=lambda name: None)
    monkeypatch.undo()

    assert found == []


async def test_one_thread_reads_sorts_and_renders_a_listing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def sorts(entries: list[Entry], view: View) -> list[Entry]:
        threads.append(threading.current_thread())
        return sort_entries(entries, view)

    def renders(*arguments: Any) -> Iterator[bytes]:
        for piece in render(*arguments):
            threads.append(threading.current_thread())
            yield piece

    (root / "many").mkdir()
    for number in range(3 * _listing._ROWS):
        (root / "many" / str(number)).touch()
    monkeypatch.setattr(handler, "sort_entries", sorts)
    monkeypatch.setattr(handler, "render", renders)
    async with asking(http.files(root, listing=True)) as client:
        assert (await client.ask("GET", "/many/"))[0] == 200

    assert len(threads) > 4
    assert len({*threads}) == 1
    assert threads[0] is not threading.main_thread()


class Reading(threading.Thread):
    """Reads a directory with a link; looking up its target blocks until `go` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.is_looking = threading.Event()
        self.go = threading.Event()
        self.start()

    def run(self) -> None:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            _listing.read_entries(fd, View.of(""), hidden=False, target_of=self.look_up)
        finally:
            os.close(fd)

    def look_up(self, name: bytes) -> None:
        self.is_looking.set()
        assert self.go.wait(60)


def test_directories_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lock:
        def acquire(self, timeout: float) -> bool:
            asked.release()
            return lock.acquire(timeout=60)

        def release(self) -> None:
            lock.release()

    lock, asked = threading.Lock(), threading.Semaphore(0)
    monkeypatch.setattr(_listing, "_reading", Lock())
    (tmp_path / "link").symlink_to("nowhere")
    first = Reading(tmp_path)
    assert first.is_looking.wait(60)
    second = Reading(tmp_path)
    for _ in range(2):
        assert asked.acquire(timeout=60)
    is_second_looking = second.is_looking.is_set()
    for each in (first, second):
        each.go.set()
        each.join()

    assert not is_second_looking
    assert second.is_looking.is_set()
    assert not lock.locked()


def test_a_directory_on_a_slow_disk_does_not_delay_others(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    readings = [Reading(tmp_path) for _ in range(3)]
    are_looking = [each.is_looking.wait(60) for each in readings]
    for each in readings:
        each.go.set()
        each.join()

    assert all(are_looking)
    assert not _listing._reading.locked()
