"""The server: listeners, and the connections they accept.

Rule 1: four tasks in all, and one for each connection.
Rule 2: a stopping server accepts nothing, ends connections at rest at once, and gives the others `Limits.grace`.
    Where another process takes over, it first answers what its connections at rest may just have sent.
Rule 3: where the system has no descriptors left, or the limit is reached, clients wait in the backlog.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import trio

from trioflow._core.checks import check_count, check_function
from trioflow.http._access import Access
from trioflow.http._connection import Connection, Handler
from trioflow.http._listeners import Listeners, Path
from trioflow.http._proxies import Proxies
from trioflow.http._service import Service
from trioflow.http._workers import Supervisor, work
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Limits
from trioflow.io.worker_process import pickled

_log: Final = logging.getLogger("trioflow.http")
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_BACK_OFF: Final = 0.1  # seconds
_AT_ONCE: Final = 64  # connections accepted between two yields
_DEFAULTS: Final = Limits()
LAST_REST: Final = 1.0  # seconds that a connection may still rest when another process takes over


async def serve(
    handler: Handler,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    unix: Path | None = None,
    listeners: Iterable[socket.socket] | None = None,
    limits: Limits = _DEFAULTS,
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
    proxies: Proxies | None = None,
    log: Callable[[Access], object] | None = None,
    counters: Counters | None = None,
    workers: int = 1,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 until cancelled: call `handler(request, response)` for each request.

    The handler runs in its connection's task. What it raises before the first byte of a body is answered with 500,
    after it the connection is cut (R13, R14); both are logged to `trioflow.http`. A client that leaves cancels it; one
    that only ends its own direction still gets its whole answer.

    Cancelled, it accepts no more, ends connections at rest, and gives requests in progress `limits.grace` seconds.

    With `workers` above 1 it serves from that many processes, which share its listening sockets and are started anew
    when they end. SIGTERM or SIGINT then ends it as a cancellation does, and it returns; a second one kills what is
    left. SIGHUP replaces the processes one by one, by new ones with what the program's modules say now, and no request
    fails. The processes import the program, which keeps what it runs below `if __name__ == "__main__":`.

    Holds: a few KiB for each connection, beside what its handler holds; 40 MiB for each worker process.

    Args:
        handler: An async function of a `Request` and a `Response`.
        host: The address to listen at; None for all of them.
        port: The port; 0 for one the system chooses.
        unix: The path of a Unix socket to listen at, in place of `host` and `port`. One that a server has left behind is
            replaced; at the end it is removed.
        listeners: Sockets that listen already, in place of all these: inherited, or opened before privileges were
            dropped. They are closed at the end.
        limits: What a client may cost.
        ssl_context: The certificate, where TLS is to be spoken, or a function that makes it, as each of `workers` needs;
            `http/1.1` is offered by ALPN.
        proxies: Who is trusted to say, in headers, who the client is; nobody unless it is said.
        log: Called with an `Access` for each request, once it is answered, such as
            `lambda access: print(access.as_line())`. It must not block.
        counters: Where to count; look at them while the server runs. Not with `workers`: they count in one process.
        workers: From how many processes to serve. `handler`, `log` and `ssl_context` travel to them by name (pickled): a
            lambda or a function inside another one is refused, what `http.files` gives is not.
        task_status: Started with the list of base URLs, such as `["http://127.0.0.1:8000"]`.

    Raises:
        TypeError: an argument is of a wrong kind, or cannot be sent to worker processes.
        ValueError: `port` is not between 0 and 65535, more than one place to listen at is given, or `counters` with
            `workers`.
        OSError: the address cannot be listened at.
        RuntimeError: the first worker process ended before it was ready; why, it has printed.
    """
    check_function("serve", handler)
    if check_count("port", port, 0) > 65535:
        raise ValueError(f"port must be 65535 or less, not {port}")
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host must be a str or None, not {host!r}")
    for name, value, kind in (
        ("limits", limits, Limits),
        ("proxies", proxies, Proxies),
        ("counters", counters, Counters),
    ):
        if not isinstance(value, kind) and (value is not None or name == "limits"):
            raise TypeError(f"{name} must be {kind.__name__}, not {value!r}")
    if not isinstance(ssl_context, ssl.SSLContext) and ssl_context is not None and not callable(ssl_context):
        raise TypeError(f"ssl_context must be SSLContext or a function that makes one, not {ssl_context!r}")
    if log is not None:
        check_function("log", log)
    if unix is not None and listeners is not None:
        raise ValueError("a server listens at a path or at listeners, not at both")
    if check_count("workers", workers, 1) > 1:
        _check_sent(handler, log, ssl_context, counters)
    options: dict[str, Any] = {"proxies": proxies, "log": log, "counters": counters}
    service = Service(handler, limits, context=_made(ssl_context), **options) if workers == 1 else None
    try:
        if listeners is not None:
            places = Listeners(listeners)
        else:
            places = await Listeners.at_port(host, port) if unix is None else Listeners.at_path(unix)
        try:
            if service is not None:
                await _Server(service).run(places, task_status)
            else:
                numbers = [sock.fileno() for sock in places.sockets]
                options["context"] = ssl_context
                target = pickled("serve wants a handler", partial(_work, handler, limits, options, numbers))
                urls = places.urls("http" if ssl_context is None else "https")
                supervisor = Supervisor(target, numbers, workers, limits.grace)
                await supervisor.run(partial(task_status.started, urls), places.close)
        finally:
            places.close()
    except BaseExceptionGroup as group:
        raise _single(group) from None
    finally:
        if service is not None:
            service.close()


