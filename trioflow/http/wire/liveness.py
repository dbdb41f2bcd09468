"""Which connections have gone, and which have been idle for too long.

Rule 1: a reset connection, or one whose peer has vanished, is noticed while nobody reads from it or writes to it; so is
    the end of the client's direction, which a client sends when it leaves, and also one that waits for its answer.
Rule 2: one task watches all connections; an idle one costs nothing.
Rule 3: connections that wait for the same thing have the same time, so the one that became idle first is due first, and
    adding and removing one costs next to nothing: a deadline of Trio's own, moved twice for each request, took 5 of its
    60 µs.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Protocol

import trio


class Watched(Protocol):
    """A connection that is watched."""

    def client_left(self) -> None:
        """Note, once, that the connection is lost."""
        ...

    def client_ended(self) -> None:
        """Note, once, that the client has ended its direction."""
        ...


class Watch(Protocol):
    """Tells connections what becomes of their clients."""

    def add(self, sock: socket.socket, connection: Watched) -> None:
        """Tell `connection` what becomes of the client of `sock`."""
        ...

    def remove(self, sock: socket.socket) -> None:
        """Stop watching `sock`; call this before it is closed. Harmless when repeated."""
        ...

    async def run(self) -> None:
        """Watch until cancelled."""
        ...

    def close(self) -> None:
        """Release what the operating system holds for this."""
        ...


class EpollWatch:
    """Watches with an epoll of its own, on Linux: errors and hang-ups are reported at once, without being asked for."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def add(self, sock: socket.socket, connection: Watched) -> None:
        self._epoll.register(sock, select.EPOLLRDHUP)
        self._watched[sock.fileno()] = connection

    def remove(self, sock: socket.socket) -> None:
        if self._watched.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock)

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, events in self._epoll.poll(0):
                if events & (select.EPOLLERR | select.EPOLLHUP):
                    self._epoll.unregister(fd)
                    self._watched.pop(fd).client_left()
                else:
                    self._epoll.modify(fd, 0)
                    self._watched[fd].client_ended()

    def close(self) -> None:
        self._epoll.close()


class PollingWatch:
    """Asks each connection once in a while, where there is no epoll.

    Args:
        interval: Seconds between two rounds.
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._watched: dict[socket.socket, Watched] = {}
        self._ended: set[socket.socket] = set()

    def add(self, sock: socket.socket, connection: Watched) -> None:
        self._watched[sock] = connection

    def remove(self, sock: socket.socket) -> None:
        self._watched.pop(sock, None)
        self._ended.discard(sock)

    async def run(self) -> None:
        while True:
            await trio.sleep(self._interval)
            for sock, connection in list(self._watched.items()):
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.remove(sock)
                    connection.client_left()
                elif sock not in self._ended and _has_ended(sock):
                    self._ended.add(sock)
                    connection.client_ended()

    def close(self) -> None:
        self._watched.clear()


def _has_ended(sock: socket.socket) -> bool:
    """Return whether the client has ended its direction; that shows once all that it has sent was received."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:  # nothing has come, or the connection is lost
        return False


def open_watch() -> Watch:
    """Return the best watch that this system has."""
    return EpollWatch() if hasattr(select, "epoll") else PollingWatch()


class Idle(Protocol):
    """A connection that waits for its client, or an exchange whose client has ended its direction."""

    def expire(self) -> None:
        """End, after waiting for too long."""
        ...


class IdleConnections:
    """Connections that have been idle, the longest first; expires those that have been so for too long.

    Args:
        limit: How many seconds a connection may be idle.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[Idle, float] = {}  # in order
        self._now = trio.lowlevel.current_clock().current_time  # `trio.current_time` makes four calls of this one
        self._added = trio.Event()  # set when the first one is added

    def add(self, connection: Idle) -> None:
        """Let `connection` be idle from now on; it must not be already."""
        if not self._since:
            self._added.set()
        self._since[connection] = self._now()

    def remove(self, connection: Idle) -> None:
        """Stop the time of `connection`. Harmless when repeated."""
        self._since.pop(connection, None)

    def since(self, connection: Idle) -> float:
        """Return since when `connection` has been idle."""
        return self._since[connection]

    def by_age(self) -> Iterator[tuple[float, Idle]]:
        """Yield each connection after the time since when it has been idle, the longest first."""
        return ((since, connection) for connection, since in self._since.items())

    async def run(self) -> None:
        """Expire each connection that is due, until cancelled."""
        while True:
            if not self._since:
                self._added = trio.Event()
                await self._added.wait()
            while self._since:
                connection, since = next(iter(self._since.items()))
                if since + self._limit > self._now():
                    await trio.sleep_until(since + self._limit)
                else:
                    del self._since[connection]
                    connection.expire()
