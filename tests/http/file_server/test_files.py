"""A directory over HTTP: real files, real sockets, raw targets."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from email import policy
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import h11
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.conftest import open_descriptors
from tests.http.client import Client, connected, exchanged, read_all, reset, serving
from trioflow import http
from trioflow.http import Request, Response
from trioflow.http.file_server import conditions, lookup, respond
from trioflow.http.file_server import handler as _files

TEXT = b"hello world\n"
BIG = bytes(range(251)) * 1000  # more than goes out in one write
ODD = [
    "a b.txt",
    "100%.txt",
    "q?.txt",
    "h#.txt",
    "é.txt",
    "日本.txt",
    "a+b&c=d;e,f.txt",
    "back\\slash.txt",
    "line\nend.txt",
]

Answer = tuple[int, dict[str, str], bytes]


def make_tree(place: Path) -> Path:
    """Make a directory with a file of every kind."""
    (place / "secret.txt").write_text("secret")
    (place / "root2").mkdir()
    (place / "root2" / "a.txt").write_text("secret")
    root = place / "root"
    for directory in (
        "sub/deep",
        ".git",
        "empty",
        "\\evil.example",
        "static",
        "noindex/index.html",
        ".well-known",
        "sub/.well-known",
    ):
        (root / directory).mkdir(parents=True)
    (root / "a.txt").write_bytes(TEXT)
    (root / "big.bin").write_bytes(BIG)
    (root / "none.bin").touch()
    (root / ".hidden").write_text("secret")
    (root / ".git" / "config").write_text("secret")
    (root / ".well-known" / "security.txt").write_text("Contact: ...")
    (root / ".well-known" / ".hidden").write_text("secret")
    (root / ".well-known.txt").write_text("secret")
    (root / "sub" / ".well-known" / "security.txt").write_text("secret")
    (root / "sub" / "index.html").write_text("<p>sub")
    (root / "sub" / "deep" / "b.json").write_text("{}")
    for name in ODD:
        (root / name).write_text(name)
    for link, target in {
        "inside": "a.txt",
        "absolute": root / "a.txt",
        "directory": "sub",
        "there": root / "sub",
        "chain": "directory/up",
        "sub/up": "../a.txt",
        "sub/self": ".",
        "sub/slashed": "../sub/",
        "file-slash": "a.txt/",
        "file-dot": "a.txt/.",
        "out": "../secret.txt",
        "far": place / "secret.txt",
        "sibling": place / "root2" / "a.txt",
        "parent": "..",
        "back": "../root/a.txt",
        "slash": "/",
        "dangling": "nowhere",
        "loop": "loop",
        "sub/shown": "../.hidden",
    }.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(root / "socket"))
    return root


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(params=["kernel", "walk"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up names with the kernel if it can, or with our own walk."""
    if request.param == "walk":
        monkeypatch.setattr(lookup, "openat2", lambda: None)


@pytest.fixture
def root(how: None, tmp_path: Path) -> Path:
    """A directory tree that a test may change."""
    return make_tree(tmp_path)


@pytest.fixture
def tree(how: None, made_once: Path) -> Path:
    """A directory tree that all tests share and none may change, because making one takes 20 ms."""
    return made_once


@asynccontextmanager
async def asking(handler: Any) -> AsyncGenerator[Client, None]:
    async with serving(handler) as port, connected(port) as stream:
        with trio.fail_after(60):
            yield Client(stream)


async def get(root: Path, target: str, *headers: tuple[str, str], method: str = "GET", **options: Any) -> Answer:
    async with asking(http.files(root, **options)) as client:
        return await client.ask(method, target, list(headers))


# What is served.


async def test_a_file_is_sent_with_the_headers_that_caches_and_players_need(root: Path) -> None:
    os.utime(root / "a.txt", ns=(0, 1_000_000_000_000_000_255))
    about = (root / "a.txt").stat()

    status, headers, body = await get(root, "/a.txt")

    assert (status, body) == (200, TEXT)
    assert headers.pop("date").endswith(" GMT")
    assert (headers.pop("connection"), headers.pop("keep-alive")) == ("keep-alive", "timeout=59")
    assert headers == {
        "accept-ranges": "bytes",
        "content-length": "12",
        "content-type": "text/plain; charset=utf-8",
        "etag": conditions.etag_of(about.st_ino, about.st_ctime_ns, 1_000_000_000_000_000_255, 12, "", 0),
        "last-modified": "Sun, 09 Sep 2001 01:46:40 GMT",
        "vary": "Accept-Encoding",
        "x-content-type-options": "nosniff",
    }


