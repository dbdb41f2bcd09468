"""The demo as one handler.

Rule 1: each handler is code that a user would write, short enough to be shown on the page beside its effect.
Rule 2: to add one, write it in its panel's module, add it to `_ROUTES`, and give it a place in page/index.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import Refused
from trioflow.demo._body import echo, upload
from trioflow.demo._change import changed, piece, shout
from trioflow.demo._feed import feed, listed, pulse
from trioflow.demo._media import media, picture
from trioflow.demo._slow import pace, slow_reader
from trioflow.demo._sources import source
from trioflow.demo._whole import crowd

_POLICY: Final = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

_ROUTES: Final[dict[str, tuple[str, http.Handler]]] = {
    "/crowd": ("POST", crowd),
    "/picture": ("GET", picture),
    "/slow-reader": ("GET", slow_reader),
    "/pace": ("POST", pace),
    "/upload": ("POST", upload),
    "/echo": ("POST", echo),
    "/shout": ("POST", shout),
    "/changed": ("GET", changed),
    "/piece": ("POST", piece),
    "/feed": ("GET", feed),
    "/list": ("GET", listed),
    "/pulse": ("GET", pulse),
    "/source": ("GET", source),
}


def handler() -> http.Handler:
    """Return the demo's handler."""
    page = http.files(Path(__file__).parent / "page")
    places = {"media": media, "inspector": http.inspector(tf.Inspector())}  # it also draws the slow reader

    async def demo(request: http.Request, response: http.Response) -> None:
        response.headers["cache-control"] = "no-cache"
        response.headers["content-security-policy"] = _POLICY
        method, answer = _ROUTES.get(request.path, ("", places.get(request.path.split("/")[1], page)))
        try:
            if method and request.method not in (method, "PUT" if method == "POST" else "HEAD"):
                response.headers["allow"] = method
                raise Refused(f"{request.path} expects {method}, got {request.method}", 405)
            await answer(request, response)
        except Refused as exc:
            response.status = exc.status
            response.headers["content-type"] = "text/plain; charset=utf-8"
            await response.send(f"{exc}\n".encode())

    return demo
