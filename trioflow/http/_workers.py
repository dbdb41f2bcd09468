"""Worker processes that serve the same listening sockets, and the supervisor that keeps them at work.

Rule 1: the sockets are opened once and inherited: while one worker remains, or is about to come, no client is refused.
Rule 2: a worker that has ended is replaced after a pause, which grows while they end soon.
Rule 3: a worker is told by its socket: a byte to retire, the end to stop. So it stops, too, when the supervisor dies.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from trioflow.io.worker_process import Child, start_child, told_end

READY: Final = 30.0  # seconds in which a worker must be ready
FIRST_PAUSE: Final = 0.1  # seconds before a worker is replaced that has ended
LONGEST_PAUSE: Final = 10.0
MARGIN: Final = 5.0  # seconds beyond its time of grace that a worker may take to end
LAST_WORDS: Final = 1.0  # seconds in which a process that has closed its socket may end
_IS_READY: Final = b"r"
_RETIRE: Final = b"h"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_log: Final = logging.getLogger("trioflow.http")


class _Place:
    """Where one worker works, and after it another."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.changing = trio.Lock()


class Supervisor:
    """Keeps worker processes at work.

    Args:
        target: What each calls with its end of a socket, pickled; it calls `attend`.
        listeners: The numbers of the sockets that they inherit.
        count: How many there are.
        grace: Seconds that each may take to end what it is doing.
    """

    def __init__(self, target: bytes, listeners: Sequence[int], count: int, grace: float) -> None:
        self._target = target
        self._listeners = listeners
        self._count = count
        self._patience = min(grace + MARGIN, 1e6)
        self._children: set[Child] = set()
        self._places: list[_Place] = []
        self._asked = trio.Event()  # to replace all

    async def run(self, is_ready: Callable[[], None], close: Callable[[], None]) -> None:
        """Keep them at work until cancelled, or until a signal has ended them.

        Args:
            is_ready: Called when all are.
            close: Called when no more connections are to come.
        """
        with _signals() as signals:
            try:
                async with trio.open_nursery() as nursery:
                    await self._fill()  # the first alone: what is wrong with all is told once
                    async with trio.open_nursery() as starting:
                        for _ in range(1, self._count):
                            starting.start_soon(self._fill)
                    for place in self._places:
                        nursery.start_soon(self._keep, place)
                    nursery.start_soon(self._replace_when_asked)
                    is_ready()
                    async for number in signals:
                        if number in _ENDING:
                            break
                        self._asked.set()
                    nursery.cancel_scope.cancel()
            finally:
                close()
                with trio.CancelScope(shield=True):
                    await self._end(signals)

    async def _fill(self) -> None:
        self._places.append(_Place(await self._start()))

    async def _start(self) -> Child:
        child = await start_child("run", self._target, patience=self._patience, listeners=self._listeners)
        self._children.add(child)
        with trio.move_on_after(READY):
            try:
                if await child.socket.recv(1) == _IS_READY:
                    return child
            except OSError:
                pass
            with trio.move_on_after(LAST_WORDS):
                await child.process.wait()
        status = child.process.returncode
        await self._bury(child, 0)
        how = f"was not ready within {READY:g} seconds" if status is None else f"{told_end(status)} before it was ready"
        raise RuntimeError(f"worker process {child.process.pid} {how}")

    async def _bury(self, child: Child, patience: float) -> None:
        await child.end(patience)
        self._children.discard(child)

    async def _keep(self, place: _Place) -> None:
        pause = FIRST_PAUSE
        while True:
            child, began = place.child, trio.current_time()
            status = await child.process.wait()
            async with place.changing:
                if place.child is not child:
                    continue
                await self._bury(child, 0)
                if trio.current_time() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                failure = f"worker process {child.process.pid} {told_end(status)}"
                while place.child is child:
                    _log.error("%s; starting another in %g seconds", failure, pause)
                    await trio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    try:
                        place.child = await self._start()
                    except RuntimeError as exc:
                        failure = str(exc)

    async def _replace_when_asked(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            try:
                for place in self._places:
                    async with place.changing:
                        old, place.child = place.child, await self._start()
                    await old.tell(_RETIRE)
                    with trio.move_on_after(self._patience):
                        await old.process.wait()
                    await self._bury(old, 0)
            except RuntimeError as exc:
                _log.error("%s; the workers that are there go on", exc)

    async def _end(self, signals: AsyncIterator[int]) -> None:
        async with trio.open_nursery() as nursery:
            at_once = trio.CancelScope()
            nursery.start_soon(_cancel_at_next, signals, at_once)
            with at_once:
                async with trio.open_nursery() as ending:
                    for child in self._children:
                        ending.start_soon(child.end, self._patience)
            nursery.cancel_scope.cancel()


async def _cancel_at_next(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        if number in _ENDING:
            scope.cancel()


@contextmanager
def _signals() -> Generator[AsyncIterator[int], None, None]:
    """Give the signals for a supervisor; none where it does not run in the main thread, to which they come."""
    if threading.current_thread() is not threading.main_thread():
        yield _Silence()
        return
    with trio.open_signal_receiver(signal.SIGHUP, *_ENDING) as signals:
        yield signals


class _Silence:
    def __aiter__(self) -> _Silence:
        return self

    async def __anext__(self) -> int:
        await trio.sleep_forever()


def _pass_over(*_: object) -> None: ...


async def attend(control: socket.socket, serve: Callable[..., Awaitable[object]], retire: Callable[[], None]) -> None:
    """Be a worker: run `serve` until the supervisor, or SIGTERM, says that it is enough.

    Args:
        control: Our end of the supervisor's socket.
        serve: Told to end by a cancellation.
        retire: Called before, where there is another worker to take over.
    """
    signal.signal(signal.SIGHUP, _pass_over)  # a terminal sends it to all; it is the supervisor's
    control.setblocking(False)
    told = trio.socket.from_stdlib_socket(control)

    async def wait_for_signal(signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_signal, signals)
            await nursery.start(serve)
            try:
                await told.send(_IS_READY)
                if await told.recv(1) == _RETIRE:
                    retire()
            except OSError:
                pass  # the supervisor has died
            nursery.cancel_scope.cancel()
