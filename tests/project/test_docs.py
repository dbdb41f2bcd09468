"""Every block in README and its neighbours, docs/ and docstrings runs, offline.

The word after the fence says what a block is:

    python          runs as it stands, `await` at the top allowed; the blocks of a page share their names
                    and one empty directory, in order; a block that starts with >>> is a doctest
    python server   a program that serves at port 8000 until the page ends or another one starts
    text            right after a python block: what that block prints, and the exception if it raises one, with the
                    traceback if the text shows one
    text NAME       a file of that name, for the blocks below
    console         `$ command`s, each with what it prints

In expected output `...` stands for anything. Code that a page needs but readers do not is in a comment that starts
with `<!-- python` or `<!-- text NAME` on a line of its own. Other blocks (sh, js, no word) are not run.

A docstring can use the public names, `tf`, `trio` and `run`; `run(awaitable)` returns its result.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import itertools
import re
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from tests.ports import free_port
from tests.snippets import ask, difference, matches, serving, with_port

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
MODULES = Path(importlib.import_module("trioflow").__file__ or "").parent

BLOCK = re.compile(
    r"^(?P<margin> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```[ ]*$"
    r"|^<!-- (?P<hidden>[\w ./-]+)\n(?P<unseen>.*?)^-->[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    kind: str
    argument: str
    body: str
    line: int


def blocks_of(text: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        kind, _, argument = (match["info"] or match["hidden"] or "").strip().partition(" ")
        body = match["unseen"] if match["body"] is None else match["body"]
        if match["margin"]:  # a block in a list is indented with it
            body = re.sub(rf"^{match['margin']}", "", body, flags=re.MULTILINE)
        found.append(Block(kind, argument.strip(), body, text.count("\n", 0, match.start()) + 2))
    return found


def execute(block: Block, page: str, names: dict[str, Any]) -> None:
    """Run a block with the names of its page."""
    if block.body.startswith(">>>"):
        told: list[str] = []
        example = doctest.DocTestParser().get_doctest(block.body, names, page, page, block.line - 1)
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append, clear_globs=False)
        names.update(example.globs)
        assert not told, "".join(told)
        return
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile("\n" * (block.line - 1) + block.body, str(ROOT / page), "exec", flags=flags, dont_inherit=True)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, names)
        return

    async def main() -> None:
        await eval(code, names)

    trio.run(main)


def run_page(text: str, page: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Run the blocks of a page in the current directory."""
    names: dict[str, Any] = {"__name__": "__main__"}
    port = free_port()
    here = Path.cwd()
    blocks = blocks_of(text)
    with contextlib.ExitStack() as server:
        for block, after in itertools.pairwise([*blocks, None]):
            match block.kind, block.argument:
                case "python", "":
                    want = after.body if after and after.kind == "text" and not after.argument else None
                    capfd.readouterr()
                    words = ""
                    try:
                        execute(block, page, names)
                    except Exception as exc:
                        if want is None:
                            exc.add_note(f"in the block at line {block.line} of {page}")
                            raise
                        whole = "Traceback (most recent call last):" in want
                        words = "".join((traceback.format_exception if whole else traceback.format_exception_only)(exc))
                    got = capfd.readouterr().out + words
                    where = f"the block at line {block.line} of {page}"
                    assert want is None or matches(got, want), difference(where, got, want or "")
                case "python", "server":
                    server.close()
                    source = with_port(block.body, port)
                    server.enter_context(serving(source, name=f"{Path(page).stem}.py", port=port, cwd=here))
                case "python", other:
                    pytest.fail(f"{page}, line {block.line}: after `python` only `server` is allowed, not {other!r}")
                case "text", name if name:
                    Path(name).parent.mkdir(parents=True, exist_ok=True)
                    Path(name).write_text(block.body, encoding="utf-8")
                case "console", _:
                    ask(with_port(block.body, port), cwd=here)


def page_parameters() -> list[Any]:
    parameters = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        curl = any(block.kind == "console" and "curl" in block.body for block in blocks_of(text))
        marks = [pytest.mark.needs("curl")] if curl else []
        if curl or any(block.argument == "server" for block in blocks_of(text)):
            marks += [pytest.mark.slow]
        if "tests.redis.server" in text:
            marks += [pytest.mark.needs("redis-server"), pytest.mark.slow]
        if "stamina" in text:  # the page waits between two attempts
            marks += [pytest.mark.slow]
        parameters.append(pytest.param(path, id=str(path.relative_to(ROOT)), marks=marks))
    return parameters


@pytest.mark.parametrize("path", page_parameters())
def test_the_blocks_of_a_page_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    run_page(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)), capfd)


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_the_links_of_a_page_have_targets(path: Path) -> None:
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)

    assert [link for link in links if not (path.parent / link).exists()] == []


def module_names() -> list[str]:
    names = []
    for path in sorted(MODULES.rglob("*.py")):
        parts = path.relative_to(MODULES.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def run(awaitable: Awaitable[T]) -> T:
    async def main() -> T:
        return await awaitable

    return trio.run(main)


@pytest.mark.parametrize("name", module_names())
def test_the_examples_in_the_docstrings_of_a_module_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tf = importlib.import_module("trioflow")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []

    names = {**vars(module), **{public: getattr(tf, public) for public in tf.__all__}}
    for example in doctest.DocTestFinder().find(module, name, globs=names):
        example.globs.update(tf=tf, trio=trio, run=run, __name__="__main__")
        runner.run(example, out=told.append)

    assert not told, "".join(told)


def test_a_page_is_run_in_order_and_its_output_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = """
<!-- text a.log
one
-->
```python
import trio
await trio.sleep(0)
from pathlib import Path
print(Path("a.log").read_text(), end="")
```
prints
```text
one
```
1. in a list
   ```python
   raise ValueError("no")
   ```
   ```text
   ValueError: no
   ```

```console
$ cat a.log
one
$ printf "%s\\n" \\
    1 2
...
2
```
"""
    run_page(page, "page.md", capfd)

    for old, new in [
        ("sleep(0)", "sleep(-1)"),
        ("text\none", "text\ntwo"),
        ("Error: no", "Error: yes"),
        ("\n2", "\n3"),
    ]:
        assert old in page
        with pytest.raises((ValueError, AssertionError)):
            run_page(page.replace(old, new), "page.md", capfd)


@pytest.mark.needs("curl")
def test_a_server_on_a_page_gets_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = """
```python server
from http.server import HTTPServer, SimpleHTTPRequestHandler as Handler
with HTTPServer(("127.0.0.1", 8000), Handler) as server:
    server.serve_forever()
```
```text hello.txt
hello
```
```console
$ curl -s http://127.0.0.1:8000/hello.txt
hello
```
"""
    run_page(page, "page.md", capfd)

    with pytest.raises(AssertionError, match="instead of serving"):
        run_page(page.replace("HTTPServer((", "HTTPServer(()("), "page.md", capfd)
    with pytest.raises(AssertionError, match="but it says"):
        run_page(
            page.replace("txt\nhello\n```\n", "txt\ngoodbye\n```\n").replace("goodbye", "hello", 1), "page.md", capfd
        )
