"""What is served for a path without a file: an error page, the owner's page, an application, or `about.html`."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tests.http.client import exchanged, serving
from tests.http.file_server.test_files import asking, get
from trioflow import http
from trioflow.http.wire.response_writer import error_page

PAGE = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]  # as a browser requests a page
PART = [("Accept", "*/*")]  # as a browser requests what a page loads


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "docs").mkdir(parents=True)
    (site / "both").mkdir()
    (site / "empty").mkdir()
    for name in ("index.html", "404.html", "about.html", "both.html", "docs/guide.html", "both/index.html"):
        (site / name).write_text(f"<p>{name}")
    for path in site.rglob("*.html"):
        os.utime(path, (1, 1))
    os.mkfifo(site / "fifo")
    return site


async def test_a_browser_gets_an_error_page_and_other_clients_a_line(site: Path) -> None:
    async with asking(http.files(site)) as client:
        for method, target, status in [("GET", "/none", 404), ("GET", "/empty/", 404), ("POST", "/", 405)]:
            got = await client.ask(method, target, PAGE)
            plain = await client.ask(method, target, PART)

            assert (got[0], plain[0]) == (status, status)
            assert got[1]["content-type"] == "text/html; charset=utf-8"
            assert got[1]["content-security-policy"].startswith("default-src 'none'")
            assert got[2] == error_page(status, is_html=True)[1]
            assert b'name="viewport"' in got[2]
            assert plain[1]["content-type"] == "text/plain; charset=utf-8"
            assert plain[2] == error_page(status)[1]
            assert got[1]["vary"] == plain[1]["vary"] == "Accept"


async def test_an_error_page_varies_by_origin_too(site: Path) -> None:
    origin = b"https://a.example"
    async with serving(http.files(site, cors=[origin.decode()])) as port:
        request = b"GET /none HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nOrigin: " + origin + b"\r\n\r\n"
        got = await exchanged(port, request)

    assert b"\r\nContent-Type: text/html" in got
    assert b"\r\nVary: Accept\r\n" in got
    assert b"\r\nVary: Origin\r\n" in got
    assert b"\r\nAccess-Control-Allow-Origin: " + origin + b"\r\n" in got


async def test_a_browser_gets_an_error_page_when_a_handler_fails() -> None:
    async def handler(request: http.Request, response: http.Response) -> None:
        raise http.RequestError(413, "too much")

    async with asking(handler) as client:
        assert (await client.ask("GET", "/", PAGE))[2] == error_page(413, is_html=True)[1]


@pytest.mark.parametrize(
    "target", ["/none", "/none/", "/docs/none", "/.git", "/a%2fb", "/docs/", "/fifo", "/about.html/"]
)
async def test_the_not_found_page_of_the_owner_is_used(site: Path, target: str) -> None:
    conditions = [
        ("If-None-Match", "*"),
        ("Range", "bytes=0-1"),
        ("If-Modified-Since", "Fri, 01 Jan 2038 00:00:00 GMT"),
    ]
    for fields in (PAGE, PART, conditions):
        status, headers, body = await get(site, target, *fields, not_found="404.html", cache_control="max-age=9")

        assert (status, body) == (404, b"<p>404.html")
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert not {"etag", "last-modified", "cache-control", "accept-ranges"} & set(headers)
    async with asking(http.files(site, not_found="404.html", listing=True)) as client:
        assert (await client.ask("HEAD", "/none"))[::2] == (404, b"")
        assert (await client.ask("GET", "/404.html"))[0] == 200
        assert (await client.ask("GET", "/none/"))[2] == b"<p>404.html"


@pytest.mark.parametrize("name", ["none.html", "docs", "fifo", "docs/none.html"])
async def test_without_the_owners_page_the_page_of_the_server_is_used(site: Path, name: str) -> None:
    assert (await get(site, "/none", *PAGE, not_found=name))[2] == error_page(404, is_html=True)[1]


async def test_a_file_without_read_permission_is_403_and_not_404(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr("trioflow.http.file_server.lookup.RootDirectory.open_cached", refuse)

    assert (await get(site, "/about.html", not_found="404.html", spa=True))[0] == 403


@pytest.mark.parametrize("name", ["", "/404.html", "../404.html", "a//b", ".", "docs/"])
def test_a_not_found_page_outside_the_root_is_refused(site: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"not_found must be the path of a file beneath the root, such as '404\.html', got "
    ):
        http.files(site, not_found=name)


async def test_a_single_page_application_answers_page_requests_and_missing_resources_stay_404(site: Path) -> None:
    async with asking(http.files(site, spa=True, not_found="404.html", precompressed=())) as client:
        for target in ("/users/7", "/users/", "/docs/none", "/empty/"):
            status, headers, body = await client.ask("GET", target, PAGE)
            assert (status, body) == (200, b"<p>index.html")
            assert headers["vary"] == "Accept"
            assert (await client.ask("GET", target, [*PAGE, ("If-None-Match", headers["etag"])]))[0] == 304
            missing = await client.ask("GET", target, PART)
            assert (missing[0], missing[1]["vary"], missing[2]) == (404, "Accept", b"<p>404.html")
        assert (await client.ask("GET", "/about.html", PAGE))[2] == b"<p>about.html"
        assert (await client.ask("GET", "/docs", PAGE))[1]["location"] == "./docs/"


async def test_a_single_page_application_answers_only_below_its_prefix(site: Path) -> None:
    async with asking(http.files(site, spa=True, prefix="/app/")) as client:
        assert (await client.ask("GET", "/app/users", PAGE))[2] == b"<p>index.html"
        assert (await client.ask("GET", "/users", PAGE))[0] == 404
        assert (await client.ask("GET", "/app/index.html", PAGE))[2] == b"<p>index.html"


async def test_a_single_page_application_without_an_index_is_not_found(tmp_path: Path) -> None:
    assert (await get(tmp_path, "/users", *PAGE, spa=True))[0] == 404


async def test_a_path_without_a_suffix_serves_the_html_file_of_that_name(site: Path) -> None:
    (site / "about.html").write_text("x" * 2000)
    async with asking(http.files(site, clean_urls=True, compress=True)) as client:
        status, headers, body = await client.ask("GET", "/about", [("Accept-Encoding", "gzip")])
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert gzip.decompress(body) == b"x" * 2000
        assert (await client.ask("GET", "/docs/guide"))[2] == b"<p>docs/guide.html"
        assert (await client.ask("GET", "/about.html"))[0] == 200
        assert (await client.ask("GET", "/both"))[1]["location"] == "./both/"  # a directory takes precedence
        for missing in ("/none", "/docs/guide/", "/docs/none", "/.html", "/fifo"):
            assert (await client.ask("GET", missing))[0] == 404
    assert (await get(site, "/about"))[0] == 404
