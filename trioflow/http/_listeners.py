"""Where a server listens: at a port, at a path, or at sockets that were opened for it.

Rule 1: what is listened at is given up at the end, and a path with it, if it is still ours.
Rule 2: a path that another server listens at is not taken from it; one that a server has left behind is.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import trio

_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_BACKLOG: Final = 1024

Path = str | bytes | os.PathLike[str]


class Listeners:
    """Listening sockets, which are owned."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self.sockets = list(sockets)
        for each in self.sockets:
            if not isinstance(each, socket.socket):
                raise TypeError(f"listeners must be sockets, not {each!r}")
        self._path: Path | None = None
        self._made: os.stat_result | None = None
        for listener in self.sockets:
            _prepare(listener)

    @classmethod
    async def at_port(cls, host: str | None, port: int) -> Listeners:
        """Listen at a port, of one address or of all."""
        opened = await trio.open_tcp_listeners(port, host=host)
        return cls(socket.socket(fileno=listener.socket.detach()) for listener in opened)

    @classmethod
    def at_path(cls, path: Path) -> Listeners:
        """Listen at a Unix socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_abandoned(path)
            listener.bind(os.fspath(path))
            self = cls([listener])
            self._path, self._made = path, os.lstat(path)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return self

    def urls(self, scheme: str) -> list[str]:
        """Give where each listens."""
        return [_url_of(listener, scheme) for listener in self.sockets]

    def close(self) -> None:
        """Give all up. Harmless when repeated."""
        for listener in self.sockets:
            listener.close()
        if self._path is not None and self._made is not None:
            with suppress(OSError):
                found = os.lstat(self._path)
                if (found.st_dev, found.st_ino) == (self._made.st_dev, self._made.st_ino):
                    os.unlink(self._path)
            self._path = None


def _remove_abandoned(path: Path) -> None:
    """Remove the socket that a server has left at `path`."""
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
        pass  # a server that has much to do is one
    raise OSError(errno.EADDRINUSE, "another server listens there", os.fspath(path))


def _prepare(listener: socket.socket) -> None:
    """Let the system ask clients that say nothing for long whether they are still there; connections inherit it."""
    listener.setblocking(False)
    if listener.family not in _INTERNET:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _url_of(listener: socket.socket, scheme: str) -> str:
    if listener.family not in _INTERNET:
        return f"{scheme}+unix:{os.fsdecode(listener.getsockname())}"
    host, port, *_ = listener.getsockname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
