"""How both programs are timed: the sender is a separate process, which connects, says so, and waits for its start."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

MESSAGE = b"x" * 200


def cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def begin() -> None:
    """Report, as the sender, that it is connected, and wait until it may start."""
    print("ready", flush=True)
    sys.stdin.readline()


class Sender:
    """The sender, seen from the receiver."""

    def __init__(self) -> None:
        command = [sys.executable, sys.argv[0], *sys.argv[1:], "send"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._began = 0.0
        self._cpu = 0.0

    def go(self) -> None:
        assert self._process.stdin is not None
        self._began, self._cpu = time.perf_counter(), cpu_seconds()
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def tell(self, count: int) -> None:
        wall = time.perf_counter() - self._began
        self._process.communicate()
        print(json.dumps({"wall": wall, "cpu": cpu_seconds() - self._cpu, "result": count}))


def run(send: Callable[[], object], receive: Callable[[], object]) -> None:
    (send if sys.argv[-1] == "send" else receive)()
