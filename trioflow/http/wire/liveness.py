"""Who has gone: told of a reset connection while nobody reads from it or writes to it.

Rule 1: a client that only ended its own direction is still there; only a reset, or a vanished peer, is a loss.
Rule 2: one task watches all connections; a connection that rests costs nothing.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Protocol

import trio


class Watch(Protocol):
    """Calls back when a connection is lost."""

    def add(self, sock: socket.socket, lost: Callable[[], None]) -> None:
        """Call `lost`, once, when `sock`'s connection is lost."""
        ...

    def remove(self, sock: socket.socket) -> None:
        """Forget `sock`; before it is closed. Harmless when repeated."""
        ...

    async def run(self) -> None:
        """Watch until cancelled."""
        ...

    def close(self) -> None:
        """Give back what the system lent."""
        ...


class EpollWatch:
    """Linux tells at once, by an epoll of its own that asks for nothing: errors and hang-ups come unasked."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lost: dict[int, Callable[[], None]] = {}

    def add(self, sock: socket.socket, lost: Callable[[], None]) -> None:
        self._epoll.register(sock, 0)
        self._lost[sock.fileno()] = lost

    def remove(self, sock: socket.socket) -> None:
        if self._lost.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock)

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                self._epoll.unregister(fd)
                self._lost.pop(fd)()

    def close(self) -> None:
        self._epoll.close()


class PollingWatch:
    """Where there is no epoll, each connection is asked once in a while.

    Args:
        interval: Seconds between two rounds.
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._lost: dict[socket.socket, Callable[[], None]] = {}

    def add(self, sock: socket.socket, lost: Callable[[], None]) -> None:
        self._lost[sock] = lost

    def remove(self, sock: socket.socket) -> None:
        self._lost.pop(sock, None)

    async def run(self) -> None:
        while True:
            await trio.sleep(self._interval)
            for sock in [sock for sock in self._lost if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]:
                self._lost.pop(sock)()

    def close(self) -> None:
        self._lost.clear()


def open_watch() -> Watch:
    """Make the best one there is."""
    return EpollWatch() if hasattr(select, "epoll") else PollingWatch()
