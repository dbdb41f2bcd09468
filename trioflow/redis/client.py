"""Connections to a Redis server. No other module knows the client library.

Rule 1: a connection is made when it is first needed, and again after it broke, after a pause that doubles.
Rule 2: every call has a timeout: a server that does not answer is treated as gone.
Rule 3: a call whose answer was lost may have been carried out: `Lost` says so, and the caller decides what to do.
Rule 4: connections stay open when the block around them is cancelled, so that its last calls can be made; they are
    closed when it is left.
"""

from __future__ import annotations

import math
import random
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trioflow._core.crew import Crew, open_crew
from trioflow.redis.options import Address, StreamOptions
from trioflow.redis.scripts import Keys, Script

try:
    import anyio
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
except ImportError as exc:
    raise ImportError("trioflow.redis needs coredis: pip install 'trioflow[redis]'") from exc

CONNECT_TIMEOUT: Final = 5.0  # seconds to connect, and again for the handshake
ANSWER_TIMEOUT: Final = 5.0  # seconds
ATTEMPTS: Final = 3  # to reach a server for the first time
RETRY_PAUSES: Final = (0.02, 2.0)  # seconds: the first pause between two attempts to connect, and the longest
FULL_PAUSE: Final = 0.25  # seconds before the next attempt when the server is out of memory

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
    """There was no answer. The call may have been carried out."""


class Refused(Exception):
    """The server answered with an error: `is_full` if it is out of memory, `is_unknown` if the group does not exist."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.is_full = "OOM" in reason or "maxmemory" in reason
        self.is_unknown = "NOGROUP" in reason or "No such key" in reason or "no such key" in reason


async def _connect(address: Address) -> ByteStream:
    with trio.fail_after(CONNECT_TIMEOUT):
        if address.path:
            return await anyio.connect_unix(address.path)
        if not address.is_secure:
            return await anyio.connect_tcp(address.host, address.port)
        return await anyio.connect_tcp(
            address.host,
            address.port,
            tls=True,
            ssl_context=ssl.create_default_context(),
            tls_standard_compatible=False,
        )


class _Connection(BaseConnection):
    """The client library's connection over a stream that is already open.

    The library closes its internal buffers only once its stream has opened. So the stream is opened first, and where
    there is no server no buffer is left unclosed, which Python would warn of.
    """

    def __init__(self, address: Address, stream: ByteStream) -> None:
        super().__init__(
            TCPLocation(address.host, address.port),
            username=address.username,
            password=address.password,
            db=address.db,
        )
        self._opened = stream
        self.tried = trio.Event()  # the handshake has succeeded, or failed with `failure`
        self.failure: Exception | None = None

    async def serve(self) -> None:
        """Stay connected until the connection breaks or is dropped, even if the caller is cancelled."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CONNECT_TIMEOUT) as self._handshake:
            try:
                await self.run(task_status=self)
            except (RedisError, OSError) as exc:
                self.failure = exc
        if not self.tried.is_set():
            self.failure = self.failure or TimeoutError("the server did not complete the handshake in time")
            self.tried.set()

    def started(self, value: None = None) -> None:
        """Note that the handshake has succeeded; the library calls this."""
        self._handshake.deadline = math.inf
        self.tried.set()

    async def _connect(self) -> ByteStream:
        return self._opened

    def describe(self) -> str:
        return f"{self.location}"


