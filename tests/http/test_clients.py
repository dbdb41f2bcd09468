"""Programs with which people fetch files, and what they make of our responses."""

from __future__ import annotations

import gzip
import json
import os
import sys
import urllib.request
from pathlib import Path

import httpx
import pytest
import trio

from tests.http.client import connected, ran, read_until, served, serving
from trioflow import http
from trioflow.http import Limits, Request, Response
from trioflow.http.file_server import conditions

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


async def echo(request: Request, response: Response) -> None:
    if request.path == "/nothing":
        response.status = 403
        await response.send(b"no")
    else:
        await request.body.pipe(response)


async def curl(*arguments: str | Path) -> bytes:
    return await ran("curl", "-sS", "--max-time", "60", *arguments)


@pytest.mark.needs("curl")
async def test_curl_resumes_where_it_stopped(root: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.bin"
    half.write_bytes(BIG[:300_000])
    async with served(root) as url:
        await curl("-f", "-C", "-", "-o", half, f"{url}/big.bin")
        assert half.read_bytes() == BIG
        # The whole file is there: curl understands 416 as that.
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
async def test_curl_revalidates_its_copy_by_tag_and_by_date(root: Path, tmp_path: Path) -> None:
    os.utime(root / "big.bin", (10**9, 10**9))
    tag, copy = tmp_path / "tag", tmp_path / "copy.bin"
    code = ("-w", "%{http_code}", "-o", copy)
    async with served(root) as url:
        assert await curl(*code, "-R", "--etag-save", tag, f"{url}/big.bin") == b"200"
        assert await curl(*code, "--etag-compare", tag, f"{url}/big.bin") == b"304"
        assert await curl(*code, "-z", "Mon, 10 Sep 2001 01:46:40 GMT", f"{url}/big.bin") == b"304"
        assert await curl(*code, "-z", "Sat, 08 Sep 2001 01:46:40 GMT", f"{url}/big.bin") == b"200"


@pytest.mark.needs("curl")
async def test_curl_decompresses_what_it_requests_compressed(root: Path) -> None:
    async with served(root) as url:
        assert await curl("--compressed", f"{url}/a.txt") == TEXT
        assert await curl("-H", "Accept-Encoding: gzip", f"{url}/a.txt") == (root / "a.txt.gz").read_bytes()


@pytest.mark.needs("curl")
async def test_curl_is_served_with_http_1_0_and_unusual_options(root: Path) -> None:
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


@pytest.mark.needs("curl")
async def test_curl_uploads_with_a_length_in_chunks_and_after_100_continue(tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    file.write_bytes(BIG)
    said = ("-s", "-D", "-", "-o", tmp_path / "got", "--expect100-timeout", "60")
    async with serving(echo) as port:
        url = f"http://127.0.0.1:{port}"
        for upload in (
            ("-T", file),  # curl sends Expect, because the file is larger than 1 MB
            ("-T", file, "-H", "Transfer-Encoding: chunked"),
            ("--data-binary", f"@{file}", "-H", "Expect: 100-continue"),
        ):
            (tmp_path / "got").unlink(missing_ok=True)
            heads = await curl(*said, *upload, f"{url}/")

            assert b"HTTP/1.1 200 OK\r\n" in heads
            assert heads.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") or "Expect: 100-continue" not in upload
            assert (tmp_path / "got").read_bytes() == BIG
        refused = await curl(*said, "--data-binary", f"@{file}", "-H", "Expect: 100-continue", f"{url}/nothing")

    assert refused.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert (tmp_path / "got").read_bytes() == b"no"


@pytest.mark.needs("curl")
async def test_curl_gets_new_content_that_has_the_old_size_and_date(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "TICK",
        "COARSE",
    ):  # as if the test had waited until the file can no longer change within the same tick
        monkeypatch.setattr(conditions, name, -1)
    old, new = BIG, BIG[::-1]
    tag, copy = tmp_path / "tag", tmp_path / "copy.bin"
    asked = ("-w", "%{http_code}", "-o", copy)
    async with served(root) as url:
        os.utime(root / "big.bin", (499_162_500,) * 2)  # 1985, on every file of an npm package
        assert await curl(*asked, "--etag-save", tag, f"{url}/big.bin") == b"200"
        assert await curl(*asked, "--etag-compare", tag, f"{url}/big.bin") == b"304"
        assert copy.read_bytes() == old
        copy.write_bytes(old[:1000])
        (root / "big.bin").write_bytes(new)
        os.utime(root / "big.bin", (499_162_500,) * 2)

        spliced = ("-H", f"If-Range: {tag.read_text().strip()}", "-r", "1000-", "-o", copy, "-w", "%{http_code}")
        assert await curl(*spliced, f"{url}/big.bin") == b"200"
        assert copy.read_bytes() == new
        assert await curl(*asked, "--etag-compare", tag, f"{url}/big.bin") == b"200"


@pytest.mark.needs("curl")
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/.well-known/acme-challenge/token", b"200"),
        ("/.env", b"404"),
        ("/public/..%2fsecret.txt", b"400"),
        ("/public/%2e%2e%2fsecret.txt", b"400"),
    ],
)
async def test_curl_gets_well_known_files_but_no_hidden_ones_and_none_outside_the_root(
    target: str, status: bytes, root: Path
) -> None:
    (root / ".well-known" / "acme-challenge").mkdir(parents=True)
    (root / ".well-known" / "acme-challenge" / "token").write_text("proof")
    (root / "public").mkdir()
    for name in (".env", "secret.txt"):
        (root / name).write_text("secret")
    async with served(root) as url:
        got = await curl("--path-as-is", "-w", "%{http_code}", url + target)

    assert got.endswith(status)
    assert b"secret" not in got


