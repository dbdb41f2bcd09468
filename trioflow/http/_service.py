"""What all connections of one server share."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from trioflow.http._access import Access
from trioflow.http._proxies import Proxies
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import Limits
from trioflow.http.wire.liveness import IdleConnections, open_watch


class Service:
    """What all connections of one server share.

    Args:
        handler: Called with each request and its response.
        context: How TLS is spoken; None where it is not.
        proxies: Who is trusted to say who the client is.
        log: Told of each answered request.
    """

    __slots__ = ("context", "counters", "handler", "idle", "limits", "log", "proxies", "watch")

    def __init__(
        self,
        handler: Callable[..., Awaitable[object]],
        limits: Limits,
        *,
        context: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
        log: Callable[[Access], object] | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.context = context
        self.proxies = proxies
        self.log = log
        self.counters = Counters() if counters is None else counters
        self.watch = open_watch()
        self.idle = IdleConnections(limits.idle)

    def close(self) -> None:
        """Give back what the system lent."""
        self.watch.close()


class Peer:
    """Who is at the other end of a connection.

    Attributes:
        address: As the socket gives it.
        scheme: What the connection speaks, `"http"` or `"https"`.
    """

    __slots__ = ("_proxies", "address", "scheme")

    def __init__(self, address: Any, scheme: str, proxies: Proxies | None = None) -> None:
        self.address = address
        self.scheme = scheme
        self._proxies = proxies

    def seen(self, headers: Headers) -> tuple[Any, str]:
        """Give the address and the scheme of who sent a request: the peer's, or what a trusted proxy says they are."""
        if self._proxies is None:
            return self.address, self.scheme
        return self._proxies.seen(self.address, self.scheme, headers)
