"""Writes what docstrings say into the pages of docs/reference: `python docs/_site/reference.py`.

A page names the modules whose public names belong there; everything between its two marks is written by this program:

    <!-- members of trioflow.operators.items -->
    <!-- end of members -->
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, ForwardRef, get_overloads, is_typeddict

REFERENCE: Final = Path(__file__).parent.parent / "reference"
MARKED: Final = re.compile(
    r"^<!-- members of ([\w. ]+) -->\n(?:.*?^<!-- end of members -->\n)?", re.MULTILINE | re.DOTALL
)
SECTION: Final = re.compile(r"^(Args|Attributes|Raises|Example):$")
QUESTION: Final = re.compile(r"^(Emits when|Waits when|Ends when|Waits when, on cancel, raises|On cancel|Holds): ")
TITLES: Final = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises", "Example": "Example"}
WIDTH: Final = 100  # of a signature; a longer one has a line for each parameter


def members(module: str) -> list[str]:
    """Return what is public of a module, in the order of its source: what `trioflow` has of it, or a package's own list."""
    home, package = importlib.import_module(module), importlib.import_module("trioflow")
    if hasattr(home, "__all__"):
        return [f"{module}.{name}" for name in home.__all__]
    names, source = list(vars(home)), inspect.getsource(home)

    def is_of_it(name: str) -> bool:
        origin = getattr(package, name).__module__
        # An alias of a type does not say where it was made.
        return origin == module or (
            origin == "typing" and re.search(rf"^{name}\b.* = ", source, re.MULTILINE) is not None
        )

    public = [name for name in package.__all__ if is_of_it(name)]
    return [f"trioflow.{name}" for name in sorted(public, key=names.index)]


def page_text(text: str) -> str:
    """Return a page with what its modules' docstrings say now."""

    def written(match: re.Match[str]) -> str:
        names = [name for module in match[1].split() for name in members(module)]
        parts = [_index(names), *(part for name in names for part in _of(name))]
        return f"<!-- members of {match[1]} -->\n\n" + "\n\n".join(parts) + "\n\n<!-- end of members -->\n"

    return MARKED.sub(written, text)


def _index(paths: Sequence[str]) -> str:
    """Return a table of the names on a page, with the first sentence of each."""
    rows = ["| | |", "|---|---|"]
    for path in paths:
        name = path.rsplit(".", 1)[1]
        text = next((part for part in _of(path) if not part.startswith(("#", "```"))), "")
        first = " ".join(text.split("\n\n", 1)[0].split())
        sentence = re.split(r"(?<=[.:]) ", first.replace("|", "\\|"), maxsplit=1)[0].rstrip(":")
        rows.append(f"| [`{name}`](#{name.lower()}) | {sentence} |")
    return "\n".join(rows)


def _of(path: str) -> Iterator[str]:
    """Yield the parts of one public name: its heading, its signatures, what it does, and a class's methods."""
    home, name = path.rsplit(".", 1)
    value = getattr(importlib.import_module(home), name)
    yield f"## `{name}`"
    if inspect.isclass(value):
        yield from _of_class(name, value)
    elif inspect.isroutine(value):
        yield _signatures(name, value)
        yield _markdown(value)
    else:
        yield from _of_alias(home, name)


def _of_class(name: str, value: Any) -> Iterator[str]:
    is_fields = is_dataclass(value) or issubclass(value, tuple)
    if is_fields or "\nArgs:" in (inspect.getdoc(value) or ""):  # else a function makes it
        yield _signatures(name, value)
    yield _markdown(value)
    if is_typeddict(value):
        yield "\n".join(f"- `{key}`: `{_shown(kind)}`" for key, kind in value.__annotations__.items())
    for key, member in vars(value).items():
        member = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if key.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            yield f"### `{name}.{key}`"
            kind = inspect.signature(member.fget).return_annotation if member.fget else Any
            yield f"```py\n{key}: {_shown(kind)}\n```"
            yield _markdown(member)
        elif inspect.isfunction(member):
            yield f"### `{name}.{key}`"
            yield _signatures(key, member)
            yield _markdown(member)


