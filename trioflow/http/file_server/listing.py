"""The page that lists a directory, sorted and filtered by the query.

Rule 1: names that would get 404 are not listed: hidden names, links that lead out of the root, and anything that is
    neither a file nor a directory.
Rule 2: whatever bytes a name has, it is shown as text and linked as one path segment. Bytes that are not UTF-8 are
    shown as U+FFFD.
Rule 3: the page has no script and loads nothing, and its Content-Security-Policy forbids both.
Rule 4: sorting and filtering use a form. With links, a crawler such as `wget -r` would fetch each directory in every order.
"""

from __future__ import annotations

import math
import os
import re
import stat
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from html import escape
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlencode

MOST: Final = 20_000  # entries: they take about 4 MiB
_ROWS: Final = 128  # rows of a chunk, which takes 1 ms to make

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_PATIENCE: Final = 0.05  # seconds that a directory waits for another: the other's disk may be slow
_BREAKING: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))  # would end a line, or is not text
_is_plain: Final = re.compile(r"[A-Za-z0-9_.~ -]+").fullmatch  # only its spaces are escaped, and only in the link
# What each byte becomes in a path segment (RFC 3986 2.3).
_QUOTED: Final = [f"%{byte:02X}" if re.match(r"[^A-Za-z0-9_.~-]", chr(byte)) else chr(byte) for byte in range(256)]
_JOINERS: Final = "\u200c\u200d"  # of letters and emoji; other invisible characters could disguise a name

# A name, as `os.fsdecode` decodes it; whether it is a directory; its size; when it was modified. A named tuple would take
# 0.2 µs more, of 2.5 for each name.
Entry: TypeAlias = tuple[str, bool, int, float]

# Directories are read one at a time. `stat` releases the GIL, so several threads would switch at each name: with four
# clients, a page took up to 1.7 times the CPU time.
_reading: Final = threading.Lock()


class View(NamedTuple):
    """The order and the filter that a query asks for."""

    by: str  # "name", "size" or "date"
    is_reversed: bool
    text: str  # what a name must contain, case-insensitively

    @classmethod
    def of(cls, query: str) -> View:
        """Parse a query, such as `sort=-size&q=txt`; anything unknown is ignored.

        `sort` is `name`, `size` or `date`, or for example `-size` for the reverse; `q` is what names must contain.
        """
        asked = {name: values[-1] for name, values in parse_qs(query[:2000]).items()}
        by = asked.get("sort", "")
        is_reversed = by.startswith("-") or asked.get("order") == "desc"
        by = by.removeprefix("-")
        return cls(by, is_reversed, asked.get("q", "")) if by in _KEYS else cls("name", False, asked.get("q", ""))

    @property
    def order(self) -> str:
        """The value of `sort`."""
        return "-" * self.is_reversed + self.by

    def link(self, href: str, content: str) -> str:
        """Return a link to another directory that keeps the order; crawlers are told not to follow it."""
        if self.order == "name":
            return f'<a href="{href}">{content}</a>'
        return f'<a href="{href}?{urlencode({"sort": self.order})}" rel="nofollow">{content}</a>'


def read_entries(
    fd: int, view: View, *, hidden: bool, target_of: Callable[[bytes], os.stat_result | None]
) -> list[Entry]:
    """Return the entries of an open directory, at most `MOST` and one more; call it in a thread.

    `target_of` returns the status of a link's target; None if it must not be followed.
    """
    is_alone = _reading.acquire(timeout=_PATIENCE)
    try:
        with os.scandir(fd) as found:
            return _entries_of(found, view.text.casefold(), target_of, hidden=hidden)
    finally:
        if is_alone:
            _reading.release()


def _entries_of(
    found: Iterable[os.DirEntry[str]],
    text: str,
    target_of: Callable[[bytes], os.stat_result | None],
    *,
    hidden: bool,
) -> list[Entry]:
    entries: list[Entry] = []
    for each in found:
        name = each.name
        if (name[0] == "." and not hidden) or (text and text not in _shown(os.fsencode(name)).casefold()):
            continue
        try:
            status = each.stat(follow_symlinks=False)
        except OSError:  # removed meanwhile
            continue
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            target = target_of(os.fsencode(name))
            if target is None:
                continue
            status, mode = target, target.st_mode
        is_directory = stat.S_ISDIR(mode)
        if is_directory or stat.S_ISREG(mode):
            entries.append((name, is_directory, status.st_size, status.st_mtime))
            if len(entries) > MOST:
                break
    return entries


def _name_key(entry: Entry) -> str:
    name = entry[0]
    if name.isascii():
        return f"{name.casefold()}\0{name}"
    encoded = os.fsencode(name)
    return (encoded.decode("utf-8", "replace").casefold().encode() + b"\0" + encoded).decode("latin-1")


_KEYS: Final[dict[str, Callable[[Entry], Any]]] = {
    # A sort holds the GIL until it ends: 3 ms for 20,000 strings of Latin-1, 16 ms for pairs of str and bytes.
    "name": _name_key,
    "size": itemgetter(2),
    "date": itemgetter(3),
}


def sort_entries(entries: list[Entry], view: View) -> list[Entry]:
    """Return at most `MOST` of `entries` and one more, directories first, in the order of `view`."""
    found = sorted(entries[:MOST], key=_KEYS["name"])
    if view.by != "name":
        found.sort(key=_KEYS[view.by])
    if view.is_reversed:
        found.reverse()
    directories = [entry for entry in found if entry[1]]
    others = [entry for entry in found if not entry[1]] if directories else found
    return directories + others + entries[MOST : MOST + 1]


