"""JSON lines, written and read; errors say where the invalid JSON is."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import re
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import through
from tests.cutting import cut, places
from trioflow.codecs import jsonlines


@pytest.fixture(params=["json", "msgspec"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test of this module with only the standard library, and with the extra."""
    if request.param == "json":
        monkeypatch.setattr(jsonlines, "_library", lambda: None)
    else:
        pytest.importorskip("msgspec")


def nested(depth: int) -> list[Any]:
    item: list[Any] = []
    for _ in range(depth):
        item = [item]
    return item


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


EITHER_LIBRARY = settings(  # the fixture is the same for all examples
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@EITHER_LIBRARY
@given(items=st.lists(values, max_size=8), places=places, as_text=st.booleans(), capacity=st.sampled_from([1, 3, 256]))
@example(items=["half a character: \ud800"], places=[], as_text=False, capacity=1)
async def test_any_chunking_gives_the_values_back(
    items: list[Any], places: list[int], as_text: bool, capacity: int
) -> None:
    written = b"".join(await through(items, tf.json_lines(), capacity=capacity))
    whole: Any = written.decode() if as_text else written

    assert [json.loads(line) for line in written.splitlines()] == items
    assert await through(cut(whole, places), tf.parse_json_lines(strict=True), capacity=capacity) == items


WRONG = [
    (b'{"a": 1}\n\n{"a": }\n', "line 3 is not JSON: Expecting value at column 7: '{\"a\": }'"),
    (b"[1, 2", "line 1 is not JSON: Expecting ',' delimiter at column 6: '[1, 2'"),
    (b"1 2\n", "line 1 is not JSON: Extra data at column 3: '1 2'"),
    (b"1\n[NaN]\n", "line 2 is not JSON: NaN is not JSON: b'[NaN]'"),
    (b'1\n"a\xff"\n', "line 2 is not JSON: invalid start byte at byte 3: b'\"a\\xff\"'"),
    (b"[" * 100_000 + b"\n", f"line 1 is not JSON: nested too deeply: {b'[' * 20!r}..."),
    (
        b"\xef\xbb\xbf1\n2\n",
        """line 1 is not JSON: it begins with a byte order mark (BOM); pipe through tf.decode("utf-8-sig")""",
    ),
    (
        "[1]\n".encode("utf-16"),
        """line 1 is not JSON: it begins with a byte order mark (BOM); pipe through tf.decode("utf-16")""",
    ),
    (b"1\n2" + b" " * 30 + b"x" + b" " * 30, "line 2 is not JSON: Extra data at column 32: ...'" + " " * 20 + "x"),
]


@pytest.mark.parametrize("places", [[], [1], [5, 7], list(range(20))])
@pytest.mark.parametrize(("whole", "message"), WRONG)
async def test_R10_invalid_json_is_an_error_that_names_line_and_column(
    whole: bytes, message: str, places: list[int]
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        await through(cut(whole, places), tf.parse_json_lines())
    assert caught.value.__notes__ == ["in stage 2 of 3: parse_json_lines()"]


async def test_a_number_with_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^line 2 is not JSON: Exceeds the limit"):
        await through([b"1\n", b"9" * 5000], tf.parse_json_lines())


@EITHER_LIBRARY
@given(
    lines=st.lists(st.sampled_from(["1", "[2]", "12345", '"long one"', "{", ""]), max_size=8),
    places=places,
    as_text=st.booleans(),
)
async def test_any_chunking_finds_the_same_first_error(lines: list[str], places: list[int], as_text: bool) -> None:
    text = "".join(f"{line}\n" for line in lines)
    whole: Any = text if as_text else text.encode()
    wrong = [n for n, line in enumerate(lines, 1) if len(line) > 5 or line == "{"]
    parse = tf.parse_json_lines(max_length=5)
    if wrong:
        unit = "characters" if as_text else "bytes"
        reason = "not JSON" if lines[wrong[0] - 1] == "{" else f"longer than max_length, 5 {unit}"
        with pytest.raises(ValueError, match=f"^line {wrong[0]} is {reason}"):
            await through(cut(whole, places), parse)
    else:
        assert await through(cut(whole, places), parse) == [json.loads(line) for line in lines if line]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("18446744073709551616", 2**64),
        ("-9223372036854775809", -(2**63) - 1),
        ("1e999", math.inf),
        ("-0", 0),
        ("1.0000000000000000000001", 1.0),
        (r'"\ud800"', "\ud800"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
        (" [1] \t\r", [1]),
        ("1\r", 1),
    ],
)
async def test_a_line_has_the_value_that_the_standard_library_reads(line: str, value: Any) -> None:
    assert json.loads(line) == value

    whole: list[Any] = [f"{line}\n" * 2, f"0\n{line}\n\n{line}"]
    for text in [*whole, *map(str.encode, whole)]:
        got = await through([text], tf.parse_json_lines())
        assert list(map(repr, got[-2:])) == [repr(value)] * 2


@pytest.mark.parametrize("lines", ["[1,\n2]", "1 2\n3", "[3\n4]\n1,2", "\u00a01", "1\x0b", "01", "[1,]", '"\x01"'])
async def test_R10_invalid_json_is_never_accepted(lines: str) -> None:
    with pytest.raises(ValueError, match=r"^line 1 is not JSON"):
        await through([lines.encode()], tf.parse_json_lines())


class Text(str):
    __slots__ = ()


class Kind(enum.Enum):
    ONE = 1


class Code(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({1: (None, True), None: Text("é")}, '{"1":[null,true],"null":"é"}'),
        ([2**64, 0.1, -0.0, 5e-324], "[18446744073709551616,0.1,-0.0,5e-324]"),
        ({"a": Code.ONE}, '{"a":1}'),
        ("\x00\x7f\u2028/<\ud800", r'"\u0000' + "\x7f\u2028" + r'/<\ud800"'),
        (nested(300), "[" * 301 + "]" * 301),
    ],
)
async def test_an_item_is_written_as_the_standard_library_writes_it(item: Any, line: str) -> None:
    written = await through([0, item], tf.json_lines())

    assert written[1] == (line + "\n").encode()


