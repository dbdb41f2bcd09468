"""The pages of reported cases and of queue promises name existing tests and examples, and have every row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
PAGE = (DOCS / "contributing" / "reported-cases.md").read_text(encoding="utf-8")
PROMISES = (DOCS / "contributing" / "queue-promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE + PROMISES)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda each: str(each))
def test_a_test_that_a_page_names_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (TESTS / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_of_a_case_names_a_test_and_every_case_has_a_row() -> None:
    tables = PAGE[: PAGE.index("## Programs")]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and not re.match(r"\| (no|case)", line)]

    assert rows
    assert [row for row in rows if not re.search(r"\| `[\w/]+\.py::test_\w+`[^|]*\|$", row)] == []
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", tables, re.MULTILINE)} == {*range(1, 17)}


def test_every_program_that_the_page_names_is_an_example() -> None:
    programs = re.findall(r"^\| [^|]+ \| `([\w/.]+)` \|", PAGE[PAGE.index("## Programs") :], re.MULTILINE)

    assert len(programs) == 10
    assert [name for name in programs if not (TESTS.parent / "examples" / name).exists()] == []


def test_every_row_of_the_comparison_of_queues_has_tests() -> None:
    page = (DOCS / "explanation" / "queues.md").read_text(encoding="utf-8")
    tables = page[page.index("## What happens to an item") : page.index('"–" means')]
    points = re.findall(r"^\| ([\w' ]+) \|", tables, re.MULTILINE)

    assert len(points) == 20
    assert re.findall(r"^\| ([\w' ]+) \| [`–]", PROMISES, re.MULTILINE) == points
