"""A whole server program in one call."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypedDict, Unpack

import trio

from trioflow._core.signals import run_until_a_signal
from trioflow.http._access import Access
from trioflow.http._listeners import SocketPath
from trioflow.http._proxies import Proxies
from trioflow.http._server import serve
from trioflow.http._service import Handler
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Limits


class Options(TypedDict, total=False):
    """The options of `serve`."""

    host: str | None
    port: int
    unix: SocketPath | None
    listeners: Iterable[socket.socket] | None
    limits: Limits
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None
    proxies: Proxies | None
    log: Callable[[Access], object] | None
    counters: Counters | None
    workers: int
    worker_timeout: float | None


def run(
    handler: Handler, *, greeting: str | Callable[[list[str]], object] | None = "Serving at", **options: Unpack[Options]
) -> None:
    """Run Trio and serve until Ctrl-C or SIGTERM, as a whole program in one call.

    It prints its URLs, then calls `handler(request, response)` for each request, as `serve` does. At the first signal it
    stops as `serve` does when it is cancelled, and returns; a second signal ends the process at once.

    Args:
        handler: An async function that takes a `Request` and a `Response`.
        greeting: What to print before the base URLs when the server is ready, or a function to call with the list of
            them; None to print nothing.
        options: The options of `serve`: `host`, `port`, `limits` and so on.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: as `serve` does.
    """
    is_watching = options.get("workers", 1) == 1  # with workers, their supervisor watches for signals
    run_until_a_signal(partial(serve, handler, **options, task_status=_Greeting(greeting)), is_watching=is_watching)


class _Greeting(trio.TaskStatus[list[str]]):
    def __init__(self, greeting: str | Callable[[list[str]], object] | None) -> None:
        self._greeting = greeting

    def started(self, value: Any = None) -> None:
        with suppress(OSError):  # if standard output is closed, the server can still serve
            if callable(self._greeting):
                self._greeting(value)
            elif self._greeting is not None:
                print(self._greeting, " and ".join(value), flush=True)
