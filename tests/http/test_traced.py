"""Requests as OpenTelemetry spans: what a span says, and whose child it is."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
import trio
from h11 import RemoteProtocolError
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

import trioflow as tf
from tests.http.client import Client, connected, reset, serving
from tests.operators.test_tracing import Spans
from trioflow import http
from trioflow.http import Request, RequestError, Response

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
KNOWN = {"url.path", "url.scheme", "http.request.method", "client.address", "server.address"}


asking = [trio.CancelScope()]  # the cancel scope of the client


async def until_the_client_leaves() -> None:
    asking[0].cancel()
    await trio.sleep_forever()


async def handler(request: Request, response: Response) -> None:
    match request.path:
        case "/missing":
            raise RequestError(404, "it is not there")
        case "/fails":
            raise OSError("the disk has gone")
        case "/busy":
            response.status = 503
        case "/cut":
            await response.start()
            raise OSError("the disk has gone")
        case "/long":
            await response.start()
            await until_the_client_leaves()
        case "/waits":
            await until_the_client_leaves()
        case _:
            await tf.from_iterable([b"hello"]).pipe(response)


async def spans_of(*requests: tuple[str, str, dict[str, str]]) -> tuple[ReadableSpan, ...]:
    """Send each request over its own connection, and return the spans that have ended."""
    spans = Spans()
    with tf.trace(spans.provider):
        async with serving(http.traced(handler, tracer_provider=spans.provider)) as port:
            for method, target, headers in requests:
                async with connected(port) as stream:
                    with trio.CancelScope() as asking[0]:
                        try:
                            await Client(stream).ask(method, target, [*headers.items()])
                        except (trio.BrokenResourceError, RemoteProtocolError):
                            assert target == "/cut"
                    if asking[0].cancelled_caught:
                        reset(stream)
    return spans.ended()


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_a_server_span_whose_children_are_the_runs_in_it() -> None:
    run, span = await spans_of(
        ("GET", "/a%20b?token=secret", {"traceparent": f"00-{TRACE}-{PARENT}-01", "User-Agent": "me/1"})
    )

    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.SERVER, StatusCode.UNSET)
    assert said(span) == {
        "url.path": "/a%20b",
        "url.scheme": "http",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "client.address": "127.0.0.1",
        "server.address": "localhost",
        "user_agent.original": "me/1",
    }
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert run.name == "from_iterable | response"
    assert run.parent == span.context


async def test_a_request_with_no_or_an_invalid_parent_starts_a_trace() -> None:
    spans = await spans_of(("HEAD", "/", {}), ("GET", "/", {"traceparent": "nonsense"}))

    assert [span.parent for span in spans if span.kind is SpanKind.SERVER] == [None, None]
    assert len({span.context.trace_id for span in spans}) == 2


@pytest.mark.parametrize(
    ("method", "target", "name", "further", "is_error"),
    [
        ("GET", "/missing", "GET", {"http.response.status_code": 404}, False),
        ("GET", "/fails", "GET", {"http.response.status_code": 500, "error.type": "OSError"}, True),
        ("GET", "/busy", "GET", {"http.response.status_code": 503, "error.type": "503"}, True),
        ("GET", "/cut", "GET", {"http.response.status_code": 200, "error.type": "OSError"}, True),
        ("GET", "/long", "GET", {"http.response.status_code": 200}, False),  # until the client has left
        ("GET", "/waits", "GET", {}, False),
        ("PROPFIND", "/busy", "HTTP", {"http.request.method_original": "PROPFIND"}, True),
    ],
)
async def test_a_span_has_the_outcome_of_the_request(
    method: str, target: str, name: str, further: dict[str, Any], is_error: bool
) -> None:
    [span] = await spans_of((method, target, {}))

    assert span.name == name
    assert {key: value for key, value in said(span).items() if key not in KNOWN}.items() >= further.items()
    assert span.status.is_ok is not is_error


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost:8000", {"server.address": "localhost", "server.port": 8000}),
        ("[::1]:80", {"server.address": "[::1]", "server.port": 80}),
        ("[::1]", {"server.address": "[::1]"}),
        ("example.org", {"server.address": "example.org"}),
    ],
)
async def test_the_server_address_is_the_one_the_client_requested(host: str, address: dict[str, Any]) -> None:
    async def ask(port: int) -> None:
        async with connected(port) as stream:
            await stream.send_all(f"GET /busy HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert b"503" in await stream.receive_some()

    spans = Spans()
    async with serving(http.traced(handler, tracer_provider=spans.provider)) as port:
        await ask(port)

    [span] = spans.ended()
    assert {key: value for key, value in said(span).items() if key.startswith("server.")} == address


def test_a_traced_handler_can_be_sent_to_worker_processes() -> None:
    assert pickle.loads(pickle.dumps(http.traced(handler))) == http.traced(handler)


def test_a_plain_function_is_refused_and_a_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TypeError, match="traced expects an async function, got print"):
        http.traced(print)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"http\.traced needs opentelemetry.trace: pip install 'trioflow\[otel\]'"):
        http.traced(handler)
