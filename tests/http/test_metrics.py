"""What `http.metrics` sends to Prometheus, and what it leaves out."""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import Client, connected, exchanged, serving
from tests.redis.server import Server
from trioflow import http, redis
from trioflow.http import Counters, Metrics, Request, RequestError, Response
from trioflow.http._numbers import NAMES

ROOT = Path(__file__).parents[2]
STATUS = SimpleNamespace(entries=7, lag=4, dead=2, oldest=1.5, retries=3, dropped=1)


def numbers(text: bytes) -> dict[str, float]:
    """Return the value of each sample, by its name and labels as written."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def scraped(metrics: Metrics, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with serving(metrics) as port, connected(port) as stream:
        return await Client(stream).ask("GET", "/metrics", [*headers.items()])


async def test_requests_are_counted_by_method_and_class_of_status() -> None:
    counters = Counters()
    metrics = http.metrics(counters=counters)

    async def handler(request: Request, response: Response) -> None:
        if request.path == "/metrics":
            await metrics(request, response)
        elif request.path == "/none":
            raise RequestError(404, "it is not there")
        elif request.path == "/cut":
            await response.start()
            raise OSError("the disk has gone")

    async with serving(handler, counters=counters, log=metrics.observe) as port:
        for target in ("GET /a", "POST /a", "GET /none", "PROPFIND /a", "REPORT /a"):
            await exchanged(
                port, f"{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), half_close=False
            )
        with pytest.raises(trio.BrokenResourceError):
            await exchanged(port, b"GET /cut HTTP/1.1\r\nHost: localhost\r\n\r\n", half_close=False)
        await exchanged(port, b"nonsense\r\n\r\n")
        async with connected(port) as stream:
            status, headers, body = await Client(stream).ask("GET", "/metrics")

    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    got = numbers(body)
    seconds = "trioflow_http_request_duration_seconds_count"
    assert {key: value for key, value in got.items() if key.startswith(seconds)} == {
        f"{seconds}{{method=GET,status=2xx}}": 2,
        f"{seconds}{{method=POST,status=2xx}}": 1,
        f"{seconds}{{method=GET,status=4xx}}": 1,
        f"{seconds}{{method=other,status=2xx}}": 2,
        f"{seconds}{{method=other,status=4xx}}": 1,  # the request that could not be parsed
    }
    assert got["trioflow_http_responses_cut_total{method=GET}"] == 1
    assert got["trioflow_http_request_duration_seconds_bucket{le=+Inf,method=GET,status=2xx}"] == 2
    assert got["trioflow_http_connections_open"] == 1
    assert got["trioflow_http_connections_total"] == 8
    assert got["trioflow_http_failures_total"] == 1
    assert got["trioflow_http_refusals_total"] == 2


async def test_metrics_are_sent_in_the_requested_format() -> None:
    _, headers, body = await scraped(http.metrics(), accept="application/openmetrics-text; version=1.0.0")

    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    async with serving(http.metrics()) as port, connected(port) as stream:
        status, headers, _ = await Client(stream).ask("POST", "/")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_metrics_join_only_the_registry_they_are_given() -> None:
    before = set(REGISTRY._names_to_collectors)
    registry = CollectorRegistry(auto_describe=True)
    Counter("orders", "Orders taken.", registry=registry).inc(5)
    got = numbers((await scraped(http.metrics(registry=registry, counters=Counters())))[2])

    assert (got["orders_total"], got["trioflow_http_connections_open"]) == (5, 0)
    assert set(REGISTRY._names_to_collectors) == before
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        http.metrics(registry=registry)


async def test_a_stream_whose_status_cannot_be_read_is_down_and_not_an_error(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    async def up() -> Any:
        asked.append("up")
        return STATUS

    async def refused() -> Any:
        asked.append("refused")
        raise OSError("connection refused")

    async def silent() -> Any:
        await trio.sleep_forever()

    metrics = http.metrics(redis_streams={"up": up, "refused": refused, "silent": silent}, every=20)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await metrics._streams.refresh()
        assert sorted(asked) == ["refused", "up"]  # once for both
        await trio.sleep(20)
        await metrics._streams.refresh()
    assert sorted(asked) == ["refused", "refused", "up", "up"]
    assert sorted(str(record.args)[:10] for record in caplog.records) == [
        "('refused'",
        "('silent',",
    ]  # not at each scrape

    got = numbers(prometheus_text(metrics))
    assert {key: got[f"trioflow_redis_up{{stream={key}}}"] for key in ("up", "refused", "silent")} == {
        "up": 1,
        "refused": 0,
        "silent": 0,
    }
    assert {key: value for key, value in got.items() if "refused" in key} == {"trioflow_redis_up{stream=refused}": 0}
    assert got["trioflow_redis_lag{stream=up}"] == 4
    assert got["trioflow_redis_dead_letters{stream=up}"] == 2
    assert got["trioflow_redis_retries_total{stream=up}"] == 3


def prometheus_text(metrics: Metrics) -> bytes:
    return generate_latest(metrics._registry)


def plain() -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counters": 1}, "metrics: counters must be Counters, got 1"),
        ({"inspector": 1}, r"metrics: inspector must be what tf\.inspect\(\) yields, got 1"),
        ({"every": 0}, "metrics: every must be above 0, got 0"),
        ({"redis_streams": {"jobs": plain}}, "metrics: the stream 'jobs' expects an async function, got plain"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        http.metrics(**options)


def test_without_opentelemetry_the_error_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ImportError, match=r"http\.metrics needs prometheus_client: pip install 'trioflow\[metrics\]'"):
        http.metrics()


# Runs.


async def test_runs_are_counted_by_name_and_stage_during_and_after_the_run() -> None:
    async with tf.inspect(keep=1) as inspector:
        metrics = http.metrics(inspector=inspector)
        for _ in range(3):  # two of them have been dropped by then
            await tf.from_iterable([b"ab", b"c"]).pipe(tf.map(bytes)).pipe(tf.join())
        with pytest.raises(KeyError):
            await tf.failed(KeyError("secret")).pipe(tf.drain())
        async with tf.from_iterable(range(1000)).open(capacity=4) as receive:
            await receive.receive()
            await wait_all_tasks_blocked()

            text = prometheus_text(metrics)
        got = numbers(prometheus_text(metrics))

    going = numbers(text)
    joined = "from_iterable | map(bytes) | join"
    assert going["trioflow_runs{run=from_iterable}"] == 1
    assert going[f"trioflow_runs{{run={joined}}}"] == 0
    assert going["trioflow_channel_fill_ratio{place=1,run=from_iterable,stage=from_iterable}"] >= 0.75
    assert going["trioflow_stage_slowest{place=1,run=from_iterable,stage=from_iterable}"] == 1
    assert got["trioflow_runs{run=from_iterable}"] == 0
    assert got[f"trioflow_runs_ended_total{{run={joined},state=done}}"] == 3
    assert got["trioflow_runs_ended_total{run=failed | drain,state=failed}"] == 1
    assert got[f"trioflow_stage_items_total{{place=3,run={joined},stage=join}}"] == 6
    assert got["trioflow_stage_items_total{place=1,run=from_iterable,stage=from_iterable}"] >= 4
    assert all(value >= going.get(key, 0) for key, value in got.items() if "_total" in key or "_seconds" in key)
    assert b"secret" not in text


async def test_runs_with_too_many_different_names_are_counted_together() -> None:
    async with tf.inspect() as inspector:
        metrics = http.metrics(inspector=inspector)
        for i in range(NAMES + 5):
            function = functools.partial(int)
            function.__name__ = f"f{i}"  # type: ignore[attr-defined]
            await tf.empty().pipe(tf.map(function)).pipe(tf.drain())
        got = numbers(prometheus_text(metrics))

    ended = {key: value for key, value in got.items() if key.startswith("trioflow_runs_ended_total")}
    assert len(ended) == NAMES + 1
    assert ended["trioflow_runs_ended_total{run=(other),state=done}"] == 5
    assert not [key for key in got if "(other)" in key and "stage" in key]


# The documentation of the metrics.


async def names_of_all() -> set[str]:
    """Return the name of every sample that can be sent."""

    async def status() -> Any:
        return STATUS

    registry = CollectorRegistry()
    async with tf.inspect() as inspector:
        metrics = http.metrics(counters=Counters(), inspector=inspector, redis_streams={"a": status}, registry=registry)
        await tf.from_iterable([b"a"]).pipe(tf.join())
        metrics.observe(http.Access(0.0, "", "GET", "/", 200, 0, 0.1, False, None, None))
        await metrics._streams.refresh()
        async with tf.repeat(b"a").open() as receive:  # so that a channel holds something
            await receive.receive()
            parsed = text_string_to_metric_families(generate_latest(registry).decode())
            return {sample.name for family in parsed for sample in family.samples}


async def test_the_dashboard_and_the_page_have_every_metric_and_no_other() -> None:
    names = {name for name in await names_of_all() if not name.endswith(("_created", "_sum"))}
    board = (ROOT / "examples" / "grafana.json").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "how-to" / "metrics.md").read_text(encoding="utf-8").partition("## The metrics")[2]

    asked = {
        name
        for panel in json.loads(board)["panels"]
        for target in panel["targets"]
        for name in re.findall(r"trioflow_\w+", target["expr"])
    }
    assert asked - names == set()
    told = set(re.findall(r"trioflow_\w+", page))
    assert told - names - {"trioflow_http_request_duration_seconds"} == set()
    assert {name for name in names if not name.endswith(("_bucket", "_count"))} - told == set()


@pytest.mark.slow
@pytest.mark.needs("redis-server")
async def test_a_stream_in_a_real_redis_is_reported_and_is_down_when_its_server_has_gone(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server:
        metrics = http.metrics(redis_streams={"jobs": functools.partial(redis.status, server.url, "jobs")}, every=0.001)
        async with redis.open_sender(server.url, "jobs") as send:
            await send.send_many(["a", "b", "c"])
            await metrics._streams.refresh()
            up = numbers(prometheus_text(metrics))
    await trio.sleep(0.001)
    await metrics._streams.refresh()
    down = numbers(prometheus_text(metrics))

    assert (up["trioflow_redis_up{stream=jobs}"], up["trioflow_redis_lag{stream=jobs}"]) == (1, 3)
    assert down == {"trioflow_redis_up{stream=jobs}": 0}
