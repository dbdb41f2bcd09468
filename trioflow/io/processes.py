"""Runs programs as stages: the input of the process is written, its output is read.

Rule 1: a process never outlives its run: it gets SIGTERM, then SIGKILL, and is always reaped. If the run is cut off,
    the process sees no end of its input before it exits, so that it does not take partial input for complete (R13).
Rule 2: a program that fails raises after all of its output; one that exits with status 0 may leave its input unread.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, TypeAlias, cast

import trio

from trioflow._core.adapters import Enough
from trioflow._core.bytestream import BusyGuard
from trioflow._core.checks import check_flags, check_type
from trioflow._core.connection import Connection
from trioflow._core.streams import Duplex, label

PATIENCE: Final = 1.0  # seconds; from closing a process's ends to asking it to end, and from there to killing it
KEPT: Final = 65536  # bytes of captured stderr: the last ones say what went wrong
_NOTED: Final = 1000  # bytes of them in a note
_LOOK: Final = 0.01  # seconds between two looks whether a process group has gone

Word: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


def process(
    argv: Sequence[Word],
    *,
    cwd: Word | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int | IO[Any] | None = None,
    own_group: bool = False,
) -> Duplex[bytes, bytes]:
    r"""Run a program: items are written to its standard input, and its standard output comes out. No shell is involved.

    As a transform, each run starts a process of its own, and so does each `open()`. The `readable` and the `writable`
    of one value share one process, started when either first runs; each can run once. At the beginning of a pipeline
    its input is empty. At the end of one its output is dropped and the run waits until it exits, unless a variable
    still holds the other direction; then use `async with` to end it.

    Emits when: the program has written something.
    Waits when: the program does not read, or the reader downstream does not.
    Ends when: the program has closed its output and exited; it need not have read all of its input.
    On cancel: the program gets SIGTERM, and SIGKILL a second later. The same happens if any stage of the run fails, or
        if a stage downstream stops reading. Its input stays open until it has exited, so that it cannot take partial
        input for complete. Child processes that it started see the end of the input then, unless `own_group=True`.
    Holds: one chunk in each direction, of at most 256 KiB; 64 KiB of captured stderr.

    Args:
        argv: The program and its arguments.
        cwd: The directory to run it in.
        env: Its whole environment; None for a copy of this process's.
        stderr: Where its errors go: None for where this process's go, `subprocess.DEVNULL`, `subprocess.STDOUT` to join
            its output, an open file, or `subprocess.PIPE` to keep the last 64 KiB for the exception.
        own_group: Run it in a process group of its own and send signals to the whole group, so that processes which a
            shell has started end too. Ctrl-C at a terminal then reaches them only because it cancels this run.

    Raises:
        TypeError, ValueError: `argv` is not a list of words, or an option is of the wrong type.
        FileNotFoundError, PermissionError: when it runs, the program or the directory does not exist, or it may not be
            run. Nothing has been taken from the source then.
        subprocess.CalledProcessError: when it runs, the program exits with a status other than 0.

    Example:
        >>> run(pipeline([b"b\n", b"a\n"], process(["sort"]), join()))
        b'a\nb\n'
    """
    words = _checked(argv)
    check_type("process: cwd", cwd, str | bytes | os.PathLike | None, "a path")
    check_type("process: env", env, Mapping | None, "a mapping")
    if stderr is not None and not isinstance(stderr, int) and not hasattr(stderr, "fileno"):
        raise TypeError(f"process: stderr must be None, a constant of subprocess or an open file, got {stderr!r}")
    check_flags(own_group=own_group)

    async def start() -> _ProcessStream:
        child = await trio.lowlevel.open_process(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
            process_group=0 if own_group else None,
        )
        return _ProcessStream(child, words, has_own_group=own_group)

    def fresh() -> Connection:
        beside = _ProcessStream.keep_errors if stderr == subprocess.PIPE else None
        return Connection(start, name, lives_by_output=True, beside=beside)

    name = label("process", words)
    return Duplex._over(name, fresh(), fresh)


def _checked(argv: Sequence[Word]) -> list[Any]:
    if isinstance(argv, (str, bytes)):
        hint = f"write ['sort', '-n'], or ['sh', '-c', {argv!r}]"
        raise TypeError(f"process expects a list of words, got {argv!r}; {hint}")
    if not isinstance(argv, Sequence):
        raise TypeError(f"process expects a list of words, got {argv!r}")
    words = list(argv)
    if not words:
        raise ValueError("process expects a program to run, got an empty list")
    for word in words:
        check_type("process: each word of argv", word, (str, bytes, os.PathLike), "a str, bytes or a path")
    return words


class _ProcessStream(trio.abc.HalfCloseableStream):
    """A running process as a byte stream: sending writes its input, receiving reads its output."""

    def __init__(self, child: trio.Process, argv: list[Any], *, has_own_group: bool) -> None:
        self._child = child
        self._argv = argv
        self._has_own_group = has_own_group
        self._stdin = cast("trio.lowlevel.FdStream", child.stdin)
        self._stdout = cast("trio.lowlevel.FdStream", child.stdout)
        self._stderr = cast("trio.lowlevel.FdStream | None", child.stderr)
        self._errors = bytearray()
        self._keeping = trio.Lock()
        self._sending = BusyGuard("writing to this process")
        self._receiving = BusyGuard("reading from this process")
        self._is_over = False  # its output has ended, and it has exited
        self._is_gone = False  # it has exited; its process id may belong to another process
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            try:
                await self._stdin.send_all(data)
            except trio.ClosedResourceError:
                if self._is_over:
                    raise Enough("the process has exited") from None
                raise
            except trio.BrokenResourceError as exc:
                if self._is_closed:  # only `aclose` can have broken it: until the process exits, its input is open
                    raise trio.ClosedResourceError("this process was closed while it was written to") from None
                raise Enough("the process no longer reads its input") from exc

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await self._stdin.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        with self._sending:
            await self._stdin.aclose()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with self._receiving:
            if self._is_over:
                await trio.lowlevel.checkpoint()
            else:
                chunk = await self._stdout.receive_some(max_bytes)
                if chunk:
                    return chunk
                await self._child.wait()
                self._is_over = self._is_gone = True
                self._take_last_errors()
                self._close()
            if self._child.returncode:
                raise self._failure(self._child.returncode)
            return b""

    def _failure(self, status: int) -> subprocess.CalledProcessError:
        errors = None if self._stderr is None else bytes(self._errors)
        failure = subprocess.CalledProcessError(status, self._argv, stderr=errors)
        if errors:
            failure.add_note(f"its stderr: {errors[-_NOTED:].decode(errors='backslashreplace').rstrip()}")
        return failure

    async def keep_errors(self) -> None:
        """Keep the last bytes that the process writes to its captured stderr, for as long as it runs."""
        assert self._stderr is not None
        async with self._keeping:  # if the two directions run apart, only one reads stderr
            try:
                while chunk := await self._stderr.receive_some(KEPT):
                    self._keep(chunk)
            except trio.ClosedResourceError:
                pass

    def _take_last_errors(self) -> None:
        """Read what is in the pipe, without waiting for other processes that still hold it open."""
        if self._stderr is None:
            return
        try:
            while chunk := os.read(self._stderr.fileno(), KEPT):
                self._keep(chunk)
        except OSError:  # empty, or closed
            pass

    def _keep(self, chunk: bytes | bytearray) -> None:
        self._errors += chunk
        del self._errors[:-KEPT]

    async def aclose(self) -> None:
        """Close its pipes and wait for it to exit; if that takes too long or is cancelled, end it."""
        self._is_closed, self._is_over = True, False
        try:
            # If this is cancelled, the input stays open: the process must not take its end for a complete input.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._close()
            with trio.move_on_after(PATIENCE):
                await self._child.wait()
                self._is_gone = True
        finally:
            if not self._is_gone:
                with trio.CancelScope(shield=True):
                    await self._end()
            self._close()

    def _close(self, *, but_input: bool = False) -> None:
        for pipe in (None if but_input else self._stdin, self._stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    async def _end(self) -> None:
        """End it. Its input stays open until it has exited: an end would say that the input was complete (R13)."""
        self._signal(signal.SIGTERM)
        self._close(but_input=True)
        with trio.move_on_after(PATIENCE) as patience:
            await self._child.wait()
            while self._has_own_group and self._signal(0):  # noqa: ASYNC110 - no event for the last exit
                await trio.sleep(_LOOK)
        if patience.cancelled_caught:
            self._signal(signal.SIGKILL)
            await self._child.wait()
        self._is_gone = True

    def _signal(self, number: int) -> bool:
        """Send a signal to it or its group; return whether any process received it."""
        try:
            if self._has_own_group:
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter when all of them have exited
            return False
        return True
