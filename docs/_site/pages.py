"""Prepares the pages for the site: `python docs/_site/pages.py` writes them into build/docs, where `zensical build` takes them.

Rule 1: pages read well as they stand, on a forge and in an editor; what only the site needs is made here.
Rule 2: a link to a test or an example, which the site does not have, becomes its words.
Rule 3: what a fence says to tests/project/test_docs.py says the same to a reader: a file's name is its title.
"""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

DOCS = Path(__file__).parent.parent
TARGET = DOCS.parent / "build" / "docs"
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:tests|examples|trioflow|README|CONTRIBUTING|LICENSE|\.github)[^)]*\)")
FENCE = re.compile(r"^( *)```(text|python server|js)(?: ([\w./-]+))? *$", re.MULTILINE)


def fence(match: re.Match[str]) -> str:
    """Return the opening of a block as the site wants it."""
    margin, kind, name = match.groups()
    match kind:
        case "python server":
            return f"{margin}```python"
        case "js":
            return f'{margin}```js title="Node"'
        case _:
            return f'{margin}```text title="{name}"' if name else f"{margin}``` {{ .text .output }}"


def prepared(path: Path) -> str:
    """Return a page's text as the site wants it."""
    text = path.read_text(encoding="utf-8")
    if path == DOCS / "changes" / "README.md":
        changes = runpy.run_path(str(DOCS / "changes" / "changelog.py"))["changelog"](DOCS.parent)
        text = text.replace("## Writing one", changes.split("\n", 1)[1].lstrip() + "\n## Writing one", 1)
    return FENCE.sub(fence, OUTSIDE.sub(r"\1", text))


def main() -> None:
    """Write all pages and pictures into build/docs."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for path in sorted(DOCS.rglob("*")):
        is_fragment = path.parent.name == "changes" and path.name != "README.md"
        if path.is_dir() or path.suffix in (".py", ".pyc") or is_fragment:
            continue
        target = TARGET / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(prepared(path), encoding="utf-8")
        else:
            shutil.copy(path, target)


if __name__ == "__main__":
    main()
