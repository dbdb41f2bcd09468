"""The rooms of the package and the arrows between them, read from its imports.

docs/contributing/architecture.md draws this. Imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# A room is a package, or a few modules of one. Each may import from itself and from the rooms listed with it, and
# nothing else of ours. "face" is trioflow/__init__.py.
ROOMS: dict[str, set[str]] = {
    "_core": set(),
    "codecs": {"_core"},
    "io": {"_core"},
    "operators": {"_core", "codecs", "io"},
    "redis": {"_core"},
    "testing": {"_core"},
    "face": {"_core", "codecs", "io", "operators"},
    "http.wire": {"_core", "io"},  # io: a response may be a file
    "http.messages": {"http.wire", "_core", "codecs", "io", "operators"},
    "http.forms": {"http.messages", "http.wire", "_core", "codecs", "io", "operators"},
    "http.file_server": {"http.messages", "http.wire", "_core", "codecs", "io", "operators"},
    "http": {"http.file_server", "http.forms", "http.messages", "http.wire", "_core", "codecs", "io", "operators"},
    "demo": {"face", "http"},
    "cli": {"face", "http", "demo", "redis"},
}
# The room http.messages.
MESSAGES = {f"http.{name}" for name in ("_access", "_connection", "_proxies", "_request", "_response", "_service")}

# Which modules may import third-party packages: one for each package, except for rich, which draws two things, and a
# type of OpenTelemetry.
EVERYWHERE = {"trio"}
ONLY_IN: dict[str, str] = {
    "h11": "http.wire.h11_reader",
    "rich": "operators.progress cli._top",
    "coredis": "redis.connection",
    "typing_extensions": "_core.typevars",  # type checkers have a copy; nothing imports it at run time
    "backports": "codecs.zstd_brotli",
    "compression": "codecs.zstd_brotli",
    "brotli": "codecs.zstd_brotli",
    "prometheus_client": "http._metrics",
    "msgspec": "codecs.jsonlines",
    "isal": "codecs.parallel_deflate",
    "opentelemetry": "operators.tracing http._traced",
}

# These decide without I/O: facts come in as arguments.
WITHOUT_IO = {
    "http._proxies",
    "http.file_server.conditions",
    "http.file_server.cors",
    "http.file_server.dates",
    "http.file_server.encodings",
    "http.file_server.ranges",
    "http.forms.charsets",
    "http.forms.multipart",
    "http.forms.parameters",
    "http.wire.headers",
    "http.wire.request_head",
    "http.wire.response_writer",
    "http.wire.strict",
}
IO_PACKAGES = {"trio", "os", "io", "socket", "pathlib", "threading", "subprocess", "ssl"}

LONGEST = 400  # lines; at 300 ask whether to split it, at 400 split it


def where_trioflow_is() -> Path:
    # Not the directory next to this one: CI runs the tests against the installed wheel.
    spec = importlib.util.find_spec("trioflow")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


ROOT = where_trioflow_is()


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    if module in MESSAGES:
        return "http.messages"
    if module == "__main__":
        return "cli"
    parts = (module or "face").split(".")
    room = ".".join(parts[:2])
    room = room if room in ROOMS else parts[0]
    if room not in ROOMS:
        pytest.fail(
            f"trioflow.{module} is in no room: put it into a package, or add it to a room in ROOMS of {__file__}"
        )
    return room


def imports_of(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the full dotted name of each thing imported."""
    package = ["trioflow", *module.split(".")] if module else ["trioflow"]
    if module not in PACKAGES:
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
    """Return the module of ours that `name` is or is defined in; None for another project's module."""
    first, _, rest = name.partition(".")
    if first != "trioflow":
        return None
    while rest and rest not in FILES:
        rest = rest.rpartition(".")[0]
    return rest