async def test_head_gives_the_headers_of_get_without_the_body(root: Path) -> None:
    async with asking(http.files(root)) as client:
        for target in ("/a.txt", "/big.bin", "/none.bin", "/sub", "/sub/", "/missing"):
            got = await client.ask("GET", target)
            # The client knows that no body follows a HEAD, whatever Content-Length says.
            status, headers, body = await client.ask("HEAD", target)

            assert (status, headers | {"date": got[1]["date"]}, body) == (
                got[0],
                got[1],
                b"",
            )  # a new second may have started in between


@pytest.mark.parametrize("name", ["big.bin", "none.bin"])
async def test_a_file_of_any_size_is_sent_unchanged(tree: Path, name: str) -> None:
    status, headers, body = await get(tree, f"/{name}")

    assert (status, body) == (200, (tree / name).read_bytes())
    assert headers["content-type"] == "application/octet-stream"


async def test_files_with_unusual_names_are_found(tree: Path) -> None:
    async with asking(http.files(tree)) as client:
        for name in ODD:
            status, _, body = await client.ask("GET", "/" + quote(name))

            assert (status, body.decode()) == (200, name)


async def test_a_directory_serves_its_index(root: Path) -> None:
    async with asking(http.files(root)) as client:
        assert (await client.ask("GET", "/sub/"))[2] == b"<p>sub"
        assert (await client.ask("GET", "/there/"))[1]["content-type"] == "text/html; charset=utf-8"
        for without in ("/", "/empty/", "/noindex/"):
            assert (await client.ask("GET", without))[0] == 404
    assert (await get(root, "/", index="a.txt"))[2] == TEXT


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "./sub/"),
        ("/sub/deep", "./deep/"),
        ("/directory?a=//evil.example&b", "./directory/?a=//evil.example&b"),
        ("//sub", "./sub/"),
        ("/%5Cevil.example", "./%5Cevil.example/"),
        ("/\\evil.example", "./%5Cevil.example/"),
        ("http://other.example/sub", "./sub/"),
    ],
)
async def test_a_directory_redirects_to_its_path_and_never_to_another_host(
    tree: Path, target: str, location: str
) -> None:
    status, headers, _ = await get(tree, target)

    assert (status, headers["location"]) == (301, location)


async def test_a_directory_redirects_to_the_path_that_the_client_sent_whatever_a_handler_made_of_it(root: Path) -> None:
    files = http.files(root, prefix="/files")

    async def handler(request: Request, response: Response) -> None:
        request.path = f"/files{request.path.removeprefix('/static')}".rstrip("/")
        await files(request, response)

    async with asking(handler) as client:
        assert (await client.ask("GET", "/static/sub?a=b"))[1]["location"] == "./sub/?a=b"
        assert (await client.ask("GET", "/static"))[1]["location"] == "./static/"
        assert (await client.ask("GET", "/static/sub/"))[1]["location"] == "/files/sub/"  # the handler lost its slash


