"""Checks the words that people read, in pages, docstrings and comments: `python tools/prose.py`.

It writes the prose alone, without code, into build/prose, one file for each file it comes from, with the same numbers of
lines. Then it looks for turns of phrase that we no longer use, and proselint looks for the rest.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TARGET: Final = ROOT / "build" / "prose"
PAGES: Final = ("*.md", "docs/**/*.md", "examples/**/*.md")
SOURCES: Final = ("trioflow/**/*.py", "examples/**/*.py", "tests/**/*.py")
# Blocks, what the reference was made of, spans of code, and where links lead.
CODE: Final = re.compile(
    r"^ *```.*?^ *```[ ]*$|^<!-- members of.*?^<!-- end of members -->$|<!--.*?-->|`[^`\n]+`|(?<=\])\([^)\s]*\)",
    re.MULTILINE | re.DOTALL,
)
# Each with what to write instead.
RETIRED: Final = {
    r"\bby chance\b": "at random; with jitter",
    r"\bwho comes\b": "a caller; a client",
    r"\btells? of\b": "reports",
    r"(?<!there )\bis none\b": "say what is wrong: an invalid Host header; not a Readable",
    r"\bminds? (?:that|this)\b": "handles that",
    r"\bhas enough\b|\bhad enough\b": "needs no more items; stops",
    r"\bsimply there\b": "automatic",
    r"\bholds (?:\w+ ){1,6}to the rules\b": "checks that ... follows the rules",
    r"\bnever sees an end that is not one\b": "is cancelled, so partial data never passes for complete",
    r"\bthat which\b": "what; the one that",
    r"\bwhich it is the only one\b": "rewrite",
    r"\bbegins? to come\b": "starts to arrive",
    r"\bdoes not look at case\b": "case-insensitive",
    r"\blet in alone\b": "is admitted only to an empty channel",
    r"\bgoes? behind\b|\bcomes? behind\b|\bstages? behind\b|\bchannel behind\b": "after; downstream",
    r"(?m)^ *Gives? ": "Return, Yield, Make: what the call does",
    r"(?i)\bnot any more\b": "no longer",
    r"\blikewise\b": "rewrite",
    r"\bwhere it is to\b": "if it is to",
}


def prose_of_page(text: str) -> str:
    """Return a page with its code blanked."""
    return CODE.sub(lambda match: re.sub(r"[^\n]+", lambda line: " " * len(line[0]), match[0]), text)


def prose_of_source(text: str) -> str:
    """Return the docstrings, comments, messages and names of tests of a module, each on the line where it stands."""
    lines = [""] * (text.count("\n") + 1)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            docstring := ast.get_docstring(node, clean=False)
        ):
            first = node.body[0].lineno - 1
            for i, line in enumerate(re.sub(r"^ *>>> .*?(?=^ *$|\Z)", "", docstring, flags=re.M | re.S).split("\n")):
                lines[min(first + i, len(lines) - 1)] = line
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            lines[node.lineno - 1] = node.name.removeprefix("test_").replace("_", " ")
        if message := node if isinstance(node, ast.Raise) else isinstance(node, ast.Assert) and node.msg:
            for part in ast.walk(message):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    lines[part.lineno - 1] += " " + part.value.replace("\n", " ")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not re.match(r"# *(noqa|type:|pyright|fmt|pragma)", token.string):
            lines[token.start[0] - 1] = token.string.lstrip("# ")
    return re.sub(r"`[^`\n]+`", lambda span: " " * len(span[0]), "\n".join(lines))


def prose() -> Iterator[tuple[Path, str]]:
    """Yield each file that has prose, and its prose."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if path.name != "CHANGELOG.md":
                yield path, prose_of_page(path.read_text(encoding="utf-8"))
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            yield path, prose_of_source(path.read_text(encoding="utf-8"))


def main() -> int:
    """Print what is found, and return how many files to blame it on."""
    found = 0
    for path, text in prose():
        name = path.relative_to(ROOT)
        target = TARGET / f"{name.as_posix().replace('/', '--')}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        for pattern, instead in RETIRED.items():
            for match in re.finditer(pattern, text):
                found += 1
                print(f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: write {instead}")
    linted = subprocess.run(
        [sys.executable, "-m", "proselint", "check", "--config", ROOT / "tools" / "proselint.json", TARGET], check=False
    )
    return min(found + linted.returncode, 1)


if __name__ == "__main__":
    sys.exit(main())
