"""Content types: by the name of a file, or by its content if the name does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http.file_server.test_files import asking
from trioflow import http
from trioflow.http.file_server import handler
from trioflow.http.file_server.types import (
    BEGINNING,
    begins_as_text,
    content_type,
    is_compressible,
    is_text,
    may_be_text,
    type_table,
)

TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("A.TXT", "text/plain; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.min.mjs", "text/javascript; charset=utf-8"),
        ("data.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("song.mp3", "audio/mpeg"),
        ("film.mp4", "video/mp4"),
        ("a.wasm", "application/wasm"),
        ("site.tar.gz", "application/gzip"),
        ("page.html.br", "application/octet-stream"),
        ("README", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.novelty", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_the_last_suffix_of_a_name_decides_its_type(name: str, kind: str) -> None:
    assert content_type(name) == kind


# The extensions in nginx's table that Python's lacks, and others that people serve.
SERVED = """
7z ai asx atom bmp cco crt deb der dmg doc docx ear eot eps exe flv gif hqx htc ico img iso jad jar jardiff jng jnlp
js json kar kml kmz m3u8 m4a mid midi mml mng msi odg odp ods odt pdb pdf pem pl pm png ppt pptx prc ps ra rar rpm rss rtf
run sea sit svg svgz swf tcl tif tiff tk ts txt war wasm wbmp webm webp wml wmlc wmv woff woff2 xhtml xls xlsx xml xpi
xspf zip glb gltf usdz ipynb cjs mjs csv tsv ics vcf yaml yml toml md c h cpp java lua less scss jsx epub mobi avif
heic jxl ttf otf opus flac mkv mka m4v parquet cbor zst geojson gpx webmanifest vtt srt map sql sh php apk torrent
"""


def test_common_file_names_have_a_type() -> None:
    assert [name for name in SERVED.split() if name not in type_table()] == []
    assert len(type_table()) > 1200


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("7z", "application/x-7z-compressed"),
        ("atom", "application/atom+xml"),
        ("rss", "application/rss+xml"),
        ("jar", "application/java-archive"),
        ("crt", "application/x-x509-ca-cert"),
        ("glb", "model/gltf-binary"),
        ("gltf", "model/gltf+json"),
        ("usdz", "model/vnd.usdz+zip"),
        ("ipynb", "application/x-ipynb+json"),
        ("cjs", "text/javascript; charset=utf-8"),
        ("mp4", "video/mp4"),
        ("ogg", "audio/ogg"),
        ("ttf", "font/ttf"),
        ("xml", "application/xml"),
        ("ico", "image/vnd.microsoft.icon"),
        ("svgz", "image/svg+xml"),
        ("gz", "application/gzip"),
        ("c", "text/x-c; charset=utf-8"),
    ],
)
def test_the_table_has_the_type_of_a_suffix(suffix: str, kind: str) -> None:
    assert content_type(f"a.{suffix}") == kind
    assert not may_be_text(f"a.{suffix}")


@pytest.mark.parametrize(
    "suffix", ["docx", "odt", "jar", "7z", "epub", "usdz", "kmz", "mp3", "woff2", "pdf", "apk", "rar"]
)
def test_compressed_formats_are_recognised(suffix: str) -> None:
    assert not is_compressible(content_type(f"a.{suffix}"))


@pytest.mark.parametrize(
    "suffix", ["txt", "json", "svg", "atom", "gltf", "ipynb", "dae", "toml", "yaml", "wasm", "sql", "md"]
)
def test_types_that_compress_well_are_recognised(suffix: str) -> None:
    kind = content_type(f"a.{suffix}")

    assert is_text(kind)
    assert is_compressible(kind)


@pytest.mark.parametrize(
    ("begin", "is_it"),
    [
        (b"", True),
        (b"MIT License\n\n\tCopyright\r\n\x0c\x1b[1m", True),
        ("naïve 日本".encode(), True),
        (b"\xef\xbb\xbfwith a mark", True),
        (b"a" * (BEGINNING - 1) + "é".encode()[:1], True),  # the character continues after the part that is examined
        ("short é".encode()[:-1], False),
        (b"caf\xe9", False),
        (b"\x7fELF\x02\x01\x01\x00", False),
        ("text".encode("utf-16"), False),
        (b"a\x00b", False),
        (b"\xed\xa0\x80", False),
        (b"G@\x00\x10", False),  # an MPEG stream
    ],
)
def test_content_is_text_if_it_is_utf8_without_control_characters(begin: bytes, is_it: bool) -> None:
    assert begins_as_text(begin) is is_it
    assert begins_as_text(memoryview(begin)) is is_it


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("LICENSE", b"MIT License", TEXT),
        ("Makefile", b"all:\n\ttrue\n", TEXT),
        (".profile", b"export A=b\n", TEXT),
        ("main.go", b"package main\n", TEXT),
        ("lib.rs", b"fn main() {}\n", TEXT),
        ("app.ts", b"const a: number = 1;\n", TEXT),
        ("part.ts", b"G@\x00\x10\x00", "video/mp2t"),
        ("run.sh", b"#!/bin/sh\n", TEXT),
        ("page", b"<!doctype html><script>alert(1)</script>", TEXT),
        ("upload.unknown", b"<html>", TEXT),
        ("empty", b"", TEXT),
        ("long", b"x" * 100_000 + b"\0", TEXT),
        ("program", b"\x7fELF\0\0", "application/octet-stream"),
        ("latin", b"caf\xe9", "application/octet-stream"),
        ("text.bin", b"text", "application/octet-stream"),
        ("page.html", b"\0\1\2\3\4", "text/html; charset=utf-8"),
    ],
)
async def test_a_file_with_an_unknown_suffix_is_plain_text_or_bytes(
    tmp_path: Path, name: str, content: bytes, kind: str, is_cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_cold:
        monkeypatch.setattr(handler, "read_cached", lambda *stretch: None)
    (tmp_path / name).write_bytes(content)
    async with asking(http.files(tmp_path, hidden=True)) as client:
        status, headers, body = await client.ask("GET", f"/{name}")
        part = await client.ask("GET", f"/{name}", [("Range", "bytes=3-4")])

    assert (status, headers["content-type"], body) == (200, kind, content)
    assert headers["x-content-type-options"] == "nosniff"
    assert part[1]["content-type"] == kind


async def test_a_variant_has_the_type_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(b"MIT")
    (tmp_path / "LICENSE.br").write_bytes(b"\x0b\x01\x80MIT\x03")
    async with asking(http.files(tmp_path)) as client:
        _, headers, body = await client.ask("GET", "/LICENSE", [("Accept-Encoding", "br")])

    assert (headers["content-type"], headers["content-encoding"]) == (TEXT, "br")
    assert body.startswith(b"\x0b")


async def test_the_table_is_read_when_the_handler_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.glb").touch()
    files = http.files(tmp_path)
    monkeypatch.setattr("pkgutil.get_data", None)
    async with asking(files) as client:
        assert (await client.ask("GET", "/a.glb"))[1]["content-type"] == "model/gltf-binary"
