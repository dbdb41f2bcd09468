"""OpenTelemetry spans for requests, by its semantic conventions for HTTP servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trioflow._core.checks import check_async
from trioflow._core.errors import split_failure
from trioflow._core.extras import import_extra
from trioflow.http._access import METHODS
from trioflow.http._connection import status_of
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler
from trioflow.operators.tracing import Attributes, Span

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def traced(handler: Handler, *, tracer_provider: TracerProvider | None = None) -> Handler:
    """Return a handler that calls `handler` inside an OpenTelemetry span for each request. Needs `trioflow[otel]`.

    If the request names a span in its `traceparent` header, that span is the parent. Spans that begin in the handler,
    such as those that `tf.trace()` makes for its runs, are children. The span records the method, the path, the client
    and the status, but not the query, which may contain secrets. Its name is the method; if you know the route, set a
    better name on the current span.

    A request that cannot be read never reaches the handler, so it has no span.

    Args:
        handler: The handler to trace.
        tracer_provider: Where to get the tracer; by default from the program's own provider. With worker processes, leave
            it out and set a provider where the program's modules are imported.

    Raises:
        ImportError: opentelemetry is not installed.
        TypeError: `handler` is not an async function.
    """
    import_extra("http.traced", "opentelemetry.trace", "otel")
    return _Traced(check_async("traced", handler), tracer_provider)


@dataclass(frozen=True)
class _Traced:
    """The traced handler, a class so that it can be pickled for worker processes."""

    handler: Handler
    tracer_provider: TracerProvider | None

    async def __call__(self, request: Request, response: Response) -> None:
        def at_end(raised: BaseException | None) -> tuple[Attributes, BaseException | None]:
            failure = None if raised is None else split_failure(raised)[0]
            if response.has_head or raised is None:
                status = response.status
            elif failure is not None:
                status = status_of(failure)
            else:  # the client has left, or the server has stopped
                return {}, None
            attributes: Attributes = {"http.response.status_code": status}
            if failure is not None and (response.has_head or status >= 500):
                return attributes, failure
            if status >= 500:
                attributes["error.type"] = str(status)
            return attributes, None

        name = request.method if request.method in METHODS else "HTTP"
        with Span(self.tracer_provider, name, _described(request), headers=request.headers) as span:
            span.at_end = at_end
            await self.handler(request, response)


def _described(request: Request) -> Attributes:
    attributes: Attributes = {"url.path": request.raw_path, "url.scheme": request.scheme}
    if request.method in METHODS:
        attributes["http.request.method"] = request.method
    else:
        attributes |= {"http.request.method": "_OTHER", "http.request.method_original": request.method}
    if isinstance(client := request.client, tuple):
        attributes["client.address"] = client[0]
    if host := request.headers.get("host"):
        name, colon, port = host.rpartition(":")
        has_port = bool(colon) and port.isdigit()
        attributes["server.address"] = name if has_port else host
        if has_port:
            attributes["server.port"] = int(port)
    if agent := request.headers.get("user-agent"):
        attributes["user_agent.original"] = agent
    return attributes
