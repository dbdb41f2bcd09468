"""`import trioflow` stays cheap: tests check what it imports, and its time is measured on request.

Times are not tested, because machines are shared: run this file as a program to see the milliseconds (CI prints them).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # each test starts a Python process

BUDGET = 10  # ms beyond `import trio`
RUNS = 21
NOT_AT_IMPORT = ["h11", "trioflow.http", "trioflow.cli", "trioflow.demo", "trioflow.redis"]
NOT_AT_IMPORT += ["coredis", "anyio", "backports.zstd", "compression.zstd", "brotli", "isal", "msgspec"]  # the extras
NOT_AT_IMPORT += ["opentelemetry", "prometheus_client", "rich"]


def run(code: str) -> str:
    # An installed package has its bytecode, so this one needs it too, whatever the environment says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    before = run("import sys, trio; print(*sys.modules)").split()
    return {*run(f"import sys, trio; {code}; print(*sys.modules)").split()} - {*before}


def test_import_trioflow_imports_nothing_else() -> None:
    assert loaded_by("import trioflow") == {"trioflow"}


def test_a_name_imports_what_it_needs_and_no_more() -> None:
    loaded = loaded_by("from trioflow import Readable, collect")

    assert "trioflow.operators.results" in loaded
    assert not loaded & {"trioflow.io.files", "trioflow.codecs.csv", "trioflow.operators.timing"}


def test_all_names_together_import_no_http_no_extra_and_no_other_package_than_trio() -> None:
    loaded = loaded_by("from trioflow import *")

    assert [name for name in NOT_AT_IMPORT if name in loaded] == []
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"trioflow"}


def milliseconds(module: str, after: str) -> float:
    """Measure what `import module` adds to `import after`: the best of fresh processes, bytecode already cached.

    The best and not the median, because other programs on the machine can only add time.
    """
    timed = f"import time, {after}; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    run(timed)
    return 1000 * min(float(run(timed)) for _ in range(RUNS))


if __name__ == "__main__":
    cost = milliseconds("trioflow", after="trio")
    print(f"import trioflow: {cost:.1f} ms beyond import trio (budget {BUDGET} ms)")
    print(f"for scale, import trio: {milliseconds('trio', after='sys'):.1f} ms")
    if cost > BUDGET:
        print("warning: over the budget on this machine, in this run")
