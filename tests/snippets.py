"""Programs shown to readers, run as they stand. For test_docs and test_examples.

A program that serves uses port 8000, as for a reader; here it and its commands get a free port instead.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60  # seconds for one program or command; nothing shown to a reader takes that long


def matches(got: str, want: str) -> bool:
    """Compare what was printed with what the page says; `...` stands for anything, as in a doctest."""
    return doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)


def difference(what: str, got: str, want: str) -> str:
    return f"{what}\nprints:\n{got}\nbut it says:\n{want}"


def with_port(text: str, port: int) -> str:
    return re.sub(r"\b8000\b", str(port), text)


@contextmanager
def serving(source: str, *, name: str, port: int, cwd: Path) -> Iterator[Path]:
    """Run a program that serves on `port`: enter the block when it accepts connections, and end it after the block.

    Yields the file with the program's output.

    It is ended as its reader would, by Ctrl-C, and must leave nothing open: -X dev shows what was never closed.
    """
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, name)
        program.write_text(source, encoding="utf-8")
        log = Path(place, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-u", "-X", "dev", program],
                cwd=cwd,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not accepts(port):
                assert process.poll() is None, f"{name} ended instead of serving:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{name} does not accept connections:\n{log.read_text()}"
                time.sleep(0.02)
            yield log
            assert process.poll() is None, f"{name} ended while it was serving requests:\n{log.read_text()}"
            wait_until_idle(process.pid)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            said = log.read_text()
            # A program that handles the signal itself, as a server with workers does, simply returns.
            assert process.returncode == 0 or "KeyboardInterrupt" in said, f"{name} does not end by Ctrl-C:\n{said}"
            assert "Warning" not in said, f"{name} left something behind:\n{said}"
        finally:
            process.kill()
            process.wait()


def wait_until_idle(pid: int) -> None:
    """Wait until a process sleeps, as a server does between requests.

    Ctrl-C may raise KeyboardInterrupt between any two instructions of a request, for instance in the `close` of its
    socket. What is open then was left by Python, not by the program.
    """
    status = Path(f"/proc/{pid}/status")
    if not status.exists():  # only Linux has it
        return
    deadline = time.monotonic() + PATIENCE
    looks = 0
    while looks < 3:
        time.sleep(0.01)
        looks = looks + 1 if re.search(r"^State:\s+S", status.read_text(), re.MULTILINE) else 0
        assert time.monotonic() < deadline, "the program is never idle"


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def ask(console: str, *, cwd: Path) -> None:
    """Run each `$ command` of a console block and compare what it prints with the lines below it."""
    assert console.startswith("$ "), f"a console block starts with a `$ command`, not with:\n{console}"
    # The commands of this environment first: `trioflow` is among them.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for entry in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, want = re.fullmatch(r"((?:.*\\\n)*.*\n?)([\s\S]*)", entry).groups()  # type: ignore[union-attr]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        got = done.stdout
        if got and not got.endswith("\n"):
            got += "\n"  # a page cannot show a missing line end
        assert matches(got, want), difference(f"$ {command}", got, want)
