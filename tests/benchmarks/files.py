"""Files: the cost of streaming compared with a plain loop. The page cache has the source; targets are new.

Rule 1: every program reads and writes the same bytes, and its output is checked afterwards.
Rule 2: no program pays for the pending writes of another, or for memory that was returned in between.
Rule 3: a program that would take minutes gets only a part; rates stay comparable, and its name says so.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.benchmarks import _place
from tests.benchmarks._harness import Failed, Need, Peer, Sample, Scale, Work, expect
from tests.benchmarks._programs import PEERS, run, with_node, with_peers, with_trioflow

MIB = 1 << 20


def timed(
    command: Callable[[], Sequence[str]],
    program: str,
    job: str,
    prepare: Callable[[int], Path],
    check: Callable[[Path, Path], None],
    part: float = 1.0,
) -> Callable[[Scale], Sample]:
    """Make the measurement of a program with a file to read and one to write.

    The rate counts the bytes that are read, or written if they are more.
    """

    def measure(scale: Scale) -> Sample:
        source = prepare(max(1000, int(scale.size * part)))
        with _place.scratch() as directory:
            target = directory / "target"
            _place.make_ready(source, target)
            told = run([*command(), PEERS / program, job, source, target])
            check(source, target)
            amount = max(source.stat().st_size, target.stat().st_size)
        return Sample.rate(amount, told["wall"], told["cpu"])

    return measure


def same(source: Path, target: Path) -> None:
    """Check a copy."""
    expect("the copy's digest", _place.fresh_digest(target), _place.digest(source))


def filtered(source: Path, target: Path) -> None:
    """Check what remains of a log."""
    with source.open("rb") as lines:
        kept = [line for line in lines if b" 500 " in line]
    expect("the log that remains", target.read_bytes() == b"".join(kept), True)


def gunzips(source: Path, target: Path) -> None:
    """Check a gzip file by its content, because its bytes depend on the library."""
    try:
        whole = zlib.decompress(target.read_bytes(), wbits=31)
    except zlib.error as exc:
        raise Failed(f"what was written is no gzip file: {exc}") from None
    expect("the unpacked file", whole == source.read_bytes(), True)


def gunzipped(source: Path, target: Path) -> None:
    """Check an unpacked file."""
    same(_place.log_file(_place.size_in(source)), target)


def failures(source: Path, target: Path) -> None:
    """Check the filtered JSON lines: the notation of a number or a letter may differ, but not its value."""
    with source.open("rb") as lines:
        same_values(target, (record for line in lines if (record := json.loads(line))["status"] >= 400))


def tabled(source: Path, target: Path) -> None:
    """Check the JSON lines made from a table."""
    with source.open(encoding="utf-8", newline="") as lines:
        same_values(target, csv.DictReader(lines))


def same_values(target: Path, wanted: Iterable[object]) -> None:
    """Check a file of JSON lines against its values."""
    with target.open("rb") as lines:
        found = map(json.loads, lines)
        expect("the lines that differ", sum(one != other for one, other in zip(found, wanted, strict=True)), 0)


def _work(
    job: str,
    title: str,
    size: int,
    prepare: Callable[[int], Path],
    check: Callable[[Path, Path], None],
    targets: dict[str, float | None],
    limit: str,
    more: Sequence[Peer] = (),
    needs: Sequence[Need] = (),
) -> Work:
    def program(name: str, command: Callable[[], Sequence[str]] = with_trioflow) -> Callable[[Scale], Sample]:
        return timed(command, name, job, prepare, check)

    return Work(
        job,
        title,
        "B/s",
        size,
        MIB,
        [
            Peer("trioflow", program("files_trioflow.py"), needs),
            Peer(limit, program("files_plain.py"), needs, targets["limit"], is_limit=True),
            *(
                [Peer("Node: pipeline", program("files.js", with_node), [_place.NODE], targets["node"])]
                if "node" in targets
                else []
            ),
            *more,
        ],
    )


def _lines_by(package: str) -> Peer:
    name = f"{package}: a line at a time (1 % of it)"
    measure = timed(with_peers, f"files_{package}.py", "log", _place.log_file, filtered, part=0.01)
    return Peer(name, measure, [_place.package(package)])


WORKS = [
    _work(
        "log",
        "log file, 200 MB: read, lines, filter, encode, write",
        200_000_000,
        _place.log_file,
        filtered,
        {"limit": 0.5, "node": 1.0},
        "blocking Python loop",
        [_lines_by("anyio"), _lines_by("aiofiles")],
    ),
    _work(
        "copy",
        "copy 1 GiB from file to file",
        1 << 30,
        _place.random_file,
        same,
        {"limit": 0.97, "node": None},
        "shutil.copyfile",
        [
            Peer(
                "trio.open_file: 64 KiB at a time",
                timed(with_trioflow, "files_trio.py", "copy", _place.random_file, same),
            )
        ],
    ),
    _work(
        "gzip",
        "gzip a log of 100 MB, level 6",
        100_000_000,
        _place.log_file,
        gunzips,
        {"limit": 0.95, "node": None},
        "blocking zlib loop",
    ),
    _work(
        "gzip-isal",
        "gzip a log of 100 MB, level 6, with trioflow[isal]",
        100_000_000,
        _place.log_file,
        gunzips,
        {"limit": 2.5, "node": None},
        "blocking zlib loop",
        needs=[_place.extra("isal")],
    ),
    _work(
        "gunzip",
        "gunzip a log of 100 MB",
        100_000_000,
        _place.gzip_file,
        gunzipped,
        {"limit": 0.95, "node": None},
        "blocking zlib loop",
    ),
    _work(
        "gunzip-isal",
        "gunzip a log of 100 MB, with trioflow[isal]",
        100_000_000,
        _place.gzip_file,
        gunzipped,
        {"limit": 1.8, "node": None},
        "blocking zlib loop",
        needs=[_place.extra("isal")],
    ),
    _work(
        "json",
        "JSON lines, 200 MB: read, parse, filter, dump, write",
        200_000_000,
        _place.json_file,
        failures,
        {"limit": 0.8, "node": None},
        "blocking json loop",
    ),
    _work(
        "json-msgspec",
        "JSON lines, 200 MB: read, parse, filter, dump, write, with trioflow[msgspec]",
        200_000_000,
        _place.json_file,
        failures,
        {"limit": 0.8, "node": 1.0},
        "blocking msgspec loop",
        needs=[_place.extra("msgspec")],
    ),
    _work(
        "csv",
        "CSV to JSON lines, 200 MB",
        200_000_000,
        _place.csv_file,
        tabled,
        {"limit": 0.7},
        "blocking csv and json loop",
    ),
]
