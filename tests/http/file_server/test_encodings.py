"""Compressed variants of files: which one a client gets, and with which headers."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.client import exchanged, serving
from tests.http.file_server.test_files import asking, get
from trioflow import http
from trioflow.http.file_server import encodings
from trioflow.http.file_server.encodings import LONGEST, accepted

ALL = ("br", "zstd", "gzip")


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ("", ()),
        ("gzip", ("gzip",)),
        ("GZip", ("gzip",)),
        ("x-gzip", ("gzip",)),
        ("gzip, deflate, br, zstd", ("br", "zstd", "gzip")),
        ("gzip;q=1.0, br;q=0.5", ("gzip", "br")),
        ("gzip ; q=0.5,br;Q=0.501", ("br", "gzip")),
        ("gzip;q=0", ()),
        ("gzip;q=0.000, br", ("br",)),
        ("*", ("br", "zstd", "gzip")),
        ("*;q=0.1, gzip", ("gzip", "br", "zstd")),
        ("br;q=0, *", ("zstd", "gzip")),
        ("*;q=0", ()),
        ("identity", ()),
        ("identity, gzip", ("gzip",)),
        ("identity;q=1, gzip;q=0.5", ()),
        ("identity;q=0.5, gzip;q=0.5", ("gzip",)),
        ("gzip;q=2", ()),
        ("gzip;q=0.1234", ()),
        ("gzip;q=-1", ()),
        ("gzip;q=", ()),
        ("gzip;level=9", ()),
        ("gzipped, xgzip, gz", ()),
        ("gzip br", ()),
        (",, ,gzip,", ("gzip",)),
        ("gzip;q=0, gzip;q=1", ()),
        ("g\xfczip, br", ("br",)),
        ("gzip," * 2000, ()),
    ],
)
def test_codings_are_ordered_by_the_weights_of_the_client(field: str, taken: tuple[str, ...]) -> None:
    assert accepted(field, ALL) == taken


@given(st.text("gzipbr*;q=0.1, \t", max_size=40))
def test_no_header_gives_an_unknown_coding_or_one_twice(field: str) -> None:
    taken = accepted(field, ALL)

    assert set(taken) <= set(ALL)
    assert len(set(taken)) == len(taken)
    assert accepted(field.ljust(LONGEST + 1, ","), ALL) == ()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.css", "a.css.br", "a.css.zst", "a.css.gz", "plain.txt", "only.css.gz", "photo.jpg", "photo.jpg.gz"):
        (tmp_path / name).write_text(f"this is {name}")
        os.utime(tmp_path / name, (10**9, 10**9))
    return tmp_path


async def test_the_variant_that_the_client_prefers_is_sent_under_the_name_of_the_file(root: Path) -> None:
    async with asking(http.files(root)) as client:
        for field, name, coding in [
            ("gzip, deflate, br, zstd", "a.css.br", "br"),
            ("gzip, zstd", "a.css.zst", "zstd"),
            ("gzip", "a.css.gz", "gzip"),
            ("gzip;q=0", "a.css", None),
            ("identity", "a.css", None),
        ]:
            status, headers, body = await client.ask("GET", "/a.css", [("Accept-Encoding", field)])

            assert (status, body.decode()) == (200, f"this is {name}")
            assert headers.get("content-encoding") == coding
            assert headers["content-type"] == "text/css; charset=utf-8"
            assert headers["vary"] == "Accept-Encoding"


async def test_each_variant_has_its_own_tag_and_ranges(root: Path) -> None:
    packs = ("Accept-Encoding", "gzip")
    async with asking(http.files(root)) as client:
        plain = (await client.ask("GET", "/a.css"))[1]["etag"]
        packed = (await client.ask("GET", "/a.css", [packs]))[1]["etag"]
        part = await client.ask("GET", "/a.css", [packs, ("Range", "bytes=8-"), ("If-Range", packed)])
        other = await client.ask("GET", "/a.css", [packs, ("Range", "bytes=8-"), ("If-Range", plain)])
        known = await client.ask("GET", "/a.css", [packs, ("If-None-Match", packed)])
        unknown = await client.ask("GET", "/a.css", [("If-None-Match", packed)])

    assert plain != packed
    assert (part[0], part[1]["content-encoding"], part[2]) == (206, "gzip", b"a.css.gz")
    assert other[0] == 200
    assert (known[0], known[1]["vary"]) == (304, "Accept-Encoding")
    assert "content-encoding" not in known[1]
    assert unknown[0] == 200


async def test_a_variant_is_ignored_if_it_is_older_not_a_file_or_outside_the_root(root: Path) -> None:
    os.utime(root / "a.css.br", (10**9 - 1, 10**9 - 1))
    (root / "a.css.zst").unlink()
    (root / "a.css.zst").mkdir()
    (root / "a.css.gz").unlink()
    (root / "a.css.gz").symlink_to(__file__)

    status, headers, body = await get(root, "/a.css", ("Accept-Encoding", "gzip, zstd, br"))

    assert (status, body) == (200, b"this is a.css")
    assert "content-encoding" not in headers


async def test_a_variant_without_its_file_is_found_only_by_its_own_name(root: Path) -> None:
    packs = ("Accept-Encoding", "gzip")

    assert (await get(root, "/only.css", packs))[0] == 404
    status, headers, _ = await get(root, "/only.css.gz", packs)
    assert (status, headers["content-type"]) == (200, "application/gzip")
    assert "content-encoding" not in headers


async def test_files_of_compressed_formats_have_no_variants(root: Path) -> None:
    status, headers, body = await get(root, "/photo.jpg", ("Accept-Encoding", "gzip"))

    assert (status, body) == (200, b"this is photo.jpg")
    assert "vary" not in headers


async def test_the_codings_to_look_for_can_be_chosen(root: Path) -> None:
    packs = ("Accept-Encoding", "br, gzip")

    assert (await get(root, "/a.css", packs, precompressed=["gzip", "br"]))[2] == b"this is a.css.gz"
    assert (await get(root, "/a.css", packs, precompressed="gzip"))[2] == b"this is a.css.gz"
    _, headers, body = await get(root, "/a.css", packs, precompressed=())
    assert body == b"this is a.css"
    assert "vary" not in headers
    with pytest.raises(ValueError, match="precompressed must be one or more of br, zstd, gzip, got 'deflate'"):
        http.files(root, precompressed=["gzip", "deflate"])


async def test_the_vary_header_of_a_handler_is_kept(root: Path) -> None:
    static = http.files(root)

    async def handler(request: Any, response: Any) -> None:
        response.headers["Vary"] = "Cookie"
        await static(request, response)

    async with serving(handler) as port:
        got = await exchanged(port, b"GET /a.css HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert b"\r\nVary: Cookie\r\n" in got
    assert b"\r\nVary: Accept-Encoding\r\n" in got


# Compressed on the fly.


@pytest.mark.parametrize("size", [1024, 65536, 65537, 1 << 20])
async def test_text_is_compressed_on_the_fly_on_request(tmp_path: Path, size: int) -> None:
    text = (b"so much text, and all alike; " * 40000)[:size]
    (tmp_path / "a.txt").write_bytes(text)
    packs = ("Accept-Encoding", "gzip")

    _, whole, plain = await get(tmp_path, "/a.txt", packs)
    status, headers, body = await get(tmp_path, "/a.txt", packs, compress=True)

    assert plain == text
    assert (status, headers["content-encoding"], headers["vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(body) == text
    assert len(body) < size / 5
    assert headers["etag"] == f'W/{whole["etag"][:-1]}-gzip"'
    assert "accept-ranges" not in headers
    assert ("content-length" in headers) is (size <= 65536)


async def test_responses_compressed_on_the_fly_have_a_tag_and_no_ranges(tmp_path: Path) -> None:
    text = b"text " * 20000
    (tmp_path / "a.txt").write_bytes(text)
    packs = ("Accept-Encoding", "gzip")
    async with asking(http.files(tmp_path, compress=True)) as client:
        tag = (await client.ask("GET", "/a.txt", [packs]))[1]["etag"]
        known = await client.ask("GET", "/a.txt", [packs, ("If-None-Match", tag)])
        part = await client.ask("GET", "/a.txt", [packs, ("Range", "bytes=5-8")])
        other = await client.ask("GET", "/a.txt", [packs, ("Range", "bytes=5-8"), ("If-Range", tag)])
        head = await client.ask("HEAD", "/a.txt", [packs])

    assert (known[0], known[1]["vary"]) == (304, "Accept-Encoding")
    assert (part[0], part[2], part[1].get("content-encoding")) == (206, b"text", None)
    assert (other[0], other[2]) == (200, text)
    assert (head[1]["content-encoding"], head[2]) == ("gzip", b"")


async def test_short_files_binary_files_and_those_with_a_variant_are_not_compressed_on_the_fly(root: Path) -> None:
    (root / "data.bin").write_bytes(bytes(5000))
    (root / "a.css").write_bytes(b"a" * 5000)
    (root / "a.css.gz").write_bytes(b"packed before")
    packs = ("Accept-Encoding", "gzip")

    assert "content-encoding" not in (await get(root, "/plain.txt", packs, compress=True))[1]
    assert "content-encoding" not in (await get(root, "/data.bin", packs, compress=True))[1]
    assert (await get(root, "/a.css", packs, compress=True))[2] == b"packed before"
    assert (await get(root, "/a.css", ("Accept-Encoding", "br"), compress=True))[2] == b"a" * 5000


def test_a_long_header_is_parsed_and_not_cached() -> None:
    before = encodings._known.cache_info().currsize
    for size in (300, LONGEST + 1):
        assert accepted("br, " + "x" * size, ALL) == (("br",) if size < LONGEST else ())

    assert encodings._known.cache_info().currsize == before
