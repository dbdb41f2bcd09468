"""The source code of the handlers as it runs, which the page shows beside each effect."""

from __future__ import annotations

import ast
import functools
import inspect
from typing import Final

from trioflow import http
from trioflow.demo import _body, _change, _feed, _media, _slow, _whole
from trioflow.demo._asked import Refused, text_in

_MODULES: Final = (_whole, _media, _slow, _body, _change, _feed)


@functools.cache
def sources() -> dict[str, str]:
    """Return the source of each async function of the panels, with its decorators, by name."""
    found: dict[str, str] = {}
    for module in _MODULES:
        lines = inspect.getsource(module).splitlines(keepends=True)
        for node in ast.parse("".join(lines)).body:
            if isinstance(node, ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "".join(lines[first - 1 : node.end_lineno])
    return found


async def source(request: http.Request, response: http.Response) -> None:
    """Send the source of the functions that `of` in the query names, separated by commas."""
    wanted = text_in(request, "of").split(",")
    if not sources().keys() >= set(wanted):
        raise Refused("no handler has this name", 404)
    response.headers["content-type"] = "text/plain; charset=utf-8"
    await response.send("\n\n".join(sources()[name] for name in wanted).encode())
