"""Programs that people fetch files with: each is held to what it makes of our answers."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.http_client import serving
from trioflow import http

BIG = bytes(range(251)) * 4000
TEXT = b"all work and no play\n" * 4000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "big.bin").write_bytes(BIG)
    (root / "a.txt").write_bytes(TEXT)
    (root / "a.txt.gz").write_bytes(gzip.compress(TEXT))
    (tmp_path / "secret.txt").write_text("secret")
    return root


@asynccontextmanager
async def served(root: Path) -> AsyncGenerator[str, None]:
    with trio.fail_after(30):
        async with serving(http.files(root)) as port:
            yield f"http://127.0.0.1:{port}"


async def ran(*command: str | Path, check: bool = True) -> bytes:
    done = await trio.run_process([*map(str, command)], capture_stdout=True, capture_stderr=True, check=check)
    return bytes(done.stdout)


async def curl(*arguments: str | Path) -> bytes:
    return await ran("curl", "-sS", "--max-time", "20", *arguments)


@pytest.mark.needs("curl")
async def test_curl_resumes_where_it_stopped(root: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.bin"
    half.write_bytes(BIG[:300_000])
    async with served(root) as url:
        await curl("-f", "-C", "-", "-o", half, f"{url}/big.bin")
        assert half.read_bytes() == BIG
        # All of it is there: 416, which curl takes for that.
        done = await curl("-C", "-", "-o", half, "-w", "%{http_code}", f"{url}/big.bin")

    assert half.read_bytes() == BIG
    assert done == b"416"


@pytest.mark.needs("curl")
async def test_curl_takes_one_range_and_several(root: Path) -> None:
    async with served(root) as url:
        one = await curl("-r", "9-200008", f"{url}/big.bin")
        last = await curl("-r", "-7", f"{url}/big.bin")
        several = await curl("-i", "-r", "0-1,500000-500003", f"{url}/big.bin")

    assert one == BIG[9:200009]
    assert last == BIG[-7:]
    head, _, body = several.partition(b"\r\n\r\n")
    boundary = head.partition(b"multipart/byteranges; boundary=")[2].partition(b"\r\n")[0]
    total = len(BIG)
    assert (
        body
        == b"".join(
            b"%s--%s\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%s"
            % (b"\r\n" if start else b"", boundary, start, stop - 1, total, BIG[start:stop])
            for start, stop in [(0, 2), (500_000, 500_004)]
        )
        + b"\r\n--%s--\r\n" % boundary
    )


@pytest.mark.needs("curl")
async def test_curl_keeps_what_it_has_by_tag_and_by_date(root: Path, tmp_path: Path) -> None:
    os.utime(root / "big.bin", (10**9, 10**9))
    tag, copy = tmp_path / "tag", tmp_path / "copy.bin"
    code = ("-w", "%{http_code}", "-o", copy)
    async with served(root) as url:
        assert await curl(*code, "-R", "--etag-save", tag, f"{url}/big.bin") == b"200"
        assert await curl(*code, "--etag-compare", tag, f"{url}/big.bin") == b"304"
        assert await curl(*code, "-z", "Mon, 10 Sep 2001 01:46:40 GMT", f"{url}/big.bin") == b"304"
        assert await curl(*code, "-z", "Sat, 08 Sep 2001 01:46:40 GMT", f"{url}/big.bin") == b"200"


@pytest.mark.needs("curl")
async def test_curl_unpacks_what_it_asks_for_packed(root: Path) -> None:
    async with served(root) as url:
        assert await curl("--compressed", f"{url}/a.txt") == TEXT
        assert await curl("-H", "Accept-Encoding: gzip", f"{url}/a.txt") == (root / "a.txt.gz").read_bytes()


@pytest.mark.needs("curl")
async def test_curl_of_other_days_and_manners_is_served_too(root: Path) -> None:
    async with served(root) as url:
        assert await curl("--http1.0", f"{url}/big.bin") == BIG
        assert await curl("-H", "Expect: 100-continue", "-X", "GET", "-d", "x" * 2000, f"{url}/a.txt") == TEXT
        head = await curl("-I", f"{url}/big.bin")
        traversal = await curl("--path-as-is", f"{url}/../secret.txt", f"{url}/%2e%2e/secret.txt")
        slow = await curl("--limit-rate", "2M", f"{url}/big.bin")
        both = await curl(f"{url}/a.txt", f"{url}/big.bin")

    assert b"Content-Length: 1004000\r\n" in head
    assert b"secret" not in traversal
    assert slow == BIG
    assert both == TEXT + BIG


@pytest.mark.needs("wget")
async def test_wget_goes_on_and_looks_for_what_is_newer(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.mkdir()
    (place / "big.bin").write_bytes(BIG[:12345])
    async with served(root) as url:
        await ran("wget", "-q", "-c", "-P", place, f"{url}/big.bin")
        assert (place / "big.bin").read_bytes() == BIG
        await ran("wget", "-q", "-c", "-P", place, f"{url}/big.bin")  # nothing is left to get
        await ran("wget", "-q", "-N", "-P", place, f"{url}/a.txt")
        before = (place / "a.txt").stat()
        await ran("wget", "-q", "-N", "-P", place, f"{url}/a.txt")

    assert (place / "a.txt").read_bytes() == TEXT
    assert (place / "a.txt").stat().st_ino == before.st_ino
    assert before.st_mtime == int((root / "a.txt").stat().st_mtime)


FETCH = """
const [base] = process.argv.slice(1);
const told = {};
const whole = await fetch(base + '/a.txt');
told.encoding = whole.headers.get('content-encoding');
told.text = (await whole.text()).length;
const part = await fetch(base + '/big.bin', { headers: { Range: 'bytes=1000-1009' } });
told.part = [part.status, part.headers.get('content-range'), [...new Uint8Array(await part.arrayBuffer())]];
const again = await fetch(base + '/a.txt', { headers: { 'If-None-Match': whole.headers.get('etag') } });
told.again = [again.status, (await again.text()).length];
const left = new AbortController();
const big = await fetch(base + '/big.bin', { signal: left.signal });
await big.body.getReader().read();
left.abort();
const missing = await fetch(base + '/missing');
told.missing = [missing.status, await missing.text()];
told.redirected = (await fetch(base + '/sub')).url.replace(base, '');
const many = await Promise.all(Array.from({ length: 40 }, () => fetch(base + '/big.bin').then((r) => r.arrayBuffer())));
told.many = many.every((buffer) => buffer.byteLength === 1004000);
console.log(JSON.stringify(told));
"""


@pytest.mark.needs("node")
async def test_nodes_fetch_takes_files_parts_and_leaves_in_the_middle(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "index.html").write_text("home")
    async with served(root) as url:
        told = json.loads(await ran("node", "--input-type=module", "-e", FETCH, url))

    assert told == {
        "encoding": "gzip",
        "text": len(TEXT),
        "part": [206, f"bytes 1000-1009/{len(BIG)}", list(BIG[1000:1010])],
        "again": [304, 0],
        "missing": [404, "404 Not Found\n"],
        "redirected": "/sub/",
        "many": True,
    }


async def test_httpx_on_trio_takes_files_parts_and_leaves_in_the_middle(root: Path) -> None:
    async with served(root) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        whole = await client.get("/a.txt")
        assert (whole.headers["content-encoding"], whole.content) == ("gzip", TEXT)
        part = await client.get("/big.bin", headers={"Range": "bytes=5-8", "If-Range": '"other"'})
        assert (part.status_code, part.content) == (200, BIG)
        async with client.stream("GET", "/big.bin") as left:
            assert left.status_code == 200
        got: list[int] = []

        async def fetch() -> None:
            got.append(len((await client.get("/big.bin")).content))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(fetch)

    assert got == [len(BIG)] * 20
