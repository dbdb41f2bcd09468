"""Limits how many connections a server has, and chooses which one to close for a new one.

A connection is at rest while its client is owed nothing: it has sent no complete request that is still unanswered.

Rule 1: a connection at rest never keeps a new one out: at a limit, the one that has been at rest longest is closed.
Rule 2: each worker process has its own limit of connections, and closes its own; the connections of one client are
    counted in all worker processes together.
"""

from __future__ import annotations

import heapq
import logging
import math
import socket
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, cast

import trio

from trioflow.http._connection import Connection
from trioflow.http._service import Service

_INTERVAL: Final = 60.0  # seconds between two messages about the same thing
_log: Final = logging.getLogger("trioflow.http")


class Repeated:
    """Logs an event that may happen many times a second: at first, and then at most once a minute, with a count."""

    def __init__(self, level: int, message: str) -> None:
        self._level = level
        self._message = message
        self._count = 0
        self._due = -math.inf

    def __call__(self, *arguments: object) -> None:
        """Log the message with `arguments`, or only count it if it was logged less than a minute ago."""
        self._count += 1
        now = trio.current_time()
        if now >= self._due:
            times = f"; {self._count} times since this was last logged" if self._count > 1 else ""
            _log.log(self._level, self._message + "%s", *arguments, times)
            self._due = now + _INTERVAL
            self._count = 0


class Admission:
    """The open connections of one server."""

    def __init__(self, service: Service) -> None:
        self.connections: set[Connection] = set()
        self._service = service
        self._limits = service.limits
        self._tally = service.tally
        self._by_origin: dict[bytes, set[Connection]] = {}
        self._left = trio.Event()  # set, and replaced, when a connection has ended
        self._log_full = Repeated(logging.WARNING, "%d connections are open: closing one at rest for each new one")
        self._log_refused = Repeated(logging.WARNING, "refused a connection from %s, which already has %d in use")

    async def wait_for_room(self) -> float:
        """Wait for room for a connection, closing one at rest if needed; return how many more may be opened."""
        while (room := self._limits.connections - len(self.connections)) < 1:
            if self.end_one_at_rest():
                self._log_full(len(self.connections))
            await self.wait_for_an_end()
        return room

    def end_one_at_rest(self) -> bool:
        """Close the connection that has been at rest longest; return whether there was one."""
        by_age = heapq.merge(*(idle.by_age() for idle in self._service.at_rest), key=itemgetter(0))
        return _end_first(cast(Connection, connection) for _, connection in by_age)

    def admit(self, sock: socket.socket, client: Any) -> Connection | None:
        """Return the new connection over `sock`; if its client has too many in use, close `sock` and return None."""
        connection = Connection(sock, client, self._service)
        if (origin := connection.origin) is not None:
            siblings = self._by_origin.get(origin, set())
            count = len(siblings) if self._tally is None else self._tally.count(origin)
            is_full = count >= self._limits.per_client
            if is_full and not _end_first(sorted(siblings, key=Connection.at_rest_since)):
                self._log_refused(client[0], count)
                sock.close()
                return None
            self._by_origin.setdefault(origin, siblings).add(connection)
            if self._tally is not None:
                self._tally.add(origin, 1)
        self.connections.add(connection)
        self._service.counters.connections += 1
        self._service.counters.open += 1
        return connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        self._service.counters.open -= 1
        if (origin := connection.origin) is not None:
            siblings = self._by_origin[origin]
            siblings.discard(connection)
            if not siblings:
                del self._by_origin[origin]
            if self._tally is not None:
                self._tally.add(origin, -1)
        self._left.set()
        self._left = trio.Event()

    async def wait_for_an_end(self) -> None:
        """Wait until a connection has ended."""
        await self._left.wait()


def _end_first(connections: Iterable[Connection]) -> bool:
    """Close the first of `connections` that can be closed; return whether there was one."""
    return any(connection.leave() for connection in connections)
