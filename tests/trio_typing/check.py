"""Check program.py with trio-typing installed: in its own environment, with an older mypy and the plugin.

    python tests/trio_typing/check.py [WHAT]

WHAT is what pip installs, with its extra `trio-typing` added: this project's directory, or a wheel of it.
docs/contributing/trio-typing.md says why this is separate from the other checks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent

SETTINGS = """\
[mypy]
strict = True
plugins = trio_typing.plugin
enable_error_code = ignore-without-code
"""

# A check that cannot fail checks nothing, so this must be refused, with these words.
WRONG = """\
import trio
import trioflow as tf

reveal_type(trio.open_memory_channel[int](1))
tf.from_iterable([1]).pipe(tf.map(lambda number: number + ""))
"""
# The first is how the stubs and the plugin type it; Trio's own types say MemorySendChannel and a class.
SAID = ["trio.MemorySendChannel[builtins.int]", 'Unsupported operand types for + ("int" and "str")']


def main(what: str) -> int:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        venv.create(place / "venv", with_pip=True)
        python = place / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{what}[trio-typing]"], check=True)
        subprocess.run([python, "-m", "pip", "freeze"], check=True)
        (place / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
        (place / "wrong.py").write_text(WRONG, encoding="utf-8")

        # From a directory without our sources: mypy must find what was installed.
        mypy = [python, "-m", "mypy"]
        wrong = subprocess.run([*mypy, "wrong.py"], cwd=place, capture_output=True, text=True).stdout
        missing = [words for words in SAID if words not in wrong]
        if missing:
            print(f"mypy should have said {missing} of a wrong program, but said:\n{wrong}")
            return 1
        return subprocess.run([*mypy, HERE / "program.py"], cwd=place).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(HERE.parent.parent)))
