"""The kit splits the input anywhere, fails, hangs up and cancels; invalid input is tested here."""

import pytest
from trioflow_netstrings import netstrings, parse_netstrings

import trioflow as tf
from trioflow.testing import check_transform

MESSAGES = [b"hello", b"", b"1:a,", b"x" * 300]
ENCODED = b"5:hello,0:,4:1:a,,300:" + b"x" * 300 + b","


async def test_netstrings_follows_the_rules() -> None:
    await check_transform(netstrings, MESSAGES, ENCODED, holds=0)


async def test_parse_netstrings_follows_the_rules_for_any_chunking() -> None:
    await check_transform(parse_netstrings, [ENCODED], MESSAGES, is_stream=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"five:hello,", "a length"),
        (b"7000:", "a length"),
        (b"5:hello;", "a comma"),
        (b"123456", "max_length|delimiter"),
    ],
)
async def test_invalid_input_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        await tf.from_iterable(data).pipe(parse_netstrings(max_length=5000)).pipe(tf.drain())


@pytest.mark.parametrize("cut", [b"5", b"5:", b"5:hel", b"0:,5:hello"])
async def test_a_message_that_is_cut_off_is_an_error(cut: bytes) -> None:
    with pytest.raises(EOFError, match="within a message"):
        await tf.from_iterable(cut).pipe(parse_netstrings()).pipe(tf.drain())