@pytest.mark.parametrize(
    "value",
    [{3}, b"x", datetime.date(2001, 2, 3), uuid.UUID(int=3), decimal.Decimal(1), Kind.ONE, {(1, 2): 3}, {b"a": 1}],
)
async def test_a_value_without_a_json_form_is_refused_at_any_depth(value: Any) -> None:
    with pytest.raises(TypeError, match=r"is not JSON serializable|keys must be str"):
        await through([{"a": [value]}], tf.json_lines())


class Whole(int):
    pass


class Real(float):
    pass


class Row(list[Any]):
    pass


class Record(dict[Any, Any]):
    def items(self) -> Any:
        return [("a", 1)]


class Word(enum.StrEnum):
    ONE = "one", "another"

    def __new__(cls, text: str, value: str) -> Word:
        word = str.__new__(cls, text)
        word._value_ = value
        return word


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Place:
    x: Any


def itself(inner: Any) -> list[Any]:
    item = [inner]
    item.append(item)
    return item


async def written_as_the_standard_library_does(items: list[Any]) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    expected: list[bytes] = []
    failure: Exception | None = None
    try:
        for item in items:
            expected.append((encode(item) + "\n").encode("utf-8", "backslashreplace"))
    except (TypeError, ValueError) as exc:
        failure = exc

    if failure is None:
        assert await through(items, tf.json_lines()) == expected
    else:
        with pytest.raises(type(failure)) as caught:
            await through(items, tf.json_lines())
        assert str(caught.value) == str(failure)
        where = f"json_lines: item {len(expected) + 1} was "  # Python 3.14 adds notes of its own
        assert any(text.startswith(where) for text in caught.value.__notes__)


ODD = [
    *[math.nan, -math.inf, 2**64, "\ud800", Text("t"), Whole(3), Real(0.5), Real("nan"), Kind.ONE, Code.ONE, Word.ONE],
    *[Row([1]), Row([{3}]), Record({"b": 2}), Record({"b": {3}}), Point(1, 2), Point(1, b"x"), Place(1), itself(1)],
    *[b"x", bytearray(b"x"), memoryview(b"x"), 1j, ..., {3}, frozenset("a"), uuid.UUID(int=3), decimal.Decimal(1)],
    *[datetime.date(2001, 2, 3), datetime.time(4), datetime.datetime(2001, 2, 3), datetime.timedelta(3)],
]
ODD_KEYS = [0, 0.5, math.nan, None, True, "\ud800", Text("t"), Real(0.5), Kind.ONE, Code.ONE, Word.ONE, b"x", (1,)]
ODD_KEYS += [datetime.date(2001, 2, 3), uuid.UUID(int=3), decimal.Decimal(1)]


