"""The floors of the design, read from the imports: arrows point down only, and never to a neighbour.

A new module gets its line in FLOORS; nothing else here needs to change for it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# A module may import those on lower floors only. Names are below `trioflow`; "" is the face, trioflow/__init__.py.
# Imports in functions and under TYPE_CHECKING count: who must know whom is what the floors are about.
FLOORS: dict[str, float] = {
    "_errors": 1,
    "_checks": 1,
    "_names": 1,
    "_units": 1,
    "_cachedopen": 1,
    "_child": 1,
    "_regions": 1,
    "_pieces": 1.2,
    "_bytebuffer": 1.2,
    "_spawn": 1.2,
    "_buffer": 1.5,
    "_end": 1.7,
    "_channel": 2,
    "_sync": 2.5,
    "_run": 2.7,
    "_engine": 3,
    "_foreign": 3,
    "_generators": 3,
    "_bytestream": 3,
    "_deflate": 1,
    "_fileread": 3,
    "_connection": 3.5,
    "_filewrite": 3.5,
    "_filefollow": 3.5,
    "_streams": 4,
    "_decorators": 4.5,
    "_pipeline": 4.5,
    "_operators": 4.5,
    "_crew": 4.5,
    "_unpacking": 4.5,
    "_turns": 4.7,
    "_conformance": 4.7,
    "sources": 5,
    "items": 5,
    "selecting": 5,
    "arranging": 5,
    "grouping": 5,
    "sinks": 5,
    "results": 5,
    "joining": 5,
    "parallel": 5,
    "parallel_processes": 5,
    "splitting": 5,
    "flattening": 5,
    "keyed": 5,
    "buffering": 5,
    "timing": 5,
    "failing": 5,
    "item_errors": 5,
    "text": 5,
    "lines": 5,
    "jsonlines": 5,
    "framing": 5,
    "chunks": 5,
    "reading": 5,
    "compression": 5,
    "zstd_brotli": 5,
    "files": 5,
    "stdio": 5,
    "sockets": 5,
    "processes": 5,
    "watching": 5,
    "progress": 5,
    "redis": 5,
    "testing": 5,
    "_redis_scripts": 1,
    "_redis_wire": 2,
    "_redis_sending": 4.7,
    "_redis_receiving": 4.8,
    "_redis_carrying": 4.7,
    "_redis_options": 1.5,
    "_redis_ends": 4.85,
    "_redis_status": 4.85,
    "_redis_streams": 4.9,
    "": 5.5,
    "http._cors": 6.05,
    "http._dates": 6.05,
    "http._ranges": 6.05,
    "http._variants": 6.05,
    "http._access": 6.1,
    "http._conditions": 6.1,
    "http._counters": 6.1,
    "http._headers": 6.1,
    "http._hot": 6.1,
    "http._limits": 6.1,
    "http._listening": 6.1,
    "http._listing": 6.1,
    "http._rests": 6.1,
    "http._rooted": 6.1,
    "http._sendfile": 6.1,
    "http._types": 6.1,
    "http._watch": 6.1,
    "http._writer": 6.1,
    "http._forwarded": 6.2,
    "http._multipart": 6.2,
    "http._strict": 6.2,
    "http._target": 6.2,
    "http._trailers": 6.2,
    "http._head": 6.25,
    "http._transport": 6.2,
    "http._body": 6.25,
    "http._parsing": 6.27,
    "http._service": 6.3,
    "http._tls": 6.3,
    "http._switched": 6.28,
    "http._wire": 6.3,
    "http._workers": 6.3,
    "http._messages": 6.4,
    "http._answers": 6.5,
    "http._connection": 6.5,
    "http._decoded": 6.5,
    "http._events": 6.5,
    "http._forms": 6.5,
    "http._files": 6.6,
    "http._health": 6.6,
    "http._server": 6.6,
    "http": 6.7,
    "demo": 7,
    "cli": 7.5,
    "__main__": 8,
}

# Who may import what from outside the standard library. An extra's package is named at its own module.
EVERYWHERE = {"trio"}
ONLY_IN: dict[str, set[str]] = {
    "h11": {"http._parsing"},
    "multipart": {"http._multipart"},
    "rich": {"progress"},
    "coredis": {"_redis_wire"},
    "anyio": {"_redis_wire"},  # what coredis raises when a connection breaks
    "backports": {"zstd_brotli"},
    "compression": {"zstd_brotli"},
    "brotli": {"zstd_brotli"},
}

# These decide without I/O: facts come in as arguments.
WITHOUT_IO = {
    "http._conditions",
    "http._cors",
    "http._dates",
    "http._forwarded",
    "http._multipart",
    "http._ranges",
    "http._strict",
    "http._target",
    "http._variants",
}
IO_PACKAGES = {"trio", "os", "io", "socket", "pathlib", "threading", "subprocess", "ssl"}

PACKAGES = {"", "http", "demo"}
LONGEST = 400  # lines; at 300 one asks, at 400 one splits


def where_trioflow_is() -> Path:
    # Not this file's neighbour: CI runs the tests against the installed wheel.
    spec = importlib.util.find_spec("trioflow")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


ROOT = where_trioflow_is()


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def floor_of(module: str) -> float:
    """Give a module's floor; what lies deeper in a package, as the demo's pages do, is on the package's floor."""
    known = module
    while known not in FLOORS:
        known, dot, _ = known.rpartition(".")
        if not dot or known == "http":  # in trioflow/http each module has a floor of its own
            pytest.fail(
                f"trioflow.{module} is on no floor: give it a line in FLOORS of tests/test_layering.py, "
                "as low as what it imports lets it be"
            )
    return FLOORS[known]


