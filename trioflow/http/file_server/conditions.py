"""Conditional and range requests, decided without I/O (RFC 9110, sections 13 and 14).

Rule 1: nothing here opens, reads or awaits; everything it needs is passed in.
Rule 2: every decision is one of the outcomes below, which the caller carries out.
Rule 3: the work is linear in the field's length, and a field over 8 KiB is not parsed.
Rule 4: a malformed field is ignored, except `If-Match`: a malformed one does not match, so the request fails with 412.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

from trioflow.http.file_server.dates import parse_date
from trioflow.http.file_server.ranges import Part, parts_of
from trioflow.http.wire.headers import Headers

LONGEST: Final = 8192  # characters of one field, with all its lines
# Without one of these, the whole file is sent.
CONDITIONAL: Final = frozenset(("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "range"))


@dataclass(frozen=True, slots=True)
class Whole:
    """Send the whole file: 200."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Send several ranges, in this order: 206 with a multipart body. A single range is a `Part`."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class NotModified:
    """The client already has the current version: 304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """A condition of the request is false: 412."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The ranges contain none of the file's `total` bytes: 416."""

    total: int


Outcome: TypeAlias = Whole | Part | Parts | NotModified | PreconditionFailed | Unsatisfiable
WHOLE: Final[Outcome] = Whole()


def decide(method: str, headers: Headers, *, size: int, etag: str, modified: int, is_dated: bool, now: int) -> Outcome:
    """Decide how to respond to a request for a file that exists, in the order of RFC 9110, section 13.2.2.

    Args:
        method: The request's method; ranges apply only to GET.
        etag: The file's entity tag, in quotes. `If-Match` and `If-Range` never match a weak one.
        modified: When it was last changed, in seconds, as sent in Last-Modified.
        is_dated: Whether it has not changed since that second. If it may have, a date in `If-Range` never matches.
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
    """Return a field's lines joined; None if it is not set, "" if it is too long to be parsed."""
    lines = headers.get_all(name)
    if not lines:
        return None
    return ", ".join(lines) if sum(map(len, lines)) + 2 * len(lines) <= LONGEST else ""


# Entity tags. A tag may contain a comma, so a list of them is scanned, not split.

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
    """Yield each entity tag of a list: "" for an empty member; None at a syntax error, which ends it."""
    at = 0
    while at < len(field):
        member = _LISTED_ETAG.match(field, at)
        if member is None:
            yield None
            return
        yield member[1] or ""
        at = member.end()


def _is_current(condition: str, etag: str, dated: int | None, now: int) -> bool:
    """Return whether `If-Range` names the current version, by a strong tag or a strong date."""
    if condition.startswith(('"', "W/")):
        return condition == etag and not etag.startswith("W/")
    # A client may only use a date if its response came at least a second later (section 13.1.5), and so after all
    # changes within that second. `is_dated` says that there was no later change (section 8.8.2.2).
    return dated is not None and parse_date(condition, now) == dated


def _date(headers: Headers, name: str, now: int) -> int | None:
    field = _field(headers, name)
    return None if field is None else parse_date(field, now)


TICK: Final = 20_000_000  # nanoseconds: two changes within one kernel tick, up to 10 ms, get the same time
COARSE: Final = 2_000_000_000  # the same for file systems with times in whole seconds


def etag_of(inode: int, changed_ns: int, modified_ns: int, size: int, variant: str, now_ns: int) -> str:
    """Return an entity tag that no other content of this file has had.

    It is strong, unless the file has just changed: it could then change again while its times stay the same. During
    that time each response gets a different weak tag, which never matches.

    Args:
        inode: The file's inode number, which is different after the file was replaced.
        changed_ns: When the inode was last changed (ctime). It cannot be set back, unlike `modified_ns`, which `cp -p`,
            `rsync -t` and archives set.
        modified_ns: When the content was last changed (mtime), for file systems without a ctime.
        variant: What else the content depends on, such as the coding.
    """
    facts = f"{inode} {changed_ns} {modified_ns} {size}".encode("ascii")
    # A digest, because an inode number in a tag reveals something about the disk, and security scanners report it.
    tag = blake2b(facts, digest_size=12).hexdigest() + (f"-{variant}" if variant else "")
    if abs(now_ns - changed_ns) <= (TICK if changed_ns % 10**9 else COARSE):
        return f'W/"{tag}-{now_ns:x}"'
    return f'"{tag}"'
