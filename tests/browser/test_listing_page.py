"""The listing and the 404 page of `trioflow serve` in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

SIZES = [{"width": 1100, "height": 700}, {"width": 360, "height": 640}]
LONG = "a name that is so long that it needs several lines on a telephone " * 3


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("root")
    (root / "sub" / "deep").mkdir(parents=True)
    for size, name in enumerate(["b.txt", "a.txt", LONG, "\u202egnp.exe", "sub/x", "sub/y", "sub/deep/z"], 1):
        (root / name).write_bytes(bytes(size))
    command = [sys.executable, "-m", "trioflow", "serve", root, "0", "--log", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found.group()
        process.terminate()
    assert process.returncode == 0


@pytest.fixture(params=SIZES, ids=["desk", "phone"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport=request.param)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    context.close()
    assert [text for text in complaints if "favicon" not in text and "404" not in text] == []


def names_on(page: Page) -> list[str]:
    return [name for name in page.locator("tbody td:first-child a").all_inner_texts() if name != "Up one level"]


def test_each_date_is_visible_and_nothing_is_wider_than_the_page(page: Page, url: str) -> None:
    page.goto(url)

    for time in page.locator("time").all():
        expect(time).to_be_visible()
    assert page.locator("time").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_is_large_enough_for_a_finger(page: Page, url: str) -> None:
    page.goto(f"{url}/sub/deep/")

    for each in page.locator("a, button, input").all():
        box = each.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24, each.inner_text()


def test_sorting_filtering_and_entering_a_directory_keep_the_current_choices(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Size").click()
    page.get_by_role("button", name="Size").click()
    assert names_on(page) == ["sub/", "[U+202E]gnp.exe", LONG.strip(), "a.txt", "b.txt"]

    page.get_by_role("searchbox").fill("TXT")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_url("**q=TXT**")
    assert names_on(page) == ["a.txt", "b.txt"]

    page.get_by_role("searchbox").fill("sub")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="sub/").click()
    page.wait_for_url("**/sub/?sort=-size")
    assert names_on(page) == ["deep/", "y", "x"]
    page.get_by_role("link", name="Up one level").click()
    page.wait_for_url(f"{url}/?sort=-size")


def test_the_not_found_page_is_readable_on_a_phone(page: Page, url: str) -> None:
    page.goto(f"{url}/nothing")

    heading = page.get_by_role("heading", name="404 Not Found")
    expect(heading).to_be_visible()
    assert page.evaluate("innerWidth") in {size["width"] for size in SIZES}
    assert float(heading.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) >= 24
