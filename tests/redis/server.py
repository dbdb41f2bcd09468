"""A real redis-server for tests, with its own port and directory, stopped by its process id."""

from __future__ import annotations

import inspect
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from tests.ports import free_port

PATIENCE = 90  # seconds, which pass only if a test fails: to start a process takes 5 on a busy machine


async def until(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    """Poll something that sends no notification: the state of the server, of a file, or of another process."""
    with trio.fail_after(PATIENCE):
        while True:
            answer = is_so()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await trio.sleep(0.005)


class Server:
    """A server that can be stopped, killed, frozen and restarted with its stored data; it ends with its `with` block."""

    def __init__(
        self, place: Path, *options: str, wrapper: Sequence[str] = (), program: str | Path = "redis-server"
    ) -> None:
        self.place = place
        self._program = str(program)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._options = options
        self._environment = {**os.environ, **dict(pair.split("=", 1) for pair in wrapper)}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def at(cls, port: int) -> Server:
        """Return a server that was started by someone else, to send it commands."""
        self = cls.__new__(cls)
        self.port = port
        return self

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self.ask("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            time.sleep(0.01)
        self.stop(signal.SIGKILL)
        raise AssertionError((self.place / "log").read_text())

    def _command(self) -> list[str]:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.place)]
        return [*command, "--save", "", "--daemonize", "no", "--appendonly", "yes", *self._options]

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop it like SIGSTOP does, and return when it has stopped; SIGCONT lets it continue."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def ask(self, *words: str | int) -> bytes:
        """Send a command in plain RESP, without any client, and return the first piece of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            coded = [str(word).encode() for word in words]
            sock.sendall(b"*%d\r\n" % len(coded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in coded))
            return sock.recv(65536)

    def held_by(self, pid: int) -> int:
        """Return how many entries of the stream `jobs` a worker process holds."""
        found = re.search(rb"-%d-\w+\r\n\$\d+\r\n(\d+)" % pid, self.ask("XPENDING", "{jobs}:stream", "g"))
        return int(found[1]) if found else 0

    def refusals(self, word: str = "OOM") -> int:
        """Return how many commands were refused with this error; `OOM` means that the server is out of memory."""
        found = re.search(rb"errorstat_%s:count=(\d+)" % word.encode(), self.ask("INFO", "errorstats"))
        return int(found[1]) if found else 0

    def cut_all(self) -> None:
        """Cut every connection but this one."""
        for kind in ("normal", "pubsub"):
            self.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


class Sentinel(Server):
    """A sentinel that decides alone on a failover of `master`, named `jobs-db`, after a second."""

    def __init__(self, place: Path, master: Server, *lines: str) -> None:
        super().__init__(place)
        self._lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"sentinel monitor jobs-db 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds jobs-db 1000",
            "sentinel failover-timeout jobs-db 2000",
            *lines,
        ]

    def _command(self) -> list[str]:
        settings = self.place / "sentinel.conf"  # the sentinel rewrites this file
        settings.write_text("\n".join(self._lines))
        return ["redis-server", str(settings), "--sentinel"]
