"""Requests and responses as a handler sees them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.http.client import DATE, Client, connected, exchanged, read_until, serving
from trioflow import http
from trioflow.http import Headers, Request, RequestError, Response
from trioflow.http.wire.request_head import normalised

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def asked(handler: Any, request: bytes = GET) -> bytes:
    """Return the response to one request."""
    async with serving(handler) as port:
        return await exchanged(port, request)


# Headers.


def test_header_names_are_case_insensitive() -> None:
    headers = Headers([("Content-Type", "text/html")])

    assert headers["content-type"] == headers["CONTENT-TYPE"] == "text/html"
    assert "content-Type" in headers
    assert headers.get("x") is None
    assert 5 not in headers
    assert repr(headers) == "<Headers {'content-type': 'text/html'}>"


def test_setting_a_header_replaces_and_adding_repeats() -> None:
    headers = Headers([("a", "1"), ("b", "2")])
    headers["A"] = "3"
    headers.add("b", "4")
    headers.add("c", "5")
    del headers["a"]

    assert headers.get_all("B") == ["2", "4"]
    assert headers.get_all("a") == []
    assert headers["b"] == "2, 4"
    assert list(headers) == ["b", "c"]
    assert len(headers) == 2
    assert headers._lines() == b"B: 2\r\nB: 4\r\nC: 5\r\n"
    assert headers._lines(without="b") == b"C: 5\r\n"


def test_a_change_of_headers_appears_in_their_lines_and_not_in_those_of_a_copy() -> None:
    shared = Headers([("a", "1")])
    shared._freeze("it is shared")
    headers = Headers()
    headers.fill(shared)
    sent = [headers._lines()]
    headers.add("a", "2")
    sent.append(headers._lines())
    headers["b"] = "3"
    sent.append(headers._lines())
    del headers["a"]
    sent.append(headers._lines())
    headers.fill(shared)
    sent.append(headers._lines())

    assert sent == [
        b"A: 1\r\n",
        b"A: 1\r\nA: 2\r\n",
        b"A: 1\r\nA: 2\r\nB: 3\r\n",
        b"B: 3\r\n",
        b"B: 3\r\nA: 1\r\n",
    ]
    assert shared._lines() == b"A: 1\r\n"


def test_cookies_are_joined_and_set_cookie_lines_are_not() -> None:
    headers = Headers([("cookie", "a=1"), ("cookie", "b=2"), ("set-cookie", "c=3"), ("set-cookie", "d=4")])

    assert headers["cookie"] == "a=1; b=2"
    assert headers["set-cookie"] == "c=3"
    assert headers.get_all("set-cookie") == ["c=3", "d=4"]


@pytest.mark.parametrize(
    ("name", "shown"), [("content-type", b"Content-Type"), ("etag", b"ETag"), ("X-ODD-name", b"X-ODD-name")]
)
def test_header_names_are_sent_in_title_case_unless_they_have_capitals(name: str, shown: bytes) -> None:
    assert Headers([(name, "x")])._lines() == shown + b": x\r\n"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\0", "(a)"])
def test_a_name_that_is_invalid_in_a_header_is_refused(name: str) -> None:
    headers = Headers()
    with pytest.raises(ValueError, match="a header name may only have letters"):
        headers[name] = "x"
    with pytest.raises(ValueError, match="a header name may only have letters"):
        headers.add(name, "x")

    assert not headers


@settings(max_examples=60)
@given(st.text(max_size=20))
def test_a_value_is_sent_unchanged_or_refused(value: str) -> None:
    headers = Headers()
    try:
        headers["x"] = value
    except ValueError:
        assert any(not (char == "\t" or " " <= char <= "~" or "\x80" <= char <= "\xff") for char in value)
        assert "x" not in headers
    else:
        sent = headers._lines().removeprefix(b"X: ").removesuffix(b"\r\n")
        assert sent == value.strip(" \t").encode("latin-1")
        assert not set(sent) & {0, 10, 13}
        h11.Response(status_code=200, headers=[(b"X", sent)])


def test_a_header_that_is_not_a_str_is_refused() -> None:
    headers = Headers()
    with pytest.raises(TypeError, match="header 'content-length': the value must be a str, got 5"):
        headers["content-length"] = 5  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a header name must be a str, got b'x'"):
        headers[b"x"] = "5"  # type: ignore[index]


# Requests.


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/", "/", "/", ""),
        ("/a/b?x=1&y=%20?", "/a/b", "/a/b", "x=1&y=%20?"),
        ("/a%20b/%C3%A4", "/a b/ä", "/a%20b/%C3%A4", ""),
        ("/a//b/./c/../d/", "/a/b/d/", "/a//b/./c/../d/", ""),
        ("//evil.example/x", "/evil.example/x", "//evil.example/x", ""),
        ("/a/..", "/", "/a/..", ""),
        ("/a/b/..", "/a/", "/a/b/..", ""),
        ("http://example.org/a?b", "/a", "/a", "b"),
        ("HTTP://example.org?b", "/", "/", "b"),
        ("http://example.org", "/", "/", ""),
    ],
)
async def test_a_target_is_parsed(target: str, path: str, raw_path: str, query: str) -> None:
    seen: list[Request] = []

    async def handler(request: Request, response: Response) -> None:
        seen.append(request)

    await asked(handler, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode())

    [request] = seen
    assert (request.method, request.path, request.raw_path, request.query) == ("GET", path, raw_path, query)


@pytest.mark.parametrize("target", ["/%ff", "/a%c0%ae", "/%ed%a0%80", "/caf%e9/..%E9"])
async def test_a_path_that_is_not_utf8_is_refused_when_a_handler_reads_it(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request, response: Response) -> None:
        assert request.raw_path == target
        await response.send(request.path.encode())

    got = await asked(handler, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode())

    assert got.startswith(b"HTTP/1.1 400 ")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        ("/public/..%2fadmin", None),
        ("/public/..%2Fadmin", None),
        ("/public/%2e%2e%2fadmin", None),
        ("/public%2f../admin", None),
        ("/public/x%2f..%2f..%2fadmin", None),
        ("/public/.%2fadmin", None),
        ("/..%2f", None),
        ("/public/..%5cadmin", "/public/..\\admin"),  # one name
        ("/public/..%252fadmin", "/public/..%2fadmin"),
        ("/group%2fproject", "/group/project"),
        ("/a%2f%2fb/../c", "/a/c"),
        ("/a%2f...", "/a/..."),
    ],
)
def test_a_dot_segment_formed_by_an_encoded_slash_is_refused(raw_path: str, path: str | None) -> None:
    """A proxy that reads `..%2fadmin` as a name passes it on as a path below `/public/`."""
    if path is None:
        with pytest.raises(RequestError, match="a dot segment next to an encoded slash"):
            normalised(raw_path)
    else:
        assert normalised(raw_path) == path


async def test_options_can_address_the_whole_server() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.send(f"{request.method} {request.path}".encode())

    got = await asked(handler, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert got.endswith(b"\r\n\r\nOPTIONS *")


@given(st.text(alphabet="/.%2eFfa0\\", max_size=30).map(lambda text: "/" + text))
def test_a_path_is_normalised_or_refused(raw_path: str) -> None:
    try:
        path = normalised(raw_path)
    except RequestError:
        assert "%" in raw_path or "/.." in raw_path
        return

    segments = path[1:].split("/")
    assert path.startswith("/")
    assert not {".", ".."} & set(segments)
    assert "" not in segments[:-1]
    assert "\0" not in path


async def test_a_request_shows_its_client_and_its_headers() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert request.client[0] == "127.0.0.1"
        assert request.headers["x-one"] == "ä"
        assert request.headers.get_all("x-two") == ["2", "3"]
        assert request.headers is request.headers
        assert request.body is request.body
        assert repr(request) == "<Request GET /x?y>"
        with pytest.raises(RuntimeError, match="a request's headers are read-only"):
            request.headers["x-one"] = "2"
        await response.send(b"ok")

    request = b"GET /x?y HTTP/1.1\r\nHost: localhost\r\nX-One: \xe4\r\nX-Two: 2\r\nx-two: 3\r\n\r\n"

    assert (await asked(handler, request)).endswith(b"\r\n\r\nok")


async def test_the_body_of_a_get_is_empty() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert await request.body.pipe(tf.collect()) == []
        await response.send(b"ok")

    assert (await asked(handler)).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_arrives_whole(chunked: bool) -> None:
    chunks = [bytes([i % 256]) * i for i in range(1, 500)]

    async def handler(request: Request, response: Response) -> None:
        async with request.body.open() as body:
            got = b"".join([chunk async for chunk in body])
        assert got == b"".join(chunks)
        await response.send(b"ok")

    length = str(sum(map(len, chunks)))
    headers = [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", length)]
    async with serving(handler) as port, connected(port) as stream:
        client = Client(stream)
        for _ in range(2):
            status, _, body = await client.ask("POST", "/", headers, chunks)

            assert (status, body) == (200, b"ok")


async def test_R11_a_body_that_fails_names_its_stage(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        try:
            await request.body.pipe(tf.map(len)).pipe(tf.collect())
        except RequestError as exc:
            notes.extend(exc.__notes__)
            raise

    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"

    assert (await asked(handler, request)).startswith(b"HTTP/1.1 400 ")
    assert notes == ["in stage 1 of 3: body()"]
    assert not caplog.records


async def test_a_request_and_a_response_kept_after_their_exchange_are_closed() -> None:
    kept: list[tuple[Request, Response]] = []

    async def handler(request: Request, response: Response) -> None:
        kept.append((request, response))

    async with serving(handler) as port, connected(port) as stream:
        await Client(stream).ask("POST", "/", [("Content-Length", "1")], [b"x"])
        [(request, response)] = kept
        with pytest.raises(trio.ClosedResourceError, match="the handler has returned"):
            await request.body.pipe(tf.collect())
        with pytest.raises(
            trio.ClosedResourceError, match="a response can be sent only once, and this one has been sent"
        ):
            await response.send(b"late")
        with pytest.raises(trio.ClosedResourceError, match="has been sent"):
            await response.start()


# Responses.


async def test_status_and_headers_are_sent() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert response.status == 200
        response.status = 404
        response.headers["content-type"] = "text/plain"
        response.headers.add("set-cookie", "a=1")
        response.headers.add("set-cookie", "b=2")
        response.headers["date"] = "today"
        await response.send(b"x")

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        got = await stream.receive_some()

    assert got == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Date: today\r\nContent-Length: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=59\r\n\r\nx"
    )


async def test_a_date_is_sent_in_the_format_of_the_rfc() -> None:
    async def handler(request: Request, response: Response) -> None: ...

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        got = await stream.receive_some()

    date = re.search(rb"\r\nDate: (.*) GMT\r\n", got)
    assert date is not None
    assert abs(time.time() - parsedate_to_datetime(f"{date[1].decode()} +0000").timestamp()) < 60


@pytest.mark.parametrize(
    ("status", "error"),
    [("200", TypeError), (True, TypeError), (100, ValueError), (199, ValueError), (600, ValueError)],
)
async def test_an_invalid_status_is_refused(status: Any, error: type[Exception]) -> None:
    async def handler(request: Request, response: Response) -> None:
        with pytest.raises(error, match=r"^status must be"):
            response.status = status
        await response.send(b"ok")

    assert (await asked(handler)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_head_that_was_sent_cannot_change() -> None:
    async def handler(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="the head of this response has been sent"):
                response.status = 404
            with pytest.raises(RuntimeError, match="the head of this response has been sent"):
                response.headers["x"] = "y"
            with pytest.raises(RuntimeError, match="the head of this response has been sent"):
                del response.headers["x"]

    assert (await asked(handler)).endswith(b"1\r\nx\r\n0\r\n\r\n")


async def test_R4_a_response_runs_once() -> None:
    async def handler(request: Request, response: Response) -> None:
        async with response.open() as body:
            await body.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.ClosedResourceError, match="this one is being sent"):
                await response.send(b"y")
        with pytest.raises(trio.ClosedResourceError, match="this one has been sent"):
            await tf.from_iterable([b"y"]).pipe(response)

    assert (await asked(handler)).endswith(b"\r\n\r\n1\r\nx\r\n0\r\n\r\n")


async def test_R3_a_run_returns_the_number_of_bytes() -> None:
    async def handler(request: Request, response: Response) -> None:
        given = await tf.from_iterable([b"abc", bytearray(b"de"), memoryview(b"fghi")[::2]]).pipe(response)
        assert given == 7

    assert (await asked(handler)).endswith(b"\r\n\r\n7\r\nabcdefh\r\n0\r\n\r\n")


async def test_R18_an_empty_chunk_does_not_end_a_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert await tf.from_iterable([b"", b"a", b"", b"b"]).pipe(response) == 2

    assert b"a" in (got := await asked(handler))
    assert got.endswith(b"b\r\n0\r\n\r\n")


async def test_a_source_without_items_is_an_empty_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert await tf.from_iterable([]).pipe(response) == 0

    assert await asked(handler) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("chunk", ["text", 5, None, [b"x"]])
async def test_an_item_that_is_not_bytes_is_refused_with_its_stage(
    chunk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.path == "/send":
            await response.send(chunk)
        else:
            await tf.from_iterable([chunk]).pipe(response)

    assert (await asked(handler, GET.replace(b"/ ", b"/send "))).startswith(b"HTTP/1.1 500 ")
    assert (await asked(handler)).startswith(b"HTTP/1.1 500 ")
    for record in caplog.records:
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], TypeError)
        assert f"a response body must be bytes, got {type(chunk).__name__}" in str(record.exc_info[1])
    assert record.exc_info[1].__notes__ == ["in stage 2 of 2: response()"]


@pytest.mark.parametrize("declared", ["3", "5"])
async def test_a_body_must_have_the_declared_length(declared: str) -> None:
    failures: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        response.headers["content-length"] = declared
        try:
            if request.path == "/send":
                await response.send(b"abcd")
            else:
                await tf.from_iterable([b"ab", b"cd"]).pipe(response)
        except RuntimeError as exc:
            failures.append(str(exc))
            raise

    async with serving(handler) as port:
        got = await exchanged(port, GET.replace(b"/ ", b"/send "))
        try:
            piped = await exchanged(port, GET)
        except trio.BrokenResourceError:
            piped = b""

    assert got.startswith(b"HTTP/1.1 500 ")
    assert not piped.endswith(b"abcd")
    assert failures[0] == f"the body has 4 bytes, but its Content-Length says {declared}"
    assert failures[1].startswith(
        f"the body is {'at least 1 bytes longer' if declared == '3' else '1 bytes shorter'} than its Content-Length"
    )


@pytest.mark.parametrize("again", ["4", "5", "four", ""])
async def test_a_length_declared_twice_is_refused(again: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["Content-Length"] = "4"
        response.headers.add("content-length", again)
        await response.send(b"abcd")

    assert (await asked(handler)).startswith(b"HTTP/1.1 500 ")
    assert str(caplog.records[0].exc_info[1]) == f"Content-Length must be one number, got '4, {again}'"  # type: ignore[index]


async def test_a_body_of_declared_length_is_not_sent_in_chunks() -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["content-length"] = "4"
        await tf.from_iterable([b"ab", b"cd"]).pipe(response)

    assert await asked(handler) == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"


@pytest.mark.parametrize(
    ("name", "value"), [("content-length", "-1"), ("content-length", "x"), ("transfer-encoding", "chunked")]
)
async def test_invalid_framing_headers_are_an_error(name: str, value: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers[name] = value
        await tf.from_iterable([b"ab"]).pipe(response)

    assert (await asked(handler)).startswith(b"HTTP/1.1 500 ")


async def test_a_head_can_be_sent_before_there_is_a_body() -> None:
    go_on = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        await response.start()
        with pytest.raises(trio.ClosedResourceError, match="the head of this response has been sent"):
            await response.start()
        await go_on.wait()
        await tf.from_iterable([b"late"]).pipe(response)

    async with serving(handler) as port, connected(port) as stream:
        await stream.send_all(GET)
        head = DATE.sub(b"", await stream.receive_some())

        assert head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

        go_on.set()

        assert await read_until(stream, b"0\r\n\r\n") == b"4\r\nlate\r\n0\r\n\r\n"


async def test_a_head_sent_alone_is_followed_by_an_empty_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start()

    assert (await asked(handler)).endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_status_can_be_raised() -> None:
    async def handler(request: Request, response: Response) -> None:
        raise RequestError(403, "not for you")

    got = await asked(handler)

    assert got.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert got.endswith(b"\r\n\r\n403 Forbidden\n")


async def test_after_a_timeout_before_the_first_byte_the_handler_can_still_respond(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tf.readable
    async def quiet(output: tf.SendChannel[bytes]) -> None:
        await trio.sleep_forever()

    async def handler(request: Request, response: Response) -> None:
        with trio.move_on_after(0.5):
            await quiet().pipe(response)
        response.status = 504
        await response.send(b"too slow")

    assert (await asked(handler)).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")


def test_a_response_is_a_writable() -> None:
    assert isinstance(Response, type)
    assert issubclass(Response, tf.Writable)


# R20: a request's body and its response, together, are one of Trio's byte streams.


class Held(trio.abc.HalfCloseableStream):
    """A byte stream that was opened in another task, which leaves its block when this is closed."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.let_go = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.let_go.set()
        await self._stream.aclose()

    async def hold(self) -> None:
        """Wait in the task that opened the stream: a handler whose client has gone is cancelled, this is not."""
        with trio.CancelScope(shield=True):
            await self.let_go.wait()


