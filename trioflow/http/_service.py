"""The options of one server, checked, and the state that its connections share."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio

from trioflow._core.checks import check_async, check_count, check_function, check_positive
from trioflow.http._access import Access
from trioflow.http._proxies import Proxies
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Limits
from trioflow.http.wire.liveness import IdleConnections, open_watch
from trioflow.http.wire.tally import Tally
from trioflow.io.worker_process import pickled

Handler: TypeAlias = Callable[[Request, Response], Awaitable[object]]


@dataclass(frozen=True)
class Config:
    """The arguments of `serve`, checked once; its docstring describes them. Pickled for worker processes."""

    handler: Handler
    limits: Limits
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None
    proxies: Proxies | None
    log: Callable[[Access], object] | None
    counters: Counters | None
    workers: int
    worker_timeout: float | None

    def __post_init__(self) -> None:
        check_async("serve", self.handler)
        for name, kind in (("limits", Limits), ("proxies", Proxies | None), ("counters", Counters | None)):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"serve: {name} must be {name.capitalize()}, got {value!r}")
        if not (self.ssl_context is None or isinstance(self.ssl_context, ssl.SSLContext) or callable(self.ssl_context)):
            raise TypeError(
                f"serve: ssl_context must be SSLContext or a function that makes one, got {self.ssl_context!r}"
            )
        if self.log is not None:
            check_function("serve: log", self.log)
        if self.worker_timeout is not None:
            check_positive("worker_timeout", self.worker_timeout)
        if check_count("workers", self.workers, 1) > 1:
            self._check_workers()

    def _check_workers(self) -> None:
        """Check that every option can be sent to worker processes."""
        if isinstance(self.ssl_context, ssl.SSLContext):
            raise TypeError(
                "serve: with workers, ssl_context must be a function that makes an SSLContext: each process needs its own"
            )
        if self.counters is not None:
            raise ValueError("serve: counters count in one process; leave out counters or workers")
        pickled("serve with workers needs a handler", self.handler)
        pickled("serve with workers needs a log", self.log)
        pickled("serve with workers needs an ssl_context", self.ssl_context)

    @property
    def scheme(self) -> str:
        """The scheme of the server's URLs, `"http"` or `"https"`."""
        return "http" if self.ssl_context is None else "https"

    def make_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, from the user's function if that was given; None without TLS."""
        context = self.ssl_context
        if context is None:
            return None
        if not isinstance(context, ssl.SSLContext):
            context = context()
            if not isinstance(context, ssl.SSLContext):
                raise TypeError(f"serve: ssl_context must return an SSLContext, got {context!r}")
        if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError(
                "serve: ssl_context is for a client; make one for a server with "
                "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
            )
        context.set_alpn_protocols(["http/1.1"])
        return context


class Service:
    """What all connections of one server share."""

    __slots__ = (
        "config", "context", "counters", "fresh", "half_closed", "handshaking", "heads", "idle", "limits", "stopping",
        "tally", "watch",
    )  # fmt: skip

    def __init__(self, config: Config, tally: Tally | None = None) -> None:
        self.config = config
        self.tally = tally  # shared with the other worker processes
        self.limits = config.limits
        self.context = config.make_context()
        self.counters = Counters() if config.counters is None else config.counters
        self.handshaking = IdleConnections(config.limits.handshake)
        self.fresh = IdleConnections(config.limits.first_byte)  # before their first request
        self.heads = IdleConnections(config.limits.head_time)  # with an incomplete head
        self.idle = IdleConnections(config.limits.idle)  # between two requests
        self.half_closed = IdleConnections(config.limits.half_closed)
        self.stopping = trio.Event()
        self.watch = open_watch()

    @property
    def at_rest(self) -> tuple[IdleConnections, ...]:
        """The connections whose clients are owed nothing, by what they wait for."""
        return self.handshaking, self.fresh, self.heads, self.idle

    def close(self) -> None:
        """Release the operating system's resources."""
        self.watch.close()
