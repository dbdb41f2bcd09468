"""The measurements as one table of a page, hits and misses alike, between two permanent marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.benchmarks._harness import Row, Work, is_met, ratio
from tests.benchmarks._report import heading, name_of, shown, times

BEGIN = "<!-- measured: `python -m tests.benchmarks --page` writes what is between these two lines -->"
END = "<!-- end of what was measured -->"


def filled(text: str, lines: Sequence[str]) -> str:
    """Return a page with `lines` between its marks.

    Raises:
        ValueError: it lacks them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page wants a line {BEGIN!r} and, below it, a line {END!r}")
    return "\n".join([before + begin, "", *lines, "", end + after])


def lines(about: dict[str, Any], rounds: int, results: Sequence[tuple[Work, Sequence[Row]]]) -> Iterator[str]:
    """Return the paragraph about the machine, the table, and who was missing or failed."""
    yield "; ".join(heading(about, rounds, is_smoke=False)) + "."
    yield ""
    yield "| work | beside | ours | theirs | ours ÷ theirs | by CPU | target |"
    yield "|---|---|---|---|---|---|---|"
    absent = []
    for work, (ours, *others) in results:
        title = f"**{work.name}**: {work.title}"
        for row in others:
            if row.missing or row.failed:
                absent.append(
                    f"- {work.name}, {row.peer.name}: {(row.missing and 'missing: ' + row.missing) or row.failed}"
                )
                continue
            yield _joined(title, name_of(row), *_figures(work, ours, row))
            title = ""
    if absent:
        yield ""
        yield from absent


def _figures(work: Work, ours: Row, row: Row) -> Iterator[str]:
    yield shown(ours.median("figure"), work.unit)
    yield shown(row.median("figure"), work.unit)
    reached, by_cpu = ratio(ours, row), ratio(ours, row, "per_cpu")
    yield times(reached)
    yield times(by_cpu)
    yield ", ".join(_verdicts(work, ((reached, row.peer.target, ""), (by_cpu, row.peer.cpu_target, " by CPU"))))


def _verdicts(work: Work, wanted: Sequence[tuple[float | None, float | None, str]]) -> Iterator[str]:
    for reached, target, how in wanted:
        if target is not None:
            verdict = {True: "met", False: "**missed**", None: "?"}[is_met(work, reached, target)]
            yield f"{'≤' if work.is_cost else '≥'} {target:g}{how}: {verdict}"


def _joined(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
