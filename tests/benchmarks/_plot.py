"""An SVG with a block of bars for each work. Ours is coloured, a limit is hollow."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.benchmarks._harness import Row, Work, ratio
from tests.benchmarks._report import name_of, shown

_WIDTH, _LEFT, _BAR, _STEP, _GAP = 880, 300, 16, 22, 44
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 14px; font-weight: 600; }
  .name { text-anchor: end; }
  .ours { fill: #0a7ea4; } .theirs { fill: #b3bcc5; } .limit { fill: none; stroke: #8a949e; }
  .paper { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #d0d7de; } .ours { fill: #39b5dc; } .theirs { fill: #57606a; } .paper { fill: #0d1117; }
  }
"""


def svg(results: Sequence[tuple[Work, Sequence[Row]]]) -> str:
    """Draw all works, each with its own scale."""
    marks: list[str] = []
    y = 0
    for work, rows in results:
        y += _GAP
        better = "less is better" if work.is_cost else "more is better"
        marks.append(f'<text class="title" x="12" y="{y - 12}">{escape(work.title)} ({better})</text>')
        longest = max((row.median("figure") or 0 for row in rows), default=0)
        for row in rows:
            marks += _bar(work, row, rows[0], longest, y)
            y += _STEP
    height = y + _GAP // 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>trioflow beside its peers</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
            *marks,
            "</svg>\n",
        ]
    )


def _bar(work: Work, row: Row, ours: Row, longest: float, y: int) -> list[str]:
    middle = y + _BAR - 4
    marks = [f'<text class="name" x="{_LEFT - 8}" y="{middle}">{escape(name_of(row))}</text>']
    value = row.median("figure")
    if value is None:
        why = "missing" if row.missing else "failed"
        return [*marks, f'<text x="{_LEFT}" y="{middle}">{why}</text>']
    length = max(1.0, value / longest * (_WIDTH - _LEFT - 190)) if longest else 1.0
    kind = "ours" if row is ours else "limit" if row.peer.is_limit else "theirs"
    note = shown(value, work.unit)
    times = None if row is ours else ratio(ours, row)
    if times is not None:
        note += f", ours {times:.3g} ×"
    return [
        *marks,
        f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
        f'<text x="{_LEFT + length + 8:.1f}" y="{middle}">{escape(note)}</text>',
    ]
