"""A server as a whole program.

Rule 1: the first SIGINT or SIGTERM stops the server in order; a second one ends the process at once, even while a handler
    holds up all tasks. So a signal that would raise KeyboardInterrupt, which has to wait for a task, kills instead.
"""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any, Final, TypedDict, Unpack

import trio

from trioflow.http._access import Access
from trioflow.http._listeners import Path
from trioflow.http._proxies import Proxies
from trioflow.http._server import serve
from trioflow.http._service import Handler
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Limits

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


class Options(TypedDict, total=False):
    """The options of `serve`."""

    host: str | None
    port: int
    unix: Path | None
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
    """Run Trio and serve until Ctrl-C or SIGTERM: a whole program in one call.

    Prints where it serves, then calls `handler(request, response)` for each request, as `serve` does. At the first
    signal it stops as `serve` does when it is cancelled, and returns; a second signal ends the process at once.

    Args:
        handler: An async function of a `Request` and a `Response`.
        greeting: What to print before the base URLs once it serves, or a function to call with them; None to print nothing.
        options: Those of `serve`: `host`, `port`, `limits` and so on.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: as `serve` does.
    """
    handled = options.get("workers", 1) == 1 and threading.current_thread() is threading.main_thread()
    afterwards = {number: _after_the_first(number) for number in _ENDING} if handled else {}

    async def main() -> None:
        with trio.CancelScope() as scope, ExitStack() as stack:
            _cancel_at_a_signal(scope, afterwards, stack)
            await serve(handler, **options, task_status=_Greeting(greeting))

    trio.run(main)


class _Greeting(trio.TaskStatus[list[str]]):
    def __init__(self, greeting: str | Callable[[list[str]], object] | None) -> None:
        self._greeting = greeting

    def started(self, value: Any = None) -> None:
        with suppress(OSError):  # nobody reads it, but clients may still come
            if callable(self._greeting):
                self._greeting(value)
            elif self._greeting is not None:
                print(self._greeting, " and ".join(value), flush=True)


def _after_the_first(number: int) -> Any:
    """Return what a second signal does: it calls the program's own handler, if there is one, or kills."""
    handler = signal.getsignal(number)
    return handler if callable(handler) and handler is not signal.default_int_handler else signal.SIG_DFL


def _cancel_at_a_signal(scope: trio.CancelScope, afterwards: dict[signal.Signals, Any], stack: ExitStack) -> None:
    """Cancel `scope` at the first of the signals in `afterwards`, which says what each of them does from then on.

    No task waits for them: the second one must be heard while a handler holds up all tasks. `stack` puts back what they did.
    """
    token = trio.lowlevel.current_trio_token()

    def stop(*_: object) -> None:
        for number, handler in afterwards.items():
            signal.signal(number, handler)
        token.run_sync_soon(scope.cancel)

    for number in afterwards:
        stack.callback(signal.signal, number, signal.signal(number, stop))
