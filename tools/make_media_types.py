"""Make trioflow/http/file_server/media_types.txt from a release of mime-db.

mime-db joins the registries of IANA, Apache and nginx, and is what most Node servers use.

    npm pack mime-db && tar xzf mime-db-*.tgz
    python tools/make_media_types.py package

If several types claim an extension, the one with the highest score gets it. The scores are those of the package
mime-types, version 3: a registered type before a vendor's, that before an unregistered one.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "trioflow" / "http" / "file_server" / "media_types.txt"
FACETS = {"prs.": 100, "x-": 200, "x.": 300, "vnd.": 400}
REGISTERED = 900
SOURCES = {"nginx": 10, "apache": 20, "iana": 40}
OWN = 30
TYPES = {"application": 1, "font": 2, "audio": 2, "video": 3}


def score(kind: str, source: str | None) -> float:
    if kind == "application/octet-stream":
        return 0
    top, _, name = kind.partition("/")
    facet = FACETS.get(re.sub(r"(\.|x-).*", r"\1", name, count=1), REGISTERED)
    return facet + SOURCES.get(source or "", OWN) + TYPES.get(top, 0) + 1 - len(kind) / 100


def table(database: dict[str, Any]) -> dict[str, str]:
    """Return the type of each extension."""
    best: dict[str, tuple[float, str]] = {}
    for kind, about in database.items():
        for extension in about.get("extensions", ()):
            known = best.get(extension, (-1.0, ""))
            given = score(kind, about.get("source"))
            best[extension] = (given, kind) if given >= known[0] else known
    return {extension: kind for extension, (_, kind) in best.items()}


def render(package: Path) -> str:
    """Return the text of the file: a comment, then a line for each type."""
    version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    licence = (package / "LICENSE").read_text(encoding="utf-8").strip()
    extensions: dict[str, list[str]] = {}
    for extension, kind in table(json.loads((package / "db.json").read_text(encoding="utf-8"))).items():
        extensions.setdefault(kind, []).append(extension)
    note = f"The media types of mime-db {version}, made by tools/make_media_types.py: do not edit.\n\n{licence}"
    lines = [f"# {line}".rstrip() for line in note.splitlines()]
    lines += [f"{kind} {' '.join(sorted(names))}" for kind, names in sorted(extensions.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked package of mime-db")
    TARGET.write_text(render(parser.parse_args().package), encoding="utf-8")
