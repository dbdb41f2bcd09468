"""The check of raw heads, without a socket. test_hostile tests what a client sees of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow.http import Limits, RequestError
from trioflow.http.wire import strict
from trioflow.http.wire.strict import check_head, check_start, empty_lines

GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
SMALL = Limits(line_size=40, head_size=200, head_count=4, body_size=1000)


def status_of_head(data: bytes, cuts: list[int], limits: Limits) -> int | None:
    """Check a head cut at `cuts`; return the status, or None if it is valid or incomplete."""
    came = b""
    try:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            seen, came = len(came), came + data[start:stop]
            end = came.find(b"\r\n\r\n")
            if end >= 0:
                check_head(came[: end + 4], limits)
                return None
            check_start(came, seen, limits)
    except RequestError as exc:
        return exc.status
    return None


def every_byte(data: bytes) -> list[int]:
    return list(range(1, len(data)))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + HOST, None),
        (GET + b"Host:localhost:80 \t\r\nA:\r\nB: \x80\xff\ta\r\n", None),
        (b"GET / HTTP/1.0\r\n", None),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST, None),
        (b"GET http://a/ HTTP/1.1\r\n" + HOST, None),
        (b"GET /" + b"x" * 26 + b" HTTP/1.1\r\n" + HOST, None),
        (b"GET /" + b"x" * 27 + b" HTTP/1.1\r\n" + HOST, 414),
        (b"GET /" + b"x" * 35 + b"\x00 HTTP/1.1\r\n" + HOST, 414),
        (b"GET /" + b"x" * 27 + b"\x00 HTTP/1.1\r\n" + HOST, 400),
        (GET + HOST + b"A: b\r\n" * 3, None),
        (GET + HOST + b"A: b\r\n" * 4, 431),
        (GET + HOST + b"A: " + b"b" * 170 + b"\r\n", 431),
        (GET + HOST + b"A: " + b"b" * 161 + b"\r\n", 431),
        (GET + HOST + b"A: " + b"b" * 160 + b"\r\n", None),
        (GET + HOST + b"A: " + b"b" * 150 + b"\x01\r\n", 400),
        (GET + HOST + b"A: " + b"b" * 170 + b"\x01\r\n", 431),
        (GET + HOST + b"Content-Length: 1000\r\n", None),
        (GET + HOST + b"Content-Length: 1001\r\n", 413),
        (GET + HOST + b"Content-Length: " + b"0" * 40 + b"1\r\n", None),
        (GET + HOST + b"Content-Length: " + b"9" * 40 + b"\r\n", 400),
        (b"BREW / HTTP/2.0\r\nx\r\n", 505),
        (b"BREW / HTTP/1.1\r\nx\r\n", 501),
        (b"TRACE / HTTP/1.1\r\nx\r\n", 405),
        (b"", 400),
    ],
)
def test_a_head_has_one_status_for_any_chunking(head: bytes, status: int | None) -> None:
    data = head + b"\r\n" * (2 if not head else 1)

    assert status_of_head(data, [], SMALL) == status
    assert status_of_head(data, every_byte(data), SMALL) == status
    for cut in every_byte(data):
        assert status_of_head(data, [cut], SMALL) == status


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"\x16\x03\x01\x02", 400),
        (b"GET / HTTP/1.1\nHost", 400),
        (b"GET / HTTP/1.1\rHost", 400),
        (b"nonsense\r\n", 400),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"BREW / HTTP/1.1\r\n", 501),
        (GET + b" folded\r\n", 400),
        (GET + b"Host : a\r\n", 400),
        (GET + b"A: b\x00", 400),
        (b"x" * 8193, 400),
        (b"GET /" + b"x" * 8193, 414),
        (GET + b"A: b\r\n" * 101, 431),
    ],
)
def test_bytes_that_cannot_become_a_head_are_refused_at_once(start: bytes, status: int) -> None:
    assert status_of_head(start, [], Limits()) == status


@pytest.mark.parametrize("start", [b"G", GET, GET[:-1], GET + HOST[:-1], GET + b"Ho", b"x" * 8192 + b"\r"])
def test_the_rest_of_a_valid_start_of_a_head_is_awaited(start: bytes) -> None:
    assert status_of_head(start, every_byte(start), Limits()) is None


def test_empty_lines_before_a_head_are_counted() -> None:
    assert empty_lines(GET) == 0
    assert empty_lines(b"\r\n" * 3 + GET) == 6
    assert empty_lines(b"\n" + GET) == empty_lines(b"\r") == 0


PIECES = [
    b"GET",
    b" ",
    b"/",
    b"HTTP/1.1",
    b"\r\n",
    b"\r",
    b"\n",
    b"Host: a",
    b"X",
    b":",
    b"\t",
    b"\x00",
    b"\x80",
    b"x" * 45,
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.booleans(), st.data())
def test_a_random_head_has_one_status_for_any_chunking(pieces: list[bytes], begun: bool, data: st.DataObject) -> None:
    head = GET * begun + b"".join(pieces) + b"\r\n\r\n"
    cuts = data.draw(st.lists(st.integers(1, len(head) - 1), max_size=6, unique=True).map(sorted))

    assert status_of_head(head, cuts, SMALL) == status_of_head(head, [], SMALL)


def test_long_hosts_are_checked_and_not_cached() -> None:
    before = strict._known.cache_info().currsize
    for number in range(300):
        check_head(GET + b"Host: %d%b\r\n\r\n" % (number, b"x" * 1000), Limits())
        with pytest.raises(RequestError, match="invalid Host"):
            check_head(GET + b"Host: %d%b\r\n\r\n" % (number, b"<" * 1000), Limits())

    assert strict._known.cache_info().currsize == before
