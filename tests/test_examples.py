"""Each program in examples/ shows one idea; it runs, and prints what its last lines say it prints.

Those lines are comments, from `# Prints:` on. `...` stands for anything. Where the first of them is a `$ command`, the
program is a server at port 8000: it is started, and each command prints what stands below it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import PATIENCE, ask, difference, free_port, matches, serving, with_port

EXAMPLES = sorted(Path(__file__).parent.parent.glob("examples/*.py"))


def printed_by(source: str) -> str:
    """Give the block after `# Prints:`, without its comment signs."""
    block = re.search(r"^# Prints:\n((?:^#.*\n?)*)\Z", source, re.MULTILINE)
    assert block, "the last lines of an example are `# Prints:` and what it prints, as comments"
    return re.sub(r"^# ?", "", block[1], flags=re.MULTILINE)


def run_example(path: Path, cwd: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "an example opens with its idea, as a docstring"
    want = printed_by(source)
    if want.startswith("$ "):
        port = free_port()
        with serving(with_port(source, port), name=path.name, port=port, cwd=cwd):
            ask(with_port(want, port), cwd=cwd)
        return
    # -X dev shows what was never closed or awaited, on stderr.
    done = subprocess.run(
        [sys.executable, "-X", "dev", path],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert matches(done.stdout, want), difference(path.name, done.stdout, want)


def marks_of(path: Path) -> list[pytest.MarkDecorator]:
    return [pytest.mark.needs("curl")] if "# $ curl" in path.read_text(encoding="utf-8") else []


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name, marks=marks_of(path)) for path in EXAMPLES])
def test_an_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    run_example(path, tmp_path)


def test_an_example_that_prints_something_else_is_caught(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text('"""Idea."""\nprint("one\\ntwo")\n\n# Prints:\n# one\n# two\n')
    run_example(example, tmp_path)

    for source, complaint in [
        ('"""Idea."""\nprint("one")\n# Prints:\n# two\n', "but it says"),
        ('"""Idea."""\nprint("one")\n', "last lines"),
        ('print("one")\n# Prints:\n# one\n', "opens with its idea"),
        ('"""Idea."""\nopen(__file__)\n# Prints:\n', "ResourceWarning"),
        ('"""Idea."""\nraise ValueError("no")\n# Prints:\n', "ValueError: no"),
    ]:
        example.write_text(source)
        with pytest.raises(AssertionError, match=complaint):
            run_example(example, tmp_path)
