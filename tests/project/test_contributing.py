"""What contributors and CI run exists; nox's `docs` session checks the YAML files themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
CALLERS = [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / "CONTRIBUTING.md", ROOT / ".github" / "pull_request_template.md"]


def sessions() -> set[str]:
    """Return the names of the sessions in noxfile.py."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any("nox.session" in ast.unparse(d) for d in node.decorator_list)}


def called(text: str) -> set[str]:
    """Return the sessions that a text names: after `nox -s`, in an array of the shell, or as an entry of the matrix."""
    lists = re.findall(r"nox -s +([\w ]+)", text) + re.findall(r"^\w+=\(([\w ]+)\)$", text, re.MULTILINE)
    if matrix := re.search(r"^ +session:\n((?: +- .+\n)+)", text, re.MULTILINE):
        lists += re.findall(r"- (.+)", matrix[1])
    return {name for words in lists for name in words.split()}


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.name)
def test_only_sessions_that_exist_are_called(path: Path) -> None:
    names = called(path.read_text(encoding="utf-8"))

    assert names
    assert names - sessions() == set()


def test_ci_runs_every_session_but_the_release() -> None:
    ci = called((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    workflows = set().union(*(called(path.read_text(encoding="utf-8")) for path in WORKFLOWS))

    assert ci | {"dev", "release"} == sessions()
    assert workflows - {"release"} == ci


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_declares_its_permissions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)", text)

    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", action)] == []
    assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
    assert "\t" not in text
    assert text.count("runs-on:") == text.count("timeout-minutes:")


def test_ci_installs_every_program_that_a_test_needs() -> None:
    needed = {
        command
        for path in (ROOT / "tests").rglob("*.py")
        for commands in re.findall(r"mark\.needs\(([^)]*)\)", path.read_text(encoding="utf-8"))
        for command in re.findall(r'"([\w.-]+)"', commands)
    }
    installed = re.findall(r"^([\w.-]+) [\w.-]+$", (ROOT / ".ci" / "tools").read_text(encoding="utf-8"), re.MULTILINE)

    assert needed - set(installed) == set()
    assert len(needed) > 5


def test_pre_commit_runs_the_linter_version_of_the_project() -> None:
    wanted = re.search(r'"(ruff>=[\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    assert wanted
    assert set(re.findall(r'"(ruff[^"]*)"', hooks)) == {wanted[1]}
