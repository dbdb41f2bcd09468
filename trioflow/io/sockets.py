"""Byte streams over TCP, TLS and Unix sockets.

Rule 1: a connection is a value until it is used: arguments are checked when it is made, the network is used later (R1).
Rule 2: each run as a transform, and each `open()`, makes a connection of its own. The `readable` and the `writable` of
    one value share a connection.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from trioflow._core.adapters import cut
from trioflow._core.checks import check_async, check_count, check_type
from trioflow._core.connection import Connection
from trioflow._core.errors import check_trio, is_among, split_failure
from trioflow._core.streams import Duplex, label

_log: Final = logging.getLogger("trioflow")
_HIGHEST_PORT = 65535
_QUEUE_PAUSE = 0.01  # seconds between two looks whether the queue of a Unix socket has room


def connect_tcp(host: str, port: int) -> Duplex[bytes, bytes]:
    """Exchange bytes with a TCP server.

    As a transform, items are sent to the server and what it answers comes out; each run, and each `open()`, connects
    again. The `readable` and the `writable` of one value share one connection, made when either first runs; each can
    run once. That connection is closed when both have ended, or by `async with`.

    Emits when: a chunk has arrived, of at most 64 KiB, or 256 KiB while data arrives fast enough to fill it.
    Waits when: the server reads slowly, or the reader downstream does.
    Ends when: the server ends what it sends. When the source ends, only the sending direction does (`send_eof`).
    On cancel: the connection is closed at once. If some data had not been sent, it is reset, so that the server cannot
        take partial data for complete.
    Holds: one chunk in each direction; small chunks are sent as one of at most 64 KiB.

    Raises:
        TypeError, ValueError: `host` is not a name or address, or `port` is not a number from 1 to 65535.
        OSError: when it runs, the connection cannot be made.
        trio.BrokenResourceError: when it runs, the connection is lost.

    Example:
        >>> async def shout(duplex: Duplex[bytes, bytes]) -> None:
        ...     await duplex.pipe(map(bytes.upper)).pipe(duplex.writable)
        >>> async def main() -> None:
        ...     async with trio.open_nursery() as nursery:
        ...         serve = partial(serve_tcp, shout, 0, host="127.0.0.1")
        ...         [listener] = await nursery.start(serve)
        ...         port = listener.socket.getsockname()[1]
        ...         print(await pipeline([b"hello"], connect_tcp("127.0.0.1", port), join()))
        ...         nursery.cancel_scope.cancel()
        >>> trio.run(main)
        b'HELLO'
    """
    _check_host(host)
    check_count("port", port, 1, _HIGHEST_PORT)
    return _endpoint(label("connect_tcp", host, port), partial(trio.open_tcp_stream, host, port))


def connect_unix(path: str | bytes | os.PathLike[str]) -> Duplex[bytes, bytes]:
    """Exchange bytes with the server that listens at `path`, as `connect_tcp` does over TCP.

    A Unix socket cannot be reset: if this end is cut off, the server sees an ordinary end. If the server's queue of
    connections is full, connecting waits.

    Emits when: a chunk has arrived, of at most 64 KiB, or 256 KiB while data arrives fast enough to fill it.
    Waits when: the server reads slowly, or the reader downstream does.
    Ends when: the server ends what it sends. When the source ends, only the sending direction does (`send_eof`).
    On cancel: the connection is closed at once.
    Holds: one chunk in each direction; small chunks are sent as one of at most 64 KiB.

    Raises:
        TypeError, ValueError: `path` is not a path, or is empty.
        OSError: when it runs, the connection cannot be made; `FileNotFoundError` if there is no such socket.
        trio.BrokenResourceError: when it runs, the connection is lost.
    """
    check_type("connect_unix: path", path, (str, bytes, os.PathLike), "a path")
    if not os.fspath(path):
        raise ValueError("connect_unix: path must not be empty")
    return _endpoint(label("connect_unix", path), partial(_open_unix, os.fspath(path)))


def connect_tls(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    https_compatible: bool = False,
) -> Duplex[bytes, bytes]:
    """Exchange bytes with a TCP server over TLS, as `connect_tcp` does without it.

    The server's certificate is verified before anything is sent. TLS cannot end one direction alone: when the source
    ends, the server is not told, so the data itself must show where it ends.

    Emits when: a chunk has arrived, of at most 16 KiB.
    Waits when: the server reads slowly, or the reader downstream does.
    Ends when: the server ends what it sends.
    On cancel: the connection is closed at once, without the TLS closing message (close_notify), so that the server can
        tell it from a regular end.
    Holds: one chunk in each direction, and what TLS has not decrypted of one more; small chunks are sent as one.

    Args:
        host: The name or address of the server.
        port: The port of the server.
        ssl_context: Which certificates to trust and what to offer; None for `ssl.create_default_context()`.
        server_hostname: The name that the certificate must be valid for; None for `host`.
        https_compatible: Accept an end without close_notify, which many HTTP servers send. By default that is an error,
            since anyone between you and the server could have cut the connection.

    Raises:
        TypeError, ValueError: `host` is not a name or address, `port` is not a number from 1 to 65535, or `ssl_context`
            or `server_hostname` is of the wrong type.
        OSError: when it runs, the connection cannot be made. It is an `ssl.SSLCertVerificationError` if the certificate
            is not trusted, another `ssl.SSLError` if the two sides have no TLS version or cipher in common, or the
            server does not speak TLS.
        trio.BrokenResourceError: when it runs, the connection is lost, or ends without close_notify.
    """
    _check_host(host)
    check_count("port", port, 1, _HIGHEST_PORT)
    check_type("connect_tls: ssl_context", ssl_context, ssl.SSLContext | None, "an SSLContext or None")
    check_type("connect_tls: server_hostname", server_hostname, str | None, "a str or None")

    async def connect() -> trio.SSLStream[trio.SocketStream]:
        context = ssl_context
        if context is None:
            context = await trio.to_thread.run_sync(ssl.create_default_context)  # it reads files
        tcp = await trio.open_tcp_stream(host, port)
        stream = trio.SSLStream(
            tcp, context, server_hostname=server_hostname or host, https_compatible=https_compatible
        )
        try:
            await stream.do_handshake()
        except BaseException as exc:
            await cut(tcp, reset=False)
            if isinstance(exc, trio.BrokenResourceError) and isinstance(exc.__cause__, ssl.SSLError):
                raise exc.__cause__ from None  # the SSLError names the reason
            raise
        return stream

    return _endpoint(label("connect_tls", host, port), connect, can_end=False)


async def _open_unix(path: str | bytes) -> trio.SocketStream:
    """Connect; if the server's queue is full, wait as a blocking connect does.

    `trio.open_unix_socket` returns an unconnected stream in that case: Linux answers EAGAIN, not EINPROGRESS, and no
    event says when there is room.
    """
    await trio.lowlevel.checkpoint()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(path)
                return trio.SocketStream(trio.socket.from_stdlib_socket(connection))
            except BlockingIOError:
                await trio.sleep(_QUEUE_PAUSE)
    except BaseException:
        connection.close()
        raise


async def serve_tcp(
    handler: Callable[[Duplex[bytes, bytes]], Awaitable[object]],
    port: int,
    *,
    host: str | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept TCP connections until cancelled, and call `handler(duplex)` for each in a task of its own.

    Start it with `await nursery.start(serve_tcp, handler, port)`, which returns the list of listeners once it accepts
    connections. When `handler` returns, its connection is closed.

    An exception in `handler` ends only its own connection. The connection is reset, so that the client can tell it from
    a regular end, and the exception is logged once to the logger `trioflow`: as an error with its traceback, or as a
    warning of one line if it is a `trio.BrokenResourceError`, as when a client disconnects. A `BaseException` that is
    not an `Exception`, such as Ctrl-C, ends the server.

    On cancel: the listeners are closed and every handler is cancelled.

    Args:
        handler: An async function that takes the connection. Each direction of it can run once.
        port: The port to listen on; 0 lets the system choose one, which `listener.socket.getsockname()` returns.
        host: The address to listen on; None for all, with one listener for IPv4 and one for IPv6; `"::"` for all with
            one listener.

    Raises:
        TypeError, ValueError: `handler` is not an async function, `host` is not a str, or `port` is not a number from 0
            to 65535.
        OSError: listening on the address is not possible.
    """
    check_async("serve_tcp", handler)
    check_count("port", port, 0, _HIGHEST_PORT)
    check_type("serve_tcp: host", host, str | None, "a str or None")

    async def handle(stream: trio.SocketStream) -> None:
        client: object = "a client that has disconnected"
        with suppress(OSError):
            client = stream.socket.getpeername()
        duplex = Duplex.from_stream(stream)
        try:
            await handler(duplex)
            await duplex.aclose()
        except BaseException as exc:  # noqa: BLE001 - failures are logged, the rest is raised
            failure, rest = split_failure(exc)
            await cut(stream, reset=failure is not None)
            if failure is not None:
                _log_failure(failure, client)
            if rest is not None:
                raise rest from None

    listeners = await open_listeners(host, port)
    await trio.serve_listeners(handle, listeners, task_status=task_status)


