"""Connections to a Redis server. No other module knows the client library.

Rule 1: a connection is made when it is first needed, and again after it broke, after a pause that doubles.
Rule 2: every call has a timeout, which includes connecting: a server that does not answer is treated as gone.
Rule 3: a call whose answer was lost may have been carried out: `Lost` says so, and the caller decides what to do. What
    an answer that is an error means is said in `answers`.
Rule 4: connections stay open when the block around them is cancelled, so that its last calls can be made; they are
    closed when it is left.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import trio

from trioflow._core.backoff import Backoff
from trioflow._core.block import block
from trioflow._core.crew import Crew, open_crew
from trioflow.redis.address import Address
from trioflow.redis.answers import ANSWERS, Later, Lost, NoLogin, Refused
from trioflow.redis.options import StreamOptions
from trioflow.redis.scripts import Keys, Script

try:
    import anyio
    from anyio.abc import ByteStream
    from coredis.connection import BaseConnection, TCPLocation
    from coredis.exceptions import ConnectionError as ClientConnectionError
    from coredis.exceptions import NoScriptError, RedisError, ResponseError
    from coredis.parser import Parser
except ImportError as exc:
    raise ImportError("trioflow.redis needs coredis: pip install 'trioflow[redis]'") from exc

ANSWER_TIMEOUT: Final = 5.0  # seconds, with the time to connect if there is no connection
HANDSHAKE_TIMEOUT: Final = 5.0  # seconds
ATTEMPTS: Final = 3  # to reach a server for the first time
RETRY_PAUSES: Final = (0.02, 2.0, 0.5)  # seconds: the first and the longest pause before connecting anew; their jitter
CHECK_INTERVAL: Final = 10.0  # seconds between two looks at whether the server evicts

# The library cuts off the first word of the errors that it has a class for.
_WORDS: Final[dict[type[Exception], str]] = {
    kind: word for word, kind in Parser.EXCEPTION_CLASSES.items() if isinstance(kind, type)
}
_FAILURES: Final = (RedisError, OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError)


async def _connect(address: Address, ssl_context: ssl.SSLContext | None) -> ByteStream:
    if address.path:
        return await anyio.connect_unix(address.path)
    if not address.is_secure:
        return await anyio.connect_tcp(address.host, address.port)
    return await anyio.connect_tcp(
        address.host,
        address.port,
        tls=True,
        ssl_context=ssl_context or ssl.create_default_context(),
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
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HANDSHAKE_TIMEOUT) as self._handshake:
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
        self._ssl_context = options.ssl_context
        self._patience = options.patience
        self._crew = crew
        self._connection: _Connection | None = None
        self._connecting = trio.Lock()
        self._is_closed = False
        self._backoff = Backoff(*RETRY_PAUSES)
        self._failing_since = math.inf
        self.answered_at = trio.current_time()
        self.connections = 0  # made so far

    async def call(self, *command: str | bytes | int, within: float = ANSWER_TIMEOUT) -> Any:
        """Send a command once and return the answer.

        Raises:
            Lost: there was no answer within `within` seconds, or no connection.
            Later, NoGroup, Refused: the server answered with an error.
            StreamLost: the server has lost entries of the stream.
            trio.BrokenResourceError: the server has been out of reach for longer than `patience`.
        """
        name, *args = command
        connection: _Connection | None = None
        try:
            with trio.move_on_after(within):
                connection = await self._connected()
                request = connection.create_request(
                    str(name).encode(), *args, decode=False, disconnect_on_cancellation=True
                )
                answer = await request
                self._is_answered()
                self.answered_at = trio.current_time()
                return answer
            raise TimeoutError(f"no answer within {within:g} s")
        except NoScriptError:
            raise
        except _FAILURES as exc:
            # The library raises one object in every task that waits for it, so the tracebacks in it are mixed up.
            raise self._failure(exc, connection) from None

    def _is_answered(self) -> None:
        self._backoff.reset()
        self._failing_since = math.inf

    def _failure(self, exc: Exception, connection: _Connection | None) -> Exception:
        """Return what to raise for a call that has failed with `exc`."""
        word = _WORDS.get(type(exc)) or (str(exc).partition(" ")[0] if isinstance(exc, ResponseError) else "")
        kind = ANSWERS.get(word, Refused) if word else Lost
        reason = str(exc) if str(exc).startswith(word) else f"{word} {exc}"
        if not issubclass(kind, Lost):
            self._is_answered()
            return kind(reason)
        now = trio.current_time()
        self._failing_since = min(self._failing_since, now)
        if connection is not None and connection is self._connection:  # another task may have replaced it
            self.drop()
        if now - self._failing_since > self._patience:
            return trio.BrokenResourceError(
                f"no answer from the Redis server at {self.address} for {self._patience:g} s: {reason}"
            )
        return kind(reason, self._backoff.pause())

    async def run(self, script: Script, *args: str | bytes | int, within: float = ANSWER_TIMEOUT) -> Any:
        """Run a script once and return its result, raising as `call` does."""
        rest = (len(self.keys.all), *self.keys.all, *args)
        try:
            return await self.call("EVALSHA", script.sha, *rest, within=within)
        except NoScriptError:
            return await self.call("EVAL", script.source, *rest, within=within)

    async def run_until_done(self, script: Script, *args: str | bytes | int) -> Any:
        """Run a script again until it is carried out.

        Raises:
            Refused, StreamLost, trio.BrokenResourceError: as for `call`.
        """
        while True:
            try:
                return await self.run(script, *args)
            except Later as exc:
                await trio.sleep(exc.pause)

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
                self._connection = _Connection(self.address, await _connect(self.address, self._ssl_context))
                self._crew.start(self._connection.serve)
                self.connections += 1
            connection = self._connection  # a caller cancelled while it waits leaves it to the next call, or to `close`
            await connection.tried.wait()
            if connection.failure is not None:
                self.drop()
                raise connection.failure
            return connection


@block
async def open_clients(options: StreamOptions, count: int) -> AsyncGenerator[Sequence[Client], None]:
    """Connect `count` clients to the server beside a block, and close them when the block is left.

    Raises:
        OSError: there is no server, or it refuses the connection, or it evicts keys when it is full.
    """
    async with open_crew() as crew:
        clients = [Client(options, crew) for _ in range(count)]
        try:
            await _check_server(clients[0])
            crew.start(_keep_checking, clients[0])
            yield clients
            crew.cancel()
        finally:
            for client in clients:
                client.close()


async def _check_server(client: Client) -> None:
    """Raise, rather than retry for ever, if no server answers at this address or if it would not keep the entries."""
    attempts = ATTEMPTS
    while True:
        try:
            if complaint := await _eviction(client):
                raise OSError(complaint)
            return
        except (NoLogin, Refused) as exc:
            raise OSError(f"the Redis server at {client.address} refuses: {exc}") from None
        except (Later, trio.BrokenResourceError) as exc:
            if not isinstance(exc, Later) or isinstance(exc, Lost):
                attempts -= 1
            if not attempts:
                raise OSError(f"no Redis server at {client.address}: {exc}") from None
            await trio.sleep(exc.pause if isinstance(exc, Later) else RETRY_PAUSES[0])


async def _keep_checking(client: Client) -> None:
    """Raise when the server begins to evict. If it is out of reach, other calls raise that."""
    pause = CHECK_INTERVAL
    while True:
        await trio.sleep(pause)
        try:
            complaint, pause = await _eviction(client), CHECK_INTERVAL
        except Later as exc:
            pause = exc.pause
        except (Refused, trio.BrokenResourceError):
            pause = RETRY_PAUSES[1]
        else:
            if complaint:
                raise trio.BrokenResourceError(complaint)


async def _eviction(client: Client) -> str:
    """Return what is wrong if the server evicts keys when it is full, else nothing."""
    info = bytes(await client.call("INFO", "memory"))
    settings = dict(pair.split(b":", 1) for pair in info.split() if b":" in pair)
    policy = settings.get(b"maxmemory_policy", b"").decode()
    if settings.get(b"maxmemory") == b"0" or not policy.startswith("allkeys"):
        return ""
    return (
        f"the Redis server at {client.address} evicts entries when it is full: "
        f"its maxmemory-policy must be noeviction, not {policy}"
    )