class Client:
    """One connection at a time to the server of one stream, replaced when it breaks. Made by `open_clients`."""

    def __init__(self, options: StreamOptions, crew: Crew) -> None:
        self.address = options.address
        self.keys = Keys(options.name)
        self._patience = options.patience
        self._crew = crew
        self._connection: _Connection | None = None
        self._connecting = trio.Lock()
        self._is_closed = False
        self._failures = 0  # since the last answer
        self._failing_since = 0.0
        self.answered_at = trio.current_time()
        self.connections = 0  # made so far

    async def call(self, *command: str | bytes | int, within: float = ANSWER_TIMEOUT) -> Any:
        """Send a command once and return the answer.

        Raises:
            Lost: there is no connection, or it broke before the answer, or the answer took longer than `within` seconds.
            Refused: the server answered with an error.
            trio.BrokenResourceError: the server has been out of reach for longer than `patience`.
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
            if connection is not None and connection is self._connection:  # another task may have replaced it
                self.drop()
            if now - self._failing_since > self._patience:
                raise trio.BrokenResourceError(
                    f"no answer from the Redis server at {self.address} for {self._patience:g} s: {exc}"
                ) from None
            # The library raises one object in every task that waits for it, so the tracebacks in it are mixed up.
            raise Lost(str(exc)) from None
        except RedisError as exc:
            self._failures = 0
            raise Refused(f"{type(exc).__name__}: {exc}") from None
        self._failures = 0
        self.answered_at = trio.current_time()
        return answer

    async def run(self, script: Script, *args: str | bytes | int, within: float = ANSWER_TIMEOUT) -> Any:
        """Run a script once and return its result, raising as `call` does."""
        rest = (len(self.keys.all), *self.keys.all, *args)
        try:
            return await self.call("EVALSHA", script.sha, *rest, within=within)
        except NoScriptError:
            return await self.call("EVAL", script.source, *rest, within=within)

    async def run_until_done(self, script: Script, *args: str | bytes | int) -> Any:
        """Run a script again until there is an answer, and while the server is out of memory.

        Raises:
            Refused: the server answered with another error.
            trio.BrokenResourceError: as for `call`.
        """
        while True:
            try:
                return await self.run(script, *args)
            except Lost:
                await self.pause()
            except Refused as exc:
                if not exc.is_full:
                    raise
                await trio.sleep(FULL_PAUSE)

    async def pause(self) -> None:
        """Sleep before the next attempt, with jitter; not at all after the first failure."""
        first, longest = RETRY_PAUSES
        doublings = min(self._failures - 2, 20)
        await trio.sleep(min(first * 2**doublings, longest) * random.uniform(0.5, 1.0) if doublings >= 0 else 0)

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
            if self._connection is not None and self._connection.tried.is_set() and not self._connection.usable:
                self.drop()
            if self._connection is None:
                if self._is_closed:
                    raise ClientConnectionError("this client is closed")
                self._connection = _Connection(self.address, await _connect(self.address))
                self._crew.start(self._connection.serve)
                self.connections += 1
            connection = self._connection  # a caller cancelled while it waits leaves it to the next call, or to `close`
            await connection.tried.wait()
            if connection.failure is not None:
                self.drop()
                raise connection.failure
            return connection


@asynccontextmanager
async def open_clients(options: StreamOptions, count: int) -> AsyncGenerator[Sequence[Client], None]:
    """Connect `count` clients to the server beside a block, and close them when the block is left.

    Raises:
        OSError: there is no server, or it refuses the connection, or it evicts keys when it is full.
    """
    async with open_crew() as crew:
        clients = [Client(options, crew) for _ in range(count)]
        try:
            await _check_server(clients[0])
            yield clients
        finally:
            for client in clients:
                client.close()


async def _check_server(client: Client) -> None:
    """Raise, rather than retry for ever, if no server answers at this address or if it would not keep the entries."""
    settings = await _memory_settings(client)
    policy = settings.get(b"maxmemory_policy", b"").decode()
    if settings.get(b"maxmemory") != b"0" and policy.startswith("allkeys"):
        raise OSError(
            f"the Redis server at {client.address} evicts entries when it is full: "
            f"its maxmemory-policy must be noeviction, not {policy}"
        )


async def _memory_settings(client: Client) -> dict[bytes, bytes]:
    attempts = ATTEMPTS
    while True:
        try:
            info = bytes(await client.call("INFO", "memory"))
        except (Lost, trio.BrokenResourceError) as exc:
            attempts -= 1
            if not attempts:
                raise OSError(f"no Redis server at {client.address}: {exc}") from None
            await client.pause()
        except Refused as exc:
            raise OSError(f"the Redis server at {client.address} refuses: {exc}") from None
        else:
            return dict(pair.split(b":", 1) for pair in info.split() if b":" in pair)
