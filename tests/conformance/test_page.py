"""The pages that name tests: each number is there once, and every test they name exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "contributing" / "conformance.md"
CLIENTS = PAGE.with_name("real-clients.md")
VERDICTS = ["holds", "differs", "does not apply"]
LISTS = {"new-streams": r"(?!RS|WPT)", "Reactive Streams": "RS", "propagation": "WPT"}

# The numbers in each list: the first and last of each consecutive range.
NEW_STREAMS = {
    "PUSH": "1-12 20-24 30-33 40-45 50-52 60-62 70-72 80-84 90-99",
    "FROM": "1-7 10-17 20-26 30-32 40-45 50-54",
    "PULL": "1-7 10-13 20-22 30-32 40-42",
    "PIPE": "1-5",
    "WRITE": "10-12 20-21 25-26 30-30",
    "BYTES": "1-9",
    "TEXT": "1-8",
    "ARRAYBUF": "1-4",
    "ARRAY": "1-10",
    "BCAST": "1-5 10-13 20-22 30-32 40-40 50-51 70-72 80-87",
    "SHARE": "1-7 10-14 20-23 30-30 40-40 50-50 70-74",
    "DUPLEX": "1-14",
    "MERGE": "1-7",
    "TAP": "1-4",
    "PROTO": "1-6",
}
REACTIVE_STREAMS = {1: 11, 2: 13, 3: 17, 4: 2}
PROPAGATION = {"EF": 4, "EB": 3, "CF": 4, "CB": 3, "M": 2, "S": 1}


def numbers() -> list[str]:
    found = []
    for prefix, runs in NEW_STREAMS.items():
        for run in runs.split():
            first, last = map(int, run.split("-"))
            found += [f"{prefix}-{n:03}" for n in range(first, last + 1)]
    found += [f"RS-{part}.{n}" for part, last in REACTIVE_STREAMS.items() for n in range(1, last + 1)]
    return found + [f"WPT-{part}-{n}" for part, last in PROPAGATION.items() for n in range(1, last + 1)]


def rows() -> list[tuple[list[str], str, str]]:
    """Return the numbers, the verdict and the reason or test of each row."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"\| [A-Z]+-", line):
            found.append((cells[0].split(", "), cells[2], cells[3]))
    return found


def test_every_number_of_the_lists_is_on_the_page_once() -> None:
    assert Counter(number for row, _, _ in rows() for number in row) == Counter(numbers())


def test_every_test_that_a_page_names_exists() -> None:
    there = {
        (path.relative_to(TESTS.parent).as_posix(), node.name)
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }

    for page in sorted(PAGE.parent.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"`(test_\w+)`", text)) - {name for _, name in there} == set(), page.name
        assert set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)) - there == set(), page.name


def test_every_row_names_a_test_or_a_reason() -> None:
    for row, verdict, by in rows():
        reason = re.sub(r"`test_\w+`(, )?", "", by).strip()
        assert verdict in VERDICTS, f"{row}: {verdict!r}"
        assert ("`test_" in by) == (verdict != "does not apply"), f"{row} names a test, or does not apply"
        assert reason or verdict == "holds", f"{row} says why"


def test_every_test_of_a_number_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(r"def (test_(?:[A-Z]+_\d{3}|RS_\d|WPT)_\w+)")
    there = {
        name
        for path in TESTS.glob("conformance/test_*.py")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }

    assert {name for name in there if f"`{name}`" not in page} == set()


def test_the_counts_on_the_page_are_correct() -> None:
    counted = {
        name: [
            sum(1 for row, is_so, _ in rows() if is_so == verdict for number in row if re.match(prefix, number))
            for verdict in VERDICTS
        ]
        for name, prefix in LISTS.items()
    }
    page = PAGE.read_text(encoding="utf-8")

    told = re.findall(r"^\| ([\w -]+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)

    assert {name: [int(n) for n in counts] for name, *counts in told} == counted


def surprises() -> list[tuple[int, str, str]]:
    """Return the number, the clients and the tests of each row on the page about real clients."""
    found = []
    for line in CLIENTS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdigit():
            found.append((int(cells[0]), cells[2], cells[3]))
    return found


def test_each_surprise_of_real_clients_is_on_its_page_once_with_a_test() -> None:
    assert [number for number, _, _ in surprises()] == list(range(1, 21))
    assert all(re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`(, `[^`]+`)*", by) for _, _, by in surprises())


def test_the_counts_on_the_page_of_real_clients_are_correct() -> None:
    seen = Counter(client for _, clients, _ in surprises() for client in clients.split(", ") if client != "-")

    told = re.findall(r"^\| (\w+) \| [^|]+ \| (\d+) \|$", CLIENTS.read_text(encoding="utf-8"), re.MULTILINE)

    assert {client: int(count) for client, count in told} == seen
