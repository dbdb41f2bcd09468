"""The server: its listening sockets, and the connections accepted from them.

Rule 1: each connection has one task; the server has a fixed number of its own.
Rule 2: a server that stops accepts no more connections, ends idle ones at once, and gives the others `Limits.grace`. Once
    only endless responses that send nothing are left, they are cut, because they would never finish. If another process
    takes over, the server first answers requests that clients may just have sent on idle connections.
Rule 3: while the system has no descriptors left, or a limit is reached, a connection at rest is closed for each new one;
    if none is at rest, clients wait in the backlog.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Final

import trio

from trioflow._core.errors import sole
from trioflow.http._access import Access
from trioflow.http._admission import Admission, Repeated
from trioflow.http._connection import Connection
from trioflow.http._listeners import Listeners, SocketPath
from trioflow.http._proxies import Proxies
from trioflow.http._service import Config, Handler, Service
from trioflow.http._workers import Supervisor, work
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Limits
from trioflow.http.wire.tally import Tally, open_table
from trioflow.io.worker_process import pickled

_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_BACK_OFF: Final = 0.1  # seconds
_AT_ONCE: Final = 64  # connections accepted between two checkpoints
_DEFAULTS: Final = Limits()
QUIET: Final = 1.0  # seconds without a byte after which an endless response no longer delays the stop
LAST_REQUEST: Final = 1.0  # seconds in which an idle connection may send one more request if another process takes over


async def serve(
    handler: Handler,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    unix: SocketPath | None = None,
    listeners: Iterable[socket.socket] | None = None,
    limits: Limits = _DEFAULTS,
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
    proxies: Proxies | None = None,
    log: Callable[[Access], object] | None = None,
    counters: Counters | None = None,
    workers: int = 1,
    worker_timeout: float | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 until cancelled, calling `handler(request, response)` for each request.

    The handler runs in its connection's task. If it raises before the first byte of the body is sent, the client gets a
    500 response; after that, the connection is cut, so that a partial response never passes for a complete one. Both are
    logged to `trioflow.http`. If the client disconnects, the handler is cancelled. A client that only ends its own
    direction (a half-close) looks the same at first: it gets its whole response if some of it is sent within
    `limits.half_closed` seconds.

    When cancelled, the server accepts no more connections, sets `request.stopping`, ends idle connections, and gives
    requests in progress `limits.grace` seconds. Endless feeds that send nothing are cancelled once nothing else is in
    progress.

    With `workers` above 1, that many processes serve the same listening sockets, and each one that ends is replaced.
    SIGTERM or SIGINT then stops the server as a cancellation does, and `serve` returns; a second signal kills what is
    left. SIGHUP replaces the processes one at a time, so that they load your program's modules anew, and no request
    fails. The processes import your program, so keep the code that starts it below `if __name__ == "__main__":`.

    Holds: a few KiB for each connection, in addition to what its handler holds; 40 MiB for each worker process.

    Args:
        handler: An async function that takes a `Request` and a `Response`.
        host: The address to listen on; None for all addresses, `"::"` for all with one socket for IPv6 and IPv4.
        port: The port; 0 for any free port.
        unix: The path of a Unix socket to listen on, instead of `host` and `port`. A socket that an earlier server left
            there is replaced; the socket is removed at the end.
        listeners: Sockets that are already listening, instead of `host`, `port` or `unix`: inherited, or opened before
            privileges were dropped. They are closed at the end.
        limits: How much time, memory and traffic a client may cost.
        ssl_context: A context with your certificate, to speak TLS, or a function that makes one, which `workers` need.
            `http/1.1` is offered by ALPN.
        proxies: The proxies that are trusted to say, in headers, who the client is; none by default.
        log: Called with an `Access` after each request, such as `lambda access: print(access.as_line())`. It must not
            block.
        counters: Where to count; read them while the server runs. Not allowed with `workers`, because they count in one
            process.
        workers: How many processes to serve from. `handler`, `log` and `ssl_context` are pickled, so they must be
            importable by name: a lambda or a function inside another function is refused. What `http.files` returns can
            be sent.
        worker_timeout: How many seconds a worker process may go without running its tasks, because a handler never
            awaits or the process is stopped; then it is killed and replaced. None means 30, or no limit while a debugger
            traces the process; `math.inf` means no limit.
        task_status: Started with the list of base URLs, such as `["http://127.0.0.1:8000"]`. If the server listens on all
            addresses, the URL for the local network comes second.

    Raises:
        TypeError: an argument has the wrong type, or cannot be sent to worker processes.
        ValueError: `port` is not between 0 and 65535, both `unix` and `listeners` are given, one of `listeners` is not
            listening, `ssl_context` is for a client, `worker_timeout` is not above 0, or `counters` are given with
            `workers`.
        OSError: the server cannot listen on the address.
        RuntimeError: the first worker process could not be started, or ended before it was ready; it has printed why.
    """
    config = Config(handler, limits, ssl_context, proxies, log, counters, workers, worker_timeout)
    places = await Listeners.open(host, port, unix, listeners)
    try:
        if workers == 1:
            with closing(Service(config)) as service:
                await _Server(service).run(places, task_status)
        else:
            numbers = [sock.fileno() for sock in places.sockets]
            table, tally = open_table(workers)
            with table:
                target = pickled("serve with workers needs a handler", partial(_work, config, numbers, tally))
                inherited = [*numbers, table.fileno()]
                supervisor = Supervisor(target, inherited, workers, limits.grace, worker_timeout)
                await supervisor.run(partial(task_status.started, places.urls(config.scheme)), places.close)
    except BaseExceptionGroup as group:
        raise sole(group) from None
    finally:
        places.close()


