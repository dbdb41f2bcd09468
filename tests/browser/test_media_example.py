"""The media server in examples/ plays in a browser, which requests ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.ports import free_port
from tests.snippets import serving, with_port

pytestmark = pytest.mark.needs("chromium")

SOURCE = Path(__file__).parents[2] / "examples" / "media_server.py"


def test_the_media_servers_page_plays_and_seeks_the_files_of_the_directory(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    source = with_port(SOURCE.read_text(encoding="utf-8"), port)
    with serving(source, name=SOURCE.name, port=port, cwd=tmp_path), browser.new_context() as context:
        page = context.new_page()
        statuses: dict[str, set[int]] = {}
        page.on("response", lambda each: statuses.setdefault(each.url.rpartition("/")[2], set()).add(each.status))
        page.goto(f"http://127.0.0.1:{port}/")

        for player, late in (("audio", 20), ("video", 15)):
            page.evaluate(f"document.querySelector('{player}').play()")
            page.wait_for_function(f"document.querySelector('{player}').currentTime > 0.2")
            page.evaluate(f"document.querySelector('{player}').currentTime = {late}")
            page.wait_for_function(f"document.querySelector('{player}').currentTime > {late} + 0.1")

    assert statuses["melody.mp3"] == statuses["clip.mp4"] == {206}