@pytest.mark.parametrize("odd", [*ODD, *({key: None} for key in ODD_KEYS)])
async def test_what_is_not_plain_json_is_treated_as_by_the_standard_library_wherever_it_is(odd: Any) -> None:
    for item in [
        odd,
        [odd],
        (0, odd, 0),
        {"a": odd},
        {"a": "", "b": (odd, 0)},
        [{"a": [odd]}],
        ["", {"a": {"b": odd}}],
    ]:
        await written_as_the_standard_library_does([item])
        await written_as_the_standard_library_does([{"a": 1}, [], item, None])


def trees(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def inside(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        rows = st.lists(inner, max_size=3)
        return rows | rows.map(tuple) | st.dictionaries(keys, inner, max_size=3)

    return st.recursive(leaves, inside, max_leaves=8)


# The libraries write exponents differently.
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: "e" not in repr(number)
)
texts = st.text(max_size=3)
plain = trees(st.none() | st.booleans() | numbers | texts, texts)
anything = trees(plain | st.sampled_from(ODD), texts | st.sampled_from(ODD_KEYS))


@EITHER_LIBRARY
@given(items=st.lists(plain | anything, min_size=1, max_size=4))
async def test_each_value_is_written_or_refused_as_the_standard_library_does(items: list[Any]) -> None:
    await written_as_the_standard_library_does(items)


async def test_R10_an_unfinished_last_line_is_an_error_if_strict() -> None:
    assert await through([b"12"], tf.parse_json_lines()) == [12]
    with pytest.raises(EOFError, match="the input ends inside line 2"):
        await through([b"12\n3"], tf.parse_json_lines(strict=True))


@pytest.mark.parametrize("item", [math.nan, [math.inf]])
async def test_numbers_that_json_does_not_have_are_refused(item: Any) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        await through([item], tf.json_lines())


async def test_a_value_without_a_json_form_is_passed_to_default_or_refused() -> None:
    day = datetime.date(2001, 2, 3)
    with pytest.raises(TypeError, match="date is not JSON serializable") as caught:
        await through([1, {"day": day}], tf.json_lines())
    assert caught.value.__notes__[-2:] == [
        "json_lines: item 2 was {'day': datetime.date(2001, 2, 3)}",
        "in stage 2 of 3: json_lines()",
    ]

    assert await through([{"day": day}], tf.json_lines(default=str)) == [b'{"day":"2001-02-03"}\n']


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ({3}, TypeError, "Object of type set is not JSON serializable"),
        (math.nan, ValueError, "Out of range float values are not JSON compliant"),
        (nested(100_000), ValueError, "the item is nested too deeply for JSON"),
    ],
)
@pytest.mark.parametrize("capacity", [1, 256])
async def test_the_error_for_an_item_that_cannot_be_written_has_its_number(
    item: Any, error: type[Exception], message: str, capacity: int
) -> None:
    with pytest.raises(error, match=message) as caught:
        await through([*range(499), item], tf.json_lines(), capacity=capacity)

    told, place = caught.value.__notes__
    assert told.startswith("json_lines: item 500 was ")
    assert len(told) < 100
    assert place == "in stage 2 of 3: json_lines()"


async def test_an_exception_in_default_is_raised_with_its_cause() -> None:
    def default(value: object) -> object:
        raise LookupError("no such code") from OSError("the table is gone")

    with pytest.raises(LookupError, match="no such code") as caught:
        await through([1, {2}], tf.json_lines(default=default))
    assert isinstance(caught.value.__cause__, OSError)


async def test_the_error_for_a_byte_order_mark_says_how_to_read_the_text() -> None:
    marked = "[1]\n".encode("utf-8-sig")
    with pytest.raises(ValueError, match=r'byte order mark \(BOM\); pipe through tf.decode\("utf-8-sig"\)'):
        await through([marked], tf.decode(), tf.parse_json_lines())

    assert await through([marked], tf.decode("utf-8-sig"), tf.parse_json_lines()) == [[1]]


async def test_a_mixture_of_str_and_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="parse_json_lines expects chunks of bytes or str, got int"):
        await through([1], tf.parse_json_lines())
    with pytest.raises(TypeError, match="parse_json_lines expects chunks of bytes, as the first was, got str"):
        await through([b"1", "2"], tf.parse_json_lines())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.json_lines(default=3), TypeError, "default expects a function, got 3"),
        (lambda: tf.parse_json_lines(max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: tf.parse_json_lines(strict="yes"), TypeError, "strict must be a bool, got 'yes'"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()
