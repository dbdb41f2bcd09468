"""The sockets that a server listens on: a port, a path, or sockets that were opened for it.

Rule 1: all of them are closed at the end, and a path is removed if the socket there is still ours.
Rule 2: a path on which another server listens is left alone; a socket that no server listens on any longer is replaced.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

from trioflow._core.checks import check_count, check_type
from trioflow.io.sockets import open_listeners

_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_BACKLOG: Final = 1024
_ALL: Final = ("0.0.0.0", "::")
# Each with an address reserved for documentation, which no machine has (RFC 5737, RFC 3849).
_LOOPBACK_AND_OTHER: Final = {
    socket.AF_INET: ("127.0.0.1", "192.0.2.1"),
    socket.AF_INET6: ("::1", "2001:db8::1"),
}

SocketPath: TypeAlias = str | bytes | os.PathLike[str]


class Listeners:
    """Listening sockets, which this closes."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self.sockets = list(sockets)
        self._path: SocketPath | None = None
        self._made: os.stat_result | None = None
        for listener in self.sockets:
            _prepare(listener)

    @classmethod
    async def open(
        cls, host: str | None, port: int, unix: SocketPath | None, listeners: Iterable[socket.socket] | None
    ) -> Listeners:
        """Listen on `listeners`, or else at the path `unix`, or else on `port` of `host`; of all addresses if it is None."""
        check_count("port", port, 0, 65535)
        check_type("serve: host", host, str | None, "a str or None")
        if unix is not None and listeners is not None:
            raise ValueError("serve: unix and listeners were both given; leave out one")
        if listeners is not None:
            return cls(listeners)
        if unix is not None:
            return cls._at_path(unix)
        opened = await open_listeners(host, port)
        return cls(socket.socket(fileno=listener.socket.detach()) for listener in opened)

    @classmethod
    def _at_path(cls, path: SocketPath) -> Listeners:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_abandoned(path)
            listener.bind(os.fspath(path))
            made = os.lstat(path)
            listener.listen(_BACKLOG)
            self = cls([listener])
        except BaseException:
            listener.close()
            raise
        self._path, self._made = path, made
        return self

    def urls(self, scheme: str) -> list[str]:
        """Return a base URL for each socket; for one bound to all addresses, a URL for each of this machine's addresses."""
        return list(dict.fromkeys(url for listener in self.sockets for url in _urls_of(listener, scheme)))

    def close(self) -> None:
        """Stop listening. Safe to call more than once."""
        for listener in self.sockets:
            listener.close()
        if self._path is not None and self._made is not None:
            with suppress(OSError):
                if os.path.samestat(os.lstat(self._path), self._made):
                    os.unlink(self._path)
            self._path = None


def _remove_abandoned(path: SocketPath) -> None:
    """Remove a socket at `path` that no server listens on any longer; raise if something else is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "the path exists and is not a socket", os.fspath(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except BlockingIOError:
        pass  # a server listens, and its backlog is full
    raise OSError(errno.EADDRINUSE, "another server listens at this path", os.fspath(path))


def _prepare(listener: socket.socket) -> None:
    check_type("serve: listeners", listener, socket.socket, "sockets")
    with suppress(OSError):  # macOS does not support this option
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"serve: listeners must be listening, but {listener!r} is not; call its listen() first")
    listener.setblocking(False)
    if listener.family not in _INTERNET:
        return
    # Connections inherit this option: the system then probes silent clients to learn whether they are still there.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _urls_of(listener: socket.socket, scheme: str) -> list[str]:
    if listener.family not in _INTERNET:
        return [f"{scheme}+unix:{os.fsdecode(listener.getsockname())}"]
    host, port, *_ = listener.getsockname()
    hosts = [host]
    if host in _ALL:
        takes_4 = host == "0.0.0.0" or not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        hosts = _own_addresses(socket.AF_INET if takes_4 else socket.AF_INET6)
    return [f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}" for host in hosts]


def _own_addresses(family: socket.AddressFamily) -> list[str]:
    """Return the loopback address, and the address this machine reaches others from, if it has one."""
    own, other = _LOOPBACK_AND_OTHER[family]
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((other, 9))  # sends nothing; the system only chooses the source address
        return [own, probe.getsockname()[0]]
    return [own]
