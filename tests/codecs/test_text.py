"""Text: decoded, encoded, split into lines and pieces, with the same result for any chunking."""

from __future__ import annotations

import re
import tracemalloc
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import Source
from tests.cutting import cut, places
from trioflow.codecs.pieces import PORTION, Pieces


async def through(chunks: Iterable[Any], *transforms: tf.Transform[Any, Any]) -> list[Any]:
    got: list[Any] = await tf.pipeline(chunks, *transforms, tf.collect())
    return got


texts = st.lists(
    st.sampled_from(["\n", "\r", "\r\n", "a", "bc", "é", "€", "𝄞", "\u2028", "\x0b", "\x85"]), max_size=30
).map("".join)


def reference_lines(text: str) -> list[str]:
    found = re.split(r"\r?\n", text)
    return found if found[-1] else found[:-1]


@settings(max_examples=60)
@given(
    text=texts, places=places, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be", "gb18030", None])
)
@example(text="a\r\nb", places=[2], encoding="utf-8")
@example(text="a\r\r\nb", places=[2], encoding=None)
async def test_any_chunking_gives_the_same_lines(text: str, places: list[int], encoding: str | None) -> None:
    chunks = cut(text if encoding is None else text.encode(encoding), places)
    encoding = encoding or "utf-8"

    assert await through(chunks, tf.lines(encoding=encoding)) == reference_lines(text)
    kept = await through(chunks, tf.lines(encoding=encoding, keep_ends=True))
    assert kept == text.replace("\n", "\n\0").removesuffix("\0").split("\0")[: len(kept)]
    assert "".join(kept) == text


@settings(max_examples=60)
@given(
    pieces=st.lists(st.sampled_from(["-", "--", "-+", "+", "a", "é"]), max_size=30),
    delimiter=st.sampled_from(["-", "--", "--+", "-+-", "aa"]),
    places=places,
    as_bytes=st.booleans(),
)
async def test_any_chunking_gives_the_same_pieces(
    pieces: list[str], delimiter: str, places: list[int], as_bytes: bool
) -> None:
    text = "".join(pieces)
    whole: Any = text.encode() if as_bytes else text
    mark: Any = delimiter.encode() if as_bytes else delimiter
    expected = whole.split(mark)

    got = await through(cut(whole, places), tf.split(mark))

    assert got == (expected if expected[-1] else expected[:-1])


@settings(max_examples=60)
@given(
    data=st.lists(st.sampled_from([b"a", "é".encode(), "€".encode(), "𝄞".encode(), b"\xff", b"\xc3"]), max_size=20),
    places=places,
    errors=st.sampled_from(["strict", "replace", "ignore", "surrogateescape"]),
)
async def test_any_chunking_decodes_the_same(data: list[bytes], places: list[int], errors: str) -> None:
    whole = b"".join(data)
    try:
        expected = whole.decode("utf-8", errors)
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            await through(cut(whole, places), tf.decode(errors=errors))
    else:
        got = await through(cut(whole, places), tf.decode(errors=errors))
        assert "".join(got) == expected
        assert "" not in got


