"""The catalogue names every stage of its families, and nothing that there is not."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import trioflow as tf

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "operators.md"
FAMILIES = ["arranging", "chunks", "compression", "framing", "grouping", "items", "jsonlines", "lines"]
FAMILIES += ["failing", "item_errors", "joining", "splitting", "timing"]
FAMILIES += ["results", "selecting", "sinks", "sources", "text", "zstd_brotli"]


def rows() -> set[str]:
    """Give the names in the first column of every table."""
    first = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_stage_of_a_family_has_its_row(family: str) -> None:
    module = importlib.import_module(f"trioflow.{family}")
    public = {name for name in tf.__all__ if getattr(tf, name).__module__ == module.__name__}

    assert public
    assert public - rows() == set()


def test_every_row_is_of_something_public() -> None:
    assert rows() - set(tf.__all__) == set()
