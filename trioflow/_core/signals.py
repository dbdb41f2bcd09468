"""A whole program: a run of Trio that a signal stops in order.

Rule 1: the first SIGINT or SIGTERM cancels the program's main function; a second one ends the process at once, even
    while a task holds up all others. So a signal that would raise KeyboardInterrupt, which has to wait for a task, kills
    instead.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final

import trio

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def run_until_a_signal(main: Callable[[], Awaitable[object]], *, is_watching: bool = True) -> None:
    """Run Trio with `main`, which the first signal cancels; return when it has ended.

    Nothing watches for signals outside the main thread, where Python delivers none, or unless `is_watching`: then `main`
    does that itself.
    """
    is_watching = is_watching and threading.current_thread() is threading.main_thread()
    # Asked before Trio puts a handler of its own in the place of the default one.
    afterwards = {number: _after_the_first(number) for number in _ENDING} if is_watching else {}

    async def run() -> None:  # an error about an argument begins with this name, and the user has called a `run`
        with trio.CancelScope() as scope, ExitStack() as stack:
            _cancel_at_a_signal(scope, afterwards, stack)
            await main()

    trio.run(run)


def _after_the_first(number: int) -> Any:
    """Return what a second signal does: it calls the program's own handler, if there is one, or kills."""
    handler = signal.getsignal(number)
    return handler if callable(handler) and handler is not signal.default_int_handler else signal.SIG_DFL


def _cancel_at_a_signal(scope: trio.CancelScope, afterwards: dict[signal.Signals, Any], stack: ExitStack) -> None:
    """Cancel `scope` at the first of the signals in `afterwards`, which says what each of them does from then on.

    No task waits for them: the second one must be heard while one task holds up all others. `stack` puts back what they
    did.
    """
    token = trio.lowlevel.current_trio_token()

    def stop(*_: object) -> None:
        for number, handler in afterwards.items():
            signal.signal(number, handler)
        token.run_sync_soon(scope.cancel)

    for number in afterwards:
        stack.callback(signal.signal, number, signal.signal(number, stop))
