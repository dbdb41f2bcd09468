"""What the site makes of the pages: their order, their fences, the members of a module, and the list of changes.

Rule 1: a page is found by being there; the lists below only say what comes first.
Rule 2: a link to what is no page, a test or an example, is only its words here.
Rule 3: what a fence says to tests/project/test_docs.py says the same to a reader: a file's name is its title.
"""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
SECTIONS = {
    "tutorial": [
        "README",
        "see-it-work",
        "first-flow",
        "errors-and-closing",
        "own-transform",
        "merging-and-time",
        "small-server",
    ],
    "how-to": ["README", "port-a-node-pipeline"],
    "reference": [
        *(
            "README",
            "rules",
            "operators",
            "defaults",
            "core",
            "channels",
            "sources",
            "items",
            "selecting",
            "concurrency",
        ),
        *("time", "buffering", "joining", "failing", "bytes-and-text", "compression", "files", "sockets-and-processes"),
        *("sinks", "watching", "testing", "http", "server", "redis", "redis-names"),
    ],
    "explanation": [
        "README",
        "streams-and-buffers",
        "backpressure",
        "how-a-flow-ends",
        "nothing-runs",
        "hops",
        "scaling",
        "queues",
        "words",
    ],
    "contributing": ["README", "architecture"],
    "changes": ["README"],
}
TITLES = {
    "tutorial": "Tutorial",
    "how-to": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
    "contributing": "Contributing",
}
MEMBERS = re.compile(r"^<!-- members of ([\w. ]+) -->$", re.MULTILINE)
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:tests|examples|trioflow|README|CONTRIBUTING|LICENSE|\.github)[^)]*\)")
FENCE = re.compile(r"^( *)```(text|python server|js)(?: ([\w./-]+))? *$", re.MULTILINE)


def members(module: str) -> list[str]:
    """Give what is public of a module, in the order of its source: what `trioflow` gives of it, or a package's own list."""
    names = list(vars(importlib.import_module(module)))
    package = importlib.import_module("trioflow")
    if hasattr(importlib.import_module(module), "__all__"):
        return [f"{module}.{name}" for name in importlib.import_module(module).__all__]
    source = inspect.getsource(importlib.import_module(module))

    def is_of_it(name: str) -> bool:
        home = getattr(package, name).__module__
        # An alias of a type does not say where it was made.
        return home == module or (home == "typing" and re.search(rf"^{name}\b.* = ", source, re.MULTILINE) is not None)

    public = [name for name in package.__all__ if is_of_it(name)]
    return [f"trioflow.{name}" for name in sorted(public, key=names.index)]


def on_config(config: Any) -> Any:
    """Order the pages: those that a section names, then its others."""
    nav: list[dict[str, Any]] = [{"Home": "README.md"}]
    for section, order in SECTIONS.items():
        names = [path.stem for path in sorted((HERE / section).glob("*.md")) if "." not in path.stem]
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
        pages = [f"{section}/{name}.md" for name in names]
        nav.append({TITLES[section]: pages} if section in TITLES else {"Changes": pages[0]})
    config["nav"] = nav
    return config


def fence(match: re.Match[str]) -> str:
    """Give the opening of a block as the site wants it."""
    margin, kind, name = match.groups()
    match kind:
        case "python server":
            return f"{margin}```python"
        case "js":
            return f'{margin}```js title="Node"'
        case _:
            return f'{margin}```text title="{name}"' if name else f"{margin}``` {{ .text .output }}"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make of a fence's word what the site understands, and put the changes into their page."""
    if page.file.src_uri == "changes/README.md":
        text = runpy.run_path(str(HERE / "changes" / "changelog.py"))["changelog"](HERE.parent)
        markdown = markdown.replace("## Writing one", text.split("\n", 1)[1].lstrip() + "\n## Writing one", 1)
    markdown = MEMBERS.sub(
        lambda match: "\n\n".join(f"::: {name}" for module in match[1].split() for name in members(module)), markdown
    )
    markdown = OUTSIDE.sub(r"\1", markdown)
    return FENCE.sub(fence, markdown)
