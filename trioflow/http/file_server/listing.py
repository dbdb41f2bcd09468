"""A directory as a page: what is in it, sorted as the query says.

Rule 1: what would not be found is not shown: hidden names, links that lead out, what is neither file nor directory.
Rule 2: whatever bytes a name has, it is shown as text and linked as one path segment; what is not UTF-8 in it is shown as
    U+FFFD.
Rule 3: the page has no script and loads nothing, and its policy forbids both.
"""

from __future__ import annotations

import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any, Final, NamedTuple
from urllib.parse import quote

MOST: Final = 20_000  # entries, which take some 3 MiB
_ROWS: Final = 128  # of a chunk: it takes 1 ms to make

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_BREAKING: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))  # what would end a line, or is not text


class Entry(NamedTuple):
    """One name in a directory."""

    name: bytes
    is_directory: bool
    size: int
    modified: float


def read_entries(fd: int, *, hidden: bool, target_of: Callable[[bytes], os.stat_result | None]) -> list[Entry]:
    """Return what is in an open directory, at most `MOST` entries and one more; for a thread.

    Args:
        fd: The directory.
        hidden: Also return names that begin with a dot.
        target_of: Returns the status of what a link leads to; None if it must not be followed.
    """
    entries: list[Entry] = []
    with os.scandir(fd) as found:
        for each in found:
            if each.name.startswith(".") and not hidden:
                continue
            try:
                status = each.stat(follow_symlinks=False)
            except OSError:  # removed meanwhile
                continue
            target = target_of(os.fsencode(each.name)) if stat.S_ISLNK(status.st_mode) else status
            if target is not None and (stat.S_ISREG(target.st_mode) or stat.S_ISDIR(target.st_mode)):
                is_directory = stat.S_ISDIR(target.st_mode)
                entries.append(Entry(os.fsencode(each.name), is_directory, target.st_size, target.st_mtime))
            if len(entries) > MOST:
                break
    return entries


_KEYS: Final[dict[str, Callable[[Entry], Any]]] = {
    # Bytes: a sort holds the GIL to its end, 3 ms for 20,000 of them, 16 for as many pairs of a str and bytes.
    "name": lambda entry: entry.name.decode("utf-8", "replace").casefold().encode() + b"\0" + entry.name,
    "size": lambda entry: entry.size,
    "date": lambda entry: entry.modified,
}


def _order_of(query: str) -> tuple[str, bool]:
    """Return what a query wants to sort by, and whether in reverse; by name if it says nothing that is known."""
    asked = {name: value for name, _, value in (part.partition("=") for part in query[:200].split("&"))}
    by = asked.get("sort", "name")
    return (by, asked.get("order") == "desc") if by in _KEYS else ("name", False)


def sort_entries(entries: Sequence[Entry], query: str) -> list[Entry]:
    """Return at most `MOST` of `entries` and one more, in the order that a query wants, directories first."""
    by, is_reversed = _order_of(query)
    found = sorted(entries[:MOST], key=_KEYS["name"])
    if by != "name":
        found.sort(key=_KEYS[by])
    if is_reversed:
        found.reverse()
    found.sort(key=lambda entry: not entry.is_directory)
    return [*found, *entries[MOST : MOST + 1]]


def render(path: str, depth: int, entries: Sequence[Entry], query: str) -> Iterator[bytes]:
    """Yield the page, chunk by chunk.

    Args:
        path: The directory's path in the request, with a slash at its end.
        depth: How many of its last segments are below the root; those above are not linked.
        entries: What is in it, in the order of the page; what comes after `MOST` of them is not shown.
        query: The request's query: `sort=name`, `size` or `date`, `order=asc` or `desc`.
    """
    by, is_reversed = _order_of(query)
    yield _head(path, depth, by, is_reversed=is_reversed)
    rows = ['<tr><td class="d"><a href="../">Up one level</a><td><td>\n'] if depth else []
    for entry in entries[:MOST]:
        rows.append(_row(entry))
        if len(rows) >= _ROWS:
            yield "".join(rows).encode()
            rows.clear()
    if not entries:
        rows.append('<tr><td colspan="3">Nothing is here.\n')
    if len(entries) > MOST:
        rows.append(f'<tr><td colspan="3">There is more: only {MOST:,} names are shown.\n')
    yield ("".join(rows) + "</table>\n</main>\n").encode()


def _escaped(name: str | bytes) -> str:
    """Return a name as text for a page; what is not text becomes a replacement character."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return escape("".join("\ufffd" if unicodedata.category(c) in _BREAKING else c for c in text))


def _row(entry: Entry) -> str:
    slash = "/" if entry.is_directory else ""
    link = f"<bdi>{_escaped(entry.name)}</bdi>{slash}"
    # With "./", or a name such as "javascript:" would be a scheme.
    link = f'<a href="./{quote(entry.name, safe="")}{slash}">{link}</a>'
    size = "" if entry.is_directory else f'<span title="{entry.size:,} bytes">{_size(entry.size)}</span>'
    return f'<tr><td class="{"d" if entry.is_directory else "f"}">{link}<td>{size}<td>{_time(entry.modified)}\n'


def _size(size: float) -> str:
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size /= 1024
        power += 1
    return f"{size:.1f} {_UNITS[power]}" if power and size < 99.5 else f"{size:.0f} {_UNITS[power]}"


def _time(modified: float) -> str:
    try:
        moment = time.gmtime(modified)
    except (OverflowError, ValueError, OSError):  # in a year beyond the calendar
        return ""
    return f'<time datetime="{time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)}">{time.strftime("%Y-%m-%d %H:%M", moment)}</time>'


def _head(path: str, depth: int, by: str, *, is_reversed: bool) -> bytes:
    segments = path.strip("/").split("/") if path.strip("/") else []
    above = len(segments) - depth
    crumbs = [f'<a href="./{"../" * depth}">{_escaped("/".join(["", *segments[:above]])) or "/"}</a>']
    crumbs += [
        f'<a href="./{"../" * (depth - place)}"><bdi>{_escaped(segment)}</bdi></a>'
        for place, segment in enumerate(segments[above:], 1)
    ]
    columns = []
    for key, title in (("name", "Name"), ("size", "Size"), ("date", "Modified (UTC)")):
        order = "asc" if key != by or is_reversed else "desc"
        mark = f' aria-sort="{"descending" if is_reversed else "ascending"}"' if key == by else ""
        columns.append(f'<th{mark}><a href="?sort={key}&amp;order={order}">{title}</a>')
    return _HEAD.format(
        title=_escaped(path), style=_STYLE, crumbs=" <span>/</span> ".join(crumbs), columns="".join(columns)
    ).encode()


_HEAD: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<main>
<h1>{crumbs}</h1>
<table>
<thead><tr>{columns}
<tbody>
"""
_STYLE: Final = """
:root { color-scheme: light dark; --quiet: light-dark(#667, #99a); --line: light-dark(#e4e4ea, #34343c);
  --over: light-dark(#f4f4f9, #24242b); --link: light-dark(#1550b5, #8ab4f8); }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: light-dark(#fff, #18181c);
  color: light-dark(#1b1b1f, #e6e6ea); }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem; }
h1 { font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
h1 span, td { color: var(--quiet); }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { width: 100%; text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody tr:hover { background: var(--over); }
th a { color: var(--quiet); }
.d { font-weight: 600; }
[aria-sort=ascending] a::after { content: " \\2191"; }
[aria-sort=descending] a::after { content: " \\2193"; }
@media (max-width: 30rem) { th:last-child, td:last-child { display: none; } }
"""
