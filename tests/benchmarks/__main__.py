"""python -m tests.benchmarks [NAME ...]: trioflow compared with its peers, in turns, in one run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import _page, _place, _report, calls, files, http, items, redis, runs, workers
from tests.benchmarks._harness import Row, Scale, Work, measure
from tests.benchmarks._plot import svg

WORKS: list[Work] = [*items.WORKS, *runs.WORKS, *calls.WORKS, *workers.WORKS, *files.WORKS, *http.WORKS, *redis.WORKS]


def chosen(works: Sequence[Work], names: Sequence[str]) -> list[Work]:
    """Return the named works; a name is that of a work, or its beginning up to a dash.

    Raises:
        ValueError: there is no such work.
    """
    found = []
    for name in names:
        here = [work for work in works if work.name == name or work.name.startswith(f"{name}-")]
        if not here:
            raise ValueError(f"no work is named {name!r}; there are {', '.join(work.name for work in works)}")
        found += here
    return [work for work in works if work in found] if names else list(works)


def among(work: Work, names: Sequence[str]) -> Work:
    """Return the work with only ours and the peers whose name contains one of `names`."""
    if not names:
        return work
    ours, *others = work.peers
    kept = [peer for peer in others if any(name.lower() in peer.name.lower() for name in names)]
    return Work(**{field: getattr(work, field) for field in work.__slots__} | {"peers": [ours, *kept]})


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure trioflow beside its peers, in turns.",
        epilog=f"Peers and data are kept in {_place.home()} ($TRIOFLOW_BENCH_ENV).",
    )
    told.add_argument("names", nargs="*", metavar="NAME", help="a work, or the first word of several; all if none")
    told.add_argument("--rounds", type=_count, default=5, metavar="N", help="how often each has its turn (5)")
    told.add_argument("--peer", action="append", default=[], metavar="WORD", help="only peers with this in their name")
    told.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, '-' for standard output")
    told.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw bars there")
    told.add_argument("--page", type=Path, metavar="FILE.md", help="write the table into that page, between its marks")
    told.add_argument("--smoke", action="store_true", help="every work tiny and once: proves that it runs")
    told.add_argument("--list", action="store_true", help="name the works and their peers, and stop")
    told.add_argument("--install", action="store_true", help="install the Python peers first, outside the project")
    return told


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"wants 1 or more, not {count}")
    return count


def listing(works: Sequence[Work]) -> None:
    for work in works:
        print(f"{work.name:24} {work.title}")
        for peer in work.peers[1:]:
            lacking = [need.name for need in peer.needs if not need.is_there()]
            print(f"{'':24} - {peer.name}", *([f"(missing: {', '.join(lacking)})"] if lacking else []))


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        works = [among(work, options.peer) for work in chosen(WORKS, options.names)]
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.install:
        _place.install()
    if options.list:
        listing(works)
        return 0
    if options.page:
        _page.filled(options.page.read_text(encoding="utf-8"), [])  # missing marks are reported now, not after an hour
    rounds = 1 if options.smoke else options.rounds
    about = _report.machine()
    out = sys.stderr if str(options.json) == "-" else sys.stdout
    for line in _report.heading(about, rounds, is_smoke=options.smoke):
        print(line, file=out)
    results = []
    for work in works:
        scale = Scale(work.smoke, 0.0) if options.smoke else Scale(work.size, work.seconds)
        began = time.monotonic()
        rows = measure(work, scale, rounds, _tell)
        print(_CLEAR if sys.stderr.isatty() else "", end="", file=sys.stderr, flush=True)
        print(file=out)
        for line in _report.table(work, rows, is_smoke=options.smoke):
            print(line, file=out)
        print(f"  ({time.monotonic() - began:.0f} s)", file=out, flush=True)
        results.append((work, scale, rows))
    if options.json:
        told = {"machine": about, "rounds": rounds, "is_smoke": options.smoke}
        text = json.dumps(told | {"works": [_report.as_json(*result) for result in results]}, indent=1)
        if str(options.json) == "-":
            print(text)
        else:
            options.json.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        options.plot.write_text(svg([(work, rows) for work, _, rows in results]), encoding="utf-8")
    if options.page:
        table = list(_page.lines(about, rounds, [(work, rows) for work, _, rows in results]))
        options.page.write_text(_page.filled(options.page.read_text(encoding="utf-8"), table), encoding="utf-8")
    failed = [f"{work.name}: {row.peer.name}" for work, _, rows in results for row in rows if row.failed]
    if failed:
        print(f"\nfailed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


_CLEAR = "\r\x1b[K"


def _tell(row: Row) -> None:
    if sys.stderr.isatty():
        print(f"{_CLEAR}  {row.peer.name}: {len(row.samples)}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
