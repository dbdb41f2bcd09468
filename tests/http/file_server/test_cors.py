"""Which other origins may read the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.http.file_server.test_files import asking, get
from trioflow import http

HERE = "https://example.org"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"hello")
    return tmp_path


async def test_without_cors_there_are_no_cors_headers(root: Path) -> None:
    _, headers, _ = await get(root, "/a.bin", ("Origin", HERE))

    assert not [name for name in headers if name.startswith("access-control")]


async def test_with_a_star_every_origin_may_read(root: Path) -> None:
    for headers in ([("Origin", HERE)], []):
        status, got, body = await get(root, "/a.bin", *headers, cors="*")

        assert (status, body) == (200, b"hello")
        assert got["access-control-allow-origin"] == "*"
        assert "Content-Range" in got["access-control-expose-headers"]


async def test_a_listed_origin_may_read_and_another_may_not(root: Path) -> None:
    for origin in (HERE, "http://localhost:3000", "null"):
        _, got, _ = await get(root, "/a.bin", ("Origin", origin), cors=[HERE, "http://localhost:3000", "null"])
        assert got["access-control-allow-origin"] == origin
    for origin in ("https://example.org.evil", "https://EXAMPLE.org", "http://example.org", ""):
        status, got, _ = await get(root, "/a.bin", ("Origin", origin), cors=HERE, precompressed=())
        assert status == 200
        assert "access-control-allow-origin" not in got
        assert got["vary"] == "Origin"


async def test_the_cache_of_files_does_not_mix_up_origins(root: Path) -> None:
    async with asking(http.files(root, cors=[HERE, "https://b.example"])) as client:
        for origin in (HERE, "https://b.example", "https://c.example", HERE):
            _, got, _ = await client.ask("GET", "/a.bin", [("Origin", origin)])
            assert got.get("access-control-allow-origin") == (None if "c." in origin else origin)


async def test_error_responses_have_cors_headers_too(root: Path) -> None:
    async with asking(http.files(root, cors="*")) as client:
        for target, condition in [
            ("/missing", []),
            ("/a.bin", [("Range", "bytes=9-")]),
            ("/a.bin", [("If-Match", '"x"')]),
        ]:
            assert (await client.ask("GET", target, condition))[1]["access-control-allow-origin"] == "*"


async def test_a_preflight_request_is_answered(root: Path) -> None:
    async with asking(http.files(root, cors=HERE)) as client:
        asks = [("Origin", HERE), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "range")]
        status, got, body = await client.ask("OPTIONS", "/a.bin", asks)
        plain = await client.ask("OPTIONS", "/a.bin", [("Origin", HERE)])

    assert (status, body) == (204, b"")
    assert got["access-control-allow-origin"] == HERE
    assert got["access-control-allow-methods"] == "GET, HEAD"
    assert "Range" in got["access-control-allow-headers"]
    assert int(got["access-control-max-age"]) > 0
    assert plain[0] == 405


@pytest.mark.parametrize(
    "cors", ["", "example.org", f"{HERE}/", "https://a b", [HERE, "x"], "https://u@h", "https://é"]
)
def test_R1_an_invalid_origin_is_refused_when_the_handler_is_built(root: Path, cors: Any) -> None:
    with pytest.raises(ValueError, match="cors must be"):
        http.files(root, cors=cors)
    with pytest.raises(TypeError, match="cors must be origins"):
        http.files(root, cors=[3])  # type: ignore[list-item]
