"""Every Python block of a page passes mypy --strict and pyright strict, as a reader's own program should.

A block becomes a module, with its code on the same lines as on the page. It imports the names that it uses of earlier
blocks from their modules.
"""

from __future__ import annotations

import ast
import dis
import doctest
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.project.test_docs import PAGES, ROOT, Block, blocks_of

pytestmark = pytest.mark.slow  # the type checkers take seconds to start

# A block may use the imports of earlier ones and a top-level await, as `execute` in test_docs allows.
MYPY = ["mypy", "--strict", "--implicit-reexport", "--disable-error-code=top-level-await"]
PYRIGHT = ["pyright", "--pythonpath", sys.executable, "--project"]
PYRIGHT_SETTINGS = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "reportUnusedImport": False}
AT_THE_TOP = re.compile(r"(outside|outside of|only within) async function")


def code_of(block: Block) -> str:
    """Return a block's code on the lines that it has on the page; for a doctest, the code after the prompts."""
    if not block.body.startswith(">>>"):
        return "\n" * (block.line - 1) + block.body
    lines: list[str] = []
    for example in doctest.DocTestParser().get_examples(block.body):
        lines += [""] * (block.line - 1 + example.lineno - len(lines)) + example.source.splitlines()
    return "\n".join(lines)


def modules_of(name: str, text: str) -> dict[str, str]:
    """Return the code of the modules that a page's blocks become, by their names."""
    modules: dict[str, str] = {}
    bound: dict[str, str] = {}  # the module that each name comes from
    for block in blocks_of(text):
        if block.kind != "python":
            continue
        module, code = f"{name}_{block.line}", code_of(block)
        if block.argument != "server":  # that block is a complete program
            top = compile(code, module, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            binds = {each.argval for each in dis.get_instructions(top) if each.opname == "STORE_NAME"}
            uses = {each.id for each in ast.walk(ast.parse(code)) if isinstance(each, ast.Name)} - binds
            # The first line of the code is empty, because there is at least the fence before a block.
            code = "; ".join(f"from {bound[each]} import {each}" for each in sorted(uses & {*bound})) + code
            bound |= dict.fromkeys(binds, module)
        modules[module] = code
    return modules


def complaints(checker: list[str], pages: dict[str, str]) -> list[str]:
    """Return what a type checker says about the blocks of pages, with the page and its line first."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "pyrightconfig.json").write_text(json.dumps(PYRIGHT_SETTINGS), encoding="utf-8")
        for number, text in enumerate(pages.values()):
            for module, code in modules_of(f"page{number}", text).items():
                Path(place, f"{module}.py").write_text(code, encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", *checker, place], cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"\bpage(\d+)_\d+\.py:(\d+)(.*)", done.stdout)
    assert found or done.returncode == 0, done.stdout + done.stderr
    names = list(pages)
    return [f"{names[int(page)]}:{line}{words}" for page, line, words in found if not AT_THE_TOP.search(words)]


both = pytest.mark.parametrize("checker", [MYPY, PYRIGHT], ids=["mypy", "pyright"])


@both
def test_the_blocks_of_all_pages_pass_the_type_checkers(checker: list[str]) -> None:
    pages = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}

    assert complaints(checker, pages) == []


@both
def test_a_wrong_type_is_found_in_any_block_of_a_page(checker: list[str]) -> None:
    page = """
<!-- python
import trio
-->
1. in a list
   ```python
   await trio.sleep(0)
   number: str = 1
   ```
```python
async with trio.open_nursery() as nursery:
    nursery.later()
text = "a"
```
```python
def text() -> str:
    return number + 1
```
```python
>>> text().upper()
'A'
>>> text(1)
```
```python server
import trio
trio.run(1)
```
"""
    found = complaints(checker, {"first.md": "", "second.md": page})

    assert sorted({int(line.split(":")[1]) for line in found}) == [8, 12, 17, 22, 26]
    assert all(line.startswith("second.md:") for line in found)
