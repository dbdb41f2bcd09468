"""The inspector's page of a program with a bottleneck, in a real browser.

The picture of the docs is taken again by `TRIOFLOW_SCREENSHOTS=docs/images pytest tests/browser/test_inspector_page.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.browser.conftest import Shoot

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

DESK = {"viewport": {"width": 1200, "height": 940}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LOOKS = [{**DESK, "color_scheme": "light"}, {**PHONE, "color_scheme": "dark"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    environment = {**os.environ, "TRIOFLOW_INSPECT": "127.0.0.1:0"}
    command = [sys.executable, Path(__file__).parent / "inspected.py"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        yield found.group()
        process.terminate()
        assert process.stderr.read() == ""


@pytest.fixture
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(**getattr(request, "param", DESK))
    page = context.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    expect(page.locator("#said")).to_have_text("live")
    expect(page.locator(".task.slowest .mark").first).to_be_visible()
    yield page
    context.close()
    assert complaints == []


def test_the_bottleneck_is_marked_in_the_drawing_and_in_the_numbers(page: Page, shoot: Shoot) -> None:
    run = page.locator("#running .run").filter(has_text="look_up")
    expect(run.locator(".task.slowest")).to_contain_text("map_async(look_up)")
    expect(run.locator(".task.slowest")).to_contain_text("the others wait for it")
    expect(run.locator(".which")).to_have_text("map_async(look_up)")
    expect(run.locator(".task").first).to_contain_text("waits for its reader")
    expect(run.get_by_role("meter", name="channel after map(upper)")).to_have_attribute(
        "aria-valuenow", re.compile(r"[5-9]\d|100")
    )
    row = run.get_by_role("row").filter(has_text="look_up")
    expect(row.get_by_role("cell").last).to_have_text(re.compile(r"(9\d|100) %"))

    failed = page.locator("#ended .run").filter(has_text="failed")
    failed.locator("summary").click()
    expect(failed.locator(".failure")).to_contain_text("ValueError: invalid literal for int()")
    expect(failed.locator(".failure")).to_contain_text("in stage 2 of 3: map(parse)")
    page.locator("#running .run").filter(has_text="wait_for_a_price").locator("summary").click()
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "inspector", of="")


def test_a_name_is_shown_as_text_whatever_it_contains(page: Page) -> None:
    run = page.locator("#ended .run").filter(has_text="<img")
    run.locator("summary").click()
    expect(run.locator(".stage").nth(1)).to_contain_text("map(<img src=x onerror=alert(1)>)")
    expect(run.get_by_role("rowheader").nth(1)).to_have_text("map(<img src=x onerror=alert(1)>)")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("page", LOOKS, ids=["desk", "phone, dark"], indirect=True)
def test_it_fits_and_is_readable_on_screen_and_with_a_screen_reader(page: Page) -> None:
    page.locator("#ended .run").filter(has_text="failed").locator("summary").click()
    expect(page.locator(".failure:visible")).to_have_count(1)

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(FAULTS) == []


@pytest.mark.parametrize("page", [{**DESK, "reduced_motion": "reduce"}], indirect=True)
def test_it_can_be_paused_and_has_no_animation(page: Page) -> None:
    assert page.locator(".gauge i").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.get_by_role("status")).to_have_text("paused")
    before: Any = page.locator("#running").inner_text()
    page.wait_for_timeout(700)
    assert page.locator("#running").inner_text() == before
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_have_text("live")
    expect(page.locator("#running")).not_to_have_text(before)


# What an accessibility checker such as axe looks for, as far as it applies to this page; each fault is a sentence.
FAULTS = """() => {
    const faults = [];
    const shown = (e) => e.checkVisibility() && getComputedStyle(e).clipPath === "none" && !e.closest("thead, caption");
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const colour = rgba(getComputedStyle(e).backgroundColor);
            if (colour[3]) return colour;
        }
        return rgba("white");
    };
    const light = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    for (const e of document.body.querySelectorAll("*")) {
        if (!shown(e)) continue;
        const what = `<${e.tagName.toLowerCase()} class="${e.className}"> ${e.textContent.slice(0, 40)}`;
        const style = getComputedStyle(e);
        if ([...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) {
            const is = contrast(rgba(style.color), ground(e));
            if (is < 4.5) faults.push(`contrast ${is.toFixed(2)}: ${what}`);
            if (parseFloat(style.fontSize) < 12) faults.push(`small text: ${what}`);
        }
        if (e.matches("button, summary")) {
            const box = e.getBoundingClientRect();
            if (Math.min(box.width, box.height) < 24) faults.push(`too small for a finger: ${what}`);
            if (!e.textContent.trim()) faults.push(`without a name: ${what}`);
        }
        if (e.matches("[role=meter]") && !(e.ariaLabel && e.ariaValueNow >= 0 && e.ariaValueMax > 0)) faults.push(`meter: ${what}`);
        if (e.matches("ol > :not(li)")) faults.push(`no item of its list: ${what}`);
        if (e.matches("table, tr, td, th, tbody") && !e.role) faults.push(`its role is lost on a phone: ${what}`);
        if (e.matches("table") && e.querySelectorAll("[role=columnheader]").length !== e.querySelectorAll("tbody tr:first-child > *").length)
            faults.push(`a column without its header: ${what}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    if (new Set(ids).size !== ids.length) faults.push("an id twice");
    if (document.querySelectorAll("h1").length !== 1 || !document.documentElement.lang || !document.title) faults.push("head");
    if (document.querySelectorAll("[role=status], [aria-live], output").length !== 1) faults.push("more than one live region");
    for (const link of document.querySelectorAll("a[href^='#']"))
        if (!document.getElementById(link.hash.slice(1))) faults.push(`leads nowhere: ${link.textContent}`);
    return faults;
}"""