# What is not served.


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/missing", 404),
        ("/a.txt/", 404),
        ("/a.txt/b", 404),
        ("/missing/../a.txt", 200),
        ("/./a.txt", 200),
        ("//a.txt", 200),
        ("/../secret.txt", 400),
        ("/sub/../../secret.txt", 400),
        ("/%2e%2e/secret.txt", 400),
        ("/%2E./secret.txt", 400),
        ("/sub/%2e%2e/%2e%2e/secret.txt", 400),
        ("/..%2fsecret.txt", 400),
        ("/sub%2f..%2fa.txt", 400),
        ("/sub%2Findex.html", 404),
        ("/%2fetc/passwd", 404),
        ("//etc/passwd", 404),
        ("/..%5csecret.txt", 404),
        ("/..\\secret.txt", 404),
        ("/\\..\\secret.txt", 404),
        ("/%252e%252e/secret.txt", 404),
        ("/%c0%ae%c0%ae/secret.txt", 404),
        ("/../root2/a.txt", 400),
        ("/...", 404),
        ("/.hidden", 404),
        ("/%2ehidden", 404),
        ("/.git/config", 404),
        ("/.git", 404),
        ("/sub/.", 200),
        ("/.well-known", 301),
        ("/.well-known/security.txt", 200),
        ("/.well-known/.hidden", 404),
        ("/sub/.well-known/security.txt", 404),
        ("/.well-known.txt", 404),
        ("/.WELL-KNOWN/security.txt", 404),
        ("/a.txt%00", 400),
        ("/a.txt%00.html", 400),
        ("/%zz", 400),
        ("/%", 400),
        ("/%ff", 404),
        ("/" + "x" * 256, 404),
        ("/" + "x/" * 3000, 404),
        ("/" + "sub/self/" * 20, 404),
        ("/socket", 404),
        ("/slash", 404),
        ("/dev", 404),
        ("/a.txt:stream", 404),
    ],
)
async def test_no_target_leads_out_of_the_root_or_to_a_hidden_file(tree: Path, target: str, status: int) -> None:
    async with serving(http.files(tree)) as port:
        got = await exchanged(port, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b"secret" not in got.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "link", ["inside", "absolute", "directory/up", "chain", "there/up", "sub/self/self/up", "sub/slashed/up"]
)
async def test_a_link_that_stays_inside_the_root_is_followed(tree: Path, link: str) -> None:
    assert (await get(tree, f"/{link}"))[::2] == (200, TEXT)


@pytest.mark.parametrize(
    "link",
    [
        "out", "far", "sibling", "parent/secret.txt", "back", "slash/etc/passwd", "dangling", "loop", "loop/a",
        "file-slash", "file-dot",
    ],
)  # fmt: skip
async def test_a_link_that_leaves_the_root_or_dangles_is_not_found(tree: Path, link: str) -> None:
    assert (await get(tree, f"/{link}"))[::2] == (404, b"404 Not Found\n")


async def test_a_link_to_a_hidden_file_makes_it_visible(root: Path) -> None:
    assert (await get(root, "/sub/shown"))[::2] == (200, b"secret")


async def test_a_fifo_is_not_found_at_once(root: Path) -> None:
    with trio.fail_after(60):
        assert (await get(root, "/fifo"))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
async def test_other_methods_are_refused_with_a_list_of_those_allowed(tree: Path, method: str) -> None:
    status, headers, _ = await get(tree, "/a.txt", method=method)

    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_every_response_and_every_error_forbids_sniffing(tree: Path) -> None:
    async with asking(http.files(tree)) as client:
        for method, target in [("GET", "/a.txt"), ("GET", "/missing"), ("GET", "/sub"), ("POST", "/a.txt")]:
            assert (await client.ask(method, target))[1]["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EACCES, 403), (errno.EPERM, 403), (errno.EMFILE, 503), (errno.ENFILE, 503), (errno.EIO, 500)],
)
async def test_each_error_of_the_system_has_its_own_status(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    status: int,
) -> None:
    def refuse(directory: lookup.RootDirectory, names: object) -> lookup.OpenFile:
        raise OSError(number, os.strerror(number), str(tree))

    monkeypatch.setattr(lookup.RootDirectory, "open_cached", lambda directory, names: None)
    monkeypatch.setattr(lookup.RootDirectory, "open_now", refuse)

    got = await get(tree, "/a.txt")

    assert got[0] == status
    assert got[1].get("retry-after") == ("1" if status == 503 else None)
    assert str(tree).encode() not in got[2]
    assert bool(caplog.records) is (status == 500)


# The root.


async def test_a_prefix_places_the_root_below_a_path(root: Path) -> None:
    for prefix in ("/static", "/static/"):
        async with asking(http.files(root, prefix=prefix)) as client:
            assert (await client.ask("GET", "/static/a.txt"))[::2] == (200, TEXT)
            assert (await client.ask("GET", "/static/sub/"))[0] == 200
            assert (await client.ask("GET", "/static?x"))[1]["location"] == "./static/?x"
            assert (await client.ask("GET", "/static/sub"))[1]["location"] == "./sub/"
            for outside in ("/a.txt", "/", "/staticX/a.txt", "/static/../a.txt", "/other/static/a.txt"):
                assert (await client.ask("GET", outside))[0] == 404