def imports_of(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Give the line and the full dotted name of each thing imported."""
    package = ["trioflow", *module.split(".")] if module else ["trioflow"]
    if not (FILES[module].name == "__init__.py" if module in FILES else module in PACKAGES):
        package.pop()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def target_of(name: str) -> str | None:
    """Give which of our modules `name` stands in or is; None for others' modules."""
    first, _, rest = name.partition(".")
    if first != "trioflow":
        return None
    while rest and rest not in FILES and rest not in FLOORS:
        rest = rest.rpartition(".")[0]
    return rest


def wrong_imports(module: str, source: str) -> list[str]:
    """Give what is wrong with a module's imports, a sentence each."""
    wrong = []
    floor = floor_of(module)
    for line, name in imports_of(module, source):
        where = f"trioflow.{module}, line {line}"
        target = target_of(name)
        if target is not None:
            if in_one_package(module, target):
                continue
            if floor_of(target) >= floor:
                wrong.append(
                    f"{where}: floor {floor:g} imports {name}, which is on floor {floor_of(target):g}; "
                    "arrows point down only"
                )
            if target.partition(".")[0] == "http" and floor < 6:
                wrong.append(f"{where}: imports {name}; only trioflow.http, the CLI and the demo may")
            continue
        package = name.partition(".")[0]
        if module in WITHOUT_IO and package in IO_PACKAGES:
            wrong.append(f"{where}: imports {name}, but this module does no I/O")
        if package in sys.stdlib_module_names or package in EVERYWHERE:
            continue
        if module not in ONLY_IN.get(package, set()):
            wrong.append(f"{where}: imports {name}; {package} is not among what this module may import")
    return wrong


def in_one_package(module: str, target: str) -> bool:
    """Tell whether both belong to a package that has one floor as a whole, such as the demo."""
    package = module.partition(".")[0]
    return package not in ("", "http") and package == target.partition(".")[0]


def test_every_module_is_on_a_floor() -> None:
    assert FILES
    for module in FILES:
        floor_of(module)


@pytest.mark.parametrize("module", FILES)
def test_arrows_point_down_only(module: str) -> None:
    wrong = wrong_imports(module, FILES[module].read_text(encoding="utf-8"))

    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", FILES)
def test_a_module_is_short_enough_to_be_one_concept(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())

    assert lines < LONGEST, f"trioflow.{module} has {lines} lines: split it into its concepts"


@pytest.mark.parametrize("module", [module for module in ("", "http") if module in FILES])
def test_a_face_has_no_logic(module: str) -> None:
    for node in ast.parse(FILES[module].read_text(encoding="utf-8")).body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")], value=value):
                ast.literal_eval(value)
            case _:
                pytest.fail(
                    f"trioflow.{module}, line {node.lineno}: only re-exports, __all__ and a docstring belong here"
                )


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_errors", "from trioflow._channel import open_channel", "arrows point down only"),
        ("_engine", "from trioflow import _foreign", "arrows point down only"),
        ("items", "from .text import lines", "arrows point down only"),
        ("items", "import trioflow.text", "arrows point down only"),
        ("items", "import trioflow", "arrows point down only"),
        ("items", "def f():\n    from trioflow import http", "only trioflow.http"),
        ("http._files", "from ._server import serve", "arrows point down only"),
        ("http._server", "import h11", "h11 is not among"),
        ("http._conditions", "import trio", "does no I/O"),
        ("text", "import httpx", "httpx is not among"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str, complaint: str) -> None:
    assert complaint in "\n".join(wrong_imports(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_channel", "import trio.lowlevel\nfrom trioflow._errors import HangUp"),
        ("http._parsing", "import h11\nfrom .. import items\nfrom trioflow.http import _strict"),
        ("cli", "import trioflow as tf\nfrom trioflow import http, demo"),
        ("demo.pages", "from trioflow.demo import media\nfrom . import media"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


def test_an_unknown_module_is_told_what_to_do() -> None:
    with pytest.raises(pytest.fail.Exception, match="give it a line in FLOORS"):
        floor_of("novelty")