def client_of(stream: trio.SocketStream) -> tf.Duplex[bytes, bytes]:
    """A POST whose body is written while its response is read."""
    connection = h11.Connection(h11.CLIENT)

    @tf.writable
    async def upload(chunks: tf.ReceiveChannel[bytes]) -> None:
        headers = [("Host", "localhost"), ("Transfer-Encoding", "chunked")]
        await stream.send_all(connection.send(h11.Request(method="POST", target="/", headers=headers)))
        async for chunk in chunks:
            await stream.send_all(connection.send(h11.Data(data=chunk)))
        await stream.send_all(connection.send(h11.EndOfMessage()))

    @tf.readable
    async def answer() -> AsyncIterator[bytes]:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    return tf.Duplex(answer(), upload())


@pytest.mark.parametrize("turned", [False, True])
async def test_R20_a_body_and_its_response_are_a_byte_stream(turned: bool) -> None:
    handed, taken = trio.open_memory_channel[Held](1)

    async def handler(request: Request, response: Response) -> None:
        async with tf.Duplex(request.body, response).open() as stream:
            held = Held(stream)
            await handed.send(held)
            await held.hold()

    async def ask(port: int, task_status: trio.TaskStatus[Held]) -> None:
        with suppress(trio.BrokenResourceError):
            async with connected(port) as socket, client_of(socket).open() as stream:
                held = Held(stream)
                task_status.started(held)
                await held.hold()

    async with serving(handler, limits=http.Limits(drain=0, linger=0.1)) as port, trio.open_nursery() as nursery:

        async def make() -> tuple[Held, Held]:
            ours = await nursery.start(ask, port)
            theirs = await taken.receive()
            return (theirs, ours) if turned else (ours, theirs)

        with trio.fail_after(60):
            await trio.testing.check_half_closeable_stream(make, None)
        nursery.cancel_scope.cancel()