async def test_a_handler_of_yours_can_call_it_and_its_headers_are_kept(root: Path) -> None:
    static = http.files(root, prefix="/static/")

    async def handler(request: Request, response: Response) -> None:
        if not request.path.startswith("/static/"):
            await response.send(b"mine")
            return
        response.headers["cache-control"] = "max-age=60"
        response.headers["content-type"] = "text/x-own"
        await static(request, response)

    async with asking(handler) as client:
        assert (await client.ask("GET", "/"))[2] == b"mine"
        status, headers, body = await client.ask("GET", "/static/a.txt")

    assert (status, body) == (200, TEXT)
    assert (headers["cache-control"], headers["content-type"]) == ("max-age=60", "text/x-own")


@pytest.mark.parametrize("path", ["/../secret.txt", "/sub/../../secret.txt", "/./a.txt", "/..", "/a.txt\0"])
async def test_a_path_set_by_a_handler_cannot_lead_out_of_the_root_either(tree: Path, path: str) -> None:
    files = http.files(tree, hidden=True, follow_symlinks=True)

    async def handler(request: Request, response: Response) -> None:
        request.path = path
        await files(request, response)

    async with asking(handler) as client:
        assert (await client.ask("GET", "/"))[0] == 404


async def test_a_root_that_is_a_link_is_resolved_at_each_request(root: Path) -> None:
    current = root.parent / "current"
    current.symlink_to(root)
    async with asking(http.files(current)) as client:
        assert (await client.ask("GET", "/a.txt"))[2] == TEXT
        assert (await client.ask("GET", "/absolute"))[2] == TEXT
        current.unlink()
        assert (await client.ask("GET", "/a.txt"))[0] == 404
        current.symlink_to(root / "sub")
        assert (await client.ask("GET", "/"))[2] == b"<p>sub"


async def test_a_relative_root_does_not_depend_on_later_changes_of_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    handler = http.files("sub")
    monkeypatch.chdir("/")
    async with asking(handler) as client:
        assert (await client.ask("GET", "/"))[0] == 200