@settings(max_examples=40)
@given(
    items=st.lists(st.text("ab\néあ", max_size=4), max_size=8),
    end=st.sampled_from(["", "\n", "あ"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7", "gb18030", "iso-2022-jp-2004"]),
)
async def test_encoding_any_chunking_gives_the_encoded_whole(items: list[str], end: str, encoding: str) -> None:
    whole = "".join(item + end for item in items)

    got = await through(items, tf.encode(encoding, end=end))

    assert b"".join(got).decode(encoding) == whole
    assert "".join(await through(got, tf.decode(encoding))) == whole


async def test_a_line_ends_only_at_a_newline() -> None:
    text = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\rj"

    assert len(text.splitlines()) == 10
    assert await through([text.encode()], tf.lines()) == [text]
    assert await through([text], tf.lines(keep_ends=True)) == [text]


@pytest.mark.parametrize(("before", "ends_in"), [(1, "é".encode()), (145, b"\r\n"), (144, b"\n\xc3"), (146, b"\xa9\r")])
async def test_lines_are_the_same_across_the_portions_of_a_large_chunk(before: int, ends_in: bytes) -> None:
    line = "é" * 499 + "\r\n"
    text = "-" * before + line * (PORTION // 400) + "no end"
    chunk = text.encode()

    assert len(chunk) > 2 * PORTION
    assert chunk[PORTION - 1 : PORTION + 1] == ends_in
    assert await through([chunk], tf.lines()) == reference_lines(text)
    assert await through([text], tf.lines()) == reference_lines(text)
    assert await through([memoryview(chunk)], tf.split(b"\xa9\r\n")) == chunk.split(b"\xa9\r\n")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_chunks_may_be_of_any_bytes_like_type(kind: Callable[[bytes], Any]) -> None:
    chunks = [kind(b"a\nb"), kind("é".encode()[:1]), kind("é".encode()[1:] + b"\n")]

    assert await through(chunks, tf.lines()) == ["a", "bé"]
    assert await through(chunks, tf.decode()) == ["a\nb", "é\n"]
    pieces = await through(chunks, tf.split(b"\n"))
    assert pieces == [b"a", "bé".encode()]
    assert {type(piece) for piece in pieces} == {bytes}


async def test_R8_a_line_is_emitted_before_the_next_has_started() -> None:
    send, receive = tf.open_channel[bytes](4)

    async with tf.from_iterable(receive).pipe(tf.lines()).open() as lines:
        await send.send(b"a\nb")
        assert await lines.receive() == "a"
        await send.send(b"\n")
        assert await lines.receive() == "b"


async def test_R9_a_reader_that_stops_after_some_lines_ends_an_endless_source() -> None:
    source = Source([b"a\nb\nc\n"], then=None)

    with trio.fail_after(60):
        got = await source.readable.pipe(tf.lines()).pipe(tf.take(2)).pipe(tf.collect())

    assert got == ["a", "b"]
    assert source.ended == 1


@pytest.mark.parametrize("name", ["decode", "lines"])
@pytest.mark.parametrize(
    ("encoding", "chunks"),
    [
        ("utf-8", [b"a", "€".encode()[:2]]),
        ("utf-8", [b"\n", "€".encode()[:1], "€".encode()[1:2]]),
        ("utf-16-le", [b"a\0b"]),
        ("gb18030", [b"a\x81"]),
    ],
)
async def test_R10_a_character_that_is_cut_off_is_an_error(name: str, encoding: str, chunks: list[bytes]) -> None:
    make: Any = {"decode": tf.decode(encoding), "lines": tf.lines(encoding=encoding)}[name]

    with pytest.raises(UnicodeDecodeError) as caught:
        await through(chunks, make)

    assert caught.value.__notes__[-1].startswith(f"in stage 2 of 3: {name}(")


@pytest.mark.parametrize("make", [tf.decode, tf.lines, partial(tf.parse_csv, header=False)])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "shift_jis", "gb18030", "utf-7", "cp1252"]
)
async def test_the_error_for_wrong_bytes_says_where_they_are_in_the_whole_input(
    make: Callable[..., tf.Transform[Any, Any]], encoding: str
) -> None:
    start = "é\n" * 3 if encoding == "cp1252" else "é日\n" * 3
    good = start.encode(encoding, "ignore")
    wrong = {"utf-16": b"\0\xdc", "utf-32": b"\xff" * 4, "cp1252": b"\x81"}.get(encoding, b"\xff")
    for size in (1, 2, 3, 5, 1000):
        with pytest.raises(UnicodeDecodeError) as caught:
            await through([good + wrong + good], tf.rechunk(size).pipe(make(encoding=encoding)))
        assert caught.value.__notes__[0].startswith(f"at byte {len(good) + 1} of the input, in b'"), size


async def test_the_error_for_wrong_bytes_shows_the_bytes_around_them() -> None:
    view = memoryview(array("I", b"0123" * 3))  # its length is not its size

    with pytest.raises(UnicodeDecodeError) as caught:
        await through([view, b"." * 100 + b"caf\xe9 au lait" + b"." * 100], tf.decode())

    assert caught.value.__notes__[0] == f"at byte 116 of the input, in b'{'.' * 17}caf\\xe9 au lait{'.' * 12}'"


@pytest.mark.parametrize("make", [tf.decode, tf.lines])
async def test_bytes_that_are_not_text_are_an_error_at_once(make: Callable[[], tf.Transform[Any, Any]]) -> None:
    source = Source([b"ok\n\xff\n"], then=None)

    with pytest.raises(UnicodeDecodeError), trio.fail_after(60):
        await source.readable.pipe(make()).pipe(tf.drain())

    assert source.ended == 1


@settings(max_examples=60)
@given(text=texts, places=places, limit=st.integers(1, 5), keep_ends=st.booleans(), as_bytes=st.booleans())
@example(text="abc\r\nabc\n", places=[4], limit=3, keep_ends=True, as_bytes=False)
@example(text="abc\r", places=[4], limit=3, keep_ends=False, as_bytes=False)
async def test_any_chunking_finds_the_same_line_too_long(
    text: str, places: list[int], limit: int, keep_ends: bool, as_bytes: bool
) -> None:
    chunks = cut(text.encode() if as_bytes else text, places)
    lines = tf.lines(max_length=limit, keep_ends=keep_ends)
    too_long = [n for n, line in enumerate(reference_lines(text), 1) if len(line) > limit]

    if too_long:
        with pytest.raises(
            ValueError, match=f"^line {too_long[0]} is longer than max_length, {limit} characters\n"
        ) as caught:
            await through(chunks, lines)
        assert caught.value.__notes__[0].startswith("in stage 2 of 3: lines(")
    else:
        assert [line.rstrip("\r\n") for line in await through(chunks, lines)] == [
            line.rstrip("\r\n") for line in reference_lines(text)
        ]


@settings(max_examples=60)
@given(
    pieces=st.lists(st.sampled_from([b"-", b"--", b"a", b"bc"]), max_size=20), places=places, limit=st.integers(1, 5)
)
async def test_any_chunking_finds_the_same_piece_too_long(pieces: list[bytes], places: list[int], limit: int) -> None:
    whole = b"".join(pieces)
    too_long = [n for n, piece in enumerate(whole.split(b"--"), 1) if len(piece) > limit]

    if too_long:
        with pytest.raises(ValueError, match=f"^piece {too_long[0]} is longer than max_length, {limit} bytes\n"):
            await through(cut(whole, places), tf.split(b"--", max_length=limit))
    else:
        await through(cut(whole, places), tf.split(b"--", max_length=limit))


@pytest.mark.parametrize("make", [tf.lines, lambda: tf.split(b"\n")])
async def test_R7_an_endless_line_is_refused_at_the_limit(make: Callable[[], tf.Transform[bytes, Any]]) -> None:
    read = 0

    @tf.readable
    async def endless() -> Any:
        nonlocal read
        while True:
            read += 4096
            yield bytes(4096)

    with pytest.raises(ValueError, match="1 is longer than max_length, 1048576 "):
        await endless().pipe(make()).pipe(tf.drain())

    assert 2**20 < read <= 2 * 2**20 + 4096


@pytest.mark.parametrize("part", ["ab", b"ab"])
def test_R7_a_piece_of_many_small_parts_takes_memory_only_for_its_length(part: Any) -> None:
    pieces = Pieces(part[:0] + (b"\n" if isinstance(part, bytes) else "\n"), 10**6, "line", strict=False)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            pieces.cut(part)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 8 * 100_000  # at most four bytes a character, and room to grow; a list of parts would take 6 MB
    assert pieces.rest() == [part * 50_000]


def test_a_piece_is_searched_once_however_many_chunks_it_spans() -> None:
    seen = 0

    class Watched(str):
        def split(self, *args: Any) -> list[str]:  # type: ignore[override]
            nonlocal seen
            seen += len(self)
            return super().split(*args)

    pieces = Pieces[str]("\n", 10**6, "line", strict=False)
    got = [line for _ in range(1000) for line in pieces.cut(Watched("abc"))]
    got += pieces.cut(Watched("d\ne"))

    assert got == ["abc" * 1000 + "d"]
    assert pieces.rest() == ["e"]
    assert seen == 3003


@pytest.mark.parametrize("limit", [1, 2**20, float("inf")])
async def test_a_limit_can_be_any_count_or_infinite(limit: float) -> None:
    assert await through([b"a\nb"], tf.lines(max_length=limit)) == ["a", "b"]
    assert await through(["a-b"], tf.split("-", max_length=limit)) == ["a", "b"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.decode("nonsense"), LookupError, "unknown encoding: nonsense"),
        (lambda: tf.decode("hex"), LookupError, "'hex' is not a text encoding"),
        (lambda: tf.decode(errors="nonsense"), LookupError, "unknown error handler name 'nonsense'"),
        (lambda: tf.decode(8), TypeError, "decode expects the name of an encoding, got int 8"),
        (
            lambda: tf.decode(errors=None),
            TypeError,
            "decode: errors must be the name of an error handler, got NoneType None",
        ),
        (lambda: tf.encode("nonsense"), LookupError, "unknown encoding: nonsense"),
        (lambda: tf.encode(end=b"\n"), TypeError, r"end must be a str, got bytes b'\\n'"),
        (lambda: tf.lines(encoding="nonsense"), LookupError, "unknown encoding: nonsense"),
        (lambda: tf.lines(keep_ends=1), TypeError, "keep_ends must be a bool, got 1"),
        (lambda: tf.lines(max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: tf.lines(max_length=-1), ValueError, "max_length must be at least 1, got -1"),
        (lambda: tf.lines(max_length=1.5), TypeError, "max_length must be an int or math.inf, got 1.5"),
        (lambda: tf.split(b"-", max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: tf.split(""), ValueError, "the delimiter must not be empty"),
        (lambda: tf.split(b""), ValueError, "the delimiter must not be empty"),
        (lambda: tf.split(10), TypeError, "split expects a delimiter of bytes or str, got int 10"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "chunks", "message"),
    [
        (lambda: tf.decode(), ["text"], "decode expects bytes, got str"),
        (lambda: tf.decode(), [b"a", None], "decode expects bytes, got NoneType"),
        (lambda: tf.encode(), [b"bytes"], "encode expects str, got bytes"),
        (lambda: tf.encode(end="x"), ["a", 1], "encode expects str, got int"),
        (lambda: tf.lines(), [None], "lines expects chunks of bytes or str, got NoneType"),
        (lambda: tf.lines(), [b"a", 1], "lines expects chunks of bytes, as the first was, got int"),
        (lambda: tf.lines(), [b"a", "b"], "lines expects chunks of bytes, as the first was, got str"),
        (lambda: tf.lines(), ["a", b"b"], "lines expects chunks of str, as the first was, got bytes"),
        (lambda: tf.split(b"-"), ["a-b"], "split expects chunks of bytes, as its delimiter is, got str"),
        (lambda: tf.split("-"), [b"a-b"], "split expects chunks of str, as its delimiter is, got bytes"),
    ],
)
async def test_R11_a_chunk_of_the_wrong_type_raises_an_error_that_names_the_stage(
    make: Callable[[], tf.Transform[Any, Any]], chunks: list[Any], message: str
) -> None:
    source = Source(chunks, then=None)

    with (
        pytest.raises(
            TypeError, match=rf"^{message}(; (pipe through tf\..* first|text needs no decoding))?\n"
        ) as caught,
        trio.fail_after(60),
    ):
        await source.readable.pipe(make()).pipe(tf.drain())

    assert caught.value.__notes__[0].startswith(f"in stage 2 of 3: {message.split()[0]}(")
    assert source.ended == 1


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.lines()) == "<Transform lines()>"
    assert repr(tf.lines(encoding="latin-1", keep_ends=True, max_length=80)) == (
        "<Transform lines(encoding='latin-1', keep_ends=True, max_length=80)>"
    )
    assert repr(tf.decode("utf-8")) == "<Transform decode()>"
    assert repr(tf.encode("ascii", end=".", errors="replace")) == (
        "<Transform encode(encoding='ascii', end='.', errors='replace')>"
    )
    assert repr(tf.split(b"-")) == "<Transform split(b'-')>"


ENCODINGS = ["ascii", "cp932", "gb18030", "iso2022_jp", "utf-7", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]


@given(
    encoding=st.sampled_from(ENCODINGS),
    errors=st.sampled_from(["strict", "replace"]),
    whole=st.binary(max_size=12) | st.text(max_size=4).map(lambda text: text.encode("utf-16", "surrogatepass")),
    at=places,
)
@example("utf-8-sig", "strict", b"\xef", [])
@example("utf-8-sig", "strict", b"\xef\xbb\xbf", [1, 2])
@example("utf-16", "strict", b"a\0b\0", [1])
@example("utf-32", "strict", b"a\0\0\0", [1])
@example("utf-16", "strict", b"\xff", [])
def test_R10_chunks_are_decoded_as_the_whole_is_with_the_same_errors(
    encoding: str, errors: str, whole: bytes, at: list[int]
) -> None:
    try:
        expected: Any = whole.decode(encoding, errors)
    except UnicodeDecodeError:
        expected = UnicodeDecodeError

    async def main() -> Any:
        try:
            return await tf.from_iterable(cut(whole, at)).pipe(tf.decode(encoding, errors=errors)).pipe(tf.join()) or ""
        except UnicodeDecodeError:
            return UnicodeDecodeError

    assert trio.run(main) == expected


@pytest.mark.parametrize("encoding", ["idna", "punycode", "unicode_escape"])
def test_a_codec_that_cannot_decode_chunk_by_chunk_is_refused(encoding: str) -> None:
    for make in (tf.decode, lambda name: tf.lines(encoding=name), lambda name: tf.parse_csv(encoding=name)):
        with pytest.raises(LookupError, match=f"{encoding} cannot be decoded chunk by chunk"):
            make(encoding)
