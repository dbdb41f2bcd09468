"""Compressed request bodies: passed on unchanged, or inflated within a limit."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.http.client import exchanged, serving
from trioflow import http
from trioflow.http import Request, Response

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = gzip.compress(b"hello", mtime=0)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
BOMB = gzip.compress(bytes(1 << 22), mtime=0)


async def sent(body: bytes, encoding: str | None, **options: Any) -> bytes | int:
    """Return what a handler read from a body, or the status with which it was refused."""

    async def handler(request: Request, response: Response) -> None:
        await response.send(await http.decoded(request, **options).pipe(tf.join()))

    field = "" if encoding is None else f"Content-Encoding: {encoding}\r\n"
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with serving(handler) as port:
        with trio.fail_after(60):
            answer = await exchanged(port, head.encode() + body, half_close=False)
    status = int(answer.split(b" ")[1])
    return answer.partition(b"\r\n\r\n")[2] if status == 200 else status


@pytest.mark.parametrize(
    ("body", "encoding", "options", "got"),
    [
        (b"hello", None, {}, b"hello"),
        (b"hello", "identity", {"max_size": 5}, b"hello"),
        (b"hello", "identity", {"max_size": 4}, 413),
        (b"", None, {}, b""),
        (PACKED, "gzip", {}, b"hello"),
        (PACKED, "X-GZIP", {"max_size": 5}, b"hello"),
        (PACKED, "gzip", {"max_size": 4}, 413),
        (BOMB, "gzip", {"max_size": 1 << 20}, 413),
        (b"hello", "gzip", {}, 400),
        (b"", "gzip", {}, 400),
        (PACKED[:-1], "gzip", {}, 400),
        (PACKED + b"x", "gzip", {}, 400),
        (PACKED, "gzip, gzip", {}, 415),
        (PACKED, "zork", {}, 415),
        *[(pack(b"hello"), coding, {}, b"hello") for coding, pack in PACKERS.items()],
        *[(pack(b"hello"), coding.upper(), {"max_size": 5}, b"hello") for coding, pack in PACKERS.items()],
        *[(pack(b"hello"), coding, {"max_size": 4}, 413) for coding, pack in PACKERS.items()],
        *[(pack(bytes(1 << 22)), coding, {"max_size": 1 << 20}, 413) for coding, pack in PACKERS.items()],
        *[(b"hello", coding, {}, 400) for coding in PACKERS],
        *[(b"", coding, {}, 400) for coding in PACKERS],
        *[(pack(b"hello" * 100)[:-1], coding, {}, 400) for coding, pack in PACKERS.items()],
        *[(pack(b"hello") + b"x", coding, {}, 400) for coding, pack in PACKERS.items()],
    ],
)
async def test_a_body_is_inflated_or_refused(
    body: bytes, encoding: str | None, options: dict[str, Any], got: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert await sent(body, encoding, **options) == got
    assert caplog.records == []


@pytest.mark.parametrize(
    ("coding", "module"), [("br", "brotli"), ("zstd", "backports.zstd"), ("zstd", "compression.zstd")]
)
async def test_a_coding_whose_library_is_missing_is_refused(
    coding: str, module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = PACKERS[coding](b"hello")
    has_it = await sent(body, coding) == b"hello"
    monkeypatch.setitem(sys.modules, module, None)

    assert has_it
    assert await sent(body, coding) == (415 if module in ("brotli", zstd.__name__) else b"hello")
    assert caplog.records == []


@settings(max_examples=30)
@given(st.binary(max_size=5000), st.sampled_from(["gzip", *PACKERS]))
async def test_a_compressed_body_is_decompressed(body: bytes, coding: str) -> None:
    assert await sent({"gzip": gzip.compress, **PACKERS}[coding](body), coding) == body


async def test_decompression_is_off_by_default() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(await request.body.pipe(tf.join()))

    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {len(PACKED)}\r\n\r\n"
    async with serving(handler) as port:
        answer = await exchanged(port, head.encode() + PACKED)

    assert answer.endswith(PACKED)


@pytest.mark.parametrize("max_size", [0, 1.5, "1"])
async def test_R1_a_wrong_limit_is_refused_at_once(max_size: Any) -> None:
    told = []

    async def handler(request: Request, response: Response) -> None:
        with pytest.raises((TypeError, ValueError), match="max_size must be"):
            http.decoded(request, max_size=max_size)
        decoded: Any = http.decoded
        with pytest.raises(TypeError, match="decoded: request must be a Request, got None"):
            decoded(None)
        told.append(1)

    async with serving(handler) as port:
        await exchanged(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert told == [1]
