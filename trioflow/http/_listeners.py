"""Where a server listens: on a port, at a path, or on sockets that were opened for it.

Rule 1: all of it is closed at the end, and a path is removed if it is still ours.
Rule 2: a path on which another server listens is not taken from it; one that a server has left is replaced.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

from trioflow._core.checks import check_count
from trioflow.io.sockets import open_listeners

_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_BACKLOG: Final = 1024
_ALL: Final = ("0.0.0.0", "::")
# Addresses for documentation, which no machine has (RFC 5737, RFC 3849).
_LOOPBACK_AND_OTHER: Final = {
    socket.AF_INET: ("127.0.0.1", "192.0.2.1"),
    socket.AF_INET6: ("::1", "2001:db8::1"),
}

Path: TypeAlias = str | bytes | os.PathLike[str]


class Listeners:
    """Listening sockets, which are owned."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self.sockets = list(sockets)
        self._path: Path | None = None
        self._made: os.stat_result | None = None
        for listener in self.sockets:
            _prepare(listener)

    @classmethod
    async def open(
        cls, host: str | None, port: int, unix: Path | None, listeners: Iterable[socket.socket] | None
    ) -> Listeners:
        """Listen on `listeners`, else at the path `unix`, else on a port: of one address, or of all if `host` is None."""
        check_count("port", port, 0, 65535)
        if host is not None and not isinstance(host, str):
            raise TypeError(f"host must be a str or None, not {host!r}")
        if unix is not None and listeners is not None:
            raise ValueError("a server listens at a path or at listeners, not at both")
        if listeners is not None:
            return cls(listeners)
        if unix is not None:
            return cls._at_path(unix)
        opened = await open_listeners(host, port)
        return cls(socket.socket(fileno=listener.socket.detach()) for listener in opened)

    @classmethod
    def _at_path(cls, path: Path) -> Listeners:
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
        """Return base URLs that lead here: that of each socket, and for one bound to all addresses those of this machine."""
        return list(dict.fromkeys(url for listener in self.sockets for url in _urls_of(listener, scheme)))

    def close(self) -> None:
        """Stop listening. Harmless when repeated."""
        for listener in self.sockets:
            listener.close()
        if self._path is not None and self._made is not None:
            with suppress(OSError):
                found = os.lstat(self._path)
                if (found.st_dev, found.st_ino) == (self._made.st_dev, self._made.st_ino):
                    os.unlink(self._path)
            self._path = None


def _remove_abandoned(path: Path) -> None:
    """Remove the socket that a server has left at `path`; raise if something else is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "what is there is no socket", os.fspath(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except BlockingIOError:
        pass  # a server whose backlog is full
    raise OSError(errno.EADDRINUSE, "another server listens there", os.fspath(path))


def _prepare(listener: socket.socket) -> None:
    if not isinstance(listener, socket.socket):
        raise TypeError(f"listeners must be sockets, not {listener!r}")
    with suppress(OSError):  # macOS does not say
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"listeners must listen already, but {listener!r} does not: call its listen()")
    listener.setblocking(False)
    if listener.family not in _INTERNET:
        return
    # The system asks silent clients from time to time whether they are still there; connections inherit this.
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
    """Return the loopback address, and the one by which this machine reaches others, if there is one."""
    own, other = _LOOPBACK_AND_OTHER[family]
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((other, 9))  # sends nothing: the system only chooses the address to send from
        return [own, probe.getsockname()[0]]
    return [own]
