"""Worker processes that serve the same listening sockets, and the supervisor that keeps them running.

Rule 1: the sockets are opened once and inherited, so no client is refused while a worker runs or is about to.
Rule 2: a worker that has ended, or cannot be started, is replaced after a pause, which grows while workers end early.
Rule 3: the supervisor controls a worker through a socket: one byte tells it to retire, the end of the stream tells it to
    stop. So it also stops when the supervisor dies.
Rule 4: a worker sends bytes while its tasks run. One that sends nothing for too long is killed and replaced.
"""

from __future__ import annotations

import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress  # noqa: TID251 - no handler's exception passes through it
from dataclasses import dataclass, field
from typing import Final

import trio

from trioflow._core.backoff import Backoff
from trioflow.io.worker_process import Child, start_child, told_end

READY: Final = 30.0  # seconds in which a worker must be ready
FIRST_PAUSE: Final = 0.1  # seconds before a worker that has ended is replaced
LONGEST_PAUSE: Final = 10.0
MARGIN: Final = 5.0  # seconds after its grace period in which a worker must end
LAST_WORDS: Final = 1.0  # seconds to wait for the exit of a process that has closed its socket
TIMEOUT: Final = 30.0  # seconds within which a worker must run its tasks
_PARTS: Final = 10  # a worker sends a byte in each tenth of that time
_IS_READY: Final = b"r"
_IS_ALIVE: Final = b"a"
_IS_TRACED: Final = b"t"  # alive, and may stop at a breakpoint
_RETIRE: Final = b"h"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_log: Final = logging.getLogger("trioflow.http")


@dataclass(eq=False)
class _Slot:
    """Holds one worker at a time."""

    child: Child
    changing: trio.Lock = field(default_factory=trio.Lock)


