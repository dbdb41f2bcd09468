"""Connections to a Redis server: the only user of its client.

Rule 1: a connection is made when it is first needed, and made anew when it broke, after a pause that doubles.
Rule 2: every call has a limit: a server that does not answer is one that is not there.
Rule 3: a call whose answer was lost may have been carried out: `Lost` says so, and the caller knows what to do.
Rule 4: connections outlive a cancellation of whoever uses them, so that a last word can be said, and are then closed.
"""

from __future__ import annotations

import math
import random
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import trio
from anyio.abc import ByteStream
from coredis.connection import BaseConnection, TCPLocation
from coredis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from coredis.exceptions import ConnectionError as ClientConnectionError

from trioflow._core.crew import Crew, open_crew
from trioflow.redis.scripts import Keys, Script

CONNECTING: Final = 5.0  # seconds to connect and to be greeted in
PATIENCE: Final = 5.0  # seconds for an answer
PAUSES: Final = (0.02, 2.0)  # seconds before the second attempt to connect, and at most

_DEFAULT_PORT = 6379
_GONE = (
    ClientConnectionError,
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
    TryAgainError,
    OSError,
    EOFError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


class Lost(Exception):
    """There is no answer. What was asked may have been done."""


class Refused(Exception):
    """The server's answer is an error: `is_full` where it has no memory left, `is_unknown` where the group is gone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.is_full = "OOM" in reason or "maxmemory" in reason
        self.is_unknown = "NOGROUP" in reason or "No such key" in reason or "no such key" in reason


class Address(NamedTuple):
    """Where a server is, read from a URL."""

    host: str
    port: int
    path: str
    username: str | None
    password: str | None
    db: int
    is_secure: bool

    @classmethod
    def of(cls, url: object) -> Address:
        """Read `redis://[user:password@]host[:port][/db]`, the same with `rediss`, or `unix://path[?db=n]`.

        Raises:
            TypeError, ValueError: it is none.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str such as 'redis://127.0.0.1:6379', not {url!r}")
        parts = urlsplit(url)
        # Never the whole of it: it may hold a password.
        wish = f"url must be redis://host:port, rediss://host:port or unix:///path, not {parts.scheme or '...'}://..."
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(wish)
        if parts.scheme == "unix":
            db = parse_qs(parts.query).get("db", ["0"])[0]
        else:
            db = parts.path.strip("/") or "0"
        if not db.isdecimal() or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError(wish)
        return cls(
            parts.hostname or "",
            parts.port or _DEFAULT_PORT,
            unquote(parts.path) if parts.scheme == "unix" else "",
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            int(db),
            parts.scheme == "rediss",
        )

    async def connect(self) -> ByteStream:
        """Open a stream to it."""
        with trio.fail_after(CONNECTING):
            if self.path:
                return await anyio.connect_unix(self.path)
            if not self.is_secure:
                return await anyio.connect_tcp(self.host, self.port)
            secrets = ssl.create_default_context()
            return await anyio.connect_tcp(
                self.host, self.port, tls=True, ssl_context=secrets, tls_standard_compatible=False
            )

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class _Status:
    """What the client tells that it has been greeted."""

    def __init__(self, greet: Callable[[], None]) -> None:
        self._greet = greet

    def started(self, value: None = None) -> None:
        self._greet()


class _Connection(BaseConnection):
    """What speaks with the server over a stream that is open: so nothing is left of it where there is no server."""

    def __init__(self, address: Address, stream: ByteStream) -> None:
        super().__init__(
            TCPLocation(address.host, address.port),
            username=address.username,
            password=address.password,
            db=address.db,
        )
        self._opened = stream
        self.greeted = trio.Event()  # or found to be none
        self.failure: Exception | None = None

    async def keep(self) -> None:
        """Be connected, whoever is cancelled, until it breaks or is dropped."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CONNECTING) as scope:

            def greet() -> None:
                scope.deadline = math.inf
                self.greeted.set()

            try:
                await self.run(task_status=_Status(greet))
            except (RedisError, OSError) as exc:
                self.failure = exc
        if not self.greeted.is_set():
            self.failure = self.failure or TimeoutError("the server has not greeted in time")
            self.greeted.set()

    async def _connect(self) -> ByteStream:
        return self._opened

    def describe(self) -> str:
        return f"{self.location}"


class Line:
    """One connection at a time, to one server. Made by `open_lines`."""

    def __init__(self, address: Address, crew: Crew, patience: float) -> None:
        self.address = address
        self._crew = crew
        self._patience = patience
        self._connection: _Connection | None = None
        self._connecting = trio.Lock()
        self._is_closed = False
        self._failures = 0  # since the last answer
        self._failing_since = 0.0
        self.answered_at = trio.current_time()
        self.connections = 0

    async def call(self, *command: str | bytes | int, within: float = PATIENCE) -> Any:
        """Ask once.

        Raises:
            Lost: there is no connection, or it broke before the answer, or that took longer than `within` seconds.
            Refused: the server says so.
            trio.BrokenResourceError: the server has been out of reach for longer than the line's patience.
        """
        name, *args = command
        connection: _Connection | None = None
        try:
            connection = await self._connected()
            answer = await connection.create_request(
                str(name).encode(),
                *args,
                decode=False,
                timeout=within,
                disconnect_on_cancellation=True,
            )
        except NoScriptError:
            raise
        except AuthenticationError as exc:
            raise Refused(f"{exc}") from None
        except _GONE as exc:
            now = trio.current_time()
            if not self._failures:
                self._failing_since = now
            self._failures += 1
            if connection is not None and connection is self._connection:
                self.drop()  # and not what another task has made meanwhile
            if now - self._failing_since > self._patience:
                raise trio.BrokenResourceError(
                    f"no answer from the Redis server at {self.address} for {self._patience:g} s: {exc}"
                ) from None
            # The client raises one object in all tasks that wait for it, so that its traceback tells nothing.
            raise Lost(str(exc)) from None
        except RedisError as exc:
            self._failures = 0
            raise Refused(f"{type(exc).__name__}: {exc}") from None
        self._failures = 0
        self.answered_at = trio.current_time()
        return answer

    async def run(self, script: Script, keys: Keys, *args: str | bytes | int, within: float = PATIENCE) -> Any:
        """Run a script once, raising as `call` does."""
        rest = (len(keys.all), *keys.all, *args)
        try:
            return await self.call("EVALSHA", script.sha, *rest, within=within)
        except NoScriptError:
            return await self.call("EVAL", script.source, *rest, within=within)

    async def insist(self, script: Script, keys: Keys, *args: str | bytes | int) -> Any:
        """Run a script until there is an answer."""
        while True:
            try:
                return await self.run(script, keys, *args)
            except Lost:
                await self.pause()

    async def pause(self) -> None:
        """Wait before the next attempt; not at all after the first failure."""
        least, most = PAUSES
        doublings = min(self._failures - 2, 20)
        await trio.sleep(min(least * 2**doublings, most) * random.uniform(0.5, 1.0) if doublings >= 0 else 0)

    def drop(self) -> None:
        """Break the connection: the next call makes another."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection = None

    def close(self) -> None:
        """Break the connection for good."""
        self._is_closed = True
        self.drop()

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.greeted.is_set() and not self._connection.usable:
                self.drop()
            if self._connection is None:
                if self._is_closed:
                    raise ClientConnectionError("this line is closed")
                self._connection = _Connection(self.address, await self.address.connect())
                self._crew.start(self._connection.keep)
                self.connections += 1
            connection = self._connection  # who is cancelled now leaves it to the next one, or to `close`
            await connection.greeted.wait()
            if connection.failure is not None:
                self.drop()
                raise connection.failure
            return connection


@asynccontextmanager
async def open_lines(address: Address, count: int, patience: float) -> AsyncGenerator[Sequence[Line], None]:
    """Yield so many lines to a server, closed when the block is left."""
    async with open_crew() as crew:
        lines = [Line(address, crew, patience) for _ in range(count)]
        try:
            yield lines
        finally:
            for line in lines:
                line.close()