def _made(context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None) -> ssl.SSLContext | None:
    if context is not None and not isinstance(context, ssl.SSLContext):
        context = context()
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"ssl_context must be a function that makes an SSLContext, but it gave {context!r}")
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])
    return context


def _check_sent(handler: Handler, log: object, context: object, counters: object) -> None:
    """Raise on what cannot be sent to worker processes."""
    pickled("serve wants, with workers, a handler", handler)
    if log is not None:
        pickled("serve wants, with workers, a log", log)
    if isinstance(context, ssl.SSLContext):
        raise TypeError("with workers, ssl_context must be a function that makes one: each process has its own")
    if context is not None:
        pickled("serve wants, with workers, an ssl_context", context)
    if counters is not None:
        raise ValueError("counters count in one process: serve takes them without workers")


def _work(
    handler: Handler, limits: Limits, options: dict[str, Any], listeners: Sequence[int], control: socket.socket
) -> None:
    """Be one of several worker processes."""
    made: dict[str, Any] = options | {"context": _made(options["context"])}
    service = Service(handler, limits, **made)
    server = _Server(service)
    server.at_once = 1  # what comes in a burst is for the other workers, too
    places = Listeners(socket.socket(fileno=number) for number in listeners)
    trio.run(work, control, partial(server.run, places), server.retire)


class _Server:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.limits
        self._counters = service.counters
        self._connections: set[Connection] = set()
        self._stopping = trio.Event()
        self._left = trio.Event()  # set, and made anew, when a connection has ended
        self._rest = 0.0
        self.at_once = _AT_ONCE

    def retire(self) -> None:
        """Let connections at rest, when it stops, send what they may have begun to: another process takes over."""
        self._rest = LAST_REST

    async def run(self, places: Listeners, task_status: trio.TaskStatus[list[str]]) -> None:
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(self._hold)
            try:
                async with trio.open_nursery() as accepting:
                    for listener in places.sockets:
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started(places.urls("http" if self._service.context is None else "https"))
            finally:
                places.close()
                self._counters.stopping = True
                self._stopping.set()

    async def _hold(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Hold the connections: a cancellation reaches them only when their time of grace is over."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._service.watch.run)
                nursery.start_soon(self._service.idle.run)
                task_status.started(nursery)
                await self._stopping.wait()
                scope.deadline = trio.current_time() + self._limits.grace
                if self._rest:
                    for connection in self._connections:
                        connection.retire()
                    nursery.start_soon(self._stop_later)
                else:
                    self._stop_all()
                while self._connections:
                    await self._left.wait()
                nursery.cancel_scope.cancel()

    async def _stop_later(self) -> None:
        await trio.sleep(self._rest)
        self._stop_all()

    def _stop_all(self) -> None:
        for connection in self._connections:
            connection.stop()

    @trio.lowlevel.enable_ki_protection  # or a connection that was accepted could be lost unclosed
    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(self.at_once):
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
        connection = Connection(sock, client, self._service)
        self._connections.add(connection)
        self._counters.connections += 1
        self._counters.open += 1
        nursery.start_soon(self._run, connection)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._counters.open -= 1
            self._left.set()
            self._left = trio.Event()


def _single(exc: BaseException) -> BaseException:
    """Give the one exception that a group of one holds, however deep."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