class Supervisor:
    """Keeps worker processes running.

    Args:
        target: The pickled function that each worker calls with its end of a socket; it calls `work`.
        listeners: The file descriptors of the sockets and other files that the workers inherit.
        timeout: How many seconds a worker may go without running its tasks; None for the default.
    """

    def __init__(
        self, target: bytes, listeners: Sequence[int], count: int, grace: float, timeout: float | None
    ) -> None:
        self._target = target
        self._listeners = listeners
        self._count = count
        self._patience = min(grace + MARGIN, 1e6)
        self._timeout = TIMEOUT if timeout is None else timeout
        self._children: set[Child] = set()  # those that are ready, or have been
        self._slots: list[_Slot] = []
        self._asked = trio.Event()  # set when all workers are to be replaced

    async def run(self, is_ready: Callable[[], None], close: Callable[[], None]) -> None:
        """Keep the workers running until cancelled, or until a signal has stopped them.

        Args:
            is_ready: Called once, when all workers are ready or a signal has arrived before that.
            close: Called when no more connections are to be accepted.

        Raises:
            RuntimeError: the first worker could not be started, or ended before it was ready.
        """
        with _signals() as signals:
            try:
                all_ready = False
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                    await self._fill()  # the first one alone, so that an error common to all is reported once
                    try:
                        async with trio.open_nursery() as starting:
                            for _ in range(1, self._count):
                                starting.start_soon(self._fill)
                    except* RuntimeError as failed:
                        raise failed.exceptions[0] from None  # one is enough to say what is wrong
                    for slot in self._slots:
                        nursery.start_soon(self._keep, slot)
                    nursery.start_soon(self._replace_when_asked)
                    all_ready = True
                    is_ready()
                if not all_ready:
                    is_ready()  # else `nursery.start` would raise, although the server stopped because it was asked to
            finally:
                close()
                with trio.CancelScope(shield=True):
                    await self._end(signals)

    async def _obey(self, signals: AsyncIterator[int] | None, scope: trio.CancelScope) -> None:
        if signals is None:
            return
        async for number in signals:
            if number in _ENDING:
                scope.cancel()
                return
            self._asked.set()

    async def _fill(self) -> None:
        self._slots.append(_Slot(await self._start()))

    async def _start(self) -> Child:
        try:
            child = await start_child("run", self._target, patience=self._patience, listeners=self._listeners)
        except OSError as exc:
            raise RuntimeError(f"a worker process cannot be started: {exc}") from exc
        try:
            await self._wait_until_ready(child)
        except BaseException:
            await child.end(0)  # it has nothing to finish
            raise
        self._children.add(child)
        return child

    async def _wait_until_ready(self, child: Child) -> None:
        with trio.move_on_after(READY):
            try:
                if await child.socket.recv(1) == _IS_READY:
                    return
            except OSError:
                pass
            with trio.move_on_after(LAST_WORDS):
                await child.process.wait()
        status = child.process.returncode
        how = f"was not ready within {READY:g} seconds" if status is None else f"{told_end(status)} before it was ready"
        raise RuntimeError(f"worker process {child.process.pid} {how}")

    async def _kill(self, child: Child) -> None:
        await child.end(0)
        self._children.discard(child)

    async def _keep(self, slot: _Slot) -> None:
        """Replace the worker in `slot` each time it has ended."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, jitter=0)
        while True:
            child, began = slot.child, trio.current_time()
            failure = await self._wait_for_failure(child)
            async with slot.changing:
                if slot.child is not child:
                    continue
                await self._kill(child)
                if trio.current_time() - began > LONGEST_PAUSE:
                    backoff.reset()
                while slot.child is child:
                    pause = backoff.pause()
                    _log.error("%s; starting another in %g seconds", failure, pause)
                    await trio.sleep(pause)
                    try:
                        slot.child = await self._start()
                    except RuntimeError as exc:
                        failure = str(exc)

    async def _wait_for_failure(self, child: Child) -> str:
        """Wait until a worker has ended, or has not run its tasks for too long; return a message that says which."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_silence, child, nursery.cancel_scope)
            await child.process.wait()
            nursery.cancel_scope.cancel()
        status = child.process.returncode
        how = f"has not run its tasks for {self._timeout:g} seconds" if status is None else told_end(status)
        return f"worker process {child.process.pid} {how}"

    async def _wait_for_silence(self, child: Child, scope: trio.CancelScope) -> None:
        """Cancel `scope` when a worker has sent nothing for too long."""
        is_traced = False
        silent = 0  # counted in parts, so that while this process is stopped too (Ctrl-Z), at most one part passes
        while silent < _PARTS:
            silent += 1
            with trio.move_on_after(math.inf if is_traced else self._timeout / _PARTS):
                try:
                    sent = await child.socket.recv(64)
                except (OSError, trio.ClosedResourceError):
                    sent = b""
                if not sent:
                    await trio.sleep_forever()  # it is ending, and sends nothing more; its time to do so is as long
                is_traced = sent.endswith(_IS_TRACED)
                silent = 0
        scope.cancel()

    async def _replace_when_asked(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            try:
                for slot in self._slots:
                    async with slot.changing:
                        old, slot.child = slot.child, await self._start()
                    await old.tell(_RETIRE)
                    with trio.move_on_after(self._patience):
                        await old.process.wait()
                    await self._kill(old)
            except RuntimeError as exc:
                _log.error("%s; the present workers keep running", exc)

    async def _end(self, signals: AsyncIterator[int] | None) -> None:
        async with trio.open_nursery() as nursery:
            at_once = trio.CancelScope()
            nursery.start_soon(self._obey, signals, at_once)
            with at_once:
                async with trio.open_nursery() as ending:
                    for child in self._children:
                        ending.start_soon(child.end, self._patience)
            nursery.cancel_scope.cancel()


@contextmanager
def _signals() -> Generator[AsyncIterator[int] | None, None, None]:
    """Yield the signals for a supervisor; outside the main thread there are none, because Python delivers none there."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    with trio.open_signal_receiver(signal.SIGHUP, *_ENDING) as signals:
        yield signals


def _is_traced() -> bool:
    """Return whether a debugger, or another tool that may stop this thread, traces it."""
    if sys.gettrace() is not None:
        return True
    return sys.version_info >= (3, 12) and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID) is not None


async def work(
    control: socket.socket,
    serve: Callable[..., Awaitable[object]],
    retire: Callable[[], None],
    worker_timeout: float | None,
) -> None:
    """Run `serve` in a worker process until the supervisor or SIGTERM stops it, which cancels it.

    `control` is this process's end of the supervisor's socket. `retire` is called first if another worker takes over.
    """
    control.setblocking(False)
    supervisor = trio.socket.from_stdlib_socket(control)

    async def wait_for_signal(signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            nursery.cancel_scope.cancel()

    async def show_life() -> None:
        with suppress(OSError):  # the supervisor has died
            while True:
                await supervisor.send(_IS_TRACED if worker_timeout is None and _is_traced() else _IS_ALIVE)
                await trio.sleep((TIMEOUT if worker_timeout is None else worker_timeout) / _PARTS)

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as living:  # outlives `serve`, so that bytes are sent while it ends
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_signal, signals)
                await nursery.start(serve)
                with suppress(OSError):  # the supervisor has died
                    await supervisor.send(_IS_READY)
                    living.start_soon(show_life)
                    if await supervisor.recv(1) == _RETIRE:
                        retire()
                nursery.cancel_scope.cancel()
            living.cancel_scope.cancel()
