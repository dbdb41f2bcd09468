"""CSV both ways: any chunking of the input gives what `csv` itself reads, and written rows can be read back."""

from __future__ import annotations

import csv
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trioflow as tf
from tests.cutting import cut, in_twos, places
from trioflow.codecs import csv as csv_codec

FORMS: list[dict[str, Any]] = [
    {},
    {"delimiter": ";"},
    {"quotechar": "'", "delimiter": "\t"},
    {"doublequote": False, "escapechar": "\\"},
    {"escapechar": "\\"},
    {"skipinitialspace": True},
    {"quoting": csv.QUOTE_NONE, "escapechar": "^"},
    {"strict": True},
]
TEXTS = st.text(alphabet="ab,;\t \"'\\^\n\r", max_size=40)


def read_whole(text: str, **options: Any) -> list[list[str]]:
    """Return what `csv` makes of the whole text at once; lines end as trioflow's lines do."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return [row for row in csv.reader([line for line in lines if line], **options) if row]


async def parsed(chunks: list[Any], **options: Any) -> list[Any]:
    return await tf.from_iterable(chunks).pipe(tf.parse_csv(**options)).pipe(tf.collect())


@given(text=TEXTS, form=st.sampled_from(FORMS), at=places)
def test_any_chunking_gives_the_rows_that_csv_reads_from_the_whole(
    text: str, form: dict[str, Any], at: list[int]
) -> None:
    try:
        expected: Any = read_whole(text, **form)
    except csv.Error:
        expected = ValueError

    async def main() -> Any:
        try:
            return await parsed(cut(text, at), header=False, **form)
        except (ValueError, EOFError) as exc:
            return exc

    got = trio.run(main)
    if expected is ValueError:
        assert isinstance(got, (ValueError, EOFError))
    elif isinstance(got, EOFError):
        assert form.get("quotechar", '"') in text  # csv itself accepts a cell whose quote is never closed
    else:
        assert got == expected


@given(rows=st.lists(st.lists(st.text(alphabet="ab,; \"'\n\r", max_size=6), min_size=2, max_size=2)), at=places)
def test_rows_that_were_written_are_read_back(rows: list[list[str]], at: list[int]) -> None:
    async def main() -> list[list[str]]:
        written = await tf.from_iterable(rows).pipe(tf.csv_rows()).pipe(tf.join())
        return await parsed(cut(written or b"", at), header=False)

    assert trio.run(main) == rows


async def test_rows_have_the_column_names_of_the_first_row_as_keys() -> None:
    assert await parsed(["a,b\n1,2\n\n3,4"]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


async def test_column_names_can_be_given() -> None:
    assert await parsed([b"1,2\n"], header=["a", "b"]) == [{"a": "1", "b": "2"}]


async def test_a_quote_inside_an_unquoted_cell_is_an_ordinary_character() -> None:
    assert await parsed(['what,count\n5" pipe,2\n6" pipe,3\n']) == [
        {"what": '5" pipe', "count": "2"},
        {"what": '6" pipe', "count": "3"},
    ]


async def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    assert await parsed(["a,b\n1,2\n".encode("utf-8-sig")]) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ("a,b\n1\n", {}, ValueError, "row 2 has 1 cells for 2 columns"),
        ("a,b\n1,2,3\n", {}, ValueError, "row 2 has 3 cells for 2 columns"),
        ("a,a\n", {}, ValueError, "two columns are named 'a'"),
        ('a,b\n1,"2\n', {}, EOFError, "inside a quoted cell of row 2"),
        ('a\n"' + "long\n" * 9, {"max_length": 20}, ValueError, "row 2 is longer than max_length"),
        ('a\n"b" c\n', {"strict": True}, ValueError, "row 2 cannot be read"),
        ("a\n" + "x" * 140_000 + "\n", {}, ValueError, "row 2 cannot be read: field larger than field limit"),
    ],
)
async def test_an_error_names_the_row(text: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    for chunks in ([text], in_twos(text)):
        with pytest.raises(error, match=words):
            await parsed(chunks, **options)


async def test_rows_before_an_invalid_one_are_emitted_first() -> None:
    rows = []

    with pytest.raises(ValueError, match="row 3"):
        await tf.from_iterable(["a\n1\n2,3\n"]).pipe(tf.parse_csv()).pipe(tf.for_each(rows.append))

    assert rows == [{"a": "1"}]


def test_each_line_of_a_long_cell_is_parsed_once() -> None:
    looked_at: list[str] = []
    ends = csv_codec._RowEnds(csv_codec._dialect("parse_csv", "excel", {}))
    is_row, is_cut = ends._in_quotes

    def look(line: str) -> object:
        looked_at.append(line)
        return is_row(line)

    ends._in_quotes = look, is_cut

    assert ends.complete(['"a\n']) == 0
    assert [ends.complete(["b\n"]) for _ in range(99)] == [0] * 99
    assert ends.complete(['c"\n']) == 1
    assert len(looked_at) == 100


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"header": "a,b"}, TypeError, "header must be a bool or a sequence of column names"),
        ({"header": ["a", "a"]}, ValueError, "two columns are named 'a'"),
        ({"dialect": "nonsense"}, ValueError, "there is no dialect 'nonsense'"),
        ({"dialect": 5}, TypeError, "dialect must be the name of a dialect"),
        ({"delimiter": "ab"}, TypeError, '"delimiter" must be a '),
        ({"encoding": "klingon"}, LookupError, "klingon"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_stage_is_built(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    for make in (tf.parse_csv, tf.csv_rows):
        with pytest.raises(error, match=words):
            make(**options)


async def written(items: list[Any], **options: Any) -> bytes:
    joined: bytes = await tf.from_iterable(items).pipe(tf.csv_rows(**options)).pipe(tf.join())
    return joined


async def test_a_header_is_written_once_and_before_the_first_row() -> None:
    assert await written([{"a": 1, "b": None}, {"b": "x", "a": 2}]) == b"a,b\r\n1,\r\n2,x\r\n"
    assert await written([{"a": 1, "b": 2}], header=["b", "a"]) == b"b,a\r\n2,1\r\n"
    assert await written([{"a": 1, "b": 2}], header=False) == b"1,2\r\n"
    assert await written([(1, 2)], header=["b", "a"]) == b"b,a\r\n1,2\r\n"
    assert await written([(1, 2)]) == b"1,2\r\n"


async def test_a_given_header_is_written_even_without_rows() -> None:
    assert await written([], header=["a", "b"]) == b"a,b\r\n"


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        ([{"a": 1}, {"b": 1}], ValueError, r"item 2 has the columns \['b'\], expected \['a'\]"),
        ([{"a": 1}, {"a": 1, "b": 2}], ValueError, "item 2 has the columns"),
        ([{"a": 1}, (1, 2)], ValueError, "item 2 has 2 cells for 1 columns"),
        ([(1, 2), {"a": 1}], ValueError, "item 2 is a mapping, but the first was a sequence"),
        (["a,b"], TypeError, "got str"),
        ([5], TypeError, "got int"),
    ],
)
async def test_an_item_that_does_not_fit_the_table_is_refused(
    items: list[Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await written(items)
