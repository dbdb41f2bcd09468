"""Byte streams over TCP, TLS and Unix sockets.

Rule 1: a connection is a value until it is used; arguments are checked when it is made, the network is asked later (R1).
Rule 2: run as a transform, or opened, it is a connection of its own each time; its `readable` and `writable`, run apart,
    share one.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from trioflow._core.adapters import cut
from trioflow._core.checks import check_async, check_count
from trioflow._core.connection import Connection
from trioflow._core.errors import check_trio, is_among, split_failure
from trioflow._core.streams import Duplex, label

_log: Final = logging.getLogger("trioflow")
_HIGHEST_PORT = 65535
_QUEUE_PAUSE = 0.01  # seconds between two looks whether the queue of a Unix socket has room


def connect_tcp(host: str, port: int) -> Duplex[bytes, bytes]:
    """Exchange bytes with a TCP server.

    In the middle of a chain what comes in is sent, and what the server answers comes out; each run, and each
    `open()`, connects anew. Its `readable` and its `writable` share one connection, made when one of them first runs;
    each runs once (R4). That one is closed when both have ended, or by `async with`.

    Emits when: a chunk has come, 64 KiB of it at most, or 256 KiB while they come full.
    Waits when: the server reads slowly, or the reader here does.
    Ends when: the server ends what it sends. When the source ends, only sending does (`send_eof`).
    On cancel: the connection is closed at once; where not everything had been sent it is reset, so that the server
        cannot take it for all (R13).
    Holds: one chunk in each direction; small chunks are sent as one of at most 64 KiB.

    Raises:
        TypeError, ValueError: `host` is not a name or address, or `port` not a number from 1 to 65535.
        OSError: running it, no connection can be made.
        trio.BrokenResourceError: running it, the connection is lost.

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

    A Unix socket cannot be reset: where this end is cut off, the server sees an end. Where too many others wait for the
    server to accept them, connecting waits too.

    Emits when: a chunk has come, 64 KiB of it at most, or 256 KiB while they come full.
    Waits when: the server reads slowly, or the reader here does.
    Ends when: the server ends what it sends. When the source ends, only sending does (`send_eof`).
    On cancel: the connection is closed at once.
    Holds: one chunk in each direction; small chunks are sent as one of at most 64 KiB.

    Raises:
        TypeError, ValueError: `path` is not a path, or is empty.
        OSError: running it, no connection can be made; `FileNotFoundError` where there is no such socket.
        trio.BrokenResourceError: running it, the connection is lost.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path, not {path!r}")
    if not os.fspath(path):
        raise ValueError("path must not be empty")
    return _endpoint(label("connect_unix", path), partial(_open_unix, os.fspath(path)))


def connect_tls(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    https_compatible: bool = False,
) -> Duplex[bytes, bytes]:
    """Exchange bytes with a TCP server within TLS, as `connect_tcp` does without.

    The server's certificate is checked before anything is sent. TLS cannot end one direction alone: when the source ends,
    the server is not told, so it has to see the end in what it was sent.

    Emits when: a chunk has come, 16 KiB of it at most.
    Waits when: the server reads slowly, or the reader here does.
    Ends when: the server ends what it sends.
    On cancel: the connection is closed at once, without TLS's goodbye, so that the server can tell it from an end (R13).
    Holds: one chunk in each direction, and what TLS has not decrypted of one more; small chunks are sent as one.

    Args:
        host: Where to connect to.
        port: Where to connect to.
        ssl_context: What to trust and to offer; None for `ssl.create_default_context()`.
        server_hostname: The name that the certificate has to be for; None for `host`.
        https_compatible: Take an end without TLS's goodbye for one, as many HTTP servers close; without, it is a failure,
            since anybody on the way could have cut it off (R10).

    Raises:
        TypeError, ValueError: `host` is not a name or address, or `port` not a number from 1 to 65535; or `ssl_context`
            or `server_hostname` is of the wrong kind.
        OSError: running it, no connection can be made; an `ssl.SSLCertVerificationError` where the certificate is not
            to be trusted, another `ssl.SSLError` where the server speaks no TLS that we do.
        trio.BrokenResourceError: running it, the connection is lost, or cut off without a goodbye.
    """
    _check_host(host)
    check_count("port", port, 1, _HIGHEST_PORT)
    if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
        raise TypeError(f"ssl_context must be an SSLContext or None, not {ssl_context!r}")
    if server_hostname is not None and not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname must be a str or None, not {server_hostname!r}")

    async def connect() -> trio.SSLStream[trio.SocketStream]:
        context = ssl_context
        if context is None:
            context = await trio.to_thread.run_sync(ssl.create_default_context)  # it reads the system's certificates
        tcp = await trio.open_tcp_stream(host, port)
        stream = trio.SSLStream(
            tcp, context, server_hostname=server_hostname or host, https_compatible=https_compatible
        )
        try:
            await stream.do_handshake()
        except BaseException as exc:
            await cut(tcp, reset=False)
            if isinstance(exc, trio.BrokenResourceError) and isinstance(exc.__cause__, ssl.SSLError):
                raise exc.__cause__ from None  # it says what is wrong
            raise
        return stream

    return _endpoint(label("connect_tls", host, port), connect, can_end=False)