def _of_alias(home: str, name: str) -> Iterator[str]:
    """Yield the definition of a type's alias, and the string after it."""
    for module in (home, *(m for m in _modules(home) if name in vars(importlib.import_module(m)))):
        source = inspect.getsource(importlib.import_module(module))
        body = ast.parse(source).body
        for statement, following in pairwise(body):
            target = getattr(statement, "target", None) or getattr(statement, "targets", [None])[0]
            if isinstance(target, ast.Name) and target.id == name:
                yield f"```py\n{ast.get_source_segment(source, statement)}\n```"
                if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                    yield inspect.cleandoc(str(following.value.value))
                return


def _modules(package: str) -> Iterator[str]:
    root = Path(str(importlib.import_module(package).__file__)).parent
    for path in sorted(set(root.rglob("*.py")) - set(root.rglob("__main__.py"))):
        yield ".".join([package, *path.relative_to(root).with_suffix("").parts])


def _signatures(name: str, function: Callable[..., Any]) -> str:
    """Return the signatures of a function, or of a class's constructor, in one block."""
    kinds = get_overloads(function) or [function]
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    shown = dict.fromkeys(prefix + _signature(name, each) for each in kinds)
    return "```py\n" + "\n".join(shown) + "\n```"


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    given = [p for p in signature.parameters.values() if p.name != "self"]
    result = (
        ""
        if signature.return_annotation in (signature.empty, None, "None")
        else f" -> {_shown(signature.return_annotation)}"
    )
    parameters: list[str] = []
    for i, parameter in enumerate(given):
        if parameter.kind is parameter.KEYWORD_ONLY and (not i or given[i - 1].kind is parameter.POSITIONAL_OR_KEYWORD):
            parameters.append("*")
        if i and given[i - 1].kind is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            parameters.append("/")
        parameters.append(_parameter(parameter))
    if given and given[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        parameters.append("/")
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = "" if parameter.annotation is parameter.empty else f": {_shown(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{kind}"
    default = getattr(parameter.default, "__name__", None) if callable(parameter.default) else repr(parameter.default)
    default = "math.inf" if default == "inf" else re.sub(r"^<.*> *$", "...", default or "...")
    return f"{parameter.name}{kind} = {default}" if kind else f"{parameter.name}={default}"


def _shown(annotation: object) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _markdown(value: object) -> str:
    """Return a docstring as Markdown: its questions as a list, its sections under a bold word."""
    lines = (inspect.getdoc(value) or "").splitlines()
    out: list[str] = []
    at = 0
    while at < len(lines):
        if (found := SECTION.match(lines[at])) is None:
            is_first = QUESTION.match(lines[at]) and not any(QUESTION.match(line) for line in lines[:at])
            if is_first and out and out[-1]:
                out.append("")
            out.append(QUESTION.sub(r"- **\1:** ", lines[at]))
            at += 1
            continue
        end = at + 1
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
            end += 1
        body = textwrap.dedent("\n".join(lines[at + 1 : end])).strip("\n")
        out += [f"**{TITLES[found[1]]}**", "", _section(found[1], body), ""]
        at = end
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _section(kind: str, body: str) -> str:
    if kind == "Example":
        return f"```pycon\n{body}\n```"
    items: list[str] = []
    for line in body.splitlines():
        if found := re.match(r"([\w*][\w.*, ]*): (.*)", line):
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            items.append(f"- {names}: {found[2]}")
        else:
            items.append(f"  {line.strip()}" if line.strip() else "")
    return "\n".join(items)


def main() -> None:
    """Bring every page in step with the code."""
    for path in sorted(REFERENCE.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (written := page_text(text)) != text:
            path.write_text(written, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
