"""Ports for servers that run in other processes: no other program gets one of them between two tests, or before its server.

A socket that is bound to a port, but does not listen, keeps the system from choosing the port for another socket; a
server that asks for the port still gets it, if it sets SO_REUSEADDR as most do.
"""

from __future__ import annotations

import itertools
import socket
import sys

_COUNT = 64  # no test needs more at once


def _reserve() -> int:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    if sys.platform == "linux":
        sock.detach()  # it stays bound until this process ends
    else:
        sock.close()  # elsewhere it would keep a server out too
    return port


_ports = itertools.cycle([_reserve() for _ in range(_COUNT)])


def free_port() -> int:
    """Return a port that no running program uses."""
    return next(_ports)
