from __future__ import annotations

import email.utils
import itertools
import re
import time
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trioflow.http.file_server import conditions
from trioflow.http.file_server.conditions import (
    COARSE,
    TICK,
    NotModified,
    Outcome,
    Parts,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    decide,
    etag_of,
)
from trioflow.http.file_server.dates import format_date, parse_date
from trioflow.http.file_server.ranges import MOST_PARTS, Part

SIZE = 12
ETAG = '"1c-c"'
MODIFIED = 784111777
NOW = 1_800_000_000
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"


class Lines:
    """A request's headers, as lines."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._lines if key.lower() == name]


def ask(
    *lines: tuple[str, str],
    method: str = "GET",
    size: int = SIZE,
    etag: str = ETAG,
    is_dated: bool = True,
    now: int = NOW,
) -> Outcome:
    return decide(method, Lines(lines), size=size, etag=etag, modified=MODIFIED, is_dated=is_dated, now=now)


@pytest.mark.parametrize(
    ("field", "outcome"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=0-11", Part(0, 12)),
        ("bytes=0-", Part(0, 12)),
        ("bytes=5-", Part(5, 12)),
        ("bytes=5-99", Part(5, 12)),
        ("bytes=11-", Part(11, 12)),
        ("bytes=007-008", Part(7, 9)),
        ("Bytes=0-1", Part(0, 2)),
        ("bytes=-1", Part(11, 12)),
        ("bytes=-12", Part(0, 12)),
        ("bytes=-999", Part(0, 12)),
        ("bytes= 0-1 ", Part(0, 2)),
        ("bytes=,\t0-1 ,,", Part(0, 2)),
        ("bytes=0-1,12-", Part(0, 2)),
        ("bytes=99-,-0,3-4", Part(3, 5)),
        ("bytes=0-" + "9" * 5000, Part(0, 12)),
        ("bytes=" + "0" * 5000 + "1-2", Part(1, 3)),
        ("bytes=-" + "9" * 5000, Part(0, 12)),
        ("bytes=12-", Unsatisfiable(12)),
        ("bytes=12-13", Unsatisfiable(12)),
        ("bytes=-0", Unsatisfiable(12)),
        ("bytes=-000", Unsatisfiable(12)),
        ("bytes=12-,-0", Unsatisfiable(12)),
        ("bytes=" + "9" * 5000 + "-", Unsatisfiable(12)),
        ("bytes=0-1,3-4", Parts((Part(0, 2), Part(3, 5)))),
        ("bytes=8-,0-1", Parts((Part(8, 12), Part(0, 2)))),
        ("bytes=4-5,0-1,5-7", Parts((Part(4, 8), Part(0, 2)))),
        ("bytes=0-1,6-7,2-3", Parts((Part(0, 4), Part(6, 8)))),
        ("bytes=0-1,2-3", Part(0, 4)),
        ("bytes=0-5,-99", Part(0, 12)),
        ("bytes=" + ",".join(["0-"] * 1300), Whole()),
        ("bytes=5-4", Whole()),
        ("bytes=99-98", Whole()),
        ("bytes=0-1,5-4", Whole()),
        ("bytes=" + "9" * 4000 + "-" + "9" * 3999, Whole()),
        ("bytes=", Whole()),
        ("bytes=,", Whole()),
        ("bytes=-", Whole()),
        ("bytes=1", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=0-1-2", Whole()),
        ("bytes=--1", Whole()),
        ("bytes=+0-1", Whole()),
        ("bytes=0-0_3", Whole()),
        ("bytes=0 -1", Whole()),
        ("bytes=0- 1", Whole()),
        ("bytes=0x0-1", Whole()),
        ("bytes=0-1;2-3", Whole()),
        ("bytes=\u0660-\u0661", Whole()),
        ("bytes=\xb2-", Whole()),
        ("bytes =0-1", Whole()),
        (" bytes=0-1", Whole()),
        ("bytes:0-1", Whole()),
        ("byte=0-1", Whole()),
        ("items=0-1", Whole()),
        ("0-1", Whole()),
        ("", Whole()),
        ("bytes=0-1" + " " * 8192, Whole()),
    ],
)
def test_a_valid_range_is_used_and_an_invalid_one_ignored(field: str, outcome: Outcome) -> None:
    assert ask(("Range", field)) == outcome


@pytest.mark.parametrize("field", ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=-5", "bytes=5-", "bytes=0-1,3-"])
def test_a_range_of_an_empty_file_is_ignored(field: str) -> None:
    """As nginx and Go do: a media player asks for `bytes=0-` before it knows the size."""
    assert ask(("Range", field), size=0) == Whole()


def test_ranges_apply_only_to_get() -> None:
    assert ask(("Range", "bytes=0-1"), method="HEAD") == Whole()
    assert ask(("Range", "bytes=99-"), method="HEAD") == Whole()


def test_two_range_headers_are_ignored() -> None:
    assert ask(("Range", "bytes=0-1"), ("Range", "bytes=3-4")) == Whole()


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"other"', False),
        (f'{ETAG}, "other"', False),
        (ETAG[:-2], False),
        (ETAG.strip('"'), False),
        ("*", False),
        ("", False),
        (DATE, True),
        (EARLIER, False),
        (LATER, False),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("yesterday", False),
        (ETAG + " " * 8192, False),
    ],
)
def test_if_range_is_exact_and_strong(condition: str, is_met: bool) -> None:
    outcome = ask(("Range", "bytes=0-1"), ("If-Range", condition))

    assert outcome == (Part(0, 2) if is_met else Whole())


def test_if_range_matches_by_date_only_if_nothing_can_have_changed_since() -> None:
    asked = [("Range", "bytes=0-1"), ("If-Range", DATE)]

    assert ask(*asked, now=MODIFIED + 1) == Part(0, 2)
    assert ask(*asked, now=MODIFIED) == Whole()  # the file may change again within this second
    assert ask(*asked, is_dated=False) == Whole()
    assert ask(asked[0], ("If-Range", ETAG), is_dated=False) == Part(0, 2)


def test_a_range_beyond_the_end_of_another_version_gives_the_whole_file() -> None:
    assert ask(("Range", "bytes=99-"), ("If-Range", '"other"')) == Whole()
    assert ask(("Range", "bytes=99-"), ("If-Range", ETAG)) == Unsatisfiable(12)


def test_our_own_weak_tag_never_matches_strongly() -> None:
    weak = f"W/{ETAG}"

    assert ask(("If-Match", weak), etag=weak) == PreconditionFailed()
    assert ask(("Range", "bytes=0-1"), ("If-Range", weak), etag=weak) == Whole()
    assert ask(("If-None-Match", ETAG), etag=weak) == NotModified()


@pytest.mark.parametrize(
    ("field", "is_known"),
    [
        (ETAG, True),
        (f"W/{ETAG}", True),
        ("*", True),
        (" * ", True),
        (f'"a,b" , {ETAG}', True),
        (f',, "",\t{ETAG},', True),
        (f'"\xe4", {ETAG}', True),
        ('"other"', False),
        (f"*, {ETAG}", False),
        (f"{ETAG} {ETAG}", False),
        (f"w/{ETAG}", False),
        (f"W/ {ETAG}", False),
        (ETAG.strip('"'), False),
        (f"{ETAG}, other", False),
        (f'"a b", {ETAG}', False),
        (f'"{ETAG}"', False),
        (f"x{ETAG}", False),
        (ETAG[:-1], False),
        ("", False),
        (ETAG + ', "x"' * 2048, False),
    ],
)
def test_if_none_match_is_a_list_of_tags_or_a_star(field: str, is_known: bool) -> None:
    assert ask(("If-None-Match", field)) == (NotModified() if is_known else Whole())
    assert ask(("If-None-Match", field), method="HEAD") == (NotModified() if is_known else Whole())
    assert ask(("If-None-Match", field), method="DELETE") == (PreconditionFailed() if is_known else Whole())


def test_several_lines_of_a_list_are_one_list() -> None:
    assert ask(("If-None-Match", '"a"'), ("If-None-Match", ETAG)) == NotModified()


@pytest.mark.parametrize(
    ("field", "is_met"),
    [
        (ETAG, True),
        ("*", True),
        (f'"a", {ETAG}', True),
        (f"W/{ETAG}", False),
        ('"a"', False),
        ("a", False),
        ("", False),
    ],
)
def test_if_match_requires_a_strong_match(field: str, is_met: bool) -> None:
    assert ask(("If-Match", field)) == (Whole() if is_met else PreconditionFailed())


@pytest.mark.parametrize(
    ("since", "modified", "unmodified"),
    [
        (DATE, NotModified(), Whole()),
        (LATER, NotModified(), Whole()),
        (EARLIER, Whole(), PreconditionFailed()),
        ("Sunday, 06-Nov-94 08:49:37 GMT", NotModified(), Whole()),
        ("Sun Nov  6 08:49:37 1994", NotModified(), Whole()),
        ("Sun Nov 16 08:49:37 1994", NotModified(), Whole()),
        ("never", Whole(), Whole()),
        ("", Whole(), Whole()),
        (f"{DATE}, {DATE}", Whole(), Whole()),
        (f"{DATE} ", Whole(), Whole()),
        (DATE.lower(), Whole(), Whole()),
        (DATE.replace("GMT", "UTC"), Whole(), Whole()),
        (DATE.replace("06", "6"), Whole(), Whole()),
        (DATE.replace("06", "31"), Whole(), Whole()),
        (DATE.replace("08:", "24:"), Whole(), Whole()),
        (DATE.replace(":37", ":61"), Whole(), Whole()),
        (DATE.replace("1994", "0000"), Whole(), Whole()),
        (LATER.replace(":38", ":60"), NotModified(), Whole()),
    ],
)
def test_dates_are_compared_by_the_second_and_ignored_if_malformed(
    since: str, modified: Outcome, unmodified: Outcome
) -> None:
    assert ask(("If-Modified-Since", since)) == modified
    assert ask(("If-Unmodified-Since", since)) == unmodified


def test_conditions_are_evaluated_in_the_order_of_the_rfc() -> None:
    assert ask(("If-Match", ETAG), ("If-Unmodified-Since", EARLIER)) == Whole()
    assert ask(("If-None-Match", '"other"'), ("If-Modified-Since", LATER)) == Whole()
    assert ask(("If-Match", '"other"'), ("If-None-Match", ETAG)) == PreconditionFailed()
    assert ask(("If-None-Match", ETAG), ("Range", "bytes=99-")) == NotModified()
    assert ask(("If-Match", ETAG), ("Range", "bytes=0-1")) == Part(0, 2)
    assert ask(("If-Modified-Since", DATE), method="PUT") == Whole()
    assert ask(("If-Range", ETAG)) == Whole()
    assert ask() == Whole()


def test_a_header_over_8_kib_is_not_read_even_in_many_lines() -> None:
    lines = [("Range", "bytes=0-1")] + [("Range", "")] * 8192

    assert ask(*lines) == Whole()


def reference(field: str, size: int) -> Outcome:
    """RFC 9110, section 14, implemented slowly: position by position, character by character."""
    unit, equals, members = field.partition("=")
    if unit.lower() != "bytes" or not equals:
        return Whole()
    wanted: list[set[int]] = []
    for member in members.split(","):
        first, dash, last = member.strip(" \t").partition("-")
        if not member.strip(" \t"):
            continue
        if not dash or not set(first + last) <= set("0123456789") or not first + last:
            return Whole()
        if first and last and int(last) < int(first):
            return Whole()
        if first:
            wanted.append({at for at in range(size) if int(first) <= at and (not last or at <= int(last))})
        else:
            wanted.append({at for at in range(size) if at >= size - int(last)})
    if wanted and not any(wanted):
        return Unsatisfiable(size) if size else Whole()
    ends: list[Part] = []
    for positions in wanted:  # each contiguous part of the request, at the place of its first range
        for at in sorted(positions):
            if not any(part.start <= at < part.stop for part in ends):
                everything = set().union(*wanted)
                start, stop = at, at
                while start - 1 in everything:
                    start -= 1
                while stop in everything:
                    stop += 1
                ends.append(Part(start, stop))
    match ends:
        case []:
            return Whole()
        case [part]:
            return part
        case _:
            return Parts(tuple(ends))


NUMBER = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["", "00", "007", "99999999999999999999", "x", " "]))
MEMBER = st.one_of(st.builds("{}-{}".format, NUMBER, NUMBER), st.sampled_from(["", " ", "-", "5", "\t1-2 "]))


@settings(max_examples=300)
@given(st.lists(MEMBER, max_size=4), st.integers(0, 20))
@example(["-5"], 0)
def test_ranges_equal_those_of_a_slow_reference_implementation(members: list[str], size: int) -> None:
    field = "bytes=" + ",".join(members)
    assert ask(("Range", field), size=size) == reference(field, size)


@given(st.text("bytes=0123456789-, \t", max_size=30), st.integers(0, 200))
def test_no_header_gives_a_range_outside_the_file(text: str, size: int) -> None:
    match ask(("Range", f"bytes={text}"), size=size):
        case Part(start, stop):
            assert 0 <= start < stop <= size
        case Parts(parts):
            assert 1 < len(parts) <= MOST_PARTS
            assert all(0 <= part.start < part.stop <= size for part in parts)
            assert sum(part.stop - part.start for part in parts) < size
        case Unsatisfiable(total):
            assert total == size
        case other:
            assert other == Whole()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Range", "bytes=" + "0" * 8000),
        ("Range", "bytes=" + " " * 8000 + "x"),
        ("Range", "bytes=" + "0-," * 2700),
        ("Range", "bytes=" + "9" * 8000 + "-"),
        ("If-None-Match", " " * 8000 + "x"),
        ("If-None-Match", '"' * 8000),
        ("If-None-Match", '"",' * 2700),
        ("If-Modified-Since", "0" * 8000),
    ],
)
def test_work_is_linear_in_the_headers_length(name: str, value: str) -> None:
    began = time.process_time()
    for _ in range(5):
        ask((name, value))

    assert time.process_time() - began < 0.5  # linear work takes a hundredth of that, quadratic work two seconds


@given(st.integers(0, 253402300799))
def test_a_formatted_date_is_parsed_back(seconds: int) -> None:
    assert format_date(seconds) == email.utils.formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds), NOW) == seconds


def test_a_date_that_http_cannot_express_becomes_the_nearest_one() -> None:
    assert format_date(-5) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(10**18) == "Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize(
    ("year", "meant"), [("26", 2026), ("76", 2076), ("77", 2077), ("78", 1978), ("94", 1994), ("00", 2000)]
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(year: str, meant: int) -> None:
    seconds = parse_date(f"Friday, 01-May-{year} 00:00:00 GMT", NOW)  # NOW is in 2027

    assert seconds is not None
    assert time.gmtime(seconds).tm_year == meant


def test_an_etag_is_strong_and_changes_with_all_that_changes_with_the_content() -> None:
    long_ago = 10**18

    plain = etag_of(1, 255, 16, 12, "", long_ago)
    assert re.fullmatch('"[0-9a-f]{24}"', plain)
    assert etag_of(1, 255, 16, 12, "br", long_ago) == f'{plain[:-1]}-br"'
    assert len({etag_of(*values, "", long_ago) for values in itertools.product((1, 2), repeat=4)}) == 16


@pytest.mark.parametrize(("changed", "lasts"), [(10**18 + 1, TICK), (10**18, COARSE)])
def test_the_tag_of_a_file_that_may_change_again_within_the_same_tick_is_weak(
    changed: int, lasts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "TICK", TICK)
    monkeypatch.setattr(conditions, "COARSE", COARSE)
    young = [etag_of(1, changed, 16, 12, "", changed + age) for age in (-lasts, 0, 1, lasts)]
    old = etag_of(1, changed, 16, 12, "", changed + lasts + 1)

    assert all(tag.startswith('W/"') for tag in young)
    assert not old.startswith("W/")
    assert len({tag.removeprefix("W/") for tag in [*young, old]}) == 5
    assert etag_of(1, changed, 16, 12, "", changed - lasts - 1) == old  # the file is from a machine with a wrong clock