def _work(config: Config, listeners: Sequence[int], tally: Callable[[], Tally], control: socket.socket) -> None:
    """Serve in one of several worker processes."""
    places = Listeners(socket.socket(fileno=number) for number in listeners)

    async def serve_here() -> None:  # makes the Service inside `trio.run`, because it reads Trio's clock
        with closing(Service(config, tally())) as service:
            server = _Server(service, at_once=1)  # so that the other workers get their share of a burst
            await work(control, partial(server.run, places), server.retire, config.worker_timeout)

    trio.run(serve_here)


class _Server:
    def __init__(self, service: Service, *, at_once: int = _AT_ONCE) -> None:
        self._service = service
        self._admission = Admission(service)
        self._log_exhausted = Repeated(logging.ERROR, "cannot accept a connection, trying again every %g seconds: %s")
        self._is_retiring = False
        self._at_once = at_once

    def retire(self) -> None:
        """Let idle connections send one more request when the server stops, because another process takes over."""
        self._is_retiring = True

    async def run(self, places: Listeners, task_status: trio.TaskStatus[list[str]]) -> None:
        """Accept connections from `places` until cancelled; return when all connections have ended."""
        async with trio.open_nursery() as nursery:
            try:
                connections = await nursery.start(self._hold)
                async with trio.open_nursery() as accepting:
                    for listener in places.sockets:
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started(places.urls(self._service.config.scheme))
            finally:
                places.close()
                self._service.counters.stopping = True
                self._service.stopping.set()

    async def _hold(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Run the connections, which a cancellation reaches only after the grace period."""
        # Otherwise a cancelled `nursery.start` would wait for the end of this shielded task.
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._service.watch.run)
                for idle in (*self._service.at_rest, self._service.half_closed):
                    nursery.start_soon(idle.run)
                task_status.started(nursery)
                await self._service.stopping.wait()
                scope.deadline = trio.current_time() + self._service.limits.grace
                nursery.start_soon(self._stop_all, scope)
                while self._admission.connections:
                    await self._admission.wait_for_an_end()
                nursery.cancel_scope.cancel()

    async def _stop_all(self, scope: trio.CancelScope) -> None:
        """End the connections that can end now, and cancel `scope` once only quiet feeds are left."""
        if self._is_retiring:
            for connection in self._admission.connections:
                connection.retire()
            await trio.sleep(LAST_REQUEST)
        for connection in self._admission.connections:
            connection.stop()
        moved: dict[Connection, float] = {}  # when each last received or sent a byte
        while True:
            now = trio.current_time()
            moved.update((connection, now) for connection in self._admission.connections if not connection.is_quiet())
            if all(now - moved[connection] >= QUIET for connection in self._admission.connections):
                scope.cancel()
            await trio.sleep(QUIET / 4)

    @trio.lowlevel.enable_ki_protection  # else Ctrl-C could lose an accepted connection without closing it
    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(int(min(self._at_once, await self._admission.wait_for_room()))):
                if nursery.cancel_scope.cancel_called:  # a handler got Ctrl-C: the nursery may be closed already
                    return
                try:
                    sock, client = listener.accept()
                except BlockingIOError:
                    break
                except OSError as exc:
                    if exc.errno in _EXHAUSTED:
                        self._log_exhausted(_BACK_OFF, exc)
                        self._admission.end_one_at_rest()
                        with trio.move_on_after(_BACK_OFF):
                            await self._admission.wait_for_an_end()
                    break  # another error means that the client left before it was accepted
                if (connection := self._admission.admit(sock, client)) is not None:
                    nursery.start_soon(self._run, connection)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._admission.remove(connection)
