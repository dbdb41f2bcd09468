"""Valid requests, mutated and cut anywhere: nothing fails or hangs, and every chunking gives the same result."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.http.client import connected, read_all, serving
from trioflow.http import Limits, Request, RequestError, Response

HOST = b"Host: localhost\r\n"
SEEDS = [
    b"GET /a/b?c=d HTTP/1.1\r\n" + HOST + b"Accept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    b"HEAD http://localhost:80/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 11\r\n\r\nhello\r\n\r\nyou",
    b"PUT /%7Ea HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
]
TELLING = [
    b"\r\n", b"\r", b"\n", b" ", b"\t", b"\x00", b":", b",", b";", b"/", b"\x80", b"0", b"-", b"HTTP/1.1", b"\r\n\r\n", b"GET / ",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", HOST, b"\r\n ", b"chunked", b"x" * 300, b"A: b\r\n" * 12,
]  # fmt: skip
ALLOWED = {100, 200, 400, 405, 408, 413, 414, 417, 431, 501, 505}
# An unread body is drained up to a limit: whether it has arrived whole when its request ends depends on timing.
LIMITS = Limits(line_size=200, head_size=600, head_count=10, body_size=5000, extension_size=100, linger=1)

logging.getLogger("trioflow.http").addHandler(logging.NullHandler())


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Draw pipelined requests with a few mutations."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        span = draw(st.integers(0, 12))
        match draw(st.sampled_from(["insert", "replace", "delete", "repeat", "byte"])):
            case "insert":
                data[at:at] = draw(st.sampled_from(TELLING))
            case "replace":
                data[at : at + span] = draw(st.sampled_from(TELLING))
            case "delete":
                del data[at : at + span]
            case "repeat":
                data[at:at] = data[at : at + span]
            case _:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(data) or b"\r\n"


GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Told(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def converse(data: bytes, cuts: list[int], *, reads: bool) -> tuple[list[Any], bytes]:
    """Send `data`, cut at `cuts`; return what the handler received, and what the client did."""
    heard: list[Any] = []

    async def handler(request: Request, response: Response) -> None:
        heard.append((request.method, request.path, request.query, sorted(request.headers.items())))
        if reads:
            try:
                heard.append(await request.body.pipe(tf.join()))
            except RequestError as exc:
                heard.append(exc.status)
                raise
        await response.send(b"ok")

    with trio.fail_after(60):
        async with serving(handler, limits=LIMITS) as port, connected(port) as stream:
            try:
                for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    await stream.send_all(data[start:stop])
                    await trio.testing.wait_all_tasks_blocked()
                await stream.send_eof()
            except trio.BrokenResourceError:
                pass
            return heard, await read_all(stream)


def statuses(answers: bytes) -> set[int]:
    return {int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)}  # the data may have it too


@pytest.mark.slow
@settings(max_examples=150)
@given(conversations(), st.booleans(), st.data())
def test_any_input_is_answered_and_in_the_same_way_for_any_chunking(
    data: bytes, reads: bool, more: st.DataObject
) -> None:
    cuts = more.draw(st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=8, unique=True).map(sorted), label="cuts")
    told = Told()
    logger = logging.getLogger("trioflow.http")
    logger.addHandler(told)
    try:
        whole = trio.run(lambda: converse(data, [], reads=reads))
        cut = trio.run(lambda: converse(data, [at for at in cuts if at < len(data)], reads=reads))
    finally:
        logger.removeHandler(told)

    assert told.records == []
    assert statuses(whole[1]) <= ALLOWED
    # A client that waits gets 100 Continue; whether it still waits depends on timing.
    cut_heard, cut_answers, whole_answers = cut[0], *(answers.replace(GO_ON, b"") for answers in (cut[1], whole[1]))
    if not reads and b"Expect: 100-continue" in data and cut_answers != whole_answers:
        # Nor does its body have to arrive if nobody reads it: then the connection ends there (RFC 9110, 10.1.1).
        assert cut_answers.count(b"Connection: close\r\n") == 1
        cut_answers = cut_answers.replace(b"Connection: close\r\n", b"")
        whole_answers = whole_answers[: len(cut_answers)]
        whole[0][len(cut_heard) :] = []
    assert cut_heard == whole[0]
    assert cut_answers == whole_answers


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_random_bytes_are_refused_or_more_is_awaited(data: bytes, step: int) -> None:
    heard, answer = trio.run(lambda: converse(data, list(range(step, len(data), step)), reads=True))

    assert heard == []
    assert answer == b"" or statuses(answer) <= ALLOWED - {100, 200}
