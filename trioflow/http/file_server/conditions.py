"""Conditional and range requests, decided without I/O (RFC 9110, sections 13 and 14).

Rule 1: nothing here opens, reads or awaits; facts come in as arguments.
Rule 2: every answer is one of the outcomes below, which the caller carries out.
Rule 3: the work is linear in the field's length, and a field over 8 KiB is not read.
Rule 4: a field that breaks its grammar is ignored, except `If-Match`: what cannot be read does not match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol, TypeAlias

from trioflow.http.file_server.dates import parse_date
from trioflow.http.file_server.ranges import Part, parts_of

LONGEST: Final = 8192  # characters of one field, all its lines together
CONDITIONAL: Final = frozenset(
    ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "range")
)  # without one of these, the whole is sent


@dataclass(frozen=True, slots=True)
class Whole:
    """Send all of it: 200."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Send several ranges of it, in this order: 206 with a body in parts. A single one is a `Part`."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class NotModified:
    """The client has the current version: 304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """A condition of the client does not hold: 412."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """None of the `total` bytes is in the range: 416."""

    total: int


Outcome: TypeAlias = Whole | Part | Parts | NotModified | PreconditionFailed | Unsatisfiable
WHOLE: Final[Outcome] = Whole()


class Headers(Protocol):
    """A request's headers, as far as they are read here."""

    def get_all(self, name: str, /) -> Sequence[str]:
        """Return the value of each line of this name."""
        ...


def decide(method: str, headers: Headers, *, size: int, etag: str, modified: int, is_dated: bool, now: int) -> Outcome:
    """Decide how to respond to a request for a file that exists, in the order of RFC 9110, section 13.2.2.

    Args:
        method: The request's method; only GET has ranges.
        headers: The request's headers.
        size: The length of the whole, in bytes.
        etag: Its entity tag, in quotes. With a weak one, `If-Match` and `If-Range` never match.
        modified: When it was last changed, in seconds; the value that is sent as Last-Modified.
        is_dated: Whether it has not changed since that second. If it may have, `If-Range` never matches by date.
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
        dated = modified if is_dated and modified < now else None
        if condition is None or _is_current(condition, etag, dated, now):
            return _chosen(ranges, size)
    return WHOLE


def _chosen(ranges: str, size: int) -> Outcome:
    match parts_of(ranges, size):
        case None:
            return WHOLE
        case []:
            return Unsatisfiable(size)
        case [part]:
            return part
        case parts:
            return Parts(tuple(parts))


def _field(headers: Headers, name: str) -> str | None:
    """Return a field's lines as one; None if there are none, "" if it is too long to be read."""
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
    """Yield each entity tag of a list, "" for an empty member, None where the grammar is broken."""
    at = 0
    while at < len(field):
        member = _LISTED_ETAG.match(field, at)
        if member is None:
            yield None
            return
        yield member[1] or ""
        at = member.end()


def _is_current(condition: str, etag: str, dated: int | None, now: int) -> bool:
    """Return whether an `If-Range` names the current version: by a strong tag, or by a date that is strong."""
    if condition.startswith(('"', "W/")):
        return condition == etag and not etag.startswith("W/")
    # A client may use a date only if its response was at least a second later (section 13.1.5), and so after all
    # changes within that second. That there was none since then, `is_dated` says (section 8.8.2.2).
    return dated is not None and parse_date(condition, now) == dated


def _date(headers: Headers, name: str, now: int) -> int | None:
    field = _field(headers, name)
    return None if field is None else parse_date(field, now)


TICK: Final = 20_000_000  # nanoseconds: two changes within a kernel's tick, of up to 10 ms, have the same time
COARSE: Final = 2_000_000_000  # the same for file systems that keep whole seconds


def etag_of(inode: int, changed_ns: int, modified_ns: int, size: int, variant: str, now_ns: int) -> str:
    """Return an entity tag that no other content of this file has had.

    It is strong, unless the file has just changed: it could change again without a change of its times. Until that is
    over each response has a weak tag of its own, which matches nothing.

    Args:
        inode: The file's inode, which is another one after a file has been replaced.
        changed_ns: When the inode was last changed (ctime). Unlike `modified_ns`, it cannot be set back, as `cp -p`,
            `rsync -t` and archives do.
        modified_ns: When the content was last changed (mtime), for file systems that do not keep the former.
        size: The length, in bytes.
        variant: What else its content depends on, such as the coding.
        now_ns: The time now.
    """
    facts = f"{inode} {changed_ns} {modified_ns} {size}".encode("ascii")
    # A digest: an inode number in a tag tells strangers about the disk, and scanners complain.
    tag = blake2b(facts, digest_size=12).hexdigest() + (f"-{variant}" if variant else "")
    if abs(now_ns - changed_ns) <= (TICK if changed_ns % 10**9 else COARSE):
        return f'W/"{tag}-{now_ns:x}"'
    return f'"{tag}"'