def test_R1_a_wrong_argument_is_refused_when_the_handler_is_built(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        http.files("")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        http.files(root / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"a\.txt"):
        http.files(root / "a.txt")
    with pytest.raises(ValueError, match="prefix must begin with a slash, got 'static'"):
        http.files(root, prefix="static")
    for index in ("", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError, match="index must be a file name"):
            http.files(root, index=index)
    with pytest.raises(TypeError):
        http.files(3)  # type: ignore[arg-type]


# Ranges and conditions.


@pytest.mark.parametrize(
    ("field", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=100000-", 100000, len(BIG)),
        ("bytes=-7", len(BIG) - 7, len(BIG)),
        ("bytes=1-200000", 1, 200001),
        ("bytes=0-99999999", 0, len(BIG)),
        (f"bytes=-{10**30}", 0, len(BIG)),
    ],
)
async def test_a_range_gives_exactly_these_bytes(tree: Path, field: str, start: int, stop: int) -> None:
    status, headers, body = await get(tree, "/big.bin", ("Range", field))

    assert status == 206
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"
    assert headers["content-length"] == str(stop - start)
    assert body == BIG[start:stop]


@pytest.mark.parametrize("field", ["bytes=0-", "bytes=0-0", "bytes=-5"])
async def test_a_range_of_an_empty_file_gives_the_empty_file(root: Path, field: str) -> None:
    status, headers, body = await get(root, "/none.bin", ("Range", field))

    assert (status, headers["content-length"], body) == (200, "0", b"")


@pytest.mark.parametrize("field", ["bytes=12-", "bytes=-0", "bytes=99-100"])
async def test_an_unsatisfiable_range_is_answered_with_the_size(tree: Path, field: str) -> None:
    status, headers, _ = await get(tree, "/a.txt", ("Range", field))

    assert (status, headers["content-range"]) == (416, "bytes */12")
    assert headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("field", ["bytes=0-1,x", "bytes=x", "items=0-1", "bytes=5-4", "bytes=" + "9" * 8000 + "x"])
async def test_an_invalid_range_gives_the_whole_file(tree: Path, field: str) -> None:
    assert (await get(tree, "/a.txt", ("Range", field)))[::2] == (200, TEXT)


async def test_a_client_with_a_current_copy_gets_304_without_a_body(root: Path) -> None:
    async with asking(http.files(root)) as client:
        _, first, _ = await client.ask("GET", "/a.txt")
        for condition in [("If-None-Match", first["etag"]), ("If-Modified-Since", first["last-modified"])]:
            status, headers, body = await client.ask("GET", "/a.txt", [condition])

            assert (status, body) == (304, b"")
            assert headers["etag"] == first["etag"]
            assert "content-type" not in headers
        assert (await client.ask("GET", "/a.txt", [("If-Match", '"other"')]))[0] == 412
        assert (await client.ask("GET", "/a.txt", [("If-Match", first["etag"])]))[0] == 200


async def test_a_range_of_another_version_gives_the_whole_current_one(root: Path) -> None:
    async with asking(http.files(root)) as client:
        _, first, _ = await client.ask("GET", "/a.txt")
        condition = [("Range", "bytes=6-"), ("If-Range", first["etag"])]
        assert (await client.ask("GET", "/a.txt", condition))[::2] == (206, b"world\n")

        (root / "a.txt").write_bytes(b"HELLO WORLD\n")
        os.utime(root / "a.txt", ns=(0, time.time_ns() + 1))

        assert (await client.ask("GET", "/a.txt", condition))[::2] == (200, b"HELLO WORLD\n")


def copied(path: Path, content: bytes) -> None:
    """As `cp -p` does."""
    path.write_bytes(content)


def installed(path: Path, content: bytes) -> None:
    """As `rsync -t` and package managers do: a new file replaces the old one."""
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [copied, installed])
@pytest.mark.parametrize("name", ["a.txt", "big.bin"])
async def test_changed_content_with_the_same_date_and_size_is_another_version(
    root: Path, name: str, change: Callable[[Path, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "TICK", 20_000_000)  # its value outside of tests, which conftest.py changes
    path = root / name
    versions = [path.read_bytes().replace(old, new) for old, new in [(b"h", b"h"), (b"h", b"i"), (b"h", b"j")]]
    async with asking(http.files(root)) as client:
        for before, after in itertools.pairwise(versions):
            change(path, before)
            os.utime(path, (499_162_500,) * 2)  # 1985, on every file of an npm package
            _, first, begin = await client.ask("GET", f"/{name}", [("Range", "bytes=0-7")])
            change(path, after)
            os.utime(path, (499_162_500,) * 2)

            assert begin == before[:8]
            for condition in [("If-Range", first["etag"]), ("If-Range", first["last-modified"])]:
                got = await client.ask("GET", f"/{name}", [("Range", "bytes=8-"), condition])
                assert got[::2] == (200, after)
            assert (await client.ask("GET", f"/{name}", [("If-None-Match", first["etag"])]))[::2] == (200, after)
            assert (await client.ask("GET", f"/{name}", [("If-Match", first["etag"])]))[0] == 412


async def test_a_date_in_if_range_matches_if_the_file_has_not_changed_since(root: Path) -> None:
    async with asking(http.files(root)) as client:
        os.utime(root / "a.txt")  # its mtime and its ctime are then the same
        changed = (root / "a.txt").stat().st_ctime_ns
        _, first, _ = await client.ask("GET", "/a.txt")
        asked = [("Range", "bytes=6-"), ("If-Range", first["last-modified"])]
        with pytest.MonkeyPatch.context() as later:
            later.setattr(respond.time, "time", lambda: changed / 1e9 + 2)
            assert (await client.ask("GET", "/a.txt", asked))[::2] == (206, TEXT[6:])


@pytest.mark.parametrize("second", [0, 1])
async def test_a_date_of_1970_as_set_by_builds_is_ignored(root: Path, second: int) -> None:
    os.utime(root / "a.txt", (second, second))
    async with asking(http.files(root)) as client:
        _, first, _ = await client.ask("GET", "/a.txt")
        (root / "b.txt").write_bytes(b"HELLO WORLD\n")
        (root / "b.txt").rename(root / "a.txt")
        os.utime(root / "a.txt", (second, second))
        status, _, body = await client.ask("GET", "/a.txt", [("If-None-Match", first["etag"])])

    assert "1970" not in first["last-modified"]
    assert (status, body) == (200, b"HELLO WORLD\n")


async def test_a_modification_date_in_the_future_becomes_now(root: Path) -> None:
    os.utime(root / "a.txt", (time.time() + 10**6,) * 2)

    _, headers, _ = await get(root, "/a.txt")

    assert parsedate_to_datetime(headers["last-modified"]) <= parsedate_to_datetime(headers["date"])


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("bytes=0-0,-1", [(0, 1), (250_999, 251_000)]),
        ("bytes=200000-,5-9,0-1", [(200_000, 251_000), (5, 10), (0, 2)]),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(0, 32, 2)), [(at, at + 1) for at in range(0, 32, 2)]),
    ],
)
async def test_several_ranges_are_sent_as_parts_in_the_order_requested(
    tree: Path, field: str, parts: list[tuple[int, int]]
) -> None:
    status, headers, body = await get(tree, "/big.bin", ("Range", field))

    assert (status, int(headers["content-length"])) == (206, len(body))
    assert "content-range" not in headers
    message = BytesParser(policy=policy.HTTP).parsebytes(
        b"Content-Type: %s\r\n\r\n" % headers["content-type"].encode() + body
    )
    got = list(message.iter_parts())
    assert [part["content-range"] for part in got] == [f"bytes {start}-{stop - 1}/251000" for start, stop in parts]
    assert [part.get_payload(decode=True) for part in got] == [BIG[start:stop] for start, stop in parts]


