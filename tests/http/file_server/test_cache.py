"""The short-lived cache of small files: what clients get when files change, and how much is cached."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.http.file_server.test_files import asking
from trioflow import http
from trioflow.http.file_server import cache, lookup


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the cache, which stands still."""
    now = [100.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def resting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat each file as changed long ago, because the time at which its inode changed cannot be set."""
    monkeypatch.setattr(cache, "RESTS", -1.0)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat each file as just changed, however long a busy machine takes from its change to the request."""
    monkeypatch.setattr(cache, "RESTS", 600.0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were looked up, in order."""
    names: list[str] = []

    def look(directory: lookup.RootDirectory, parts: list[bytes]) -> lookup.OpenFile:
        names.append(b"/".join(parts).decode())
        return directory.open_now(parts)

    monkeypatch.setattr(lookup.RootDirectory, "open_cached", look)
    return names


def old(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, (10**9, 10**9))
    return path


@pytest.mark.usefixtures("resting")
async def test_a_small_unchanged_file_is_opened_once_in_a_short_time(
    tmp_path: Path, clock: list[float], opened: list[str]
) -> None:
    old(tmp_path / "a.txt", b"hello")
    async with asking(http.files(tmp_path, precompressed=())) as client:
        answers = [await client.ask("GET", "/a.txt") for _ in range(3)]
        part = await client.ask("GET", "/a.txt", [("Range", "bytes=1-2")])
        known = await client.ask("GET", "/a.txt", [("If-None-Match", answers[0][1]["etag"])])
        head = await client.ask("HEAD", "/a.txt")
        several = await client.ask("GET", "/a.txt", [("Range", "bytes=0-0,4-4")])

        assert opened == ["a.txt"]
        assert [answer[::2] for answer in answers] == [(200, b"hello")] * 3
        assert (part[0], part[2]) == (206, b"el")
        assert (known[0], known[2]) == (304, b"")
        assert (head[1]["content-length"], head[2]) == ("5", b"")
        assert several[0] == 206
        assert several[2].count(b"Content-Range") == 2

        clock[0] += cache.LASTS
        assert (await client.ask("GET", "/a.txt"))[2] == b"hello"

    assert opened == ["a.txt"] * 2


@pytest.mark.usefixtures("resting")
async def test_a_variant_cached_for_one_client_is_not_sent_to_another(tmp_path: Path, clock: list[float]) -> None:
    for name in ("a.css", "a.css.gz", "a.css.br"):
        old(tmp_path / name, name.encode())
    async with asking(http.files(tmp_path)) as client:
        for field, name in [("gzip", b"a.css.gz"), ("br", b"a.css.br"), ("x", b"a.css"), ("gzip, br", b"a.css.br")] * 2:
            assert (await client.ask("GET", "/a.css", [("Accept-Encoding", field)]))[2] == name


@pytest.mark.usefixtures("resting")
async def test_a_replaced_or_removed_file_is_noticed_within_a_second(tmp_path: Path, clock: list[float]) -> None:
    path = old(tmp_path / "a.txt", b"one")
    async with asking(http.files(tmp_path)) as client:
        first = await client.ask("GET", "/a.txt")
        old(tmp_path / "new", b"three").rename(path)
        clock[0] += cache.LASTS
        second = await client.ask("GET", "/a.txt", [("If-None-Match", first[1]["etag"])])
        path.unlink()
        clock[0] += cache.LASTS
        third = await client.ask("GET", "/a.txt")

    assert first[2] == b"one"
    assert second[::2] == (200, b"three")
    assert third[0] == 404
    assert cache.LASTS <= 1


@pytest.mark.usefixtures("restless")
async def test_a_file_that_was_just_written_is_served_with_its_new_content(tmp_path: Path, clock: list[float]) -> None:
    async with asking(http.files(tmp_path)) as client:
        for text in (b"one", b"two", b"six"):
            (tmp_path / "a.txt").write_bytes(text)

            assert (await client.ask("GET", "/a.txt"))[2] == text


@pytest.mark.usefixtures("restless")
async def test_a_file_that_was_just_replaced_by_one_with_an_old_date_is_not_cached(
    tmp_path: Path, clock: list[float]
) -> None:
    async with asking(http.files(tmp_path)) as client:
        for text in (b"one", b"two", b"six"):
            old(tmp_path / "a.txt", text)

            assert (await client.ask("GET", "/a.txt"))[2] == text


@pytest.mark.usefixtures("resting")
async def test_a_large_file_is_opened_each_time(tmp_path: Path, clock: list[float], opened: list[str]) -> None:
    old(tmp_path / "large.bin", bytes(cache.LARGEST + 1))
    async with asking(http.files(tmp_path, precompressed=())) as client:
        for _ in range(2):
            assert len((await client.ask("GET", "/large.bin"))[2]) == cache.LARGEST + 1

    assert opened == ["large.bin"] * 2


def test_the_cache_has_a_bound_and_evicts_the_oldest_first(clock: list[float]) -> None:
    held: cache.FileCache[str] = cache.FileCache()
    for number in range(1000):
        held.put((str(number), ()), "a file", 50_000)

    kept = [number for number in range(1000) if held.get((str(number), ()))]
    assert kept == list(range(1000 - len(kept), 1000))
    assert 40 < len(kept) <= cache.MOST / 50_000
    assert held._weight <= cache.MOST


def test_the_length_of_a_name_counts_against_the_bound(clock: list[float]) -> None:
    held: cache.FileCache[str] = cache.FileCache()
    for number in range(1000):
        held.put((f"{number}{'x' * 30_000}", ()), "a file", 0)

    assert len(held._kept) * 30_000 < cache.MOST


def test_expired_entries_do_not_count_against_the_bound(clock: list[float]) -> None:
    held: cache.FileCache[str] = cache.FileCache()
    for _ in range(1000):
        held.put(("a", ()), "a file", 50_000)
    clock[0] += cache.LASTS

    assert held.get(("a", ())) is None
    assert held.get(("a", ())) is None
    assert (held._weight, held._kept) == (0, {})


def test_a_file_is_cached_only_if_it_has_not_changed_for_a_while() -> None:
    now = time.time_ns()

    assert cache.is_at_rest(now - 3 * 10**9)
    assert not cache.is_at_rest(now - 10**9)
    assert not cache.is_at_rest(now + 10**12)


@pytest.mark.usefixtures("resting")
async def test_files_are_cached_by_the_path_that_is_looked_up(tmp_path: Path, clock: list[float]) -> None:
    """A handler that serves a directory for each host sets the path, so the same target leads to two files."""
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        old(tmp_path / host / "index.html", f"this is {host}".encode())
    files = http.files(tmp_path)

    async def by_host(request: http.Request, response: http.Response) -> None:
        request.path = f"/{request.headers['site']}{request.path}"
        await files(request, response)

    async with asking(by_host) as client:
        for host in ("a", "b", "a"):
            assert (await client.ask("GET", "/", [("Site", host)]))[2] == f"this is {host}".encode()


@pytest.mark.usefixtures("resting")
async def test_a_path_with_an_encoded_slash_gets_nothing_from_the_cache(tmp_path: Path, clock: list[float]) -> None:
    (tmp_path / "sub").mkdir()
    old(tmp_path / "sub" / "a.txt", b"hello")
    async with asking(http.files(tmp_path)) as client:
        assert (await client.ask("GET", "/sub/a.txt"))[0] == 200
        for slash in ("%2F", "%2f"):
            assert (await client.ask("GET", f"/sub{slash}a.txt"))[0] == 404
        assert (await client.ask("GET", "/s%75b/a.txt"))[::2] == (200, b"hello")
