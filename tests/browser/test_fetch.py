"""How Chromium leaves a server, and sends it more than it reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import IO, NamedTuple

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import PATIENCE

pytestmark = pytest.mark.needs("chromium")

SERVER = """
from functools import partial

import trio
from trioflow import http

async def quiet(response, begin):
    async with response.open() as body:
        await body.send(begin)
        await trio.sleep_forever()

async def handler(request, response):
    try:
        match request.path:
            case "/feed":
                response.headers["content-type"] = "text/event-stream"
                await quiet(response, b"data: hello\\n\\n")
            case "/begun":
                await quiet(response, b"hello")
            case "/waits":
                print("asked", request.path, flush=True)
                await trio.sleep_forever()
            case "/see-other":
                response.status = 303
                response.headers["location"] = "/login"
            case "/files":
                await http.files(".", prefix="/files")(request, response)
            case path:
                response.headers["content-type"] = "text/html"
                await response.send(path.encode())
    finally:
        if trio.current_effective_deadline() < 0:
            print("left", request.path, flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, handler, port=0))
        print(url, flush=True)

trio.run(main)
"""


class Site(NamedTuple):
    url: str
    said: IO[str]

    def next(self) -> str:
        return self.said.readline().rstrip("\n")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Site(process.stdout.readline().strip(), process.stdout)
        process.kill()


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site.url)
    yield page
    context.close()


def test_an_event_source_that_is_closed_ends_its_feed(page: Page, site: Site) -> None:
    heard = page.evaluate(
        "() => new Promise(done => { window.feed = new EventSource('/feed'); feed.onmessage = e => done(e.data) })"
    )
    page.evaluate("feed.close()")

    assert heard == "hello"
    assert site.next() == "left /feed"


def test_a_tab_that_is_closed_ends_its_feed(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(site.url)
    page.evaluate("() => new Promise(done => { new EventSource('/feed').onmessage = done })")
    page.close()

    assert site.next() == "left /feed"


def test_an_aborted_fetch_ends_its_handler(page: Page, site: Site) -> None:
    page.evaluate(
        "() => { window.left = new AbortController(); fetch('/waits', {signal: left.signal}).catch(() => 0) }"
    )
    assert site.next() == "asked /waits"
    page.evaluate("left.abort()")
    assert site.next() == "left /waits"

    page.evaluate("async () => { window.left = new AbortController(); await fetch('/begun', {signal: left.signal}) }")
    page.evaluate("left.abort()")
    assert site.next() == "left /begun"


@pytest.mark.parametrize(("path", "answer"), [("/unread", [200, "/unread"]), ("/see-other", [200, "/login"])])
def test_the_response_to_an_unread_upload_arrives(page: Page, path: str, answer: list[object]) -> None:
    script = """async path => {
        const response = await fetch(path, {method: 'POST', body: new Blob([new Uint8Array(100_000_000)])});
        return [response.status, await response.text()];
    }"""
    for _ in range(3):
        assert page.evaluate(script, path) == answer


def test_an_upload_to_http_files_gets_405(page: Page) -> None:
    script = (
        "async () => (await fetch('/files', {method: 'POST', body: new Blob([new Uint8Array(100_000_000)])})).status"
    )

    assert page.evaluate(script) == 405