@pytest.mark.needs("curl")
@pytest.mark.parametrize("field", ["0-", "0-0", "-1"])
async def test_curl_gets_an_empty_file_for_any_range(field: str, root: Path) -> None:
    (root / "empty.mp3").touch()
    async with served(root) as url:
        got = await curl("-f", "-r", field, "-w", "%{http_code} %{size_download}", f"{url}/empty.mp3")

    assert got == b"200 0"


@pytest.mark.needs("wget")
async def test_wget_gets_a_name_that_is_not_utf8_by_its_link(root: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (root / name).write_text("coffee")
    async with serving(http.files(root, listing=True)) as port:
        url = f"http://127.0.0.1:{port}/"
        await ran("wget", "-q", "-r", "-nH", "--restrict-file-names=nocontrol", "-P", tmp_path / "here", url)

    assert (tmp_path / "here" / name).read_text() == "coffee"


@pytest.mark.needs("wget")
async def test_wget_resumes_and_checks_for_newer_files(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.mkdir()
    (place / "big.bin").write_bytes(BIG[:12345])
    async with served(root) as url:
        await ran("wget", "-q", "-c", "-P", place, f"{url}/big.bin")
        assert (place / "big.bin").read_bytes() == BIG
        await ran("wget", "-q", "-c", "-P", place, f"{url}/big.bin")  # nothing is left to download
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


@pytest.mark.slow
@pytest.mark.needs("node")
async def test_fetch_in_node_gets_files_and_ranges_and_can_abort(root: Path) -> None:
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


async def test_httpx_on_trio_gets_files_and_ranges_and_can_abort(root: Path) -> None:
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


AIOHTTP = """
import asyncio, json, sys
import aiohttp

async def pieces():
    for _ in range(100):
        yield bytes(10_000)

async def main(files, echo):
    told = {}
    async with aiohttp.ClientSession(raise_for_status=False) as session:
        async with session.get(files + "/a.txt") as whole:
            told["text"] = [whole.headers["Content-Encoding"], len(await whole.text()), whole.charset]
            tag = whole.headers["ETag"]
        async with session.get(files + "/a.txt", headers={"If-None-Match": tag}) as again:
            told["again"] = [again.status, len(await again.read())]
        async with session.get(files + "/big.bin", headers={"Range": "bytes=-7"}) as part:
            told["part"] = [part.status, part.headers["Content-Range"], list(await part.read())]
        async with session.head(files + "/big.bin") as head:
            told["head"] = [head.status, head.content_length]
        async with session.get(files + "/big.bin") as left:
            await left.content.read(1)
        many = await asyncio.gather(*(length(session, files + "/big.bin") for _ in range(40)))
        told["many"] = [len(many), min(many), max(many)]
        for expects in (False, True):
            async with session.post(echo, data=pieces(), expect100=expects) as back:
                told[f"chunks {expects}"] = [back.status, len(await back.read())]
        async with session.post(echo + "/nothing", data=bytes(3_000_000), expect100=True) as no:
            told["no"] = [no.status, await no.text()]
    print(json.dumps(told))

async def length(session, url):
    async with session.get(url) as response:
        return len(await response.read())

asyncio.run(main(*sys.argv[1:]))
"""


async def test_aiohttp_gets_files_and_ranges_can_abort_and_uploads(root: Path) -> None:
    async with served(root) as files, serving(echo) as port:
        told = json.loads(await ran(sys.executable, "-c", AIOHTTP, files, f"http://127.0.0.1:{port}"))

    assert told == {
        "text": ["gzip", len(TEXT), "utf-8"],
        "again": [304, 0],
        "part": [206, f"bytes {len(BIG) - 7}-{len(BIG) - 1}/{len(BIG)}", list(BIG[-7:])],
        "head": [200, len(BIG)],
        "many": [40, len(BIG), len(BIG)],
        "chunks False": [200, 1_000_000],
        "chunks True": [200, 1_000_000],
        "no": [403, "no"],
    }


AGENTS = """
import http from "node:http";
const url = process.argv[1];
const agent = http.globalAgent;  // one without a `timeout` of its own does not heed the server's
let reused = 0;
const get = () => new Promise((resolve, reject) => {
  const request = http.get(url, { agent }, (response) => {
    response.resume().on("end", resolve).on("error", reject);
  }).on("error", reject);
  request.on("socket", () => { reused += request.reusedSocket; });
});
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const failed = [];
const agents = [...Array(60).keys()].map(async (n) => {
  const wait = n < 20 ? 50 * n : 2940 + 2 * n;  // up to when our client gives up, and around when the server does
  for (const ask of [get, () => fetch(url).then((response) => response.text())]) {
    await ask();
    await pause(wait);
    await ask().catch((error) => failed.push(`${ask.name || "fetch"} ${wait}: ${error.cause?.code ?? error.code}`));
  }
});
await Promise.all(agents);
agent.destroy();
console.log(JSON.stringify({ failed, reused }));
"""


@pytest.mark.slow
@pytest.mark.needs("node")
async def test_no_request_of_nodes_agent_or_fetch_fails_because_the_server_closes_its_connection() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")

    async with serving(handler, limits=Limits(idle=3)) as port:
        told = json.loads(await ran("node", "--input-type=module", "-e", AGENTS, f"http://127.0.0.1:{port}/"))

    assert told["failed"] == []
    assert told["reused"] > 0  # so it does reuse connections


BYTE_BY_BYTE = """
import http from "node:http";
const [url, count] = process.argv.slice(1);
const request = http.request(url, { method: "POST" }, async (response) => {
  let text = "";
  for await (const piece of response) text += piece;
  console.log(JSON.stringify([response.statusCode, text]));
}).on("error", () => {});  // of what it still sends after the answer
request.cork();
for (let n = 0; n < count; n++) request.write("a");
request.end();
"""


@pytest.mark.slow
@pytest.mark.needs("node")
@pytest.mark.parametrize(("count", "status"), [(20_000, 200), (200_000, 400)])
async def test_node_may_write_byte_by_byte_until_framing_is_most_of_what_it_sends(count: int, status: int) -> None:
    async def handler(request: Request, response: Response) -> None:
        size = 0
        async with request.body.open() as chunks:
            async for chunk in chunks:
                size += len(chunk)
        await response.send(b"%d" % size)

    async with serving(handler) as port:
        script = ("--input-type=module", "-e", BYTE_BY_BYTE)
        told = json.loads(await ran("node", *script, f"http://127.0.0.1:{port}/", str(count)))

    assert told[0] == status
    assert told[1] == str(count) or status == 400


async def test_urllib_follows_a_directory_to_its_slash(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "index.html").write_text("home")
    log: list[http.Access] = []

    def read(url: str) -> tuple[str, bytes]:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
            return response.geturl(), response.read()

    async with served(root, log) as url:
        got = await trio.to_thread.run_sync(read, f"{url}/sub")

    assert got == (f"{url}/sub/", b"home")
    assert [access.status for access in log] == [301, 200]  # before Python 3.11, urllib fails at 308


@pytest.mark.needs("curl")
async def test_curl_is_answered_at_once_when_idle_connections_use_the_whole_limit() -> None:
    get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")

    async with (
        serving(handler, limits=Limits(connections=3, per_client=3)) as port,
        connected(port) as first,
        connected(port) as second,
        connected(port) as third,
    ):
        for stream in (first, second, third):
            await stream.send_all(get)
            await read_until(stream, b"hello")
        with trio.fail_after(50):  # the three may be idle for a minute
            assert await curl(f"http://127.0.0.1:{port}") == b"hello"
            assert await first.receive_some() == b""
        await third.send_all(get)
        assert (await read_until(third, b"hello")).endswith(b"hello")


async def test_httpx_reconnects_when_its_idle_connection_was_closed_for_others() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(b"hello")

    async with serving(handler, limits=Limits(connections=1, per_client=1)) as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False) as one, httpx.AsyncClient(trust_env=False) as other:
            for _ in range(5):
                for client in (one, other):
                    assert (await client.get(url)).text == "hello"
