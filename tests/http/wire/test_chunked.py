"""Chunked bodies, read without a socket."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.http import Limits, RequestError
from trioflow.http.wire.chunked import Chunked

SMALL = Limits(head_size=200, head_count=4, body_size=1000, extension_size=30)


def read(data: bytes, cuts: list[int], limits: Limits = SMALL) -> tuple[bytes, int | None, bool]:
    """Read a body cut at `cuts`; return its data, the status with which it is refused, and whether it ended."""
    body, came = Chunked(b"", limits), b""
    try:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            body.feed(data[start:stop])
            while body.has_more:
                came += b"".join(body.take())
    except RequestError as exc:
        return came, exc.status, body.is_read
    return came, None, body.is_read


def every_byte(data: bytes) -> list[int]:
    return list(range(1, len(data)))


CHUNKS: list[tuple[bytes, int | None]] = [
    (b"5\r\nhello\r\n0\r\n\r\n", None),
    (b'5;a\r\nhello\r\n0;b=c;d="e ; \\""\r\n\r\n', None),
    (b"0005\r\nhello\r\n000\r\n\r\n", None),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", None),
    (b"0\r\nX-Sum: 1\r\nY:\r\n\r\n", None),
    (b"5\r\nhello!\r\n0\r\n\r\n", 400),
    (b"5\r\nhelloXX0\r\n\r\n", 400),
    (b"5\r\nhello\r0\r\n\r\n", 400),
    (b"5\r\nhello\n0\r\n\r\n", 400),
    (b"5\nhello\r\n0\r\n\r\n", 400),
    (b"5\rhello\r\n0\r\n\r\n", 400),
    (b"\r\n", 400),
    (b"g\r\n", 400),
    (b"-5\r\n", 400),
    (b"+5\r\n", 400),
    (b"0x5\r\n", 400),
    (b"5_0\r\n", 400),
    (b" 5\r\n", 400),
    (b"5 \r\n", 400),
    (b"5 ;a\r\n", 400),
    (b"5;\r\n", 400),
    (b"5;;a\r\n", 400),
    (b"5;a=\r\n", 400),
    (b'5;a="b\r\n', 400),
    (b"5;a\x00\r\n", 400),
    (b"5;a\rb\r\n", 400),
    (b"5;a\nb\r\n", 400),
    (b"12345678901234567\r\n", 400),
    (b"123456789012345678901\r\n" + b"x" * 99, 400),
    (b"ffffffffffffffff\r\n", 413),
    (b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n", None),
    (b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n", 413),
    (b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
    (b"5;" + b"a" * 29 + b"\r\nhello\r\n0\r\n\r\n", None),
    (b"5;" + b"a" * 30 + b"\r\nhello\r\n0\r\n\r\n", 400),
    (b"5;" + b"a" * 60 + b"\r\n", 400),
    (b"5;" + b"a" * 20 + b"\r\nhello\r\n5;" + b"a" * 20 + b"\r\n", 400),
    (b"0\r\nno colon\r\n\r\n", 400),
    (b"0\r\n folded: x\r\n\r\n", 400),
    (b"0\r\nA: b\r\n c\r\n\r\n", 400),
    (b"0\r\nA : b\r\n\r\n", 400),
    (b"0\r\nA: \x00\r\n\r\n", 400),
    (b"0\r\nA: b\n\r\n", 400),
    (b"0\r\nContent-Length: 5\r\n\r\n", 400),
    (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"0\r\nHost: a\r\n\r\n", 400),
    (b"0\r\nAuthorization: a\r\n\r\n", 400),
    (b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", None),
    (b"0\r\n" + b"A: b\r\n" * 5, 431),
    (b"0\r\nA: " + b"b" * 250 + b"\r\n\r\n", 431),
    (b"0\r\n" + (b"A: " + b"b" * 80 + b"\r\n") * 3, 431),
]


@pytest.mark.parametrize(("body", "status"), CHUNKS)
def test_a_chunked_body_has_one_status_for_any_chunking(body: bytes, status: int | None) -> None:
    for cuts in [[], every_byte(body), *([cut] for cut in every_byte(body))]:
        assert read(body, cuts)[1:] == (status, status is None)


def test_bytes_after_a_body_are_not_read() -> None:
    body = Chunked(b"1\r\na\r\n0\r\n\r\n\x00\n\n", SMALL)

    assert body.take() == [b"a"]
    assert body.is_read
    assert body.leftover == b"\x00\n\n"


def test_a_body_that_was_refused_stays_refused() -> None:
    body = Chunked(b"x\r\n", SMALL)
    for _ in range(3):
        with pytest.raises(RequestError, match="invalid chunk size") as caught:
            body.take()
        assert caught.value.status == 400
    assert not body.is_read


def test_R10_a_chunked_body_that_ends_early_is_an_error_at_every_receive() -> None:
    body = Chunked(b"5\r\nhel", SMALL)

    assert body.take() == [b"hel"]
    for _ in range(2):
        with pytest.raises(RequestError, match="ended before its last chunk") as caught:
            body.feed(b"")
        assert caught.value.status == 400


@given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
def test_a_chunked_body_is_the_same_for_any_chunking(chunks: list[bytes], data: st.DataObject) -> None:
    body = b"".join(b"%X;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nA: b\r\n\r\n"
    cuts = data.draw(st.lists(st.integers(1, len(body) - 1), max_size=9, unique=True).map(sorted))

    assert read(body, cuts, Limits()) == (b"".join(chunks), None, True)


def test_the_number_of_lines_parsed_at_once_is_bounded() -> None:
    body = Chunked(b"1\r\na\r\n" * 1000 + b"1000\r\n" + bytes(4096) + b"\r\n0\r\n\r\n", Limits())
    taken = []
    while not body.is_read:
        taken.append(sum(map(len, body.take())))

    assert sum(taken) == 5096
    assert max(taken[:-1]) <= 64
    assert len(taken) == 16


@pytest.mark.parametrize(
    ("chunk", "framing", "most"),
    [
        (b"1\r\na\r\n", 4.0, 65536),  # 5 bytes for one
        (b"1\r\na\r\n", math.inf, None),
        (b"1\r\na\r\n", 5.0, None),
        (b"2\r\nab\r\n", 4.0, None),
        (b"0000000000000001\r\na\r\n", 4.0, 4096),  # 20 bytes for one
    ],
)
def test_chunks_with_far_more_framing_than_data_are_refused(chunk: bytes, framing: float, most: int | None) -> None:
    came, status, _ = read(chunk * 100_000, [], Limits(framing=framing))

    assert status == (None if most is None else 400)
    assert most is None or most - 64 <= len(came) <= most