async def test_too_many_ranges_give_the_whole_file_and_adjacent_ranges_are_merged(root: Path) -> None:
    many = ",".join(f"{at}-{at}" for at in range(0, 34, 2))
    async with asking(http.files(root)) as client:
        assert (await client.ask("GET", "/big.bin", [("Range", f"bytes={many}")]))[::2] == (200, BIG)
        assert (await client.ask("GET", "/big.bin", [("Range", "bytes=0-5,3-9,10-11")]))[::2] == (206, BIG[:12])
        assert (await client.ask("HEAD", "/big.bin", [("Range", "bytes=0-0,5-5")]))[::2] == (200, b"")


async def read_until_cut_off(stream: trio.SocketStream) -> bytes:
    got = bytearray()
    with contextlib.suppress(trio.BrokenResourceError):
        async for chunk in stream:
            got += chunk
    return bytes(got)


async def test_R13_a_file_truncated_while_its_parts_are_sent_does_not_end_the_response_properly(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = large(root)
    async with serving(http.files(root)) as port, connected(port) as stream:
        await stream.send_all(
            b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-200000000,200000005-\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 206 ")
        os.truncate(path, 1 << 20)
        got = await read_until_cut_off(stream)

    assert not got.endswith(b"--\r\n")
    assert "the file ended at byte 1048576" in caplog.text


# Options.


async def test_hidden_files_are_served_on_request(root: Path) -> None:
    async with asking(http.files(root, hidden=True)) as client:
        assert (await client.ask("GET", "/.hidden"))[::2] == (200, b"secret")
        assert (await client.ask("GET", "/.git/config"))[0] == 200
        assert (await client.ask("GET", "/.git"))[1]["location"] == "./.git/"
        assert (await client.ask("GET", "/%2e%2e/secret.txt"))[0] == 400


async def test_links_out_of_the_root_are_followed_on_request(root: Path) -> None:
    async with asking(http.files(root, follow_symlinks=True)) as client:
        for link in ("out", "far", "sibling", "parent/secret.txt", "back"):
            assert (await client.ask("GET", f"/{link}"))[0] == 200
        assert (await client.ask("GET", "/a.txt"))[2] == TEXT
        for link in ("dangling", "loop", "fifo", "missing"):
            assert (await client.ask("GET", f"/{link}"))[0] == 404


async def test_cache_control_is_set_only_for_files_and_that_of_a_handler_is_kept(root: Path) -> None:
    static = http.files(root, cache_control="max-age=60")

    async def handler(request: Request, response: Response) -> None:
        if request.query:
            response.headers["Cache-Control"] = request.query
        await static(request, response)

    async with asking(handler) as client:
        _, first, _ = await client.ask("GET", "/a.txt")
        assert first["cache-control"] == "max-age=60"
        known = await client.ask("GET", "/a.txt", [("If-None-Match", first["etag"])])
        assert (known[0], known[1]["cache-control"]) == (304, "max-age=60")
        assert (await client.ask("GET", "/a.txt?no-store"))[1]["cache-control"] == "no-store"
        assert "cache-control" not in (await client.ask("GET", "/missing"))[1]
        assert "cache-control" not in (await client.ask("GET", "/sub"))[1]
    with pytest.raises(ValueError, match="must be Latin-1 without line ends"):
        http.files(root, cache_control="a\r\nb: c")


# How a transfer can end.


def large(root: Path) -> Path:
    path = root / "large.bin"
    path.touch()
    os.truncate(path, 1 << 28)
    return path


async def begun(port: int, stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")


async def until_closed(path: Path) -> None:
    with trio.fail_after(60):
        while str(path) in open_descriptors().values():
            await wait_all_tasks_blocked(0.01)


async def test_R2_a_client_that_leaves_leaves_no_file_open(root: Path) -> None:
    path = large(root)
    async with serving(http.files(root)) as port:
        async with connected(port) as stream:
            await begun(port, stream)
            assert str(path) in open_descriptors().values()
            reset(stream)
        await until_closed(path)


async def test_R13_a_file_truncated_while_it_is_sent_does_not_end_the_response_properly(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = large(root)
    async with serving(http.files(root)) as port, connected(port) as stream:
        await begun(port, stream)
        os.truncate(path, 1 << 20)
        got = 0
        try:
            async for chunk in stream:
                got += len(chunk)
        except trio.BrokenResourceError:
            pass
        await until_closed(path)

    assert got < 1 << 28
    assert "ended" in caplog.text


async def test_R13_a_file_truncated_while_it_is_compressed_and_sent_does_not_end_the_response_properly(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = root / "large.txt"
    path.write_bytes(os.urandom(1 << 25))  # it does not become smaller, so that the client's buffers cannot take it
    async with serving(http.files(root, compress=True)) as port, connected(port) as stream:
        request = b"GET /large.txt HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        await stream.send_all(request)
        assert b"\r\nTransfer-Encoding: chunked\r\n" in await stream.receive_some()
        os.truncate(path, 1 << 20)
        got = await read_until_cut_off(stream)
        await until_closed(path)

    assert not got.endswith(b"\r\n0\r\n\r\n")
    assert "the file ended at byte" in caplog.text


async def test_a_file_replaced_while_it_is_sent_is_sent_as_it_was(root: Path) -> None:
    path = root / "large.bin"
    path.write_bytes(BIG * 200)
    (root / "other").write_bytes(b"other")
    async with serving(http.files(root)) as port, connected(port) as stream:
        await stream.send_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head = await stream.receive_some(1000)
        (root / "other").rename(path)
        body = (head + await read_all(stream)).partition(b"\r\n\r\n")[2]
        again = await get(root, "/large.bin")

    assert body == BIG * 200
    assert again[::2] == (200, b"other")


async def test_a_file_outside_the_page_cache_is_opened_and_read_only_in_threads(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop reads only what the kernel has in memory, which here is nothing."""
    in_loop: list[str] = []
    loop = threading.get_ident()

    def watched(name: str, really: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == loop:
                in_loop.append(name)
            return really(*arguments, **options)

        return call

    monkeypatch.setattr(lookup.RootDirectory, "open_cached", lambda directory, names: None)
    monkeypatch.setattr(_files, "read_cached", lambda fd, start, stop: None)
    monkeypatch.setattr("trioflow.http.wire.response_sender.read_cached", lambda fd, start, stop: None)
    monkeypatch.setattr("trioflow.http.wire.sendfile.is_cached", lambda fd, start, stop: False)
    for name in ("open", "pread", "sendfile", "scandir"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    handler = http.files(root, listing=True)
    in_loop.clear()
    async with asking(handler) as client:
        assert (await client.ask("GET", "/big.bin"))[2] == BIG
        assert (await client.ask("GET", "/a.txt"))[2] == TEXT
        assert (await client.ask("GET", "/"))[0] == 200

    assert in_loop == []


async def test_a_file_that_grows_while_it_is_sent_is_sent_with_its_original_length(root: Path) -> None:
    path = root / "growing.log"
    path.write_bytes(BIG * 40)
    async with serving(http.files(root)) as port, connected(port) as stream:
        client = Client(stream)
        await stream.send_all(
            client.connection.send(h11.Request(method="GET", target="/growing.log", headers=[("Host", "x")])) or b""
        )
        await stream.send_all(client.connection.send(h11.EndOfMessage()) or b"")
        client.connection.receive_data(await stream.receive_some(1000))  # so that its length has been determined
        with path.open("ab") as file:
            file.write(b"more")
        status, _, body = await client.answer()
        again = await client.ask("GET", "/growing.log", [("Range", "bytes=-4")])

    assert (status, body) == (200, BIG * 40)
    assert again[2] == b"more"


async def test_a_stopping_server_leaves_no_file_open(root: Path) -> None:
    path = large(root)
    async with serving(http.files(root), limits=http.Limits(grace=0)) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await begun(port, stream)
    await until_closed(path)
    await stream.aclose()

    assert str(path) not in open_descriptors().values()


# Links of any kind beneath a root.

NAMES = st.sampled_from(["a", "b", "file"])
TARGETS = st.lists(st.sampled_from(["a", "b", "file", "..", ".", ""]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=120)
@given(
    st.dictionaries(st.tuples(st.sampled_from(["", "a", "b", "a/b"]), NAMES), TARGETS, max_size=5),
    st.lists(NAMES, min_size=1, max_size=4),
    st.booleans(),
)
@pytest.mark.slow
def test_no_path_beneath_a_root_leads_out_of_it(
    links: dict[tuple[str, str], str], names: list[str], absolute: bool
) -> None:
    with TemporaryDirectory() as top:
        root = Path(top).resolve() / "root"
        (root / "a" / "b").mkdir(parents=True)
        (root / "b").mkdir()
        for place in (root.parent, root, root / "a", root / "b"):
            (place / "file").touch()
        for (directory, name), target in links.items():
            link = root / directory / name
            if link.is_file():
                link.unlink()
            if not os.path.lexists(link) and link.parent.is_dir() and not link.parent.is_symlink():
                link.symlink_to(f"{root}/{target}" if absolute else target or ".")
        encoded = [name.encode() for name in names]
        meant = os.path.realpath(root.joinpath(*names))
        beneath = lookup.RootDirectory(str(root), anywhere=False)
        try:
            walked = beneath.open_now(encoded)
        except OSError:
            try:
                assert beneath.open_cached(encoded) is None
            except OSError:
                pass
            return
        cached = beneath.open_cached(encoded)
        try:
            assert meant == str(root) or meant.startswith(f"{root}/")
            assert os.path.samestat(walked.status, os.stat(meant))
            assert cached is None or os.path.samestat(cached.status, os.stat(meant))
        finally:
            os.close(walked.fd)
            if cached is not None:
                os.close(cached.fd)


def test_a_file_whose_status_cannot_be_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()

    def refuse(fd: int) -> os.stat_result:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", refuse)
        failed = False
        try:
            lookup.RootDirectory(str(tmp_path), anywhere=False).open_now([b"a"])
        except OSError:
            failed = True

    assert failed
    assert str(tmp_path / "a") not in open_descriptors().values()


def test_if_the_kernel_cannot_look_up_without_the_disk_a_thread_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    directory = lookup.RootDirectory(str(tmp_path), anywhere=False)
    with monkeypatch.context() as patched:
        patched.setattr("sys.platform", "novelty")
        lookup.openat2.cache_clear()
        assert directory.open_cached([b"a"]) is None
    lookup.openat2.cache_clear()  # only now, or the result for the invented platform would stay cached for later tests
    missing = lookup.RootDirectory(str(tmp_path / "missing"), anywhere=False)
    assert missing.open_cached([b"a"]) is None  # the root itself is looked up in a thread
    os.close(directory.open_now([b"a"]).fd)


def test_the_root_of_the_file_system_can_be_served(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    names = os.fsencode(tmp_path / "link").split(b"/")[1:]

    found = lookup.RootDirectory("/", anywhere=False).open_now(names)
    try:
        assert os.path.samestat(found.status, os.stat(tmp_path / "a"))
    finally:
        os.close(found.fd)
