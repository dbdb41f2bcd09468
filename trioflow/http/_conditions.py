"""Conditional and range requests, decided without I/O (RFC 9110, sections 13 and 14).

Rule 1: nothing here opens, reads or awaits; facts come in as arguments.
Rule 2: every answer is one of the outcomes below; the caller only obeys.
Rule 3: work is linear in the header's length, and a header over 8 KiB is not read.
Rule 4: a header that breaks its grammar is as good as absent, but for `If-Match`: what cannot be read cannot match.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

LONGEST: Final = 8192  # characters of one field, all its lines together


@dataclass(frozen=True, slots=True)
class Whole:
    """All of it: 200."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to, not including, `stop`: 206."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """What the client has is current: 304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """What the client insists on is not so: 412."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Not one byte of `total` was asked for: 416."""

    total: int


Outcome: TypeAlias = Whole | Part | NotModified | PreconditionFailed | Unsatisfiable


class Headers(Protocol):
    """What is asked of a request's headers."""

    def get_all(self, name: str, /) -> Sequence[str]:
        """Give the value of each line of this name."""
        ...


def decide(method: str, headers: Headers, *, size: int, etag: str, modified: int, now: int) -> Outcome:
    """Decide how to answer a request for something that exists, in the order of RFC 9110, section 13.2.2.

    Args:
        method: The request's method; only GET has ranges.
        headers: The request's headers.
        size: The length of the whole, in bytes.
        etag: Its entity tag, in quotes; a strong one, or no `If-Match` and no `If-Range` is ever met.
        modified: When it was last changed, in seconds; the value that is sent as Last-Modified.
        now: The time of the request, in seconds.
    """
    reads = method in ("GET", "HEAD")
    if (wanted := _field(headers, "if-match")) is not None:
        if not _matches(wanted, etag, weakly=False):
            return PreconditionFailed()
    elif (since := _date(headers, "if-unmodified-since", now)) is not None and modified > since:
        return PreconditionFailed()
    if (known := _field(headers, "if-none-match")) is not None:
        if _matches(known, etag, weakly=True):
            return NotModified() if reads else PreconditionFailed()
    elif reads and (since := _date(headers, "if-modified-since", now)) is not None and modified <= since:
        return NotModified()
    if method == "GET" and (ranges := _field(headers, "range")):
        condition = _field(headers, "if-range")
        if condition is None or _is_current(condition, etag, modified, now):
            return _chosen(ranges, size)
    return Whole()


def _field(headers: Headers, name: str) -> str | None:
    """Give a field's lines as one, None where there is none, "" where it is too long to be read."""
    lines = headers.get_all(name)
    if not lines:
        return None
    return ", ".join(lines) if sum(map(len, lines)) + 2 * len(lines) <= LONGEST else ""


# Entity tags. A comma may stand in one, so a list is scanned, not split.

_ETAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LISTED_ETAG = re.compile(rf"[ \t]*+({_ETAG})?+[ \t]*+(?:,|\Z)")


def _matches(field: str, etag: str, *, weakly: bool) -> bool:
    if field.strip(" \t") == "*":
        return True
    given = list(_listed(field))
    if None in given:
        return False
    if weakly:
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in given if tag}
    return not etag.startswith("W/") and etag in given


def _listed(field: str) -> Iterator[str | None]:
    """Give each entity tag of a list, "" for an empty member, None where the grammar is broken."""
    at = 0
    while at < len(field):
        member = _LISTED_ETAG.match(field, at)
        if member is None:
            yield None
            return
        yield member[1] or ""
        at = member.end()


def _is_current(condition: str, etag: str, modified: int, now: int) -> bool:
    """Tell whether an `If-Range` names exactly what there is now: a strong tag, or the very date that was sent."""
    if condition.startswith(('"', "W/")):
        return condition == etag and not etag.startswith("W/")
    # A client may use a date only if the answer it came with was a second younger (section 13.1.5): then the file
    # could not change again within the date's second unseen.
    return parse_date(condition, now) == modified


# Ranges.

_RANGES = re.compile(r"bytes=(.*)\Z", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]*+)-([0-9]*+)\Z")
_MOST_DIGITS: Final = 19  # a number of more is beyond any file, and is not read: int() is quadratic


def _chosen(field: str, size: int) -> Outcome:
    ranges = _RANGES.match(field)
    if ranges is None:
        return Whole()
    is_asked = False
    parts: list[Part] = []
    for member in ranges[1].split(","):
        if not (member := member.strip(" \t")):
            continue  # a recipient lets empty members pass (section 5.6.1.2)
        found = _RANGE.match(member)
        if found is None or member == "-":
            return Whole()
        first, last = found[1].lstrip("0"), found[2].lstrip("0")
        if not found[1]:  # the last so many bytes
            if last:
                parts.append(Part(max(size - _number(last), 0), size))
        elif found[2] and (len(last), last) < (len(first), first):
            return Whole()  # backwards
        elif (start := _number(first)) < size:
            parts.append(Part(start, min(_number(last) + 1, size) if found[2] else size))
        is_asked = True
    if is_asked and not parts:
        return Unsatisfiable(size)
    # Several may be answered in full (section 14.2), and Content-Range has no way to say "the last bytes of none".
    return parts[0] if len(parts) == 1 and size else Whole()


def _number(digits: str) -> int:
    return int(digits or "0") if len(digits) <= _MOST_DIGITS else int(10**_MOST_DIGITS)


# Dates: the one form we send, and the three a recipient must know (section 5.6.7).

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_DATES: Final = tuple(
    re.compile(form)
    for form in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT\Z",
        rf"(?:{'|'.join(_LONG_DAYS)}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT\Z",
        rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})\Z",
    )
)
_LAST_SECOND: Final = 253402300799  # of the year 9999


def _date(headers: Headers, name: str, now: int) -> int | None:
    field = _field(headers, name)
    return None if field is None else parse_date(field, now)


def parse_date(text: str, now: int) -> int | None:
    """Give a date in seconds; None where it is not one. `now` says which century a year of two digits is in."""
    for form in _DATES:
        if found := form.match(text):
            break
    else:
        return None
    year, second = int(found["year"]), int(found["second"])
    if len(found["year"]) == 2:
        latest = datetime.fromtimestamp(now, UTC).year + 50
        year += (latest - year) // 100 * 100
    try:
        day = datetime(
            year, _MONTHS.index(found["month"]) + 1, int(found["day"]), int(found["hour"]), int(found["minute"])
        )
    except ValueError:
        return None
    return timegm(day.timetuple()) + second if second <= 60 else None  # 60 is a leap second


@lru_cache(maxsize=512)  # 5 µs a date, and few files have most of the requests
def format_date(seconds: float) -> str:
    """Give a date as HTTP wants it; one outside the years 1970 to 9999 becomes the nearest inside."""
    day = datetime.fromtimestamp(int(min(max(seconds, 0), _LAST_SECOND)), UTC)
    return f"{_DAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year} {day:%H:%M:%S} GMT"


def etag_of(modified_ns: int, size: int) -> str:
    """Make a strong entity tag of when a file was last changed, to the nanosecond, and of its size."""
    return f'"{modified_ns:x}-{size:x}"'
