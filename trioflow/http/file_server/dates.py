"""HTTP dates: the one format to send, and the three that a recipient must accept (RFC 9110, 5.6.7). No I/O."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

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


def parse_date(text: str, now: int) -> int | None:
    """Return a date in seconds; None if it is invalid. `now` decides the century of a two-digit year."""
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


@lru_cache(maxsize=512)  # 5 µs for each date, and most requests are for a few files
def format_date(seconds: float) -> str:
    """Return a date in HTTP's format; one outside the years 1970 to 9999 becomes the nearest one inside."""
    return formatdate(int(min(max(seconds, 0), _LAST_SECOND)), usegmt=True)
