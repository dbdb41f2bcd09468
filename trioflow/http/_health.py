"""A page for those who watch over the server."""

from __future__ import annotations

import json

from trioflow.http._connection import Handler
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http.wire.counters import Counters


def health(counters: Counters | None = None) -> Handler:
    """Make a handler that tells how the server is, to be called at a path of its own, such as `/health`.

    It answers 200, or 503 once the server has been told to stop, so that whoever shares out requests sends no more.
    The body is a JSON object: `status`, `"ok"` or `"stopping"`, and what the counters say. It is for those who run the
    server: leave it where strangers do not come.

    Args:
        counters: Those that `serve` counts with.

    Raises:
        TypeError: `counters` are none.
    """
    if not (counters is None or isinstance(counters, Counters)):
        raise TypeError(f"health wants Counters, not {counters!r}")

    async def tell(request: Request, response: Response) -> None:
        is_stopping = counters is not None and counters.stopping
        numbers = {} if counters is None else counters.as_dict()
        response.headers["content-type"] = "application/json"
        response.headers["cache-control"] = "no-store"
        if request.method not in ("GET", "HEAD"):
            response.status = 405
            response.headers["allow"] = "GET, HEAD"
        elif is_stopping:
            response.status = 503
        answer = {"status": "stopping" if is_stopping else "ok", **numbers}
        await response.send(json.dumps(answer).encode() + b"\n")

    return tell
