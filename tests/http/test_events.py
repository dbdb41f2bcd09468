"""Server-sent events: encoded, kept alive, and read as a browser reads them."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source
from tests.http.client import connected, exchanged, read_until, reset, serving
from trioflow import http
from trioflow.http import Event, Request, Response, events

LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)


def understood(stream: bytes) -> list[tuple[str, str, str]]:
    """Parse a stream by section 9.2.6 of the HTML standard: return type, data and last id of each message."""
    found: list[tuple[str, str, str]] = []
    kind, data, last_id = "", "", ""
    for line in re.split("\r\n|\r|\n", stream.decode())[:-1]:
        if not line:
            if data:
                found.append((kind or "message", data.removesuffix("\n"), last_id))
            kind, data = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                kind = value
            case "data":
                data += value + "\n"
            case "id":
                last_id = value
            case _:
                pass
    return found


async def encoded(*items: Any) -> bytes:
    joined: bytes = await tf.from_iterable(items).pipe(events()).pipe(tf.join())
    return joined


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (Event("a"), b"data: a\n\n"),
        (Event(""), b"data: \n\n"),
        (Event(" a"), b"data:  a\n\n"),
        (Event("a\nb\r\nc\rd\n"), b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (Event("a\x0b\u2028b"), "data: a\x0b\u2028b\n\n".encode()),
        (Event("a", event="tick", id="ä", retry=1.5), "event: tick\nid: ä\nretry: 1500\ndata: a\n\n".encode()),
        (Event(id=""), b"id: \n\n"),
        (Event(retry=0), b"retry: 0\n\n"),
    ],
)
def test_an_event_is_encoded_field_by_field(event: Event, sent: bytes) -> None:
    assert event.encode() == sent


@settings(max_examples=60)
@given(st.lists(st.tuples(LINE, st.lists(LINE, min_size=1, max_size=3).map("\n".join), LINE), max_size=4))
async def test_a_client_understands_the_events_that_were_sent(messages: list[tuple[str, str, str]]) -> None:
    feed = [Event(data, event=kind or None, id=last) for kind, data, last in messages]

    assert understood(await encoded(*feed)) == [(kind or "message", data, last) for kind, data, last in messages]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"data": b"x"}, "Event: data must be a str, got b'x'"),
        ({"event": 5}, "Event: event must be a str, got 5"),
        ({"event": "a\nb"}, "Event: event must not contain a line end"),
        ({"id": "a\rb"}, "Event: id must not contain a line end"),
        ({"id": "a\0b"}, "Event: id must not contain a NUL"),
        ({"retry": "5"}, "retry must be a number, got '5'"),
        ({"retry": -1}, "retry must be 0 or more, got -1"),
        ({"retry": math.nan}, "retry must be 0 or more, got nan"),
        ({"retry": math.inf}, "Event: retry must be finite, got inf"),
    ],
)
def test_R1_an_event_that_no_client_could_read_is_refused_when_it_is_built(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        Event(**arguments)


@pytest.mark.parametrize(
    ("keep_alive", "complaint"), [(0, "keep_alive must be above 0, got 0"), ("5", "keep_alive must be a number")]
)
def test_R1_a_wrong_quiet_time_is_refused(keep_alive: Any, complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        events(keep_alive=keep_alive)


async def test_an_item_that_is_not_an_event_is_refused() -> None:
    with pytest.raises(TypeError, match="events: each item must be an Event or a str, got bytes"):
        await encoded("a", b"b")


async def test_events_that_arrive_together_are_sent_together() -> None:
    chunks = await tf.from_iterable(["a", "b"]).pipe(events()).pipe(tf.collect())

    assert chunks == [b"data: a\n\ndata: b\n\n"]


async def test_R7_a_quiet_source_sends_a_comment_after_each_quiet_period(autojump_clock: MockClock) -> None:
    @tf.readable
    async def slow() -> AsyncIterator[str]:
        await trio.sleep(25)
        yield "a"
        await trio.sleep(14)
        yield "b"
        await trio.sleep(11)

    seen = []
    async with slow().pipe(events(keep_alive=10)).open() as chunks:
        async for chunk in chunks:
            seen.append((trio.current_time(), chunk))

    began = seen[0][0] - 10
    assert [(round(at - began), chunk) for at, chunk in seen] == [
        (10, b":\n\n"),
        (20, b":\n\n"),
        (25, b"data: a\n\n"),
        (35, b":\n\n"),
        (39, b"data: b\n\n"),
        (49, b":\n\n"),
    ]


async def test_R6_comments_do_not_pile_up_for_a_slow_reader(autojump_clock: MockClock) -> None:
    async with Source(["a"], then=None).readable.pipe(events(keep_alive=1)).open(capacity=1) as chunks:
        await trio.sleep(60)
        held = chunks.statistics().used

    assert held == 1


async def test_an_event_that_waits_for_a_slow_reader_is_sent_once_even_after_the_keep_alive_interval(
    autojump_clock: MockClock,
) -> None:
    send, receive = tf.open_channel[str]()
    async with send, tf.from_iterable(receive).pipe(events(keep_alive=10)).open(capacity=1) as chunks:
        for text in "abc":
            await send.send(text)
            await trio.sleep(1)
        await trio.sleep(32)
        got = [await chunks.receive() for _ in "abc"]
        began = trio.current_time()
        comment = await chunks.receive()

    assert got == [b"data: a\n\n", b"data: b\n\n", b"data: c\n\n"]
    assert (comment, round(trio.current_time() - began)) == (b":\n\n", 10)


async def test_R12_a_failing_source_fails_the_stream() -> None:
    with pytest.raises(Boom):
        await Source(["a"], then=Boom()).readable.pipe(events()).pipe(tf.collect())


async def test_a_client_continues_after_its_last_event_id() -> None:
    seen: list[str | None] = []

    async def handler(request: Request, response: Response) -> None:
        seen.append(http.last_event_id(request))
        response.headers["content-type"] = "text/event-stream"
        await tf.from_iterable([Event("x", id="é")]).pipe(events()).pipe(response)

    async with serving(handler) as port:
        for field in (b"", b"Last-Event-ID: \xc3\xa9\r\n", b"Last-Event-ID:\r\n", b"Last-Event-ID: \xff\r\n"):
            answer = await exchanged(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + field + b"\r\n")
            assert understood(answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1]) == [("message", "x", "é")]

    assert seen == [None, "é", None, "\ufffd"]


async def test_R9_a_client_that_leaves_ends_the_feed() -> None:
    source = Source(["a"], then=None)

    async def handler(request: Request, response: Response) -> None:
        await source.readable.pipe(events()).pipe(response)

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"data: a" in await read_until(stream, b"\n\n\r\n")
        reset(stream)
        with trio.fail_after(60):
            while not source.ended:
                await wait_all_tasks_blocked()

        assert source.ended == 1


@pytest.mark.needs("curl")
async def test_curl_gets_each_event_as_it_is_sent() -> None:
    send, receive = tf.open_channel[str](capacity=1)

    async def handler(request: Request, response: Response) -> None:
        response.headers["content-type"] = "text/event-stream"
        await tf.from_iterable(receive).pipe(events()).pipe(response)

    async with serving(handler) as port, trio.open_nursery() as nursery:
        command = ["curl", "-sN", "-m", "60", f"http://127.0.0.1:{port}/"]
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE))
        with trio.fail_after(60):
            for item in ("one", "two"):
                await send.send(item)
                got = await read_until(process.stdout, b"\n\n")
                assert got == f"data: {item}\n\n".encode()
            send.close()
            assert await process.stdout.receive_some() == b""
