"""Connections to a Redis server. No other module knows the client library.

Rule 1: a connection is made when it is first needed, and again after it broke, after a pause that doubles.
Rule 2: every call has a timeout, which includes connecting: a server that does not answer is treated as gone.
Rule 3: a call whose answer was lost may have been carried out: `Lost` says so, and the caller decides what to do. What
    an answer that is an error means is said in `answers`.
Rule 4: connections stay open when the block around them is cancelled, so that its last calls can be made; they are
    closed when it is left.
Rule 5: where the server is now is asked before each connection: of a plain address, the answer is always the same; a
    sentinel names the master, and a node of a cluster the node that has the stream.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import trio

from trioflow._core.backoff import Backoff
from trioflow._core.block import block
from trioflow._core.crew import Crew, open_crew
from trioflow.redis.address import Address, Place
from trioflow.redis.answers import ANSWERS, Later, Lost, MaybeMoved, NoLogin, Refused
from trioflow.redis.options import StreamOptions
from trioflow.redis.scripts import Keys, Script

try:
    import anyio
    from anyio.abc import ByteStream
    from coredis.connection import BaseConnection, TCPLocation
    from coredis.exceptions import AuthenticationRequiredError, MovedError, NoScriptError, RedisError, ResponseError
    from coredis.exceptions import ConnectionError as ClientConnectionError
    from coredis.parser import Parser
except ImportError as exc:
    raise ImportError("trioflow.redis needs coredis: pip install 'trioflow[redis]'") from exc

ANSWER_TIMEOUT: Final = 5.0  # seconds, with the time to connect if there is no connection
HANDSHAKE_TIMEOUT: Final = 5.0  # seconds
SENTINEL_TIMEOUT: Final = 1.0  # seconds; then the next sentinel is asked
REPLICAS_TIMEOUT: Final = 1.0  # seconds for replicas to confirm a write; then it is written again
ATTEMPTS: Final = 3  # to reach a server for the first time
RETRY_PAUSES: Final = (0.02, 2.0, 0.5)  # seconds: the first and the longest pause before connecting anew; their jitter
CHECK_INTERVAL: Final = 10.0  # seconds between two looks at whether the server evicts

# The library cuts off the first word of the errors that it has a class for.
_WORDS: Final[dict[type[Exception], str]] = {
    kind: word for word, kind in Parser.EXCEPTION_CLASSES.items() if isinstance(kind, type)
}
_FAILURES: Final = (RedisError, OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError)


async def _connect(address: Address, place: Place, ssl_context: ssl.SSLContext | None) -> ByteStream:
    if address.path:
        return await anyio.connect_unix(address.path)
    if not address.is_secure:
        return await anyio.connect_tcp(*place)
    return await anyio.connect_tcp(
        *place,
        tls=True,
        ssl_context=ssl_context or ssl.create_default_context(),
        tls_standard_compatible=False,
    )


class _Connection(BaseConnection):
    """The client library's connection over a stream that is already open.

    The library closes its internal buffers only once its stream has opened. So the stream is opened first, and where
    there is no server no buffer is left unclosed, which Python would warn of.
    """

    def __init__(self, address: Address, place: Place, stream: ByteStream) -> None:
        super().__init__(
            TCPLocation(*place),
            username=address.username,
            password=address.password,
            db=address.db,
        )
        self.place = place
        self._opened = stream
        if address.service:
            self.register_connect_callback(_Connection._check_role)
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

    async def _check_role(self) -> None:
        """Raise if this is not the master: a sentinel may be late to notice a failover."""
        role: Any = await self.create_request(b"ROLE", decode=False)
        if role[0] != b"master":
            raise ClientConnectionError(f"a sentinel names {self.location}, which is not the master")

    def describe(self) -> str:
        return f"{self.location}"


class Client:
    """One connection at a time to the server of one stream, replaced when it breaks. Made by `open_clients`."""

    def __init__(self, options: StreamOptions, crew: Crew) -> None:
        self.address = options.address
        self.keys = Keys(options.name)
        self._ssl_context = options.ssl_context
        self._patience = options.patience
        self._wait_replicas = options.wait_replicas
        self._places = deque(self.address.places)  # the next one to ask comes first
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
        is_current = connection is self._connection  # another task may have replaced it
        if not issubclass(kind, Lost):
            self._is_answered()
            if kind is MaybeMoved and is_current:
                self._look_elsewhere()
            return kind(reason)
        now = trio.current_time()
        self._failing_since = min(self._failing_since, now)
        if is_current:
            self.drop()
            self._places.rotate(-1)
            if connection is not None and isinstance(exc, MovedError):
                node = exc.host or connection.place[0], exc.port
                self._places = deque(dict.fromkeys([node, *self.address.places]))
        if now - self._failing_since > self._patience:
            return trio.BrokenResourceError(
                f"no answer from the Redis server at {self.address} for {self._patience:g} s: {reason}"
            )
        return kind(reason, self._backoff.pause())

    async def run(self, script: Script, *args: str | bytes | int, within: float = ANSWER_TIMEOUT) -> Any:
        """Run a script once and return its result, raising as `call` does.

        With `wait_replicas`, this raises `Lost` if too few replicas have confirmed within a second what was written. A
        script that is then run again must write again: only for what this connection has written is waited.
        """
        until = trio.current_time() + within
        rest = (len(self.keys.all), *self.keys.all, *args)
        try:
            answer = await self.call("EVALSHA", script.sha, *rest, within=within)
        except NoScriptError:
            answer = await self.call("EVAL", script.source, *rest, within=within)
        if self._wait_replicas:
            await self._confirm(until - trio.current_time())
        return answer

    async def _confirm(self, within: float) -> None:
        """Wait until enough replicas have what was written, or ask where the server is: this may not be the master now."""
        connections = self.connections
        try:
            confirmed = await self.call("WAIT", self._wait_replicas, int(REPLICAS_TIMEOUT * 1000), within=within)
        except Refused as exc:
            if "replica" not in str(exc):
                raise
            confirmed = 0  # it was made a replica itself
        if self.connections != connections:
            confirmed = 0  # by the server before this one, or not even that
        if confirmed < self._wait_replicas:
            self._look_elsewhere()
            raise Lost(f"{confirmed} of {self._wait_replicas} replicas have what was written", self._backoff.pause())

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

    def _look_elsewhere(self) -> None:
        """Break the connection, if another server could take the place of this one."""
        if self.address.service or len(self._places) > 1:
            self.drop()
            self._places.rotate(-1)

    def close(self) -> None:
        """Break the connection for good."""
        self._is_closed = True
        self.drop()

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None and not self._connection.usable:
                self.drop()
            if self._connection is None:
                if self._is_closed:
                    raise ClientConnectionError("this client is closed")
                self._connection = await self._open(self.address, await self._where())
                self.connections += 1
            return self._connection

    async def _open(self, address: Address, place: Place) -> _Connection:
        """Return a connection whose handshake has succeeded."""
        connection = _Connection(address, place, await _connect(address, place, self._ssl_context))
        self._crew.start(connection.serve)
        try:
            await connection.tried.wait()
            if connection.failure is not None:
                raise connection.failure
        except BaseException:
            connection.invalidate()
            raise
        return connection

    async def _where(self) -> Place:
        """Return where the server is now; of a service, the master that the first sentinel names that answers."""
        if not self.address.service:
            return self._places[0]
        reasons = []
        for host, port in tuple(self._places):
            try:
                with trio.move_on_after(SENTINEL_TIMEOUT):
                    return await self._named_by((host, port))
                reasons.append(f"{host}:{port} is silent")
            except _FAILURES as exc:
                reasons.append(f"{host}:{port}: {exc}")
            self._places.rotate(-1)
        raise ClientConnectionError("; ".join(reasons))

    async def _named_by(self, sentinel: Place) -> Place:
        """Ask a sentinel where the master is. It is told the password only if it wants one."""
        address = self.address._replace(service="", db=0)
        try:
            connection = await self._open(address._replace(username=None, password=None), sentinel)
        except AuthenticationRequiredError:
            connection = await self._open(address, sentinel)
        try:
            question = b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.address.service
            found: Any = await connection.create_request(*question, decode=False)
        finally:
            connection.invalidate()
        if not found:
            raise ClientConnectionError(f"no master is called {self.address.service!r}")
        return found[0].decode(), int(found[1])


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
