"""Run a whole program under Trio, and shut it down cleanly on a signal.

Rule 1: the first SIGINT or SIGTERM cancels the program's main function. A second one ends the process at once, even if
    a task blocks the loop. So a second SIGINT kills instead of raising KeyboardInterrupt, which has to wait for a task.
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
    """Run `main` under Trio until it ends. The first signal cancels it.

    Outside the main thread signals are not watched, as Python delivers none there; nor are they without `is_watching`, if
    `main` does that itself.
    """
    is_watching = is_watching and threading.current_thread() is threading.main_thread()
    # Looked up before Trio replaces the default handler with its own.
    afterwards = {number: _after_the_first(number) for number in _ENDING} if is_watching else {}

    async def run() -> None:  # errors about arguments begin with this name, and `run` is what the user has called
        token = trio.lowlevel.current_trio_token()

        # No task waits for the signals, as the second one must work even if a task blocks the loop.
        def stop(*_: object) -> None:
            for number, handler in afterwards.items():
                signal.signal(number, handler)
            token.run_sync_soon(scope.cancel)

        with trio.CancelScope() as scope, ExitStack() as stack:
            for number in afterwards:
                stack.callback(signal.signal, number, signal.signal(number, stop))
            await main()

    trio.run(run)


def _after_the_first(number: int) -> Any:
    """Return the handler for a second signal: the program's own, if there is one, or the default, which kills."""
    handler = signal.getsignal(number)
    return handler if callable(handler) and handler is not signal.default_int_handler else signal.SIG_DFL
