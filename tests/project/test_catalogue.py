"""The catalogue has every public name and no other, and each docstring says what a reader needs to know."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import trioflow as tf
from tests.conformance.entries import SINKS, STAGES, public_names

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "operators.md"
HEADINGS = ["Emits when:", "Waits when:", "Ends when:", "On cancel:", "Holds:"]


def rows() -> list[list[str]]:
    """Return the cells of every row of every table."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def names() -> set[str]:
    """Return the names in the first column."""
    return {name for first, *_ in rows() for name in re.findall(r"`(\w+)`", first)}


def test_every_public_name_has_a_row_and_every_row_a_public_name() -> None:
    assert names() == set(tf.__all__)


def test_every_row_has_the_names_of_other_libraries() -> None:
    for first, *cells in rows():
        assert len(cells) >= 3, f"{first} has no names of other libraries"
        assert all(cells), f"{first} has an empty cell: write a dash if there is no name"


@pytest.mark.parametrize("name", sorted({*public_names(STAGES), "stdin"}))
def test_the_docstring_of_a_stage_says_when_it_emits_waits_and_ends_what_cancelling_loses_and_what_it_holds(
    name: str,
) -> None:
    told = inspect.getdoc(getattr(tf, name)) or ""

    headings = (
        HEADINGS[1:] if name in public_names(SINKS) else HEADINGS
    )  # a sink returns its result at the end, and emits nothing
    assert re.findall(r"^(?:Emits|Waits|Ends|On|Holds)(?: when| cancel)?:(?= \S)", told, re.MULTILINE) == headings
