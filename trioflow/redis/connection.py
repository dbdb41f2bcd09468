"""One connection to a Redis server: commands go out and answers come back in the same order.

Rule 1: a caller writes its own command, and the first caller that waits for an answer reads for all. With one task to
    write and one to read, as in the client library, a call costs twice as much.
Rule 2: if a call fails or is cancelled, its connection is closed for good, because the answer may still come.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import trio

from trioflow.redis.address import Address, Place

try:
    from coredis.constants.resp import DataType
    from coredis.exceptions import RedisError, ResponseError
    from coredis.parser import NotEnoughData, Parser
except ImportError as exc:
    raise ImportError("trioflow.redis needs coredis: pip install 'trioflow[redis]'") from exc

READ_SIZE: Final = 1 << 18  # bytes

# The library cuts the first word off errors that it has a class for.
_WORDS: Final[dict[type[Exception], str]] = {
    kind: word for word, kind in Parser.EXCEPTION_CLASSES.items() if isinstance(kind, type)
}


class ErrorAnswer(Exception):
    """The server answered with an error, which begins with `word`."""

    def __init__(self, error: RedisError) -> None:
        self.word = _WORDS.get(type(error)) or (
            str(error).partition(" ")[0] if isinstance(error, ResponseError) else ""
        )
        super().__init__(str(error) if str(error).startswith(self.word) else f"{self.word} {error}")


def encoded(words: Iterable[str | bytes | int]) -> bytes:
    """Return the encoded words of a command; the whole command begins with `*` and their number."""
    parts = []
    for word in words:
        part = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(part), part))
    return b"".join(parts)


def command(*words: str | bytes | int) -> bytes:
    """Return an encoded command."""
    return b"*%d\r\n" % len(words) + encoded(words)


class _Socket(trio.abc.Stream):
    """A socket that is written to without a checkpoint first, and read only once there is something to read.

    A call waits for its answer anyway. Trio's own stream takes another turn of the event loop to write, and tries to
    read before it waits: together a tenth of the processor time of a call.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._plain = socket.socket(fileno=stream.socket.detach())
        self._plain.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._plain))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            sent = self._plain.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self._stream.send_all(memoryview(data)[sent:])

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            await trio.lowlevel.wait_readable(self._plain)
            return self._plain.recv(max_bytes or READ_SIZE)
        except BlockingIOError:
            return bytes(await self._stream.receive_some(max_bytes))

    def close(self) -> None:
        self._stream.socket.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass(slots=True, eq=False)
class _Call:
    answer: Any = None
    failure: Exception | None = None
    is_over: bool = False
    woken: trio.Event | None = None  # set when the call is over, or when it is this caller's turn to read


class Connection:
    """An open connection. Made by `open_connection`."""

    def __init__(self, place: Place, stream: trio.abc.Stream, sock: _Socket) -> None:
        self.place = place
        self._stream = stream
        self._socket = sock
        self._parser = Parser()
        self._unsent: list[bytes] = []
        self._calls: deque[_Call] = deque()  # calls without an answer, in the order in which they were sent
        self._is_writing = self._is_reading = False
        self.is_open = True

    async def call(self, command: bytes) -> Any:
        """Send an encoded command and return the answer.

        Raises:
            ErrorAnswer: the server answered with an error.
            OSError, trio.BrokenResourceError, trio.ClosedResourceError: the connection broke before an answer came.
        """
        if not self.is_open:
            raise ConnectionError("the connection is closed")
        call = _Call()
        self._calls.append(call)
        self._unsent.append(command)
        try:
            if not self._is_writing:
                await self._write()
            while not call.is_over:
                if self._is_reading:
                    call.woken = trio.Event()
                    await call.woken.wait()
                else:
                    await self._read(call)
        except BaseException:
            self.close()
            raise
        if call.failure is not None:
            raise call.failure
        return call.answer

    async def _write(self) -> None:
        self._is_writing = True
        try:
            while self._unsent:
                data = b"".join(self._unsent)
                self._unsent.clear()
                await self._stream.send_all(data)
        finally:
            self._is_writing = False

    async def _read(self, call: _Call) -> None:
        """Read answers until the one for `call` has come, then let the next waiting caller read."""
        self._is_reading = True
        try:
            while not call.is_over:
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._parser.feed(bytes(data))
                while not isinstance(parsed := self._parser.parse(), NotEnoughData):
                    kind, answer = parsed
                    if kind != DataType.PUSH:
                        self._settle(self._calls.popleft(), answer)
        finally:
            self._is_reading = False
            for waiting in self._calls:
                if waiting.woken is not None:
                    waiting.woken.set()
                    break

    def _settle(self, call: _Call, answer: Any) -> None:
        if isinstance(answer, RedisError):
            call.failure = ErrorAnswer(answer)
        else:
            call.answer = answer
        call.is_over = True
        if call.woken is not None:
            call.woken.set()

    def close(self) -> None:
        """Close the connection at once; every waiting call fails. Harmless when repeated."""
        self.is_open = False
        self._socket.close()
        self._unsent.clear()
        while self._calls:
            call = self._calls.popleft()
            call.failure, call.is_over = ConnectionError("the connection was closed"), True
            if call.woken is not None:
                call.woken.set()


async def open_connection(address: Address, place: Place, ssl_context: ssl.SSLContext | None) -> Connection:
    """Connect to the server at `place` and log in with the user, the password and the database of `address`.

    Raises:
        ErrorAnswer: the server refuses the user, the password or the database.
        OSError, trio.BrokenResourceError: there is no server, it breaks the connection, or it is not the master that a
            sentinel has named.
    """
    if address.path:
        plain = _Socket(await trio.open_unix_socket(address.path))
    else:
        plain = _Socket(await trio.open_tcp_stream(*place))
    stream: trio.abc.Stream = plain
    if address.is_secure:
        context = ssl_context or ssl.create_default_context()
        stream = trio.SSLStream(plain, context, server_hostname=place[0], https_compatible=True)
    connection = Connection(place, stream, plain)
    has_login = address.username or address.password
    login = ("AUTH", address.username or "default", address.password or "") if has_login else ()
    try:
        if isinstance(stream, trio.SSLStream):
            await stream.do_handshake()
        await connection.call(command("HELLO", 3, *login))
        if address.db:
            await connection.call(command("SELECT", address.db))
        if address.service and (await connection.call(command("ROLE")))[0] != b"master":
            # The sentinel has not noticed a failover yet.
            raise ConnectionError(f"a sentinel names {place[0]}:{place[1]}, which is not the master")
    except BaseException as exc:
        connection.close()
        if isinstance(exc, trio.BrokenResourceError) and isinstance(exc.__cause__, ssl.SSLError):
            raise exc.__cause__ from None  # it says why the certificate was refused
        raise
    return connection
