"""The server: listeners, and the connections they accept.

Rule 1: four tasks in all, and one for each connection.
Rule 2: a stopping server accepts nothing, ends connections at rest at once, and gives the others `Limits.grace`.
Rule 3: where the system has no descriptors left, or the limit is reached, clients wait in the backlog.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any, Final

import trio

from trioflow._checks import check_count, check_function
from trioflow.http._connection import Connection, Handler
from trioflow.http._limits import Limits
from trioflow.http._rests import Rests
from trioflow.http._watch import open_watch

_log: Final = logging.getLogger("trioflow.http")
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_BACK_OFF: Final = 0.1  # seconds
_AT_ONCE: Final = 64  # connections accepted between two yields
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_DEFAULTS: Final = Limits()


async def serve(
    handler: Handler,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    limits: Limits = _DEFAULTS,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 until cancelled: call `handler(request, response)` for each request.

    The handler runs in its connection's task. What it raises before the first byte of a body is answered with 500,
    after it the connection is cut (R13, R14); both are logged to `trioflow.http`. A client that leaves cancels it; one
    that only ends its own direction still gets its whole answer.

    Cancelled, it accepts no more, ends connections at rest, and gives requests in progress `limits.grace` seconds.

    Holds: a few KiB for each connection, beside what its handler holds.

    Args:
        handler: An async function of a `Request` and a `Response`.
        host: The address to listen at; None for all of them.
        port: The port; 0 for one the system chooses.
        limits: What a client may cost.
        task_status: Started with the list of base URLs, such as `["http://127.0.0.1:8000"]`.

    Raises:
        TypeError: `handler` cannot be called, `port` is not an int, or `limits` are not `Limits`.
        ValueError: `port` is not between 0 and 65535.
        OSError: the address cannot be listened at.
    """
    check_function("serve", handler)
    if check_count("port", port, 0) > 65535:
        raise ValueError(f"port must be 65535 or less, not {port}")
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be Limits, not {limits!r}")
    listeners = [
        socket.socket(fileno=listener.socket.detach()) for listener in await trio.open_tcp_listeners(port, host=host)
    ]
    server = _Server(handler, limits)
    try:
        await server.run(listeners, task_status)
    except BaseExceptionGroup as group:
        raise _single(group) from None
    finally:
        server.close()
        for listener in listeners:
            listener.close()


class _Server:
    def __init__(self, handler: Handler, limits: Limits) -> None:
        self._handler = handler
        self._limits = limits
        self._watch = open_watch()
        self._rests = Rests(limits.idle)
        self._connections: set[Connection] = set()
        self._stopping = trio.Event()
        self._left = trio.Event()  # set, and made anew, when a connection has ended

    async def run(self, listeners: list[socket.socket], task_status: trio.TaskStatus[list[str]]) -> None:
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(self._hold)
            try:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        _prepare(listener)
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started([_url_of(listener) for listener in listeners])
            finally:
                for listener in listeners:
                    listener.close()
                self._stopping.set()

    async def _hold(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Hold the connections: a cancellation reaches them only when their time of grace is over."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch.run)
                nursery.start_soon(self._rests.run)
                task_status.started(nursery)
                await self._stopping.wait()
                scope.deadline = trio.current_time() + self._limits.grace
                for connection in self._connections:
                    connection.stop()
                while self._connections:
                    await self._left.wait()
                nursery.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(_AT_ONCE):
                while len(self._connections) >= self._limits.connections:
                    await self._left.wait()
                try:
                    sock, client = listener.accept()
                except BlockingIOError:
                    break
                except OSError as exc:
                    if exc.errno in _EXHAUSTED:
                        _log.error("cannot accept a connection, trying again in %g seconds: %s", _BACK_OFF, exc)
                        await trio.sleep(_BACK_OFF)
                    break  # or a client that had gone before it was accepted
                self._begin(sock, client, nursery)

    def _begin(self, sock: socket.socket, client: Any, nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, client, self._handler, self._limits, self._watch, self._rests)
        self._connections.add(connection)
        nursery.start_soon(self._run, connection)

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._left.set()
            self._left = trio.Event()

    def close(self) -> None:
        self._watch.close()


def _prepare(listener: socket.socket) -> None:
    """Let the system ask clients that say nothing for long whether they are still there; connections inherit it."""
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _url_of(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _single(exc: BaseException) -> BaseException:
    """Give the one exception that a group of one holds, however deep."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