async def _open_unix(path: str | bytes) -> trio.SocketStream:
    """Connect; where too many wait for the server already, wait as a blocking connect does.

    `trio.open_unix_socket` gives a stream there that is not connected: Linux answers EAGAIN, not EINPROGRESS, and
    nothing tells when there is room.
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
    """Accept TCP connections for ever and call `handler(duplex)` for each, in a task of its own.

    Start it with `await nursery.start(serve_tcp, handler, port)`, which gives the list of listeners once it accepts.
    When `handler` returns, its connection is closed.

    An exception in `handler` ends its own connection only. The connection is reset, so that the client can tell (R13),
    and the exception is logged once to the logger `trioflow`: as an error with its traceback, or where it is a
    `trio.BrokenResourceError`, as after a client that has left, as a warning of one line. What is no `Exception`, such
    as Ctrl-C, ends the server.

    On cancel: the listeners are closed, every handler is cancelled.

    Args:
        handler: An async function that is given the connection. Each direction runs once (R4).
        port: Where to listen; 0 lets the system choose, `listener.socket.getsockname()` tells.
        host: The address to listen at; None for all, with one listener for IPv4 and one for IPv6; `"::"` for all with one
            listener.

    Raises:
        TypeError, ValueError: `handler` is not an async function, `host` is not a str, `port` not a number from 0 to 65535.
        OSError: the address cannot be listened at.
    """
    check_async("serve_tcp", handler)
    check_count("port", port, 0, _HIGHEST_PORT)
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host must be a str or None, not {host!r}")

    async def handle(stream: trio.SocketStream) -> None:
        client = _client_of(stream)
        duplex = Duplex.from_stream(stream)
        try:
            await handler(duplex)
            await duplex.aclose()
        except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: what is not a failure is raised
            failure, rest = split_failure(exc)
            await cut(stream, reset=failure is not None)
            if failure is not None:
                _log_failure(failure, client)
            if rest is not None:
                raise rest from None

    listeners = await open_listeners(host, port)
    await trio.serve_listeners(handle, listeners, task_status=task_status)


async def open_listeners(host: str | None, port: int) -> list[trio.SocketListener]:
    """Listen on a port of one address, or of all if `host` is None; `"::"` takes IPv4 too, if the system can.

    Raises:
        OSError: it cannot; the message says where, which the system's does not.
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
            named.add_note("stop what listens there, or use another port; 0 is any free one")
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


def _client_of(stream: trio.SocketStream) -> object:
    try:
        return stream.socket.getpeername()
    except OSError:
        return "a client that has left"


def _log_failure(failure: BaseException, client: object) -> None:
    if is_among(failure, (trio.BrokenResourceError,)):
        _log.warning("the connection from %s broke: %r", client, failure)
    else:
        _log.error("the handler of the connection from %s failed", client, exc_info=failure)


def _check_host(host: object) -> None:
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {host!r}")
    if not host:
        raise ValueError("host must be a name or an address, not empty")


def _endpoint(
    name: Callable[[], str], connect: Callable[[], Awaitable[trio.abc.Stream]], *, can_end: bool = True
) -> Duplex[bytes, bytes]:
    def fresh() -> Connection:
        return Connection(connect, name)

    return Duplex._over(name, fresh(), fresh, can_end=can_end)
