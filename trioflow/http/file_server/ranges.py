"""Byte ranges: parses a `Range` field, and frames several parts. No I/O (RFC 9110, section 14).

Rule 1: a field that is malformed, in another unit, or asks for too many parts is ignored. So is any range of an empty
    file, because media players ask for `bytes=0-` whatever the size.
Rule 2: parts never overlap: bytes that are asked for twice are sent once, so no response is much longer than the file.
Rule 3: the work is linear in the field's length; a number that is too long for any file is not parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_PARTS: Final = 16
_MOST_ASKED: Final = 64  # ranges in one field: no real client asks for more
_MOST_DIGITS: Final = 19  # a longer number exceeds any file, and int() of it takes quadratic time

_RANGES: Final = re.compile(r"bytes=(.*)\Z", re.IGNORECASE)
_RANGE: Final = re.compile(r"([0-9]*+)-([0-9]*+)\Z")


class Part(NamedTuple):
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """Return the value of Content-Range for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parts_of(field: str, size: int) -> list[Part] | None:
    """Return the parts of `size` bytes that a `Range` field asks for, in its order; adjacent parts are joined.

    Returns:
        None if the field must be ignored; an empty list if none of its bytes exist.
    """
    ranges = _RANGES.match(field)
    if ranges is None or not size:
        return None
    asked = 0
    parts: list[Part] = []
    for member in ranges[1].split(","):
        if not (member := member.strip(" \t")):
            continue  # a recipient ignores empty members (section 5.6.1.2)
        found = _RANGE.match(member)
        asked += 1
        if found is None or member == "-" or asked > _MOST_ASKED:
            return None
        first, last = found[1].lstrip("0"), found[2].lstrip("0")
        if not found[1]:  # a suffix: the last `last` bytes
            if last:
                parts.append(Part(max(size - _number(last), 0), size))
        elif found[2] and (len(last), last) < (len(first), first):
            return None  # it ends before it starts
        elif (start := _number(first)) < size:
            parts.append(Part(start, min(_number(last) + 1, size) if found[2] else size))
    if not asked:
        return None
    parts = _merged(parts)
    return parts if len(parts) <= MOST_PARTS else None


def _number(digits: str) -> int:
    return int(digits or "0") if len(digits) <= _MOST_DIGITS else int(10**_MOST_DIGITS)


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Join parts that overlap or touch; a joined part takes the place of the first of its members."""
    merged: list[tuple[int, Part]] = []
    for part, place in sorted((part, place) for place, part in enumerate(parts)):
        before = merged[-1] if merged else None
        if before is not None and part.start <= before[1].stop:
            joined = Part(before[1].start, max(before[1].stop, part.stop))
            merged[-1] = (min(before[0], place), joined)
        else:
            merged.append((place, part))
    return [part for _, part in sorted(merged)]


class Framing(NamedTuple):
    """The framing of a multipart body: a head before each part, a tail after the last, and the total length."""

    heads: list[bytes]
    tail: bytes
    length: int


def framing(parts: Sequence[Part], *, size: int, kind: str, boundary: str) -> Framing:
    """Return the framing for parts of a file of `size` bytes as multipart/byteranges (section 14.6).

    `boundary` must be a string that no part contains: a long random one.
    """
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {part.content_range(size)}\r\n\r\n".encode(
            "latin-1"
        )
        for part in parts
    ]
    heads[0] = heads[0].removeprefix(b"\r\n")
    tail = f"\r\n--{boundary}--\r\n".encode("latin-1")
    length = sum(map(len, heads)) + sum(part.stop - part.start for part in parts) + len(tail)
    return Framing(heads, tail, length)
