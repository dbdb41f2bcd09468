"""Malformed requests, each sent whole and byte by byte, and unusual ones that are valid.

A malformed request is answered with its status, `Connection: close` and one plain sentence, and no handler is
called. If only the body is malformed, the handler gets the error, and its own response is not mixed with ours.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import trioflow as tf
from tests.http.client import connected, read_all, serving
from trioflow import http
from trioflow.http import Request, RequestError, Response
from trioflow.http.wire.response_writer import error_page

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n"
END = b"\r\n"

Case = tuple[bytes, int]


def lines(status: int, *starts: bytes) -> list[Case]:
    """Requests with a wrong first line."""
    return [(start + b"\r\n" + HOST + END, status) for start in starts]


def fields(status: int, *wrong: bytes, start: bytes = GET + HOST) -> list[Case]:
    """Requests with a wrong header line."""
    return [(start + field + b"\r\n" + END, status) for field in wrong]


def hosts(status: int, *values: bytes) -> list[Case]:
    return fields(status, *(b"Host: " + value for value in values), start=GET)


def posts(status: int, *framing: bytes, body: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> list[Case]:
    """Requests with wrong framing, each followed by the request that it would smuggle."""
    start = b"POST / HTTP/1.1\r\n" + HOST
    return [(start + field + b"\r\n\r\n" + body + GET + HOST + END, status) for field in framing]


CONTROLS = [bytes([n]) for n in (*range(9), 11, 12, *range(14, 32), 127)]
NOT_IN_NAMES = [bytes([n]) for n in b' "(),/;<=>?@[\\]{}\t\x7f\x80\xff']

REQUEST_LINES = [
    *lines(400, b"GET /", b"GET / ", b"GET", b"/", b"/ HTTP/1.1", b"HTTP/1.1 200 OK", b" ", b"nonsense"),
    *lines(400, b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b" GET / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / HTTP/1.1\t"),
    *lines(400, b"GET\t/\tHTTP/1.1", b"GET /a b HTTP/1.1", b"GET / HTTP/1.1 HTTP/1.1", b"GET / / HTTP/1.1"),
    *lines(400, b"GET / http/1.1", b"GET / HTTP/1", b"GET / HTTP/1.", b"GET / HTTP/.1", b"GET / HTTP/01.1"),
    *lines(400, b"GET / HTTP/1.01", b"GET / HTTP/11.1", b"GET / HTTP/1.10", b"GET / HTTP/1,1", b"GET / HTTP 1.1"),
    *lines(400, b"GET / HTTPS/1.1", b"GET / HTP/1.1", b"GET / RTSP/1.0", b"GET / HTTP/a.b", b"GET / HTTP/-1.1"),
    *lines(400, b"GET / HTTP/+1.1", b"GET / HTTP/1.1x", b"GET / HTTP/\xd9\xa1.1", b"GET / HTTP\\1.1", b"GET /HTTP/1.1"),
    *lines(505, b"GET / HTTP/0.9", b"GET / HTTP/1.2", b"GET / HTTP/1.9", b"GET / HTTP/2.0", b"GET / HTTP/3.0"),
    *lines(505, b"GET / HTTP/0.0", b"GET / HTTP/9.9"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    *lines(400, b"G@T / HTTP/1.1", b"GET,POST / HTTP/1.1", b"GET: / HTTP/1.1", b"(GET) / HTTP/1.1", b"\xc9 / HTTP/1.1"),
    *lines(400, b'"GET" / HTTP/1.1', b"G\x00T / HTTP/1.1", b"G\x1bT / HTTP/1.1", b"[ / HTTP/1.1"),
    *lines(501, b"get / HTTP/1.1", b"Get / HTTP/1.1", b"GETT / HTTP/1.1", b"BREW / HTTP/1.1", b"1 / HTTP/1.1"),
    *lines(501, b"!#$%&'*+-.^_`|~ / HTTP/1.1", b"X" * 5000 + b" / HTTP/1.1", b"PRI / HTTP/1.1"),
    *lines(501, b"CONNECT example.org:443 HTTP/1.1", b"CONNECT / HTTP/1.1", b"CONNECT http://a/ HTTP/1.1"),
    *lines(405, b"TRACE / HTTP/1.1", b"TRACE * HTTP/1.1"),
    *lines(414, b"GET /" + b"a" * 8192 + b" HTTP/1.1", b"GET /?" + b"a" * 20_000 + b" HTTP/1.1"),
    *lines(400, b"X" * 9000, b"X" * 100_000 + b" / HTTP/1.1"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS client
    (b"\x80\x2e\x01\x00\x02" + bytes(40), 400),
    (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    (b"*1\r\n$4\r\nPING\r\n", 400),
    (b"{}\n", 400),
    (b"\x05\x01\x00", 400),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n" + GET + HOST + END, 400),
    (b"GET / HT", 400),
    (GET + b"Host: loc", 400),
]

TARGETS = [
    *lines(400, b"GET foo HTTP/1.1", b"GET * HTTP/1.1", b"POST * HTTP/1.1", b"GET ?a HTTP/1.1", b"GET # HTTP/1.1"),
    *lines(400, b"GET /#a HTTP/1.1", b"GET /a# HTTP/1.1", b"GET /?#a HTTP/1.1", b"OPTIONS *# HTTP/1.1"),
    *lines(400, b"GET http:/a/ HTTP/1.1", b"GET http:///a HTTP/1.1", b"GET http:// HTTP/1.1", b"GET http: HTTP/1.1"),
    *lines(400, b"GET http://a@b/ HTTP/1.1", b"GET http://a:b@c/ HTTP/1.1", b"GET ftp://a/ HTTP/1.1"),
    *lines(400, b"GET file:///etc/passwd HTTP/1.1", b"GET javascript:alert(1) HTTP/1.1", b"GET http://a:b/ HTTP/1.1"),
    *lines(400, b"GET http://a:99999/ HTTP/1.1", b"GET http://[::1/ HTTP/1.1", b"GET http://[z]/ HTTP/1.1"),
    *lines(400, b"GET http://a,b/ HTTP/1.1", b"GET http://a#b HTTP/1.1", b"GET localhost:80 HTTP/1.1"),
    *lines(400, b"GET http://?a HTTP/1.1", b"GET http://a\\b/ HTTP/1.1", b"OPTIONS foo HTTP/1.1"),
    *lines(400, b"OPTIONS ** HTTP/1.1", b"GET \\a HTTP/1.1", b"GET %2f HTTP/1.1", b"GET ./a HTTP/1.1"),
    *lines(400, b"GET /\x80 HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\x00 HTTP/1.1"),
    *lines(400, b"GET /a\tb HTTP/1.1", b"GET /\x0b HTTP/1.1", b"GET /a\x00.php HTTP/1.1"),
    *lines(
        400, b"GET /% HTTP/1.1", b"GET /%0 HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET /%+1 HTTP/1.1", b"GET /%00 HTTP/1.1"
    ),
    *lines(
        400,
        b"GET /a%00.txt HTTP/1.1",
        b"GET /a/..%2fb HTTP/1.1",
        b"GET /a/%2e%2E%2Fb HTTP/1.1",
        b"GET /a%2f../b HTTP/1.1",
    ),
    *lines(400, b"GET /.. HTTP/1.1", b"GET /../a HTTP/1.1", b"GET /a/../../b HTTP/1.1", b"GET /%2e%2e/ HTTP/1.1"),
    *lines(400, b"GET /.%2e/ HTTP/1.1", b"GET /a/..%2f..%2fb HTTP/1.1", b"GET http://a/../b HTTP/1.1"),
]

LINE_ENDS = [
    (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
    (b"GET / HTTP/1.1\n" + HOST + END, 400),
    (GET + b"Host: localhost\n" + END, 400),
    (GET + HOST + b"\n", 400),
    (GET + HOST + b"A: b\nC: d\r\n" + END, 400),
    (GET + HOST + b"A: b\rC: d\r\n" + END, 400),
    (GET + HOST + b"A: b\r\r\n" + END, 400),
    (GET + HOST + b"A: b\n\r\n" + END, 400),
    (GET + HOST + b"A: b\r\n\rX" + END, 400),
    (GET + HOST + b"\r\r\n", 400),
    (GET + b"\rHost: localhost\r\n" + END, 400),
    (b"GET / HTTP/1.1\r" + HOST + END, 400),
    (b"GET / HTTP/1.1\r\r\n" + HOST + END, 400),
    (b"GET /\nHost: localhost\r\n\r\n", 400),
    (b"GET /a\rb HTTP/1.1\r\n" + HOST + END, 400),
    (b"\n" + GET + HOST + END, 400),
    (b"\r" + GET + HOST + END, 400),
    (b"\r\n\n" + GET + HOST + END, 400),
    (b" \r\n" + GET + HOST + END, 400),
    (b"\x00" + GET + HOST + END, 400),
    (b"\xef\xbb\xbf" + GET + HOST + END, 400),
]

HEADERS = [
    *fields(400, b"A : b", b"A\t: b", b"A", b": b", b":", b" ", b"\t", b"A b: c", b"A\xa0: b", b"\xc3\x81: b"),
    *fields(400, b"A: b\r\n c", b"A: b\r\n\tc", b"A: b\r\n ", b"A:\r\n b", b" A: b", b"\tA: b"),
    *fields(400, b" A: b", b"\tHost: b", b" ", start=GET),
    *fields(400, *(b"A: b" + control + b"c" for control in CONTROLS)),
    *fields(400, *(b"A" + wrong + b"b: c" for wrong in NOT_IN_NAMES)),
    *fields(
        431, b"\r\n".join([b"A: b"] * 100), b"A: " + b"b" * 40_000, b"A" * 40_000 + b": b", b"A: b\r\n" * 9000 + b"A:"
    ),
    *fields(417, b"Expect: 100-continued", b"Expect: a", b"Expect:", b"Expect: 100-continue, a", b"Expect: 200-ok"),
]

HOSTS = [
    (GET + END, 400),
    (GET + b"A: b\r\n" + END, 400),
    (b"GET http://localhost/ HTTP/1.1\r\n" + END, 400),
    (GET + HOST + HOST + END, 400),
    (GET + HOST + b"host: other\r\n" + END, 400),
    (GET + HOST * 3 + END, 400),
    (b"GET / HTTP/1.0\r\n" + HOST + HOST + END, 400),
    (b"GET / HTTP/1.0\r\nHost:\r\n" + END, 400),
    (b"GET http://localhost/ HTTP/1.1\r\nHost: a b\r\n" + END, 400),
    *hosts(
        400, b"", b" ", b"a b", b"a,b", b"a, b", b"a/b", b"a/", b"a?b", b"a#b", b"a@b", b"@a", b"a:b@c", b"http://a"
    ),
    *hosts(
        400, b"a:", b"a:b", b"a:-1", b"a:+80", b"a:080000", b"a:65536", b"a:80:80", b"a: 80", b"a :80", b":80", b":"
    ),
    *hosts(400, b"[::1", b"::1", b"[::1]x", b"[::1]:x", b"[]", b"[z]", b"[::1%25eth0]", b"[1.2.3.4]", b"[v1.a]"),
    *hosts(400, b"[::1]:80:80", b"a[::1]", b"[1:2:3:4:5:6:7:8:9]", b"[::1]:99999"),
    *hosts(400, b"a\\b", b"<a>", b'"a"', b"a%zz", b"a%", b"###", b"a|b", b"a^b", b"a`b", b"{a}", b"a\x80", b"a\tb"),
]

FRAMING = [
    *posts(400, b"Content-Length: 99999999999999999999", b"Content-Length: " + b"9" * 4000),
    *posts(400, b"Content-Length:", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: -0"),
    *posts(400, b"Content-Length: 5 5", b"Content-Length: 5,5", b"Content-Length: 5, 5", b"Content-Length: 5;"),
    *posts(400, b"Content-Length: 0x5", b"Content-Length: 5.0", b"Content-Length: 5e0", b"Content-Length: \xd9\xa5"),
    *posts(400, b"Content-Length: five", b"Content-Length: 1_0", b'Content-Length: "5"', b"Content-Length: ,5"),
    *posts(400, b"Content-Length: 5,", b"Content-Length: 5\x0b", b"Content-Length: \x005", b"Content-Length: \xb2"),
    *posts(400, b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\ncontent-length: 6"),
    *posts(400, b"Content-Length: 0\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length:"),
    *posts(400, b"Content-Length : 5", b"Content-Length\t: 5", b" Content-Length: 5", b"Content-Length:\r\n 5"),
    *posts(400, b"Content-Length\x00: 5", b"Content-Length", b"A: b\nContent-Length: 5", b"A: b\rContent-Length: 5"),
    *posts(413, b"Content-Length: 1073741825", b"Content-Length: 00999999999999999999"),
    *posts(400, b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
    *posts(
        400, b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"Content-Length: 5\r\nTransfer-Encoding: identity"
    ),
    *posts(400, b"Content-Length: 5\r\nTransfer-Encoding:", b"content-length: 5\r\nTRANSFER-ENCODING: gzip, chunked"),
    *posts(400, b"Transfer-Encoding:", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip"),
    *posts(400, b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, gzip"),
    *posts(400, b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked"),
    *posts(400, b"Transfer-Encoding: ,", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx"),
    *posts(400, b"Transfer-Encoding: chunked;q=1", b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: 'chunked'"),
    *posts(400, b"Transfer-Encoding: chun ked", b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \x0cchunked"),
    *posts(400, b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: [chunked]", b"Transfer-Encoding: chunked\xa0"),
    *posts(400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    *posts(400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    *posts(400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
    *posts(501, b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked"),
    *posts(501, b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: a,\tb , chunked"),
    *posts(400, b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked"),
    *posts(400, b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: chunked\r\n\tidentity", b"Transfer-Encoding"),
    *posts(400, b"Transfer\x00-Encoding: chunked", b"Transfer-Encoding\x0b: chunked", b"Transfer Encoding: chunked"),
    *posts(
        400, b"A: b\rTransfer-Encoding: chunked", b"A: b\nTransfer-Encoding: chunked", b":Transfer-Encoding: chunked"
    ),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
]

HEADS = REQUEST_LINES + TARGETS + LINE_ENDS + HEADERS + HOSTS + FRAMING

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
COUNTED = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"


def chunks(status: int, *bodies: bytes) -> list[Case]:
    return [(CHUNKED + body, status) for body in bodies]


BODIES = [
    *chunks(
        400, b"\r\n", b"\n", b"g\r\n", b"-1\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5_0\r\n"
    ),
    *chunks(
        400, b" 5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n", b"\xd9\xa5\r\n"
    ),
    *chunks(
        400, b"5\nhello\r\n0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n"
    ),
    *chunks(
        400, b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello!\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n"
    ),
    *chunks(400, b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"5\n\r\nhello\r\n0\r\n\r\n"),
    *chunks(
        400,
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;;a\r\nhello\r\n0\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b"5;a=\r\nhello\r\n",
    ),
    *chunks(
        400, b"5;=a\r\nhello\r\n", b'5;a="b\r\nhello\r\n', b"5;a b\r\nhello\r\n", b"5,a\r\nhello\r\n", b"5;a=b c\r\n"
    ),
    *chunks(
        400,
        b"5;a\x00\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;\x80\r\nhello\r\n",
        b"5;a\x7f\r\n",
    ),
    *chunks(400, b"0" * 17 + b"\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    *chunks(413, b"ffffffffffffffff\r\n", b"40000001\r\n"),
    *chunks(
        400, b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 40 + b"0\r\n\r\n"
    ),
    *chunks(
        400,
        b"0\r\nA\r\n\r\n",
        b"0\r\n: a\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
    ),
    *chunks(
        400,
        b"0\r\nA: \x00\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n\rX",
        b"0\n\r\n",
        b"0\r\r\n",
    ),
    *chunks(
        400, b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: a\r\n\r\n"
    ),
    *chunks(
        400, b"0\r\nauthorization: a\r\n\r\n", b"0\r\nProxy-Authorization: a\r\n\r\n", b"0\r\nGET / HTTP/1.1\r\n\r\n"
    ),
    *chunks(431, b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n", b"0\r\nA: " + b"b" * 40_000 + b"\r\n\r\n"),
    *chunks(
        400,
        b"",
        b"5",
        b"5\r",
        b"5\r\n",
        b"5\r\nhel",
        b"5\r\nhello",
        b"5\r\nhello\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"0\r\nA: b\r\n",
    ),
    (COUNTED, 400),
    (COUNTED + b"hell", 400),
]


class Server:
    """A server, and the requests that its handler got."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[tuple[str, str, str]] = []
        self.read: list[bytes] = []
        self.failed: list[RequestError] = []

    async def handler(self, request: Request, response: Response) -> None:
        self.heard.append((request.method, request.path, request.query))
        try:
            self.read.append(await request.body.pipe(tf.join()))
        except RequestError as exc:
            self.failed.append(exc)
            raise
        await response.send(b"ok")


