"""Every step of a contributor's day, and of CI: `nox -l` lists them, `nox -s lint types tests` runs three.

`.ci/run` prepares a machine and a copy of the project, and calls these sessions there. Most share `.venv`, the
environment that the README's test command makes; each of the others has its own in `.nox`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"  # for `requires`
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PYTHON = ".venv/bin/python"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# These take minutes and depend on no version of Python or Trio, so only `tests` runs them.
ONCE_ONLY = [
    "tests/browser",
    "tests/project/test_benchmarks.py",
    "tests/http/test_hostile.py",
    "tests/redis/test_faults.py",
    "tests/redis/test_example.py",
    "tests/project/test_site.py",
]


def readme_command(words: str) -> str:
    """Return the one line in README's sh blocks that has these words."""
    blocks = re.findall(r"^```sh *\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    found: list[str] = [line for block in blocks for line in block.splitlines() if words in line]
    if len(found) != 1:
        raise ValueError(f"README.md: one line of its sh blocks must have {words!r}, but {len(found)} have")
    return found[0]


def copy_project(place: Path) -> Path:
    """Copy the project without what .gitignore names; what is at `place` is removed first."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".git", *ignored))
    return place


# ---- in .venv, which the first of these makes where it is missing


@nox.session(venv_backend="none", default=False)
def dev(session: nox.Session) -> None:
    """Make .venv, or bring it in step with pyproject.toml; the other sessions call this."""
    installed = ROOT / ".venv" / "installed.toml"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted:
        return
    session.run(sys.executable, "-m", "venv", ".venv", external=True)
    session.run(PYTHON, "-m", "pip", "install", "-q", "-e", ".[test]", external=True)
    installed.write_text(wanted, encoding="utf-8")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the README's test command as it is written there; what follows `--` goes to pytest."""
    command = shlex.join(session.posargs)
    session.run("bash", "-c", f"{readme_command('pytest')} {command}", external=True)


@nox.session(venv_backend="none", requires=["dev"])
def lint(session: nox.Session) -> None:
    """Ruff: rules and format; codespell and tools/prose.py: words."""
    session.run(PYTHON, "-m", "ruff", "check", ".", external=True)
    session.run(PYTHON, "-m", "ruff", "format", "--check", ".", external=True)
    session.run(PYTHON, "-m", "codespell_lib", external=True)
    session.run(PYTHON, "tools/prose.py", external=True)


@nox.session(venv_backend="none", requires=["dev"])
def types(session: nox.Session) -> None:
    """Mypy and pyright, both strict, over the sources and the Python blocks of pages."""
    session.run(PYTHON, "-m", "mypy", external=True)
    session.run(PYTHON, "-m", "pyright", "--pythonpath", PYTHON, external=True)
    session.run(PYTHON, "-m", "pytest", "-q", "tests/project/test_page_types.py", external=True)


@nox.session(venv_backend="none", requires=["dev"])
def coverage(session: nox.Session) -> None:
    """Run the tests that are not slow, and those of Redis, under coverage; fail below pyproject's `fail_under`."""
    session.run(PYTHON, "-m", "coverage", "erase", external=True)
    for tests in (["-m", "not slow"], ["tests/redis", "tests/test_cli_redis.py"]):
        session.run(
            PYTHON, "-m", "coverage", "run", "--append", "-m", "pytest", "-q", *tests, *session.posargs, external=True
        )
    session.run(PYTHON, "-m", "coverage", "report", external=True)


@nox.session(venv_backend="none", requires=["dev"])
def costs(session: nox.Session) -> None:
    """Print what an import costs, and run each benchmark for a moment."""
    session.run(PYTHON, "-m", "tests.project.test_import_cost", external=True)
    session.run(PYTHON, "-m", "tests.benchmarks", "--smoke", external=True)


# ---- in environments of their own


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Run the README's demo command in a fresh copy, ask its page, and end it by SIGTERM."""
    command = readme_command("trioflow demo")
    place = copy_project(Path(session.create_tmp()).resolve() / "project")
    log = place.with_name("log")
    session.log(command)
    with log.open("wb") as output:
        process = subprocess.Popen(["bash", "-c", command], cwd=place, stdout=output, stderr=output, process_group=0)
    url = answer(log, process)
    ended = end(process)
    said = log.read_text(encoding="utf-8")
    if not url or not ended or "Traceback" in said:
        session.error(f"the demo {'answered' if url else 'did not answer'}, and ended by SIGTERM: {ended}\n{said}")
    session.log(f"the demo answered at {url} and ended by SIGTERM")


def answer(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the last URL in the log answers, and return it; return an empty string if none does."""
    for _ in range(300):
        if urls := re.findall(r"https?://\S+", log.read_text(encoding="utf-8")):
            with contextlib.suppress(OSError), urllib.request.urlopen(urls[-1], timeout=10):
                return str(urls[-1])
        if process.poll() is not None:
            break
        time.sleep(1)
    return ""


def end(process: subprocess.Popen[bytes]) -> bool:
    """Send SIGTERM to a process and its children; return True if all end within a minute, else kill them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        for _ in range(600):
            process.poll()  # until it is reaped, its group exists
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        return False
    return True


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site strictly, into site/: references, links and their anchors are checked."""
    session.install("-q", ".[docs]")
    session.run("python", "docs/_site/pages.py")
    session.run("zensical", "build", "--strict", "--clean")
    outside = re.compile(r"""<(?:script|img|link)[^>]*(?:src|href)="?https?://[^" >]*""")
    for page in sorted(ROOT.glob("site/**/*.html")):
        if found := outside.search(page.read_text(encoding="utf-8")):
            session.error(f"{page} asks another site, so it cannot be read offline: {found.group()}")
    files = [*map(str, sorted(ROOT.glob(".github/**/*.yml"))), ".pre-commit-config.yaml"]
    session.run("python", "-c", "import sys, yaml; [yaml.safe_load(open(name)) for name in sys.argv[1:]]", *files)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into dist/, and check the wheel: its files, its metadata, and alone."""
    build_and_check(session)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Set the version, make the changelog, build and check the wheel, commit and tag: `nox -s release -- 0.2.0`."""
    version = session.posargs[0] if len(session.posargs) == 1 else ""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        session.error(f"release: needs one version such as 0.2.0, got {session.posargs}")
    if changed := session.run("git", "status", "--porcelain", external=True, silent=True):
        session.error(f"release: commit or remove your changes first:\n{changed}")
    if session.run("git", "tag", "--list", f"v{version}", external=True, silent=True):
        session.error(f"release: there is a tag v{version} already; choose another version")

    place = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    text, found = re.subn(
        r'^__version__ = ".*"$', f'__version__ = "{version}"', place.read_text(encoding="utf-8"), flags=re.M
    )
    if found != 1:
        session.error(f"release: {place} must have one line `__version__ = ...`, but {found} lines are such")
    try:
        place.write_text(text, encoding="utf-8")
        session.run("python", "docs/changes/changelog.py", "--release", version)
        build_and_check(session)
        session.run("git", "commit", "-q", "--all", "-m", f"Release {version}", external=True)
    except BaseException:
        session.run("git", "checkout", "-q", "HEAD", "--", ".", external=True)  # the tree was clean
        raise
    session.run("git", "tag", "-a", f"v{version}", "-m", f"Release {version}", external=True)
    session.log(f"dist/ has what was checked. To publish it: git push origin HEAD v{version}")


def build_and_check(session: nox.Session) -> None:
    """Build into dist/ and check what was built, for `build` and `release`."""
    session.install("-q", "build", "twine")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")  # the wheel is built from the sdist
    session.run("twine", "check", "--strict", *map(str, sorted(ROOT.glob("dist/*"))))
    listed = str(session.run("python", "-m", "zipfile", "-l", wheel(), silent=True))
    session.log(listed)
    for name in ["trioflow/py.typed", "licenses/LICENSE"]:
        if name not in listed:
            session.error(f"{wheel()} has no {name}")

    # With nothing but what it says it needs, and in a directory without the sources.
    alone = Path(session.create_tmp(), "alone").resolve()
    session.run(sys.executable, "-m", "venv", "--clear", str(alone), external=True)
    python = str(alone / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", wheel(), external=True)
    with session.chdir(alone):
        session.run(python, "-m", "pip", "check", external=True)
        session.run(
            python,
            "-c",
            "import trioflow, trioflow.http; print(trioflow.__version__, trioflow.__file__)",
            external=True,
        )
        session.run(str(alone / "bin" / "trioflow"), "--help", external=True)
        session.run(python, "-m", "trioflow", "--help", external=True, silent=True)


def wheel() -> str:
    """Return the path of the one wheel in dist/."""
    (path,) = ROOT.glob("dist/trioflow-*.whl")
    return str(path)


def lowest_pins() -> list[str]:
    """Return the lower bounds that pyproject.toml states for what the package uses, as pins."""
    extras = PROJECT["project"]["optional-dependencies"]
    # The extras for contributors are tested as they are newest.
    used = [extras[name] for name in extras if name not in ("test", "docs", "trio-typing")]
    requirements = [*PROJECT["project"]["dependencies"], *itertools.chain(*used)]
    if unbound := [requirement for requirement in requirements if ">=" not in requirement]:
        raise ValueError(f"pyproject.toml: every requirement needs a lower bound, but these have none: {unbound}")
    return [requirement.replace(">=", "==", 1).replace(" ", "") for requirement in requirements]


def newest_python() -> str:
    """Return the newest release among this machine's interpreters that can make an environment."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 40)]
    # A pyenv shim may stand for no interpreter, and Debian's Python may come without venv.
    code = "import ensurepip, sys, venv; print(sys.version_info[:3] * (sys.version_info.releaselevel == 'final'))"
    found: set[tuple[tuple[int, ...], str]] = {(sys.version_info[:3], sys.executable)}
    for python in {name for name in named if name} | {str(path) for path in pyenv.glob("versions/3.*/bin/python3")}:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
        if version := re.findall(r"\d+", done.stdout):
            found.add((tuple(map(int, version)), python))
    return max(found)[1]


QUICK = ["-m", "not slow"]  # the slow tests, of processes, browsers and Redis, run once: in `tests`


def run_against_wheel(
    session: nox.Session, python: str, *requirements: str, ignored: list[str], selected: Sequence[list[str]] = (QUICK,)
) -> None:
    """Run tests against the wheel, in a fresh environment and without the sources beside it."""
    place = Path(session.create_tmp()).resolve()
    project = copy_project(place / "project")
    shutil.rmtree(project / "trioflow")
    session.run(python, "-m", "venv", "--clear", str(place / "env"), external=True)
    python = str(place / "env" / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", f"{wheel()}[test]", *requirements, external=True)
    session.run(python, "--version", external=True)
    session.run(python, "-m", "pip", "freeze", external=True)
    with session.chdir(project):
        for tests in selected:
            ignoring = [f"--ignore={path}" for path in ignored]
            session.run(python, "-m", "pytest", *tests, *ignoring, *session.posargs, external=True)


@nox.session(venv_backend="none", requires=["build"])
def lowest(session: nox.Session) -> None:
    """Test the wheel with the lowest dependencies that it says it works with."""
    # What the type checkers say depends on Trio's own annotations, which older versions lack here and there.
    ignored = ["tests/project/test_typing.py", "tests/project/test_page_types.py", *ONCE_ONLY]
    redis = ["tests/redis/test_streams.py", "tests/redis/test_edges.py"]  # what its library is used for
    run_against_wheel(session, sys.executable, *lowest_pins(), ignored=ignored, selected=(QUICK, redis))


@nox.session(venv_backend="none", requires=["build"])
def newest(session: nox.Session) -> None:
    """Test the wheel with the newest dependencies, on the newest Python of this machine."""
    run_against_wheel(session, newest_python(), ignored=ONCE_ONLY)


@nox.session(venv_backend="none", requires=["build"])
def trio_typing(session: nox.Session) -> None:
    """Check a user's program where trio-typing is installed."""
    session.run(sys.executable, "tests/trio_typing/check.py", wheel(), external=True)
