"""A health page, for load balancers and monitoring."""

from __future__ import annotations

import json

from trioflow._core.checks import check_type
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler
from trioflow.http.wire.counters import Counters


def health(counters: Counters | None = None) -> Handler:
    """Return a handler that reports the server's health. Call it for a path of its own, such as `/health`.

    It answers 200, or 503 once the server begins to stop, so that a load balancer sends no more requests. The body is a
    JSON object with `status`, which is `"ok"` or `"stopping"`, and the counters. It is meant for operators: do not expose
    it to the public.

    Args:
        counters: The `Counters` that you pass to `serve`.

    Raises:
        TypeError: `counters` is not a `Counters`.
    """
    check_type("health: counters", counters, Counters | None, "Counters")

    async def report(request: Request, response: Response) -> None:
        is_stopping = request.stopping.is_set() or (counters is not None and counters.stopping)
        numbers = {} if counters is None else counters.as_dict()
        response.headers["content-type"] = "application/json"
        response.headers["cache-control"] = "no-store"
        if request.method not in ("GET", "HEAD"):
            response.status = 405
            response.headers["allow"] = "GET, HEAD"
        elif is_stopping:
            response.status = 503
        body = {"status": "stopping" if is_stopping else "ok", **numbers}
        await response.send(json.dumps(body).encode() + b"\n")

    return report
