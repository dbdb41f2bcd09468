"""The demo in its own process, Debian's Chromium, and pages whose console must stay empty."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

# Where to save pictures of the page for the docs: `TRIOFLOW_SCREENSHOTS=docs/tutorial/images pytest tests/browser`.
SCREENSHOTS = os.environ.get("TRIOFLOW_SCREENSHOTS")
PATIENCE = 60_000  # milliseconds, which pass only if a test fails: a busy machine takes seconds to draw a page

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def demo() -> Iterator[str]:
    command = [sys.executable, "-m", "trioflow", "demo", "--port", "0", "--log", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found.group()
        process.terminate()
        complaints = process.stderr.read()
    assert process.returncode == 0
    assert complaints == ""  # no handler failed


@pytest.fixture(scope="module")  # not for the session: until it ends, no other test can run an event loop of asyncio
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # So that media play on a machine without loudspeakers, and without a key press first.
        options = ["--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_demo(demo: str, browser: Browser) -> Iterator[Open]:
    """Return a function that opens the demo; complaints in the console fail the test, unless they are expected."""
    complaints: list[str] = []
    contexts = []

    def open_(*, expected: str = r"(?!)", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)

        def hear(message: ConsoleMessage) -> None:
            said = f"{message.type}: {message.text} ({message.location['url']})"
            if message.type in ("error", "warning") and not re.search(expected, said):
                complaints.append(said)

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(demo)
        expect(page.locator("#pulse-state")).to_have_text("live")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


Shoot = Callable[..., None]


@pytest.fixture
def shoot() -> Shoot:
    """Return a function that takes a picture of the page or an element, if pictures are wanted."""

    def shoot_(page: Page, name: str, element: Locator | None = None, of: str = "demo-") -> None:
        if not SCREENSHOTS:
            return
        page.evaluate("document.activeElement.blur()")
        asked: dict[str, object] = {"format": "webp", "quality": 80}
        if element is not None:
            element.scroll_into_view_if_needed()
            box = element.evaluate(
                "e => { const r = e.getBoundingClientRect();"
                " return {x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height} }"
            )
            asked |= {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        session = page.context.new_cdp_session(page)
        data = session.send("Page.captureScreenshot", asked)["data"]
        session.detach()
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{of}{name}.webp").write_bytes(base64.b64decode(data))

    return shoot_
