"""The command `trioflow work`: calls a function for each entry of a stream in Redis.

Rule 1: events are logged to stderr, one line each, with a traceback only if asked for. If the imported module sets up
    logging itself, that is kept.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from typing import Any, Final

import trio

from trioflow.cli._failed import Failed, printable
from trioflow.cli._redis import redis, ssl_context
from trioflow.redis.working import WorkOptions

_LOST: Final = (OSError, trio.BrokenResourceError)


def work(arguments: argparse.Namespace) -> None:
    """Work until the stream has ended, or until a signal.

    Raises:
        Failed: the worker cannot start, or has lost the server.
    """
    options: Any = {name: value for name, value in vars(arguments).items() if name in WorkOptions.__annotations__}
    options["ssl_context"] = ssl_context(arguments)
    handler = _imported(arguments.handler, is_verbose=arguments.verbose)
    log = logging.StreamHandler()
    log.setFormatter(OneLine(is_verbose=arguments.verbose))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    try:
        redis.run(handler, arguments.url, arguments.stream, **options)
    except (TypeError, ValueError) as exc:
        raise Failed(2, printable(str(exc).removeprefix("run: "))) from exc  # the name of the function was not typed
    except (*_LOST, ExceptionGroup) as exc:
        first: Exception = exc
        while isinstance(first, ExceptionGroup):  # two tasks may notice at once that the server is lost
            if first.split(_LOST)[1] is not None:
                raise
            first = first.exceptions[0]
        raise Failed(1, printable(str(first))) from exc


def _imported(name: str, *, is_verbose: bool) -> Any:
    """Return the object that `MODULE:FUNCTION` names; the module may be in the current directory."""
    module, _, path = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *path.split(".")]):
        raise Failed(2, f"expected MODULE:FUNCTION, such as tasks:handle, got {printable(name)!r}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as exc:
        if isinstance(exc, ModuleNotFoundError) and f"{module}.".startswith(f"{exc.name}."):
            raise Failed(2, f"no module {exc.name!r} in {printable(here)}, and none is installed") from exc
        if is_verbose:
            traceback.print_exc()
        reason = printable(f"{type(exc).__name__}: {exc}")
        raise Failed(
            2, f"cannot import {module}: {reason}" + ("" if is_verbose else "; -v prints the traceback")
        ) from exc
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Failed(2, f"the module {module} has no {path!r}") from None
    return found


class OneLine(logging.Formatter):
    """Formats a record as one line, and its traceback only if verbose."""

    def __init__(self, *, is_verbose: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._is_verbose = is_verbose

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return super().formatException(ei) if self._is_verbose else ""