def wrong_imports(module: str, source: str) -> list[str]:
    """Return what is wrong with a module's imports, a sentence each."""
    wrong = []
    room = room_of(module)
    for line, name in imports_of(module, source):
        where = f"trioflow.{module}, line {line}"
        target = target_of(name)
        if target is not None:
            other = room_of(target)
            if other != room and other not in ROOMS[room]:
                wrong.append(f"{where}: imports {name}, but {room} may not import from {other}; arrows point down only")
            continue
        package = name.partition(".")[0]
        if module in WITHOUT_IO and package in IO_PACKAGES:
            wrong.append(f"{where}: imports {name}, but this module does no I/O")
        if package in sys.stdlib_module_names or package in EVERYWHERE:
            continue
        if module not in ONLY_IN.get(package, "").split():
            wrong.append(f"{where}: imports {name}; {package} is not among what this module may import")
    return wrong


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Return a cycle of `arrows`, with the first name again at its end; an empty list without a cycle."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def test_the_rooms_have_no_import_cycle() -> None:
    assert circles(ROOMS) == []


def test_the_architecture_page_has_each_room_and_its_arrows() -> None:
    page = Path(__file__).parents[2] / "docs" / "contributing" / "architecture.md"
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)

    assert {room: set(re.findall(r"`([\w.]+)`", below)) for room, below in rows} == ROOMS


def test_no_modules_have_an_import_cycle() -> None:
    arrows: dict[str, set[str]] = {}
    for module, path in FILES.items():
        targets = {target_of(name) for _, name in imports_of(module, path.read_text(encoding="utf-8"))}
        arrows[module] = {target for target in targets if target is not None and target != module}

    assert circles(arrows) == []


@pytest.mark.parametrize("module", FILES)
def test_imports_point_only_to_rooms_below(module: str) -> None:
    wrong = wrong_imports(module, FILES[module].read_text(encoding="utf-8"))

    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", FILES)
def test_a_module_is_short_enough_to_be_one_concept(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())

    assert lines < LONGEST, f"trioflow.{module} has {lines} lines: split it into its concepts"


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_the_init_of_a_package_has_no_logic(module: str) -> None:
    for node in ast.parse(FILES[module].read_text(encoding="utf-8")).body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__" | "_HOMES" | "_SUBPACKAGES")], value=value):
                ast.literal_eval(value)
            case (
                ast.FunctionDef(name="__dir__")
                | ast.If(
                    test=ast.UnaryOp(operand=ast.Name(id="TYPE_CHECKING")), body=[ast.FunctionDef(name="__getattr__")]
                )
            ):
                continue
            case ast.If(test=ast.Call(func=name), body=[ast.Expr(value=ast.Call())], orelse=[]):
                # What the environment switches on is one call to another module.
                assert ast.unparse(name) == "os.environ.get"
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=imports, orelse=[]):
                assert all(isinstance(each, ast.ImportFrom) for each in imports)
            case _:
                pytest.fail(
                    f"trioflow.{module}, line {node.lineno}: only re-exports, __all__, __dir__ and a docstring belong here"
                )


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_core.engine", "from trioflow.operators import items", "arrows point down only"),
        ("_core.engine", "import trioflow", "may not import from face"),
        ("codecs.text", "from trioflow.io.files import read_file", "may not import from io"),
        ("codecs.text", "from ..io import files", "may not import from io"),
        ("operators.items", "def f():\n    from trioflow import http", "may not import from http"),
        ("redis.client", "import trioflow.operators.items", "may not import from operators"),
        ("http.wire.socket", "from trioflow.http._server import serve", "may not import from http"),
        ("http.file_server.handler", "from .._server import serve", "may not import from http"),
        ("http._server", "import h11", "h11 is not among"),
        ("http.file_server.conditions", "import trio", "does no I/O"),
        ("codecs.text", "import httpx", "httpx is not among"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, complaint: str) -> None:
    assert complaint in "\n".join(wrong_imports(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_core.channel", "import trio.lowlevel\nfrom trioflow._core.errors import HangUp"),
        ("http.wire.h11_reader", "import h11\nfrom trioflow.http.wire import strict\nfrom ..._core import checks"),
        ("cli", "import trioflow as tf\nfrom trioflow import http, demo"),
        ("demo.pages", "from trioflow.demo import media\nfrom . import media"),
    ],
)
def test_a_permitted_import_passes(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


def test_an_import_cycle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_the_error_for_a_module_outside_the_rooms_says_what_to_do() -> None:
    with pytest.raises(pytest.fail.Exception, match="put it into a package"):
        room_of("novelty")
