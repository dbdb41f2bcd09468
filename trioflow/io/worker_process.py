"""Worker processes: started afresh, never forked, and gone when their block is left.

Rule 1: a function is sent by its name (pickled); one that another process cannot find is refused when it is passed.
Rule 2: a process is asked to end by closing its socket, then killed; either way it has exited when that returns.
Rule 3: its output appears where ours does. Its exceptions carry the traceback of the process as a note.
"""

from __future__ import annotations

import io
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from trioflow._core.errors import note
from trioflow._core.labels import name_of
from trioflow.io import _worker_main

PATIENCE: Final = 5.0  # seconds that a process has after it was asked to end
_PROGRAM: Final = str(Path(__file__).with_name("_worker_main.py"))


def pickled(what: str, function: Any, *beside: object) -> bytes:
    """Return a function, or a tuple of it and the objects `beside` it, pickled for another process.

    Raises:
        TypeError: it cannot be sent.
    """
    try:
        body = pickle.dumps((function, *beside) if beside else function, pickle.HIGHEST_PROTOCOL)
    except Exception as exc:
        raise TypeError(
            f"{what} that can be sent to another process, such as one defined at the top of a module, "
            f"but {name_of(function)} cannot: {exc}"
        ) from exc
    if b"__main__" in body and _main_place() is None:
        raise TypeError(
            f"{what} that another process can find, but {name_of(function)} was typed at a prompt: put it in a file"
        )
    return body


def _main_place() -> tuple[str, str] | None:
    """Return how to import the running program; None if it is not in a file."""
    main: Any = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "module", spec.name
    file = getattr(main, "__file__", None)
    return ("path", str(Path(file).absolute())) if file is not None and Path(file).is_file() else None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("__main__" if module == "__mp_main__" else module, name)


def unpickled(body: bytes | bytearray) -> Any:
    """Return the value that a process has sent."""
    return _Unpickler(io.BytesIO(body)).load()


def failure_of(packed: tuple[bytes, str]) -> BaseException:
    """Return the exception that was raised in a process."""
    body, told = packed
    exc: BaseException = unpickled(body)
    note(exc, f"in a worker process:\n{told.rstrip()}")
    return exc


class Child:
    """A running process and our end of its socket, made by `start_child`."""

    def __init__(self, process: trio.Process, sock: socket.socket) -> None:
        self.process = process
        self.socket = trio.socket.from_stdlib_socket(sock)
        self._stream = trio.SocketStream(self.socket)

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            trio.BrokenResourceError: the process has exited.
        """
        await self._stream.send_all(message)

    async def receive(self) -> Any:
        """Return the value of the next message.

        Raises:
            trio.BrokenResourceError: the process has exited.
        """
        size = _worker_main.HEADER.unpack(await self._exactly(_worker_main.HEADER.size))[0]
        return unpickled(await self._exactly(size))

    async def _exactly(self, size: int) -> bytearray:
        body = bytearray(size)
        left = memoryview(body)
        while left:
            try:
                count = await self.socket.recv_into(left)
            except OSError as exc:
                raise trio.BrokenResourceError("the process has gone") from exc
            if not count:
                raise trio.BrokenResourceError("the process has gone")
            left = left[count:]
        return body

    async def tell(self, what: bytes) -> None:
        """Send bytes; do nothing if the process has exited."""
        try:
            await self._stream.send_all(what)
        except trio.BrokenResourceError:
            pass

    async def end(self, patience: float = PATIENCE) -> int:
        """Ask it to end, kill it after `patience` seconds and return its exit status. If cancelled, kill it at once."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has exited
        try:
            with trio.move_on_after(patience):
                await self.process.wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
            with trio.CancelScope(shield=True):
                await self.process.wait()
            self.socket.close()
        assert self.process.returncode is not None
        return self.process.returncode


async def start_child(
    kind: str, target: bytes, *, patience: float = 0.0, page: int | None = None, listeners: Sequence[int] = ()
) -> Child:
    """Start a process that runs or calls `target`, as `_worker_main` says; it inherits `page` and `listeners`."""
    if _worker_main.is_loading_main:
        raise RuntimeError(
            "a worker process imported the program that started it, and the program began to start processes again; "
            "put the code that runs it below `if __name__ == '__main__':`"
        )
    start = _worker_main.packed((sys.path, sys.argv, _main_place()))  # if this raises, no process has been started yet
    ours, theirs = socket.socketpair()
    try:
        inherited = [theirs.fileno(), *([] if page is None else [page]), *listeners]
        words = [str(theirs.fileno()), kind, str(patience), *([] if page is None else [str(page)])]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-u", "-P", _PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            process_group=0,  # at first; see Rule 3 of `_worker_main`
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    child = Child(process, ours)
    try:
        await child.send(start + _worker_main.HEADER.pack(len(target)) + target)
    except trio.BrokenResourceError:
        pass  # the next message to it reports that
    except BaseException:
        await child.end(0)
        raise
    return child


def told_end(status: int | None) -> str:
    """Return how a process has ended, in words."""
    if status is None:
        return "has closed its socket"
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
