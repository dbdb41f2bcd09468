"""What Chromium does with a file on a click: text is shown, other files are downloaded, and no type is guessed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

TEXTS = ["LICENSE", "main.rs", "module.cjs", "notes.ipynb", "Makefile", "page"]
BINARIES = {
    "archive.7z": "application/x-7z-compressed",
    "model.glb": "model/gltf-binary",
    "data": "application/octet-stream",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("root")
    for name in TEXTS:
        (root / name).write_text('{"text": "<script>document.title = 1</script> naïve"}', encoding="utf-8")
    for name in BINARIES:
        (root / name).write_bytes(bytes(range(256)))
    command = [sys.executable, "-m", "trioflow", "serve", root, "0", "--log", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found.group()
        process.terminate()
    assert process.returncode == 0


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_a_text_file_is_shown_whatever_its_name_and_its_markup_is_not_rendered(page: Page, url: str) -> None:
    for name in TEXTS:
        page.goto(url)
        page.click(f"text={name}")
        page.wait_for_url(f"**/{name}")

        assert "<script>document.title = 1</script> naïve" in page.inner_text("body"), name
        assert page.title() != "1"


def test_a_file_that_is_not_text_is_downloaded_under_its_name(page: Page, url: str) -> None:
    page.goto(url)
    for name, kind in BINARIES.items():
        with page.expect_download() as download:
            page.click(f"text={name}")

        assert download.value.suggested_filename == name
        assert page.request.get(f"{url}/{name}").headers["content-type"] == kind
