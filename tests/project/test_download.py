"""examples/download.py: it resumes only if the rest is certainly of the same file, and otherwise fails."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

import trioflow as tf

EXAMPLE = Path(__file__).parents[2] / "examples" / "download.py"
OLD = bytes(range(256)) * 500
NEW = OLD[::-1]


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(trio, "run", lambda main: None)
        return runpy.run_path(str(EXAMPLE))["download"]


class Server:
    """Acts as a server whose responses break off after `size` bytes, for the first `breaks` requests."""

    def __init__(self, *, size: int = 50_000, breaks: int = 1, etags: tuple[str, str] = ('"1"', '"1"')) -> None:
        self._size, self._breaks, self._etags = size, breaks, etags
        self.serves_ranges = True
        self.asked: list[str] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("range", "")
        self.asked.append(asked)
        etag = self._etags[len(self.asked) > 1]
        content = OLD if etag == self._etags[0] else NEW
        start = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
        headers = {"etag": etag} if etag else {}
        if start and self.serves_ranges and request.headers["if-range"] == etag:
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return httpx.Response(206, headers=headers, content=self._body(content[start:]))
        return httpx.Response(200, headers=headers, content=self._body(content))

    async def _body(self, content: bytes) -> AsyncIterator[bytes]:
        breaks = len(self.asked) <= self._breaks
        end = self._size if breaks else len(content)
        for at in range(0, end, 8000):
            await trio.lowlevel.checkpoint()
            yield content[at : min(at + 8000, end)]
        if breaks:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))


async def test_a_download_interrupted_three_times_is_complete(
    download: Callable[..., tf.Readable[bytes]], tmp_path: Path, autojump_clock: MockClock
) -> None:
    server = Server(size=40_001, breaks=3)
    async with server.client() as client:
        await download(client, "http://server/file").pipe(tf.write_file(tmp_path / "copy"))

    assert await tf.read_file(tmp_path / "copy").pipe(tf.join()) == OLD
    assert server.asked == ["", "bytes=40001-", "bytes=80002-", "bytes=120003-"]


@pytest.mark.parametrize(
    ("etags", "serves_ranges", "complaint"),
    [
        (('"1"', '"2"'), True, "the file has changed"),
        (('"1"', '"1"'), False, "serves no ranges"),
        (("", ""), True, "sent no strong ETag"),
        (('W/"1"', 'W/"1"'), True, "sent no strong ETag"),
    ],
)
async def test_a_download_that_could_mix_two_versions_fails_and_keeps_the_old_file(
    download: Callable[..., tf.Readable[bytes]],
    tmp_path: Path,
    autojump_clock: MockClock,
    etags: tuple[str, str],
    serves_ranges: bool,
    complaint: str,
) -> None:
    await tf.from_iterable(b"before").pipe(tf.write_file(tmp_path / "copy"))
    server = Server(etags=etags)
    server.serves_ranges = serves_ranges
    async with server.client() as client:
        with pytest.raises(ValueError, match=complaint):
            await download(client, "http://server/file").pipe(tf.write_file(tmp_path / "copy"))

    assert await tf.read_file(tmp_path / "copy").pipe(tf.join()) == b"before"
    assert len(list(await trio.Path(tmp_path).iterdir())) == 1


async def test_a_download_interrupted_before_its_first_byte_requests_the_whole_file_again(
    download: Callable[..., tf.Readable[bytes]], tmp_path: Path, autojump_clock: MockClock
) -> None:
    server = Server(size=0, breaks=2, etags=("", ""))
    async with server.client() as client:
        await download(client, "http://server/file").pipe(tf.write_file(tmp_path / "copy"))

    assert await tf.read_file(tmp_path / "copy").pipe(tf.join()) == OLD
    assert server.asked == ["", "", ""]
