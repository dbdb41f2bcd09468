"""The demo's page in a real browser: each panel shows what it promises, and the console stays empty."""

from __future__ import annotations

import base64
import gzip
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import SCREENSHOTS, Open, Shoot
from trioflow import demo as demo_package

pytestmark = pytest.mark.needs("chromium")

MEDIA = Path(demo_package.__file__).parent / "media"


def mebibytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"B": 2**-20, "KiB": 2**-10, "MiB": 1, "GiB": 1024}[unit]


def panel(page: Page, name: str) -> Locator:
    found = page.locator(f"#{name}")
    found.scroll_into_view_if_needed()
    return found


def wait_for(page: Page, script: str, *, seconds: float = 60) -> None:
    """Wait until a script returns true. Playwright's own waiting would need a policy that allows `eval`."""
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it did not come to {script}")


def test_the_page_opens_with_the_source_of_every_handler(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    sources = page.locator("pre[data-source]")

    expect(sources).to_have_count(7)
    for i in range(7):
        expect(sources.nth(i)).to_contain_text("async def ")
    expect(page.locator("#memory")).to_contain_text("MiB")
    expect(page.locator("nav a")).to_have_count(7)
    shoot(page, "page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(open_demo: Open, shoot: Shoot, scheme: str) -> None:
    page = open_demo(
        viewport={"width": 375, "height": 720},
        color_scheme=scheme,
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
    )
    expect(page.locator("pre[data-source]").last).to_contain_text("async def ")

    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    darkness = max(map(int, re.findall(r"\d+", ground)[:3]))
    assert (darkness < 60) is (scheme == "dark")
    page.tap("#slow-toggle")
    wait_for(page, "document.querySelector('.gauge')?.ariaValueNow > 60")
    page.evaluate("document.getElementById('slow').scrollIntoView()")
    shoot(page, f"phone-{scheme}")


def test_everything_can_be_reached_and_used_by_keyboard(open_demo: Open) -> None:
    page = open_demo()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.innerText"))

    controls = {"clients", "Pipe it", "size", "pause", "picture-start", "clip", "melody", "slow-toggle", "pace"}
    controls |= {
        "upload-file",
        "upload-made",
        "echo-hex",
        "change-line",
        "change-file",
        "feed-toggle",
        "list-start",
        "list",
    }
    assert controls <= reached
    page.focus("#slow-toggle")
    page.keyboard.press("Enter")
    expect(page.locator("#slow-toggle")).to_have_text("Stop")
    page.focus("#pace")
    page.keyboard.press("End")
    expect(page.locator("#pace-shown")).to_have_text("120")


def test_a_file_read_whole_costs_memory_for_each_client_and_a_piped_one_does_not(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    whole = panel(page, "whole")
    page.fill("#clients", "20")

    for how in ("whole", "piped"):
        whole.locator(f"[data-crowd={how}]").click()
        expect(whole.locator(f"tr:has(.{how}) td").nth(2)).to_have_text(re.compile(r"\d s"))
        expect(whole.locator(f"[data-crowd={how}]")).to_be_enabled()

    grew = {how: mebibytes(whole.locator(f"tr:has(.{how}) .measure").inner_text()) for how in ("whole", "piped")}
    assert grew["whole"] > 100
    assert grew["piped"] < 60
    page.set_viewport_size({"width": 1280, "height": 620})
    page.mouse.wheel(0, 400)
    page.wait_for_timeout(200)  # a beat, which draws the curve at its new place
    shoot(page, "whole")


@pytest.mark.parametrize("wrong", ["0", "51", "", "1.5"])
def test_an_invalid_number_of_clients_is_reported(open_demo: Open, wrong: str) -> None:
    page = open_demo()
    whole = panel(page, "whole")
    page.fill("#clients", wrong)
    whole.locator("[data-crowd=piped]").click()

    expect(whole.locator(".wrong")).to_have_text("clients must be a whole number from 1 to 50")
    expect(page.locator("#clients")).to_have_attribute("aria-invalid", "true")
    whole.locator("[data-clients='1']").click()
    expect(whole.locator(".wrong")).to_be_empty()


def test_the_picture_grows_chunk_by_chunk(open_demo: Open, shoot: Shoot, browser: Browser) -> None:
    page, reader = open_demo(), browser.new_page()
    page.evaluate("document.getElementById('pause').value = 50")  # slow enough for the checks below
    frame = panel(page, "picture").locator(".frame")
    total = (MEDIA / "picture.webp").stat().st_size
    bytes_, parts = [0], [0.0]
    while len(set(parts)) < 4:
        bytes_.append(int(page.locator("#picture-bytes").inner_text().replace(",", "")))
        parts.append(reader.evaluate(PAINTED, base64.b64encode(frame.screenshot()).decode()))
        if parts[-1] > 0.3 >= parts[-2]:
            shoot(page, "picture", page.locator("#picture"))
        assert len(parts) < 100
    page.fill("#pause", "0")
    expect(page.locator("#picture-chunks")).to_have_text(str(-(-total // 1000)))
    wait_for(page, "document.getElementById('picture-shown').complete")

    assert bytes_ == sorted(bytes_)
    assert parts == sorted(parts)
    assert parts[-2] < 1  # part of the picture, while the rest was still to come
    assert reader.evaluate(PAINTED, base64.b64encode(frame.screenshot()).decode()) == 1
    reader.close()


# The painted part of the frame's height, near its left edge: without the picture there is a light pattern.
PAINTED = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const pen = new OffscreenCanvas(image.width, image.height).getContext("2d");
    pen.drawImage(image, 0, 0);
    let row = 10;
    while (row < image.height - 10 && pen.getImageData(40, row, 1, 1).data[2] < 200) row++;
    return row > 10 ? row / (image.height - 10) : 0;
}"""


def test_sliders_change_the_chunks_of_the_picture(open_demo: Open) -> None:
    page = open_demo()
    panel(page, "picture")
    wait_for(page, "document.getElementById('picture-shown').complete && document.getElementById('picture-shown').src")
    page.focus("#size")
    page.keyboard.press("End")

    expect(page.locator("#size-shown")).to_have_text("16,000")
    total = (MEDIA / "picture.webp").stat().st_size
    expect(page.locator("#picture-chunks")).to_have_text(str(-(-total // 16000)))


def test_the_melody_plays_and_the_clip_seeks_by_ranges(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    media = panel(page, "media")
    wait_for(
        page, "document.getElementById('clip').readyState >= 1 && document.getElementById('melody').readyState >= 1"
    )

    assert page.evaluate("document.getElementById('melody').duration") == pytest.approx(23.2, abs=0.5)
    page.evaluate("document.getElementById('melody').play()")
    wait_for(page, "document.getElementById('melody').currentTime > 0.5")
    page.evaluate("document.getElementById('melody').pause()")
    page.evaluate("document.getElementById('clip').play()")
    wait_for(page, "document.getElementById('clip').currentTime > 0.5")
    assert page.evaluate("document.getElementById('clip').videoWidth") == 640
    page.evaluate("document.getElementById('clip').currentTime = 21")
    wait_for(page, "document.getElementById('clip').currentTime > 21.3 && !document.getElementById('clip').seeking")
    rows = media.locator("#ranges tr")
    expect(rows.filter(has_text="melody.mp3").first).to_contain_text("206 bytes 0-")
    ranges = rows.filter(has_text="clip.mp4").all_inner_texts()
    page.evaluate("document.getElementById('clip').pause()")
    shoot(page, "media", media)

    assert len(ranges) >= 2
    assert all(re.search(r"bytes=\d+-.*206 bytes \d+-", each, re.DOTALL) for each in ranges)


def test_a_slow_reader_stops_the_source_and_a_fast_one_does_not(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    slow = panel(page, "slow")
    page.click("#slow-toggle")

    expect(page.locator("#slow-verdict")).to_contain_text("the source has stopped")
    expect(slow.locator(".channel.full")).to_have_count(2)
    expect(slow.locator(".task").first).to_contain_text("waits for its reader")
    expect(slow.locator(".task.slowest")).to_contain_text("slowly")
    shoot(page, "slow", slow)
    page.focus("#pace")
    page.keyboard.press("End")
    expect(page.locator("#slow-verdict")).to_contain_text("there is room")
    expect(slow.locator(".gauge").nth(1)).to_have_attribute("aria-valuenow", "0")
    expect(slow.locator(".task").last).to_contain_text("waits for its source")
    page.keyboard.press("Home")
    expect(page.locator("#slow-verdict")).to_contain_text("the source has stopped")
    page.click("#slow-toggle")
    expect(page.locator("#slow-verdict")).to_contain_text("the reader has left")


def test_an_upload_is_hashed_and_memory_stays_flat(open_demo: Open, shoot: Shoot, tmp_path: Path) -> None:
    page = open_demo()
    body = panel(page, "body")
    before = mebibytes(page.locator("#memory").inner_text())
    page.click("#upload-made")
    expect(page.locator("#upload-verdict")).to_have_text(
        "64.0 MiB written to disk; this browser computes the same digest", timeout=60_000
    )

    assert mebibytes(page.locator("#memory").inner_text()) - before < 40
    file = tmp_path / "a file.txt"
    file.write_bytes(b"abc")
    page.set_input_files("#upload-file", file)
    expect(page.locator("#upload-verdict")).to_contain_text("3 B written to disk")
    expect(page.locator("#upload-digest")).to_have_text(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    expect(body.locator(".wrong")).to_be_empty()
    shoot(page, "upload", body)


def test_a_body_that_is_not_utf_8_is_answered_with_400_and_a_message(open_demo: Open) -> None:
    page = open_demo(expected=r"status of 400 \(Bad Request\) \(http\S+/echo\)")
    panel(page, "body")
    page.click("#echo-form button")

    back = page.locator("#echo-back")
    expect(back).to_have_text("400: the body is not valid UTF-8: invalid continuation byte, byte 0xc3")
    page.fill("#echo-hex", "0x68 c3 a9")
    page.keyboard.press("Enter")
    expect(back).to_have_text("200: hé")


@pytest.mark.parametrize(
    ("bytes_", "told"), [("", "enter at least one"), ("xy", "0 to 9 and a to f"), ("c3 2", "a digit is missing")]
)
def test_a_hex_text_that_is_not_bytes_is_reported(open_demo: Open, bytes_: str, told: str) -> None:
    page = open_demo()
    body = panel(page, "body")
    page.fill("#echo-hex", bytes_)
    page.click("#echo-form button")

    expect(body.locator(".wrong")).to_contain_text(told)


def test_lines_are_returned_as_they_are_typed(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    change = panel(page, "change")
    back = page.locator("#change-back")
    for line in ("one", "two", "three"):
        page.fill("#change-line", line)
        page.keyboard.press("Enter")
        expect(back).to_contain_text(line.upper())  # while the response continues
    page.check("[value=numbers]")
    for line in ("a slow reader", "slows its source"):
        page.fill("#change-line", line)
        page.keyboard.press("Enter")
    expect(back).to_have_text("    1  a slow reader\n    2  slows its source\n")
    shoot(page, "change", change)
    page.click("#change-end")
    expect(page.locator("#change-end")).to_be_disabled()
    page.fill("#change-line", "")
    page.keyboard.press("Enter")

    expect(change.locator(".wrong")).to_have_text("the line is empty; type one")


def test_a_file_is_compressed_and_can_be_saved(open_demo: Open, tmp_path: Path) -> None:
    page = open_demo()
    change = panel(page, "change")
    content = b"".join(b"%06d: the same again\n" % i for i in range(200_000))
    file = tmp_path / "log.txt"
    file.write_bytes(content)
    page.check("[value=gzip]")
    page.set_input_files("#change-file", file)
    with page.expect_download() as download:
        page.click("#change-save")

    assert gzip.decompress(download.value.path().read_bytes()) == content
    expect(change.locator("#change-sent")).to_have_text(f"{len(content) / 2**20:.1f} MiB")


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(open_demo: Open, tmp_path: Path) -> None:
    page = open_demo()
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(3 << 29)  # a hole, which takes no space on disk
    page.set_input_files("#upload-file", file)
    page.set_input_files("#change-file", file)

    expect(page.locator("#body .wrong")).to_have_text("the file has 1.5 GiB; the server accepts at most 1.0 GiB")
    expect(page.locator("#change .wrong")).to_have_text("the file has 1.5 GiB; this page keeps at most 256.0 MiB")


def test_a_dropped_file_is_returned_and_one_that_is_not_text_is_refused(open_demo: Open) -> None:
    page = open_demo()
    panel(page, "change")
    drop = """([bytes]) => {
        const transfer = new DataTransfer();
        if (bytes) transfer.items.add(new File([Uint8Array.from(bytes)], "dropped"));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [list(b"dropped\ntext")])
    expect(page.locator("#change-back")).to_have_text("DROPPED\nTEXT\n")
    page.evaluate(drop, [[255, 254, 10]])
    expect(page.locator("#change-back")).to_contain_text("THIS IS NOT UTF-8 TEXT")
    page.evaluate(drop, [None])
    expect(page.locator("#change .wrong")).to_have_text("that is not a file; drop a file")


def test_leaving_a_feed_stops_its_source_at_once(open_demo: Open, shoot: Shoot) -> None:
    page = open_demo()
    feed = panel(page, "feed")
    page.click("#feed-toggle")
    row = page.locator("#sources tr").filter(has_text="feed")

    expect(page.locator("#level")).to_have_text(re.compile(r"\d\.\d\d"))
    expect(row).to_contain_text("running")
    wait_for(page, "Number(document.querySelector('#sources td:nth-child(2)').textContent) > 4")
    page.click("#feed-toggle")
    expect(row).to_contain_text("stopped")
    made = row.locator("td").nth(1).inner_text()
    page.click("#list-form button")
    expect(page.locator("#list li")).to_have_count(20)
    page.click("#feed-toggle")
    wait_for(page, "document.querySelectorAll('#sources tr').length > 2")
    if SCREENSHOTS:
        page.wait_for_timeout(12_000)  # for a curve worth a picture
    shoot(page, "feed", feed)

    assert row.last.locator("td").nth(1).inner_text() == made  # the source made no more


# All entries of a part arrive within a second, in which a busy machine might not click.
LEAVE = """() => new MutationObserver((_, observer) => {
    if (document.querySelectorAll("#list li").length > 42) {
        observer.disconnect();
        document.getElementById("list-leave").click();
    }
}).observe(document.getElementById("list"), { childList: true })"""


def test_the_list_grows_while_the_user_scrolls_until_the_page_is_left(open_demo: Open) -> None:
    page = open_demo()
    panel(page, "feed")
    page.click("#list-form button")
    entries = page.locator("#list li")
    expect(entries).to_have_count(20)
    expect(entries.nth(10)).to_have_text("12 = 2 · 2 · 3")

    page.evaluate("document.getElementById('list').scrollTop = 1e6")
    expect(entries).to_have_count(40)
    page.evaluate(LEAVE)
    page.evaluate("document.getElementById('list').scrollTop = 1e6")
    left = page.locator("#sources tr").first
    expect(left).to_contain_text("list from 42")
    expect(left).to_contain_text("stopped")
    assert int(left.locator("td").nth(1).inner_text()) < 20
    page.fill("#list-start", "1000001")
    page.click("#list-form button")
    expect(page.locator("#feed .wrong")).to_have_text("start must be a whole number from 2 to 1,000,000")


def test_closing_the_page_ends_everything_that_it_had_started(open_demo: Open, demo: str) -> None:
    page = open_demo()
    page.click("#feed-toggle")
    page.click("#slow-toggle")
    page.click("#list-form button")
    wait_for(page, "document.querySelector('.gauge')?.ariaValueNow > 15")
    assert len(connections(demo)) > 2

    page.context.close()
    for _ in range(600):  # 30 seconds, in which the server closes no connection for being idle
        if not connections(demo):
            break
        time.sleep(0.05)

    assert connections(demo) == []


def connections(url: str) -> list[str]:
    """Return the addresses of the clients that are connected to the server."""
    port = f":{int(url.rpartition(':')[2].strip('/')):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [client for _, server, client, state, *_ in rows if server.endswith(port) and state == "01"]
