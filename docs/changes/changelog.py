"""Build CHANGELOG.md from the files beside this one.

Without options, it lists the unreleased changes above the released ones. `--release 0.1.0` moves the unreleased changes
under that version and today's date, and removes their files.
"""

from __future__ import annotations

import argparse
import datetime
import re
from pathlib import Path

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}
UNRELEASED = "## Not yet released"


def fragments(directory: Path) -> list[tuple[str, Path]]:
    """Return the kind and the path of each file, sorted by kind and name."""
    found = []
    for path in sorted(directory.glob("*.*.md")):
        kind = path.name.split(".")[-2]
        if kind not in KINDS:
            raise ValueError(f"{path.name} should be WHAT.KIND.md, of a kind among {', '.join(KINDS)}")
        found.append((kind, path))
    return sorted(found, key=lambda pair: list(KINDS).index(pair[0]))


def as_list(text: str) -> list[str]:
    """Return the list items of a file: those it has, or its whole text as one."""
    items = re.split(r"^- ", text.strip(), flags=re.MULTILINE)
    return [f"- {' '.join(item.split())}" for item in items if item]


def section(heading: str, directory: Path) -> str:
    """Return the changes of all files under one heading."""
    parts = [heading]
    last = ""
    for kind, path in fragments(directory):
        if kind != last:
            parts.append(f"\n### {KINDS[kind]}\n")
            last = kind
        parts += as_list(path.read_text(encoding="utf-8"))
    return "\n".join(parts) + "\n"


def changelog(root: Path, heading: str = UNRELEASED) -> str:
    """Return the whole changelog, with the unreleased changes under `heading`."""
    log = root / "CHANGELOG.md"
    old = log.read_text(encoding="utf-8") if log.exists() else ""
    released = "".join(re.findall(r"^## \d.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL))
    new = section(heading, root / "docs" / "changes")
    parts = ["# Changelog\n", new if "### " in new else "", released]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def main(argv: list[str] | None = None, root: Path | None = None) -> None:
    """Write CHANGELOG.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--release", metavar="VERSION")
    version = parser.parse_args(argv).release
    root = root or Path(__file__).parent.parent.parent
    heading = f"## {version} ({datetime.date.today().isoformat()})" if version else UNRELEASED
    text = changelog(root, heading)
    (root / "CHANGELOG.md").write_text(text, encoding="utf-8")
    if version:
        for _, path in fragments(root / "docs" / "changes"):
            path.unlink()


if __name__ == "__main__":
    main()
