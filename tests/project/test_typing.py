"""The types of our public names: mypy --strict and pyright strict read tests/typing/*.py.

What must fail is marked there with mypy's code, `# type: ignore[arg-type]`; an unneeded mark is an error for both
checkers, so both must refuse the line. The settings are in pyproject.toml.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trioflow as tf

pytestmark = pytest.mark.slow  # the type checkers take seconds to start

ROOT = Path(__file__).parents[2]
MYPY = ["mypy", "--strict"]
PYRIGHT = ["pyright", "--pythonpath", sys.executable]


def check(checker: list[str], *paths: Path) -> str:
    """Return what `checker` complains about, empty if nothing."""
    command = [sys.executable, "-m", *checker, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("checker", [MYPY, PYRIGHT], ids=["mypy", "pyright"])
def test_the_types_of_the_public_names_are_exact(checker: list[str]) -> None:
    cases = sorted(ROOT.glob("tests/typing/*.py"))
    assert cases, "tests/typing holds no cases"

    complaints = check(checker, *cases)

    assert not complaints, f"\n{complaints}"


def test_every_public_name_is_checked() -> None:
    read: set[str] = set()
    for path in ROOT.glob("tests/typing/*.py"):
        text = path.read_text(encoding="utf-8")
        refused = {number for number, line in enumerate(text.splitlines(), 1) if "# type: ignore" in line}
        read |= {
            node.attr
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tf" and node.lineno not in refused
        }

    assert {*tf.__all__} - read == set()


@pytest.mark.parametrize("checker", [MYPY, PYRIGHT], ids=["mypy", "pyright"])
def test_a_wrong_type_is_found(checker: list[str], tmp_path: Path) -> None:
    case = tmp_path / "case.py"
    case.write_text("import trioflow as tf\n\ntf.open_channel[str](capacity='x')\n", encoding="utf-8")

    complaints = check(checker, case)

    errors = [line for line in complaints.splitlines() if " error: " in line]
    assert errors
    assert all("case.py:3:" in error for error in errors), complaints  # `import trioflow` is found, with its types
