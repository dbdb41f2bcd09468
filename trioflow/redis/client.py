"""Clients of a Redis server, each with one connection at a time.

Rule 1: a connection is made when it is first needed, and again after it broke, after a pause that doubles.
Rule 2: every call has a timeout, which includes connecting: a server that does not answer is treated as gone.
Rule 3: a call whose answer was lost may have been carried out: `Lost` says so, and the caller decides what to do. The
    meaning of error answers is in `answers`.
Rule 4: connections stay open when the block around them is cancelled, so that its last calls can be made; they are
    closed when the block is left.
Rule 5: the server's address is looked up before each connection: a plain address is always the same, a sentinel names
    the master, and a node of a cluster names the node that has the stream.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import trio

from trioflow._core.backoff import Backoff
from trioflow._core.block import block
from trioflow._core.crew import Crew
from trioflow.redis.address import Place
from trioflow.redis.answers import ANSWERS, Later, Lost, MaybeMoved, NoLogin, NoScript, Refused
from trioflow.redis.connection import Connection, ErrorAnswer, encoded, open_connection
from trioflow.redis.connection import command as encode
from trioflow.redis.options import StreamOptions
from trioflow.redis.scripts import Keys, Script

ANSWER_TIMEOUT: Final = 5.0  # seconds, including the time to connect if there is no connection
SENTINEL_TIMEOUT: Final = 1.0  # seconds; then the next sentinel is asked
REPLICAS_TIMEOUT: Final = 1.0  # seconds for replicas to confirm a write; then it is written again
ATTEMPTS: Final = 3  # to reach a server for the first time
FIRST_PAUSE: Final = 0.02  # seconds before reconnecting; doubled each time
LONGEST_PAUSE: Final = 2.0
JITTER: Final = 0.5
CHECK_INTERVAL: Final = 10.0  # seconds between two checks whether the server evicts keys

_FAILURES: Final = (ErrorAnswer, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Client:
    """One connection at a time to the server of one stream, replaced when it breaks. Made by `open_clients`."""

    def __init__(self, options: StreamOptions) -> None:
        self.address = options.address
        self.keys = Keys(options.name)
        self._encoded_keys = encoded((len(self.keys.all), *self.keys.all))
        self._options = options
        self._places = deque(self.address.places)  # the next one to ask comes first
        self._connection: Connection | None = None
        self._connecting = trio.Lock()
        self._is_closed = False
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, JITTER)
        self._failing_since = math.inf
        self.answered_at = trio.current_time()
        self.connections = 0  # made so far

    async def call(self, *command: str | bytes | int, within: float = ANSWER_TIMEOUT, shield: bool = False) -> Any:
        """Send a command once and return the answer; with `shield`, shielded from cancellation.

        Raises:
            Lost: there was no answer within `within` seconds, or no connection.
            Later, NoGroup, Refused: the server answered with an error.
            StreamLost: the server has lost entries of the stream.
            trio.BrokenResourceError: the server has been out of reach for longer than `patience`.
        """
        return await self._call(encode(*command), within, shield=shield)

    async def _call(self, command: bytes, within: float, *, shield: bool) -> Any:
        connection: Connection | None = None
        try:
            now = trio.current_time()
            with trio.CancelScope(deadline=now + within, shield=shield):
                connection = await self._connected()
                answer = await connection.call(command)
                self._is_answered()
                self.answered_at = trio.current_time()
                return answer
            raise TimeoutError(f"no answer within {within:g} s")
        except _FAILURES as exc:
            raise self._failure(exc, connection) from None

    def _is_answered(self) -> None:
        self._backoff.reset()
        self._failing_since = math.inf

    def _failure(self, exc: Exception, connection: Connection | None) -> Exception:
        """Return the exception to raise for a call that has failed with `exc`."""
        word = exc.word if isinstance(exc, ErrorAnswer) else ""
        kind = ANSWERS.get(word, Refused) if word else Lost
        reason = str(exc)
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
            if connection is not None and word == "MOVED":  # MOVED slot host:port; an empty host means the same one
                host, _, port = reason.split()[2].rpartition(":")
                node = host or connection.place[0], int(port)
                self._places = deque(dict.fromkeys([node, *self.address.places]))
        if now - self._failing_since > self._options.patience:
            return trio.BrokenResourceError(
                f"no answer from the Redis server at {self.address} for {self._options.patience:g} s: {reason}"
            )
        return kind(reason, self._backoff.pause())

    async def run(
        self, script: Script, *args: str | bytes | int, within: float = ANSWER_TIMEOUT, shield: bool = False
    ) -> Any:
        """Run a script once and return its result, as `call` does.

        With `wait_replicas`, this raises `Lost` if too few replicas have confirmed the writes within a second. A script
        that is then run again must write again, because only writes of the same connection are waited for.
        """
        until = trio.current_time() + within
        count = b"*%d\r\n" % (3 + len(self.keys.all) + len(args))
        rest = self._encoded_keys + encoded(args)
        try:
            answer = await self._call(count + encoded(("EVALSHA", script.sha)) + rest, within, shield=shield)
        except NoScript:
            answer = await self._call(count + encoded(("EVAL", script.source)) + rest, within, shield=shield)
        if self._options.wait_replicas:
            await self._confirm(until - trio.current_time(), shield=shield)
        return answer

    async def _confirm(self, within: float, *, shield: bool) -> None:
        """Wait until enough replicas have the writes; if not, look up the server again: it may not be the master now.

        Every exception from here means that the script may have been carried out.
        """
        connections = self.connections
        try:
            wait = ("WAIT", self._options.wait_replicas, int(REPLICAS_TIMEOUT * 1000))
            confirmed = await self.call(*wait, within=within, shield=shield)
        except Lost:
            raise
        except Later:
            confirmed = 0  # it became a replica itself
        except Refused as exc:
            if "replica" not in str(exc):  # unless it already was a replica itself
                raise trio.BrokenResourceError(f"replicas cannot be waited for: {exc}") from None
            confirmed = 0
        if self.connections != connections:
            confirmed = 0  # on a new connection, the answer says nothing about earlier writes
        if confirmed < self._options.wait_replicas:
            self._look_elsewhere()
            raise Lost(
                f"{confirmed} of {self._options.wait_replicas} replicas have what was written", self._backoff.pause()
            )

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
        """Break the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look_elsewhere(self) -> None:
        """Break the connection, if another server may take the place of this one."""
        if self.address.service or len(self._places) > 1:
            self.drop()
            self._places.rotate(-1)

    def close(self) -> None:
        """Break the connection for good."""
        self._is_closed = True
        self.drop()

    async def _connected(self) -> Connection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        async with self._connecting:
            if self._connection is None or not self._connection.is_open:
                if self._is_closed:
                    raise ConnectionError("this client is closed")
                self._connection = await open_connection(self.address, await self._where(), self._options.ssl_context)
                self.connections += 1
            return self._connection

    async def _where(self) -> Place:
        """Return the server's current address; for a service, as named by the first sentinel that answers."""
        if not self.address.service:
            return self._places[0]
        reasons = []
        for host, port in tuple(self._places):
            try:
                with trio.move_on_after(SENTINEL_TIMEOUT):
                    return await self._named_by((host, port))
                reasons.append(f"{host}:{port} does not respond")
            except _FAILURES as exc:
                reasons.append(f"{host}:{port}: {exc}")
            self._places.rotate(-1)
        raise ConnectionError("; ".join(reasons))

    async def _named_by(self, sentinel: Place) -> Place:
        """Ask a sentinel for the master. It gets the password only if it asks for one."""
        address = self.address._replace(service="", db=0)
        try:
            anonymous = address._replace(username=None, password=None)
            connection = await open_connection(anonymous, sentinel, self._options.ssl_context)
        except ErrorAnswer as exc:
            if exc.word != "NOAUTH":
                raise
            connection = await open_connection(address, sentinel, self._options.ssl_context)
        try:
            found = await connection.call(encode("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.service))
        finally:
            connection.close()
        if not found:
            raise ConnectionError(f"no master is called {self.address.service!r}")
        return found[0].decode(), int(found[1])


@block
async def open_clients(options: StreamOptions, count: int) -> AsyncGenerator[Sequence[Client], None]:
    """Connect `count` clients to the server beside a block, and close them when the block is left.

    Raises:
        OSError: there is no server, or it refuses the connection, or it evicts keys when it is full.
    """
    async with Crew() as crew:
        clients = [Client(options) for _ in range(count)]
        try:
            await _check_server(clients[0])
            crew.start(_keep_checking, clients[0])
            yield clients
            crew.cancel()
        finally:
            for client in clients:
                client.close()


async def _check_server(client: Client) -> None:
    """Raise, instead of retrying without end, if no server answers at this address or it would not keep entries."""
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
            await trio.sleep(exc.pause if isinstance(exc, Later) else FIRST_PAUSE)


async def _keep_checking(client: Client) -> None:
    """Raise when the server begins to evict keys. If it is out of reach, other calls raise that."""
    pause = CHECK_INTERVAL
    while True:
        await trio.sleep(pause)
        try:
            complaint, pause = await _eviction(client), CHECK_INTERVAL
        except Later as exc:
            pause = exc.pause
        except (Refused, trio.BrokenResourceError):
            pause = LONGEST_PAUSE
        else:
            if complaint:
                raise trio.BrokenResourceError(complaint)


async def _eviction(client: Client) -> str:
    """Return a complaint if the server evicts keys when it is full, else an empty str."""
    info = bytes(await client.call("INFO", "memory"))
    settings = dict(pair.split(b":", 1) for pair in info.split() if b":" in pair)
    policy = settings.get(b"maxmemory_policy", b"").decode()
    if settings.get(b"maxmemory") == b"0" or not policy.startswith("allkeys"):
        return ""
    return (
        f"the Redis server at {client.address} evicts entries when it is full: "
        f"its maxmemory-policy must be noeviction, not {policy}"
    )
