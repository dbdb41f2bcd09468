"""What users see is public on purpose: the names of the package and of its values, and their `help`."""

from __future__ import annotations

import ast
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
from typing import Any

import pytest

import trioflow as tf
from trioflow import http, redis

FUNCTIONS = sorted(name for name in tf.__all__ if inspect.isroutine(getattr(tf, name)))
VALUES: list[tuple[Any, set[str]]] = [
    (tf.empty(), {"open", "pipe"}),
    (tf.collect(), {"open"}),
    (tf.passthrough(), {"pipe"}),
    (tf.read_file("a").pipe(tf.lines()), {"open", "pipe"}),
    (tf.Duplex(tf.empty(), tf.collect()), {"aclose", "from_stream", "open", "pipe", "readable", "writable"}),
]


def shown(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


def test_dir_of_the_package_has_its_public_names_subpackages_and_version() -> None:
    assert dir(tf) == sorted([*tf.__all__, "__version__", "http", "redis", "testing"])
    assert all(hasattr(tf, name) for name in dir(tf))


def test_a_name_is_imported_from_where_type_checkers_find_it() -> None:
    homes = {f"trioflow.{home}": names for home, names in tf._HOMES.items()}
    [imports] = [
        node for node in ast.parse(inspect.getsource(tf)).body if isinstance(node, ast.If) and len(node.body) > 1
    ]

    assert {
        each.module: [one.name for one in each.names] for each in ast.walk(imports) if isinstance(each, ast.ImportFrom)
    } == homes
    assert sorted(name for names in homes.values() for name in names) == sorted(tf.__all__)


def test_names_can_be_imported_singly_or_with_a_star_and_pickled() -> None:
    everything: dict[str, Any] = {}
    exec("from trioflow import *", everything)

    assert {name: everything[name] for name in tf.__all__} == {name: getattr(tf, name) for name in tf.__all__}
    for kind in (tf.Readable, tf.Snapshot, tf.Restart):
        assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize("package", [http, redis])
def test_dir_of_a_subpackage_has_its_public_names(package: Any) -> None:
    assert dir(package) == sorted(package.__all__)


def test_subpackages_are_imported_on_first_use() -> None:
    program = (
        "import sys, trioflow as tf; before = {*sys.modules}; tf.http.serve;"
        "print('trioflow.http' in before, 'h11' in before, 'trioflow.http' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert told.split() == ["False", "False", "True"]


def test_an_unknown_name_is_an_attribute_error_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'trioflow' has no attribute 'nonsense'"):
        tf.nonsense  # noqa: B018


@pytest.mark.parametrize(("value", "names"), VALUES, ids=lambda value: type(value).__name__)
def test_dir_of_a_stream_has_only_what_users_call(value: object, names: set[str]) -> None:
    assert shown(value) == names


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_a_real_signature(name: str) -> None:
    signature = inspect.signature(getattr(tf, name))
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    named = [(key, parameter.annotation) for key, parameter in signature.parameters.items()]
    annotations = [annotation for _, annotation in named]

    assert signature.return_annotation is not signature.empty
    assert signature.empty not in annotations
    assert "Any" not in [annotation for key, annotation in named if key != "default"]
    assert not any(re.fullmatch(r"Callable\[(\.\.\.|\[Any(, Any)*\]), Any\]", annotation) for annotation in annotations)
    assert kinds != {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize("name", ["open_channel", *FUNCTIONS])
def test_help_starts_with_the_call(name: str) -> None:
    text = pydoc.render_doc(getattr(tf, name), renderer=pydoc.plaintext)  # type: ignore[attr-defined]

    assert text.split("\n")[2].removeprefix("async ").startswith(f"{name}(")


def test_the_help_of_pipe_says_what_it_takes_and_returns() -> None:
    text = pydoc.render_doc(tf.Readable, renderer=pydoc.plaintext)  # type: ignore[attr-defined]

    # Python 3.14 does not quote annotations.
    assert "pipe(self, stage: Transform[T, U] | Writable[T, R] | Duplex[U, T])" in text.replace("'", "")
