"""The bytes of a response, read by h11's client."""

from __future__ import annotations

import math

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow.http import Headers
from trioflow.http.wire import response_writer
from trioflow.http.wire.response_writer import ResponseWriter, date, keep_alive_lines


def read_by_h11(data: bytes, *, method: str = "GET", version: str = "1.1") -> tuple[h11.Response, bytes, bool]:
    """Return the head and the body as a client reads them, and whether it would reuse the connection."""
    client = h11.Connection(h11.CLIENT)
    headers = [("Host", "localhost")] if version == "1.1" else [("Host", "localhost"), ("Connection", "close")]
    client.send(h11.Request(method=method, target="/", headers=headers))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(b"")  # the server closes
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert isinstance(event, h11.EndOfMessage)
            return response, body, client.their_state is h11.DONE


def written(writer: ResponseWriter, status: int, fields: list[tuple[str, str]], chunks: list[bytes]) -> bytes:
    data = writer.write_head(status, Headers(fields), None)
    for chunk in chunks:
        data += b"".join(writer.data(chunk))
    return data + writer.end()


@settings(max_examples=150)
@given(
    chunks=st.lists(st.binary(max_size=20), max_size=5),
    is_counted=st.booleans(),
    is_old=st.booleans(),
    keeps_alive=st.booleans(),
    connection=st.sampled_from(["", "close", "Close, foo", "foo"]),
)
def test_a_client_reads_what_was_written_and_knows_whether_to_reuse_the_connection(
    chunks: list[bytes], is_counted: bool, is_old: bool, keeps_alive: bool, connection: str
) -> None:
    body = b"".join(chunks)
    fields = [("Content-Type", "text/plain")]
    if is_counted:
        fields.append(("Content-Length", str(len(body))))
    if connection:
        fields.append(("Connection", connection))
    writer = ResponseWriter(is_head=False, is_old=is_old, keeps_alive=keeps_alive and not is_old)

    response, got, goes_on = read_by_h11(written(writer, 200, fields, chunks), version="1.0" if is_old else "1.1")

    assert (response.status_code, bytes(response.reason)) == (200, b"OK")
    assert got == body
    assert goes_on is writer.keeps_alive
    assert writer.keeps_alive is (keeps_alive and not is_old and "close" not in connection.lower())


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (204, "No Content"),
        (304, "Not Modified"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (599, ""),
    ],
)
@pytest.mark.parametrize("fields", [[], [("Content-Length", "5")]])
def test_a_head_alone_is_a_complete_response_to_HEAD(status: int, phrase: str, fields: list[tuple[str, str]]) -> None:
    writer = ResponseWriter(is_head=True, is_old=False, keeps_alive=True)

    response, body, goes_on = read_by_h11(written(writer, status, fields, []), method="HEAD")

    assert (response.status_code, bytes(response.reason).decode()) == (status, phrase)
    assert body == b""
    assert goes_on is writer.keeps_alive is True


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_cannot_have_a_body_has_no_framing(status: int) -> None:
    writer = ResponseWriter(is_head=False, is_old=False, keeps_alive=True)

    response, body, goes_on = read_by_h11(written(writer, status, [], []))

    assert [name for name, _ in response.headers] == [b"date"]
    assert (body, goes_on) == (b"", True)


@pytest.mark.parametrize(
    ("is_counted", "keeps_alive", "said"),
    [
        (True, True, b"Connection: keep-alive\r\n"),
        (True, False, b"Connection: close\r\n"),
        (False, True, b"Connection: close\r\n"),
    ],
)
def test_an_http_1_0_client_is_told_whether_to_reuse_the_connection(
    is_counted: bool, keeps_alive: bool, said: bytes
) -> None:
    writer = ResponseWriter(is_head=False, is_old=True, keeps_alive=keeps_alive)

    head = writer.write_head(200, Headers([("date", "now")]), 5 if is_counted else None)

    length = b"Content-Length: 5\r\n" if is_counted else b""
    assert head == b"HTTP/1.1 200 OK\r\nDate: now\r\n" + length + said + b"\r\n"
    assert writer.keeps_alive is (is_counted and keeps_alive)


def test_the_last_response_announces_the_close() -> None:
    writer = ResponseWriter(is_head=False, is_old=False, keeps_alive=True)

    assert writer.write_head(200, Headers(), 0, is_last=True).endswith(b"Connection: close\r\n\r\n")
    assert writer.keeps_alive is False


@pytest.mark.parametrize(
    ("fields", "length", "first", "problem"),
    [
        ([("transfer-encoding", "chunked")], None, 0, "Transfer-Encoding cannot be set"),
        ([("content-length", "five")], None, 0, "Content-Length must be one number, got 'five'"),
        ([("content-length", "5"), ("content-length", "5")], None, 0, "Content-Length must be one number, got '5, 5'"),
        ([("content-length", "5")], 6, 0, "the body has 6 bytes, but its Content-Length says 5"),
        ([("content-length", "5")], None, 7, "the body is at least 2 bytes longer than its Content-Length"),
    ],
)
def test_a_response_that_cannot_be_framed_is_refused_before_anything_is_sent(
    fields: list[tuple[str, str]], length: int | None, first: int, problem: str
) -> None:
    writer = ResponseWriter(is_head=False, is_old=False, keeps_alive=True)

    with pytest.raises(RuntimeError, match=problem):
        writer.write_head(200, Headers(fields), length, first=first)

    assert not writer.is_begun
    response, body, goes_on = read_by_h11(writer.error(500))
    assert (response.status_code, body, goes_on) == (500, b"The server failed to answer this request.\n", False)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_an_informational_response_cannot_be_framed(name: str) -> None:
    writer = ResponseWriter(is_head=False, is_old=False, keeps_alive=True)

    for make in (lambda headers: writer.interim(103, headers), writer.upgrade):
        with pytest.raises(ValueError, match=f"an informational response cannot have {name.lower()}"):
            make(Headers([(name, "5")]))

    assert not writer.is_begun


def test_the_date_is_formatted_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_writer.time, "time", lambda: 784111777.5)

    assert date() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert date() is date()


@pytest.mark.parametrize(
    ("idle", "said"), [(60.0, b"59"), (5.5, b"4"), (2, b"1"), (1.0, b"0"), (0.5, b"0"), (math.inf, None)]
)
def test_the_announced_keep_alive_timeout_is_a_second_less_than_the_limit(idle: float, said: bytes | None) -> None:
    lines = keep_alive_lines(idle)
    for keeps_alive in (True, False):
        writer = ResponseWriter(is_head=False, is_old=False, keeps_alive=keeps_alive, keep_alive=lines)
        head = writer.write_head(200, Headers(), 0)

        assert (b"\r\nKeep-Alive: timeout=%b\r\n" % (said or b"") in head) is (keeps_alive and said is not None)
        assert (b"\r\nConnection: keep-alive\r\n" in head) is (keeps_alive and said is not None)
        assert (b"\r\nConnection: close\r\n" in head) is not keeps_alive
