"""Media players, which request the ranges they need, leave in the middle, and come back for more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from playwright.sync_api import sync_playwright

from tests.http.client import ran, served
from trioflow import http


async def made(path: Path, *how: str | Path) -> int:
    """Make a file with ffmpeg, and return its size."""
    await ran("ffmpeg", "-v", "error", *how, path)
    return (await trio.Path(path).stat()).st_size


async def film(path: Path) -> int:
    """A minute of noise, which cannot be compressed; the index is at the end."""
    picture = ("-f", "lavfi", "-i", "nullsrc=s=64x64:r=5,geq=random(1)*255:128:128")
    index_at_end = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-b:v", "1M", "-pix_fmt", "yuv420p")
    return await made(path, *picture, "-t", "60", *index_at_end)


@pytest.mark.needs("ffmpeg", "ffprobe")
async def test_ffprobe_seeks_a_film_whose_index_is_at_its_end(tmp_path: Path) -> None:
    size = await film(tmp_path / "film.mp4")
    content = (tmp_path / "film.mp4").read_bytes()
    assert content.index(b"moov") > size * 0.9
    log: list[http.Access] = []
    async with served(tmp_path, log) as url:
        probe = ("ffprobe", "-v", "error", "-of", "csv=p=0")
        length = await ran(*probe, "-show_entries", "format=duration", f"{url}/film.mp4")
        late = await ran(
            *probe,
            "-read_intervals",
            "50%+#1",
            "-show_entries",
            "packet=pts_time",
            "-select_streams",
            "v",
            f"{url}/film.mp4",
        )

    assert float(length) == pytest.approx(60, abs=1)
    assert float(late.split(b",")[0].split()[0]) == pytest.approx(50, abs=2)
    assert {access.status for access in log} == {206}
    assert len(log) >= 5  # for each: the beginning, the index, and the packets
    assert min(access.sent for access in log) < size / 10


SEEK = """async ([kind, source, to]) => {
    const player = document.createElement(kind);
    document.body.append(player);
    const happens = (name) => new Promise((resolve, reject) => {
        player.addEventListener(name, resolve, { once: true });
        player.addEventListener("error", () => reject(new Error(player.error.message)), { once: true });
    });
    const loaded = happens("loadedmetadata");
    player.preload = "metadata";
    player.src = source;
    await loaded;
    const sought = happens("seeked");
    player.currentTime = to;
    await sought;
    return [player.duration, player.currentTime, player.seekable.end(0)];
}"""


def seek_in_chromium(url: str, media: list[tuple[str, str, float]]) -> list[list[float]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--mute-audio"])
        try:
            page = browser.new_page()
            page.goto(f"{url}/page.html")
            return [page.evaluate(SEEK, [kind, name, to]) for kind, name, to in media]
        finally:
            browser.close()


@pytest.mark.slow
@pytest.mark.needs("ffmpeg", "chromium")
async def test_chromium_seeks_audio_and_video_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>media</title>")
    tone = ("-f", "lavfi", "-i", "anoisesrc=r=44100", "-t", "60")
    sizes = {
        "/film.mp4": await film(tmp_path / "film.mp4"),
        "/tone.wav": await made(tmp_path / "tone.wav", *tone),
        "/tone.mp3": await made(tmp_path / "tone.mp3", *tone, "-b:a", "320k"),
    }
    log: list[http.Access] = []
    async with served(tmp_path, log) as url:
        media = [("video", "film.mp4", 50.0), ("audio", "tone.wav", 40.0), ("audio", "tone.mp3", 50.0)]
        seen = await trio.to_thread.run_sync(seek_in_chromium, url, media)

    for (duration, at, end), (_, _, to) in zip(seen, media, strict=True):
        assert (duration, end) == (pytest.approx(60, abs=0.5), pytest.approx(duration))
        assert at == to
    for name in sizes:
        asked = [access for access in log if access.target == name]
        assert {206} <= {access.status for access in asked} <= {206, 304}  # some of the file is in its cache
