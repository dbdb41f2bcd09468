"""Serves the inspector's page beside an unchanged program, if the variable TRIOFLOW_INSPECT is set.

Rule 1: whatever goes wrong here is one line on standard error; the program runs and ends as it would otherwise.
Rule 2: on a loopback address it answers only requests whose Host is a loopback name; otherwise a page of another site
    could read it through a name that resolves to this address (DNS rebinding).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import trio

from trioflow._core import observing
from trioflow._core.observing import Watched
from trioflow.http._inspector import inspector as page_of
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._server import serve
from trioflow.http._service import Handler
from trioflow.http.wire.limits import Limits
from trioflow.operators.inspecting import Inspector

VARIABLE: Final = "TRIOFLOW_INSPECT"
_PLACE: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):([0-9]{1,5})", re.ASCII)
_LOOPBACK: Final = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?", re.IGNORECASE | re.ASCII)
_LIMITS: Final = Limits(grace=0.2)  # seconds that open pages may delay the end of the program

_inspector: Final[trio.lowlevel.RunVar[Inspector | None]] = trio.lowlevel.RunVar("the inspector of a trio.run", None)


def begin(place: str) -> None:
    """Serve the page at `place`, such as "127.0.0.1:0", in each `trio.run` of this program that runs streams."""
    found = _PLACE.fullmatch(place)
    if found is None or int(found[2]) > 65535:
        _say(f"{VARIABLE} must be HOST:PORT, such as 127.0.0.1:0, got {place!r}; nothing is inspected")
        return
    host, port = found[1], int(found[2])

    def watch(tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        inspector = _inspector.get()
        if inspector is None:
            inspector = Inspector()
            _inspector.set(inspector)
            trio.lowlevel.spawn_system_task(_serve, inspector, host, port)
        return inspector._watch(tasks)

    observing.observers = (*observing.observers, watch)


async def _serve(inspector: Inspector, host: str, port: int) -> None:
    handler = page_of(inspector)
    if _LOOPBACK.fullmatch(host):
        handler = _by_loopback_names(handler)
    try:
        with inspector._hidden():
            await serve(handler, host=host.strip("[]"), port=port, limits=_LIMITS, task_status=_Told())
    except Exception as exc:  # noqa: BLE001 - raised in a system task, it would end the program
        _say(f"cannot inspect this program at {host}:{port}: {getattr(exc, 'strerror', '') or repr(exc)}")


def _by_loopback_names(handler: Handler) -> Handler:
    async def checked(request: Request, response: Response) -> None:
        if _LOOPBACK.fullmatch(request.headers.get("host", "")):
            await handler(request, response)
        else:
            response.status = 421  # misdirected (RFC 9110 15.5.20)

    return checked


class _Told(trio.TaskStatus[list[str]]):
    def started(self, value: Any = None) -> None:
        _say(f"inspect this program at {value[0]}/")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # a closed standard error
        if sys.stderr is not None:
            print(f"trioflow: {text}", file=sys.stderr, flush=True)
