"""`import trioflow` stays cheap: what it must not import is tested, what it costs is measured where asked.

A time is no test on a shared machine: run this file as a program to see the milliseconds (CI prints them).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # each starts a Python of its own

BUDGET = 30  # ms beyond `import trio`
RUNS = 21
NOT_AT_IMPORT = ["h11", "trioflow.http", "trioflow.cli", "trioflow.demo", "trioflow.redis"]
NOT_AT_IMPORT += ["coredis", "anyio", "backports.zstd", "compression.zstd", "brotli", "isal", "msgspec"]  # the extras


def run(code: str) -> str:
    # An installed package has its bytecode beside it; so must this one, whatever the environment says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def test_import_trioflow_imports_neither_http_nor_any_extra() -> None:
    loaded = run("import sys, trioflow; print(*sys.modules)").split()

    assert [name for name in NOT_AT_IMPORT if name in loaded] == []


def test_import_trioflow_imports_nothing_of_others_but_trio() -> None:
    before = run("import sys, trio; print(*sys.modules)").split()
    after = run("import sys, trio, trioflow; print(*sys.modules)").split()
    added = {name.partition(".")[0] for name in after} - {name.partition(".")[0] for name in before}

    assert added - sys.stdlib_module_names == {"trioflow"}


def milliseconds(module: str, after: str) -> float:
    """Measure what `import module` adds to `import after`: the best of fresh processes, bytecode already cached.

    The best, not the middle: what else runs on the machine can only add.
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