async def say(port: int, data: bytes, *, step: int = 1 << 20) -> bytes:
    """Send `data` in pieces of `step` bytes, end our direction, and return everything received."""
    with trio.fail_after(60):
        async with connected(port) as stream:
            try:
                for at in range(0, len(data), step):
                    await stream.send_all(data[at : at + step])
                    await trio.testing.wait_all_tasks_blocked()
                await stream.send_eof()
            except trio.BrokenResourceError:  # the server has already refused it
                pass
            return await read_all(stream)


@asynccontextmanager
async def at_server() -> AsyncGenerator[Server, None]:
    server = Server()
    async with serving(server.handler) as server.port:
        yield server


def steps(data: bytes) -> list[int]:
    """Return the sizes of pieces: whole, and byte by byte, or for long data about a kilobyte."""
    return [len(data) or 1, 1 if len(data) < 1000 else 1021]


def assert_refused(got: bytes, status: int) -> None:
    head, _, body = got.partition(b"\r\n\r\n")
    start, *headers = head.split(b"\r\n")
    assert start.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in headers
    assert (b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" in headers) is (status == 405)
    assert body == error_page(status)[1]
    assert body.endswith(b".\n")
    assert b"Content-Length: %d" % len(body) in headers


def named(cases: list[Case]) -> list[object]:
    return [pytest.param(data, status, id=f"{at}-{data[:70]!r}") for at, (data, status) in enumerate(cases)]


@pytest.mark.parametrize(("data", "status"), named(HEADS))
async def test_a_malformed_head_is_refused_and_no_handler_is_called(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for step in steps(data):
        async with at_server() as server:
            assert_refused(await say(server.port, data, step=step), status)

            assert server.heard == []
    assert caplog.records == []


@pytest.mark.parametrize("field", [b"A : b", b"Content-Length: x", b"Host: x", b"X: " + b"x" * 40000])
async def test_a_malformed_head_request_is_refused_without_a_body(field: bytes) -> None:
    data = b"HEAD / HTTP/1.1\r\n" + HOST + field + b"\r\n" + END
    for step in steps(data):
        async with at_server() as server:
            got = await say(server.port, b"\r\n" + data, step=step)

            assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
            assert b"\r\nContent-Length: " in got
            assert got.index(b"\r\n\r\n") + 4 == len(got)


@pytest.mark.parametrize(("data", "status"), named(BODIES))
async def test_a_malformed_body_is_an_error_in_the_handler_and_is_refused(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for step in steps(data):
        async with at_server() as server:
            assert_refused(await say(server.port, data, step=step), status)

            assert server.heard == [("POST", "/", "")]
            assert server.read == []
            assert [error.status for error in server.failed] == [status]
    assert caplog.records == []


@pytest.mark.parametrize(("data", "status"), named((HEADS + BODIES)[::9]))
async def test_malformed_requests_are_refused_after_a_valid_one_too(data: bytes, status: int) -> None:
    async with at_server() as server:
        got = await say(server.port, GET + HOST + END + data)

    first, ok, rest = got.partition(b"\r\n\r\nok")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert ok
    assert_refused(rest, status)


async def test_a_client_that_sent_nonsense_is_answered_at_once_even_if_it_keeps_its_side_open(
    autojump_clock: MockClock,
) -> None:
    began = trio.current_time()
    async with serving(http.files(Path(__file__).parent)) as port:
        for data in (b"\x16\x03\x01", b"GET /\r\n", b"GET / HTTP/1.1\n", GET + b" folded", GET + HOST + b"A : b\r\n"):
            data += b"\r\n" * (data == GET + b" folded")
            async with connected(port) as stream:
                await stream.send_all(data)
                got = await stream.receive_some()

                assert trio.current_time() == began
                assert_refused(got[: got.index(b"Date: ")] + got[got.index(b"Content-Type") :], 400)


def test_the_table_has_at_least_400_malformed_requests() -> None:
    assert len({data for data, _ in HEADS + BODIES}) >= 400


# Unusual but valid requests.

ASK = GET + HOST + END
TINY = b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello")

ODD: list[tuple[bytes, list[tuple[str, str, str]], list[bytes]]] = [
    (data, [("GET", "/", "")], [b""])
    for data in (
        b"\r\n" * 1000 + ASK,
        ASK + b"\r",
        b"\r\n" + ASK + b"\r\n",
        GET + b"Host:localhost\r\n" + END,
        GET + b"Host: \t localhost \t \r\n" + END,
        GET + b"hOsT: LOCALHOST:80\r\n" + END,
        GET + b"Host: 127.0.0.1:65535\r\n" + END,
        GET + b"Host: [::1]\r\n" + END,
        GET + b"Host: [2001:db8::192.0.2.1]:8080\r\n" + END,
        GET + b"Host: a_b-c.~d%41!$&'()*+;=:1\r\n" + END,
        GET + b"Host: xn--bcher-kva.example.\r\n" + END,
        GET + b"A: b\r\n" + HOST + b"A: c\r\n" + END,
        GET + HOST + b"!#$%&'*+-.^_`|~0: a\r\n" + END,
        GET + HOST + b'A:\r\nB: \t\r\nC:\t\xe9\xff\x80 \t "\\\r\n' + END,
        GET + HOST + b"A: b\r\n" * 99 + END,
        GET + HOST + b"A: " + b"b" * 32_000 + b"\r\n" + END,
        GET + HOST + b"Content-Length: 0\r\n" + END,
        GET + HOST + b"Content-Length: 0000\r\n" + END,
        GET + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + HOST + b"Connection: close\r\n" + END,
        GET + HOST + b"Connection: , ,keep-alive,, a\r\nKeep-Alive: timeout=5\r\n" + END,
        GET + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + END,
        GET + HOST + b"TE: trailers, deflate;q=0.5\r\n" + END,
        GET + HOST + b"Transfer_Encoding: chunked\r\nContent_Length: 5\r\n" + END,
        GET + HOST + b"Cookie: a=b\r\nCookie: c=d\r\n" + END,
        GET + HOST + b"Range: bytes=0-\r\nIf-Range: x\r\nIf-Match: *\r\n" + END,
        GET + HOST + b"Expect: 100-Continue\r\n" + END,
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nExpect: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET http://localhost HTTP/1.1\r\n" + HOST + END,
        b"GET HTTP://other:80/ HTTP/1.1\r\n" + HOST + END,
        b"GET https://[::1]:8443 HTTP/1.1\r\n" + HOST + END,
    )
] + [
    (b"OPTIONS * HTTP/1.1\r\n" + HOST + END, [("OPTIONS", "*", "")], [b""]),
    (b"OPTIONS http://a HTTP/1.1\r\n" + HOST + END, [("OPTIONS", "/", "")], [b""]),
    (b"PROPFIND /a HTTP/1.1\r\n" + HOST + END, [("PROPFIND", "/a", "")], [b""]),
    (b"M-SEARCH / HTTP/1.1\r\n" + HOST + END, [("M-SEARCH", "/", "")], [b""]),
    (b"GET http://a?b HTTP/1.1\r\n" + HOST + END, [("GET", "/", "b")], [b""]),
    (b"GET /?a=b&c=%zz?/ HTTP/1.1\r\n" + HOST + END, [("GET", "/", "a=b&c=%zz?/")], [b""]),
    (b"GET /? HTTP/1.1\r\n" + HOST + END, [("GET", "/", "")], [b""]),
    (b"GET //a///b/ HTTP/1.1\r\n" + HOST + END, [("GET", "/a/b/", "")], [b""]),
    (b"GET /a/./b/../c HTTP/1.1\r\n" + HOST + END, [("GET", "/a/c", "")], [b""]),
    (b"GET /%7Eb/%C3%A9%20%25 HTTP/1.1\r\n" + HOST + END, [("GET", "/~b/\xe9 %", "")], [b""]),
    (b'GET /a|b^c`d{e}"<>\\[] HTTP/1.1\r\n' + HOST + END, [("GET", '/a|b^c`d{e}"<>\\[]', "")], [b""]),
    (b"GET /http://a/ HTTP/1.1\r\n" + HOST + END, [("GET", "/http:/a/", "")], [b""]),
    (b"GET /" + b"a" * 8178 + b" HTTP/1.1\r\n" + HOST + END, [("GET", "/" + "a" * 8178, "")], [b""]),
    *(
        (data, [("POST", "/", "")], [b"hello"])
        for data in (
            COUNTED + b"hello",
            COUNTED + b"hello\r\n",
            COUNTED.replace(b": 5", b":00005 \t") + b"hello",
            CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
            CHUNKED.replace(b"chunked", b" \tCHUNKED ") + b"5\r\nhello\r\n0\r\n\r\n",
            CHUNKED + TINY + b"0\r\n\r\n",
            CHUNKED + b"0000000000000005\r\nhello\r\n0000\r\n\r\n",
            CHUNKED + b'5;a;b=c; d = "e;\\" \xe9"\r\nhello\r\n0;a=1\r\n\r\n',
            CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nX-Sum:\t1 \r\nB:\r\n\r\n",
            CHUNKED + b"2\r\nhe\r\n0003\r\nllo\r\n000\r\n\r\n\r\n\r\n",
            CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: A\r\n\r\n") + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
            b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        )
    ),
    (CHUNKED + b"a\r\n\r\n0\r\n\r\n\x00GE\r\n0\r\n\r\n", [("POST", "/", "")], [b"\r\n0\r\n\r\n\x00GE"]),
    (ASK + COUNTED + b"hello" + ASK, [("GET", "/", ""), ("POST", "/", ""), ("GET", "/", "")], [b"", b"hello", b""]),
    (CHUNKED + b"0\r\n\r\n\r\n" + ASK, [("POST", "/", ""), ("GET", "/", "")], [b"", b""]),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc" + ASK, [("GET", "/", "")] * 2, [b"abc", b""]),
    (ASK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n") + ASK, [("GET", "/", "")], [b""]),
    (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n" + ASK, [("GET", "/", "")], [b""]),
]


@pytest.mark.parametrize(
    ("data", "heard", "read"), [pytest.param(*case, id=f"{at}-{case[0][:70]!r}") for at, case in enumerate(ODD)]
)
async def test_unusual_but_valid_requests_are_served(
    data: bytes, heard: list[tuple[str, str, str]], read: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    for step in steps(data):
        async with at_server() as server:
            got = await say(server.port, data, step=step)

            assert got.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").count(b"HTTP/1.1 ") == len(heard)
            assert got.count(b"\r\n\r\nok") == len(heard)
            assert server.heard == heard
            assert server.read == read
    assert caplog.records == []


async def test_the_host_of_a_url_replaces_the_host_header() -> None:
    async def handler(request: Request, response: Response) -> None:
        assert request.headers.get_all("host") == ["other:80"]
        await response.send(b"ok")

    async with serving(handler) as port:
        one = await say(port, b"GET http://other:80/a?b HTTP/1.1\r\n" + HOST + END)
        old = await say(port, b"GET HTTP://other:80 HTTP/1.0\r\n\r\n")

    assert one.endswith(b"\r\n\r\nok")
    assert old.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("deep", [False, True])
async def test_a_malformed_body_that_several_tasks_read_is_not_a_failure_of_the_server(
    deep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(request: Request) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.body.pipe, tf.drain())
            nursery.start_soon(trio.sleep_forever)

    async def handler(request: Request, response: Response) -> None:
        if not deep:
            await read(request)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, request)

    async with serving(handler) as port:
        got = await say(port, CHUNKED + b"x\r\n")

    assert_refused(got, 400)
    assert caplog.records == []


# Files: the worst that a path, a range or a condition can do is not to match.

TEXT = b"0123456789"


@pytest.fixture(scope="module")  # no test changes it, and making it takes longer than a request
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("files")
    top = tmp_path / "root"
    (top / "sub").mkdir(parents=True)
    (top / "a.txt").write_bytes(TEXT)
    (top / ".hidden").write_bytes(b"a secret")
    (tmp_path / "secret").write_bytes(b"a secret")
    (top / "out").symlink_to(tmp_path / "secret")
    return top


PATHS = [
    *[(path, 400) for path in (b"/../secret", b"/sub/../../secret", b"/%2e%2e/secret", b"/.%2e/secret", b"/%2E./secret")],
    *[(path, 400) for path in (b"/sub/%2e%2e/%2e%2e/secret", b"/..;/../secret/../../secret", b"/a.txt%00", b"/%00", b"/%")],
    *[(path, 400) for path in (b"/%u002e%u002e/secret", b"/%2", b"/sub/..%2fa.txt", b"/sub%2f..%2fa.txt", b"/cgi-bin/.%2f")],
    *[(path, 404) for path in (b"/%c0%ae%c0%ae/secret", b"/%e0%80%ae/secret", b"/%ff%fe", b"/..%c0%afsecret")],
    *[(path, 400) for path in (b"/..", b"/../", b"/%2e%2e", b"/%2e%2e%2fsecret", b"http://localhost/../secret")],
    *[(path, 404) for path in (b"/..%5csecret", b"/..\\secret", b"/%5c..%5csecret", b"/%252e%252e/secret", b"/...", b"/..../secret")],
    *[(path, 404) for path in (b"/.hidden", b"/%2ehidden", b"/sub/../.hidden", b"//.hidden", b"/./.hidden", b"/out", b"/out/")],
    *[(path, 404) for path in (b"/sub%2fa.txt", b"/%2fetc%2fpasswd", b"//etc/passwd", b"/a.txt/", b"/a.txt/x", b"/a.txt.")],
    *[(path, 404) for path in (b"/a.txt%20", b"/A.TXT", b"/a.txt:$DATA", b"/C:/a.txt", b"/~root/a", b"/a.txt;x", b"/a.txt%0d%0aX:y")],
    *[(path, 404) for path in (b"/" + b"a" * 256, b"/" + b"a/" * 4000, b"/con", b"/*", b"/?", b"/a%0a", b"/%7f", b"/%01")],
    *[(path, 404) for path in (b"/proc/self/environ", b"/sub/", b"/%e2%80%ae", b"/wp-login.php?a=../b")],
    *[(path, 200) for path in (b"/a.txt", b"//a.txt", b"/./a.txt", b"/sub/../a.txt", b"/%61.txt", b"/a%2Etxt", b"/a.txt?../../x")],
]  # fmt: skip


@pytest.mark.parametrize(("path", "status"), PATHS)
async def test_a_path_leads_to_a_file_beneath_the_root_or_to_nothing(
    root: Path, path: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = b"GET " + path + b" HTTP/1.1\r\n" + HOST + END
    async with serving(http.files(root)) as port:
        for step in steps(data):
            got = await say(port, data, step=step)

            assert got.startswith(b"HTTP/1.1 %d " % status)
            assert b"secret" not in got.partition(b"\r\n\r\n")[2]
            assert status != 400 or got.endswith(b"\r\n\r\n" + error_page(400)[1])
    assert caplog.records == []


# A range with invalid syntax is ignored, and one outside the file is 416. A condition with invalid syntax is ignored,
# except for If-Match, which then cannot match. Several ranges may be answered in parts, or with the whole file.
MANY = b"bytes=" + b",".join([b"0-"] * 1300)
ASKED = [
    *[(b"Range: " + value, {200}) for value in (b"", b"bytes", b"bytes=", b"bytes=-", b"bytes=a-b", b"bytes=0", b"=0-1")],
    *[(b"Range: " + value, {200}) for value in (b"bytes=5-2", b"bytes=+0-3", b"bytes=0-+3", b"bytes=0_1-3", b"bytes=0x0-3")],
    *[(b"Range: " + value, {200}) for value in (b"bytes=0-3;", b"bytes=0--3", b"bytes=--3", b"bytes 0-3", b"items=0-3")],
    *[(b"Range: " + value, {200}) for value in (b"bytes=\xb2-3", b"bytes=0-3-5", b"bytes=0 - 3", b"bytes=,", b"bytes:0-3")],
    *[(b"Range: " + value, {416}) for value in (b"bytes=10-", b"bytes=-0", b"bytes=99-100", b"bytes=10-,11-", b"bytes=-00")],
    *[(b"Range: bytes=" + value, {416}) for value in (b"9" * 30 + b"-", b"1" + b"0" * 5000 + b"-")],
    *[(b"Range: bytes=0-" + value, {200, 206}) for value in (b"9" * 30, b"9" * 7000)],
    *[(b"Range: bytes=-" + value, {206}) for value in (b"999", b"9" * 30)],
    (b"Range: " + MANY.replace(b"-", b"-9"), {200}),
    (b"Range: " + MANY, {200}),
    (b"Range: bytes=" + b"0-0," * 2000, {200}),
    (b"Range: bytes=" + b"0" * 9000 + b"-", {200}),
    (b"Range: bytes=0-0\r\nRange: bytes=1-1", {200, 206}),
    (b"Range: bytes=0-3\r\nIf-Range: *", {200}),
    (b'Range: bytes=0-3\r\nIf-Range: "', {200}),
    (b"Range: bytes=0-3\r\nIf-Range: W/\"a\"", {200}),
    (b"Range: bytes=0-3\r\nIf-Range: yesterday", {200}),
    (b"Range: bytes=0-3\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT", {200}),
    *[(b"If-Match: " + value, {412}) for value in (b"", b"a", b'"', b'"a', b'W/"a"', b'"a", b', b"**", b'"a"' * 500)],
    *[(b"If-None-Match: " + value, {200}) for value in (b"", b"a", b'"', b'"a', b'"a", b', b"**", b'"a",' * 1500)],
    *[(b"If-None-Match: " + value, {304}) for value in (b"*", b" * ")],
    *[(b"If-Modified-Since: " + value, {200}) for value in (b"", b"now", b"0", b"-1", b"99999999999999999999", b"Thu, 32 Jan")],
    *[(b"If-Modified-Since: " + value, {200}) for value in (b"Fri, 31 Feb 2020 00:00:00 GMT", b"Thu, 01 Jan 1970 00:00:00")],
    *[(b"If-Unmodified-Since: " + value, {200}) for value in (b"", b"now", b"Mon, 01 Jan 0000 99:99:99 GMT", b"\xff")],
    (b"If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", {412}),
    *[(b"Accept-Encoding: " + value, {200}) for value in (b"", b";", b"gzip;q=", b"gzip;q=9", b"*;q=0", b"," * 3000, b"\xff")],
    *[(b"Origin: " + value, {200}) for value in (b"", b"null", b"http://a b", b"\xff", b"*")],
]  # fmt: skip


@pytest.mark.parametrize(("field", "statuses"), ASKED)
async def test_a_range_or_a_condition_is_satisfied_unsatisfied_or_ignored(
    root: Path, field: bytes, statuses: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    data = b"GET /a.txt HTTP/1.1\r\n" + HOST + field + b"\r\n" + END
    async with serving(http.files(root)) as port:
        for step in steps(data):
            got = await say(port, data, step=step)
            head, _, body = got.partition(b"\r\n\r\n")

            assert int(head[9:12]) in statuses
            assert body == TEXT or not head.startswith(b"HTTP/1.1 200 ")
            assert b"Content-Range: bytes */10" in head or not head.startswith(b"HTTP/1.1 416 ")
            assert len(got) < 5000
    assert caplog.records == []