async def open_listeners(host: str | None, port: int) -> list[trio.SocketListener]:
    """Listen on a port of one address, or of all if `host` is None; `"::"` accepts IPv4 too, if the system can.

    Raises:
        OSError: the address or port cannot be used. The message names both, which the system's own does not.
    """
    check_trio()
    try:
        if host == "::" and socket.has_dualstack_ipv6():
            return [_open_for_both(port)]
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        if exc.errno is None or isinstance(exc, socket.gaierror):
            raise
        named = OSError(exc.errno, exc.strerror, f"{'all addresses' if host is None else host}, port {port}")
        if exc.errno == errno.EADDRINUSE:
            named.add_note("stop the program that listens there, or use another port; 0 picks a free one")
        raise named from None


def _open_for_both(port: int) -> trio.SocketListener:
    """Listen on a port of all addresses, for IPv6 and IPv4."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", port))
        listener.listen(_HIGHEST_PORT)  # the system lowers it to its own limit
        return trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    except BaseException:
        listener.close()
        raise


def _log_failure(failure: BaseException, client: object) -> None:
    if is_among(failure, (trio.BrokenResourceError,)):
        _log.warning("the connection from %s broke: %r", client, failure)
    else:
        _log.error("the handler of the connection from %s failed", client, exc_info=failure)


def _check_host(host: object) -> None:
    check_type("host", host, str, "a str")
    if not host:
        raise ValueError("host must be a name or an address, got an empty str")


def _endpoint(
    name: Callable[[], str], connect: Callable[[], Awaitable[trio.abc.Stream]], *, can_end: bool = True
) -> Duplex[bytes, bytes]:
    def fresh() -> Connection:
        return Connection(connect, name)

    return Duplex._over(name, fresh(), fresh, can_end=can_end)
