"""The pages and the changelog match the code; .ci/run builds the site itself."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import pytest

import trioflow as tf
from trioflow import http, redis, testing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = {"": tf, "http.": http, "redis.": redis, "testing.": testing}


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def functions() -> Iterator[tuple[str, Any]]:
    for prefix, package in PACKAGES.items():
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value):
                for key, method in vars(value).items():
                    if inspect.isfunction(method) and not key.startswith("_"):
                        yield f"{prefix}{name}.{key}", method
            if (
                inspect.isclass(value) and not is_typeddict(value) and not issubclass(value, Exception)
            ) or inspect.isroutine(value):
                yield prefix + name, value


def defaults() -> dict[str, str]:
    found = {}
    for name, function in functions():
        for parameter in inspect.signature(function).parameters.values():
            if is_number(parameter.default):
                found[f"{name}({parameter.name})"] = str(parameter.default)
    return found


def test_the_page_of_defaults_has_the_number_of_every_argument() -> None:
    page = (DOCS / "reference" / "defaults.md").read_text(encoding="utf-8")

    told = dict(re.findall(r"^\| `([^`]+\))` \| ([\w.]+) \|", page, re.MULTILINE))

    assert told == defaults(), "update docs/reference/defaults.md to match the code"


def test_the_page_of_defaults_has_the_numbers_that_cannot_be_set() -> None:
    page = (DOCS / "reference" / "defaults.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| ([\d.]+) \| .* \| `([\w.]+)\.(\w+)` \|$", page, re.MULTILINE)

    assert len(rows) == page.count("\n", page.index("## What you cannot")) - 4
    for number, module, name in rows:
        assert str(getattr(importlib.import_module(f"trioflow.{module}"), name)) == number, name


reference = runpy.run_path(str(DOCS / "_site" / "reference.py"))


def test_every_public_name_is_on_one_page_of_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("reference/*.md")))

    modules = " ".join(re.findall(r"^<!-- members of ([\w. ]+) -->$", pages, re.MULTILINE)).split()
    shown = Counter(name for module in modules for name in reference["members"](module))

    wanted = {f"trioflow.{prefix}{name}" for prefix, package in PACKAGES.items() for name in package.__all__}
    assert set(shown) == wanted, "add a line `<!-- members of ... -->` for the module to a page of docs/reference"
    assert max(shown.values()) == 1


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="the indentation of docstrings and some annotations differ in this version"
)
@pytest.mark.parametrize("path", sorted(DOCS.glob("reference/*.md")), ids=lambda path: path.name)
def test_a_page_of_the_reference_matches_the_docstrings(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert reference["page_text"](text) == text, "update it: python docs/_site/reference.py"


def test_the_site_lists_every_page() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]

    listed = re.findall(r"[\w/-]+\.md", repr(settings["nav"]))

    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(page for page in pages if not re.match(r"changes/.*\.\w+\.md", page))


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.svg")), ids=lambda path: path.name)
def test_a_picture_has_a_title_dark_colours_and_no_external_links(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert path.name == "icon.svg" or root.find("{*}title") is not None
    assert path.name == "icon.svg" or "prefers-color-scheme: dark" in text
    assert re.findall(r'href="(?!#)', text) == []


def changes(root: Path) -> dict[str, Any]:
    (root / "docs" / "changes").mkdir(parents=True)
    (root / "docs" / "changes" / "README.md").write_text("# Changes\n")
    (root / "docs" / "changes" / "pipe.fixed.md").write_text("- `pipe` no longer leaks,\n  not even twice.\n- More.\n")
    (root / "docs" / "changes" / "zip.added.md").write_text("`zip` zips.\nIt is strict.\n")
    return runpy.run_path(str(DOCS / "changes" / "changelog.py"))


LIST = "\n### Added\n\n- `zip` zips. It is strict.\n\n### Fixed\n\n- `pipe` no longer leaks, not even twice.\n- More.\n"


def test_the_changelog_is_built_from_the_files_of_changes(tmp_path: Path) -> None:
    script = changes(tmp_path)

    script["main"]([], root=tmp_path)
    script["main"]([], root=tmp_path)

    assert (tmp_path / "CHANGELOG.md").read_text() == f"# Changelog\n\n## Not yet released\n{LIST}"
    assert len(list(tmp_path.glob("docs/changes/*.*.md"))) == 2


def test_a_release_keeps_its_changes_under_its_version(tmp_path: Path) -> None:
    script = changes(tmp_path)

    script["main"](["--release", "0.1.0"], root=tmp_path)
    assert list(tmp_path.glob("docs/changes/*.*.md")) == []
    (tmp_path / "docs" / "changes" / "gone.removed.md").write_text("`gone` is gone.\n")
    script["main"](["--release", "0.2.0"], root=tmp_path)

    text = re.sub(r"\(\d{4}-\d\d-\d\d\)", "(DATE)", (tmp_path / "CHANGELOG.md").read_text())
    newer = "## 0.2.0 (DATE)\n\n### Removed\n\n- `gone` is gone.\n"
    assert text == f"# Changelog\n\n{newer}\n## 0.1.0 (DATE)\n{LIST}"


def test_a_file_of_changes_with_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    script = changes(tmp_path)
    (tmp_path / "docs" / "changes" / "zip.better.md").write_text("Better.\n")

    with pytest.raises(ValueError, match=r"zip\.better\.md should be WHAT\.KIND\.md"):
        script["main"]([], root=tmp_path)


def test_contributing_is_short() -> None:
    assert (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").count("\n") <= 80


@pytest.mark.parametrize("section", ["tutorial", "how-to"])
def test_a_section_lists_all_its_pages(section: str) -> None:
    named = re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / section / "README.md").read_text(encoding="utf-8"))

    assert sorted(named) == sorted(path.name for path in (DOCS / section).glob("*.md") if path.name != "README.md")
