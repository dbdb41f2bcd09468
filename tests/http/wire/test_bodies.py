"""A body of known length, received without a parser."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow.http.wire.bodies import Counted
from trioflow.http.wire.limits import RequestError


@settings(max_examples=100)
@given(st.binary(max_size=40), st.integers(0, 40), st.lists(st.integers(1, 9), max_size=50))
def test_a_body_of_known_length_is_the_same_for_any_chunking_and_takes_nothing_after_it(
    data: bytes, length: int, sizes: list[int]
) -> None:
    length = min(length, len(data))
    at = min(sizes[0] if sizes else 0, len(data))
    body = Counted(length, data[:at])
    came = body.take()
    for size in sizes[1:] + [40] * 40:
        if not body.most:
            break
        got = data[at : at + min(size, body.most)]
        at += len(got)
        body.feed(got)
        came += body.take()

    assert b"".join(came) == data[:length]
    assert body.is_read
    assert data[:at] == data[:length] + body.leftover


def test_a_body_of_known_length_has_ended_when_it_was_received_not_when_it_arrived() -> None:
    body = Counted(3, b"abc")

    assert not body.is_read
    assert body.take() == [b"abc"]
    assert body.is_read


def test_R10_a_body_of_known_length_that_ends_early_is_an_error_at_every_receive() -> None:
    body = Counted(5, b"ab")

    for _ in range(2):
        with pytest.raises(RequestError, match="ended 3 bytes before") as caught:
            body.feed(b"")
        assert caught.value.status == 400
