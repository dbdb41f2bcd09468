"""Reports of the measurements, for people and for machines.

Rule 1: a ratio is ours divided by theirs; for a cost, smaller is better, and the target is an upper bound.
Rule 2: what is missing or has failed has its line too.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks import _place
from tests.benchmarks._harness import Row, Scale, Work, is_met, ratio

_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_HEADS = {"s": "time", "B": "memory"}


def shown(value: float | None, unit: str) -> str:
    """Return a number with its unit, at three digits: 2.31 M items/s, 18.4 µs, 3.2 KiB."""
    if value is None:
        return "-"
    if unit == "B":
        for power, prefix in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
            if abs(value) >= 1 << power:
                return f"{value / (1 << power):.3g} {prefix}B"
        return f"{value:.0f} B"
    scales = _SMALL if unit == "s" else _LARGE
    factor, prefix = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    number = value / factor
    digits = 2 if number < 10 else 1 if number < 100 else 0
    gap = " " if prefix and unit not in ("s", "B/s") else ""
    return f"{number:.{digits}f} {prefix}{gap}{unit}".rstrip()


def machine() -> dict[str, Any]:
    """Return the machine and the versions with which the numbers were measured."""
    versions = {name: version for name, version in sorted(_place.installed().items()) if name in _SHOWN}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "trioflow": _commit(),
        "versions": {
            "python": platform.python_version(),
            "trio": metadata.version("trio"),
            "node": _first_line("node", "--version").lstrip("v"),
            "nginx": _first_line("nginx", "-v").rpartition("/")[2],
            "redis-server": _first_line("redis-server", "--version").partition("v=")[2].partition(" ")[0],
            "wrk": " ".join(_first_line("wrk", "-v").split()[1:2]),
            **versions,
        },
    }


_SHOWN = {
    "aiostream",
    "anyio",
    "aiofiles",
    "aiohttp",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "hypercorn",
    "redis",
    "hiredis",  # if it is installed, redis-py uses it and is faster
}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str:
    root = Path(__file__).parents[2]
    try:
        git = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("trioflow")


def _first_line(command: str, option: str) -> str:
    found = _place.find(command)
    if found is None:
        return ""
    told = subprocess.run([found, option], check=False, capture_output=True, text=True)
    return next(iter((told.stdout + told.stderr).splitlines()), "")


def heading(about: dict[str, Any], rounds: int, *, is_smoke: bool) -> Iterator[str]:
    """Return the lines above all tables."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    yield f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['system']}, trioflow {about['trioflow']}"
    yield f"{versions}"
    yield f"{rounds} rounds in turns; medians; ratios are ours divided by theirs, the median of the rounds"
    if is_smoke:
        yield "smoke: too small to measure anything, so there is no verdict"
    elif about["load"] > 0.5:
        yield f"the machine was busy when this began (load {about['load']}): look at the ratios, and twice at those"


def table(work: Work, rows: Sequence[Row], *, is_smoke: bool = False) -> Iterator[str]:
    """Return a work's table, line by line."""
    yield f"{work.title}  [{work.name}]"
    head = ["", _HEADS.get(work.unit, work.unit), "spread", "wall", "CPU", "ours/theirs", "target", "by CPU", "target"]
    lines = [head]
    ours = rows[0]
    notes = []
    for row in rows:
        name = name_of(row)
        if row.missing or row.failed:
            notes.append(f"  {name}: {'missing: ' + row.missing if row.missing else 'FAILED: ' + row.failed}")
            continue
        spread = row.spread
        line = [
            name,
            shown(row.median("figure"), work.unit if work.unit in ("s", "B") else ""),
            "-" if spread is None else f"{spread:.0%}",
            shown(row.median("wall"), "s"),
            shown(row.median("cpu"), "s"),
        ]
        if row is not ours:
            reached, by_cpu = ratio(ours, row), ratio(ours, row, "per_cpu")
            line += [times(reached), "" if is_smoke else _verdict(work, reached, row.peer.target)]
            line += [times(by_cpu), "" if is_smoke else _verdict(work, by_cpu, row.peer.cpu_target)]
        lines.append(line)
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(head))]
    for name, *cells in lines:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=False)]
        yield "  ".join(["", name.ljust(widths[0]), *aligned]).rstrip()
    yield from notes


def name_of(row: Row) -> str:
    """Return a peer's name, marked if it is the limit of the machine."""
    return f"{row.peer.name} (limit)" if row.peer.is_limit else row.peer.name


def times(reached: float | None) -> str:
    """Return a ratio in three digits."""
    return "-" if reached is None else f"{reached:.2f}" if reached < 10 else f"{reached:.0f}"


def _verdict(work: Work, reached: float | None, target: float | None) -> str:
    if target is None:
        return ""
    met = is_met(work, reached, target)
    word = {None: "?", True: "met", False: "missed"}[met]
    return f"{'≤' if work.is_cost else '≥'} {target:g} {word}"


def as_json(work: Work, scale: Scale, rows: Sequence[Row]) -> dict[str, Any]:
    """Return all numbers of a work in a form that can be converted to JSON."""
    ours = rows[0]

    def one(row: Row) -> dict[str, Any]:
        peer = row.peer
        told: dict[str, Any] = {"peer": peer.name, "is_limit": peer.is_limit}
        if row.missing:
            return {**told, "missing": row.missing}
        if row.failed:
            return {**told, "failed": row.failed}
        told |= {name: row.median(name) for name in ("figure", "per_cpu", "wall", "cpu")}
        told |= {"spread": row.spread, "samples": [asdict(sample) for sample in row.samples]}
        if row is not ours:
            for kind, name, target in (("", "figure", peer.target), ("cpu_", "per_cpu", peer.cpu_target)):
                reached = ratio(ours, row, name)
                told |= {f"{kind}ratio": reached, f"{kind}target": target, f"{kind}met": is_met(work, reached, target)}
        return told

    return {
        "name": work.name,
        "title": work.title,
        "unit": work.unit,
        "is_cost": work.is_cost,
        "size": scale.size,
        "rows": [one(row) for row in rows],
    }
