"""The package in examples/published_package is built, installed, tested and used as by a reader, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import PATIENCE

pytestmark = pytest.mark.slow  # it starts pip twice

SOURCE = Path(__file__).parents[2] / "examples" / "published_package"


def run(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    there = [str(path)] if path is not None else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*there, *filter(None, sys.path)])}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_package_with_its_own_transform_can_be_built_installed_and_tested(tmp_path: Path) -> None:
    project, site = tmp_path / "project", tmp_path / "site"
    shutil.copytree(SOURCE, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ".", cwd=project)
    [wheel] = tmp_path.glob("*.whl")
    run("pip", "install", "-q", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    shutil.rmtree(project / "trioflow_netstrings")  # so that the installed package is tested

    assert (site / "trioflow_netstrings" / "py.typed").exists()
    told = run("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project, path=site)
    assert re.search(r"^\d+ passed", told, re.MULTILINE)

    [program, printed] = re.findall(
        r"^```(?:python|text)\n(.*?)^```$", SOURCE.joinpath("README.md").read_text(), re.M | re.S
    )[-2:]
    (tmp_path / "program.py").write_text(program)
    assert run("program", cwd=tmp_path, path=site) == printed


def test_the_index_of_examples_leads_to_the_package() -> None:
    index = SOURCE.parent.joinpath("README.md").read_text(encoding="utf-8")

    assert f"({SOURCE.name}/README.md)" in index