def render(path: str, depth: int, entries: Sequence[Entry], view: View) -> Iterator[bytes]:
    """Yield the page, chunk by chunk.

    Args:
        path: The directory's path in the request, with a slash at its end.
        depth: How many of its last segments are below the root; those above are not linked.
        entries: The directory's entries, in the order of the page; at most `MOST` are shown.
    """
    yield _head(path, depth, view)
    rows = [f'<tr><td class="d">{view.link("../", "Up one level")}<td><td>\n'] if depth else []
    for entry in entries[:MOST]:
        rows.append(_row(entry, view))
        if len(rows) >= _ROWS:
            yield "".join(rows).encode()
            rows.clear()
    if not entries:
        rows.append(f'<tr><td colspan="3">{"No name matches." if view.text else "This directory is empty."}\n')
    if len(entries) > MOST:
        rows.append(f'<tr><td colspan="3">Only {MOST:,} names are shown; this directory has more.\n')
    yield ("".join(rows) + "</table>\n</form>\n</main>\n").encode()


def _shown(name: str | bytes) -> str:
    """Return a name as text: bytes that are not text become U+FFFD, invisible characters become their code."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    return "".join(_visible(c) for c in text)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in _BREAKING:
        return "\ufffd"
    return f"[U+{ord(character):04X}]" if category == "Cf" and character not in _JOINERS else character


def _row(entry: Entry, view: View) -> str:
    name, is_directory, size, modified = entry
    if _is_plain(name):
        href = name.replace(" ", "%20")
    else:
        encoded = os.fsencode(name)
        href, name = encoded.decode("latin-1").translate(_QUOTED), escape(_shown(encoded))
    date = _time(math.floor(modified))
    # "./" keeps a name such as "javascript:" from being read as a scheme.
    if is_directory:
        return f'<tr><td class="d">{view.link(f"./{href}/", f"<bdi>{name}</bdi>/")}<td><td>{date}\n'
    shown_size = f'<span title="{size:,} bytes">{_size(size)}</span>'
    return f'<tr><td class="f"><a href="./{href}"><bdi>{name}</bdi></a><td>{shown_size}<td>{date}\n'


def _size(size: float) -> str:
    if size < 1000:
        return f"{size} B"
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size /= 1024
        power += 1
    return f"{size:.1f} {_UNITS[power]}" if size < 99.5 else f"{size:.0f} {_UNITS[power]}"


@lru_cache(maxsize=256)  # files often have the same time, if an archive or a checkout wrote them
def _time(modified: int) -> str:
    try:
        moment = time.gmtime(modified)
    except (OverflowError, ValueError, OSError):  # the year is out of range
        return ""
    return time.strftime('<time datetime="%Y-%m-%dT%H:%M:%SZ">%Y-%m-%d %H:%M</time>', moment)


def _head(path: str, depth: int, view: View) -> bytes:
    segments = path.strip("/").split("/") if path.strip("/") else []
    above = len(segments) - depth
    names = ["/".join(["", *segments[:above]]) or "/", *segments[above:]]
    crumbs = [
        view.link(f"./{'../' * (depth - place)}", f"<bdi>{escape(_shown(name))}</bdi>")
        for place, name in enumerate(names)
    ]
    slashes = ["" if name == "/" else "<span>/</span>" for name in names[:-1]]
    columns = []
    for key, title in (("name", "Name"), ("size", "Size"), ("date", "Modified (UTC)")):
        order = f"-{key}" if key == view.by and not view.is_reversed else key
        mark = f' aria-sort="{"descending" if view.is_reversed else "ascending"}"' if key == view.by else ""
        columns.append(f'<th{mark}><button name="sort" value="{order}">{title}</button>')
    return _HEAD.format(
        title=escape(_shown(path)),
        style=_STYLE,
        crumbs="".join(crumb + slash for crumb, slash in zip(crumbs, [*slashes, ""], strict=True)),
        columns="".join(columns),
        order=view.order,
        text=escape(view.text),
    ).encode()


_HEAD: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<main>
<h1>{crumbs}</h1>
<form>
<p role="search"><input type="search" name="q" value="{text}" maxlength="200" aria-label="Filter by name">
<button name="sort" value="{order}">Filter</button>
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
h1 a { display: inline-block; min-width: 24px; min-height: 24px; line-height: 1.5; }
h1 span { padding: 0 .3em; }
h1 span, td { color: var(--quiet); }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible, th button:hover { text-decoration: underline; }
input, button { font: inherit; min-height: 2rem; padding: 0 .6rem; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: .3rem; }
input { width: min(20rem, 60%); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { width: 100%; text-align: left; white-space: normal; overflow-wrap: anywhere; }
td a { display: block; min-height: 24px; padding: .15rem 0; }
tbody tr:hover { background: var(--over); }
th button { border: 0; padding: 0; cursor: pointer; color: var(--quiet); font-weight: 600; }
.d { font-weight: 600; }
[aria-sort=ascending] button::after { content: " \\2191"; }
[aria-sort=descending] button::after { content: " \\2193"; }
@media (max-width: 36rem) {
  table, thead, tbody { display: block; }
  tr { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 0 1rem; border-bottom: 1px solid var(--line); }
  th, td { box-sizing: border-box; border: 0; padding: .1rem .2rem; }
  td:first-child { flex: 1 0 100%; }
  th:first-child { flex: 1 0 0; }
  td { font-size: .875rem; }
  td:first-child { font-size: 1rem; }
}
"""
