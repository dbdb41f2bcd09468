"""A program's metrics for Prometheus, through Prometheus' own client library.

Rule 1: the server counts nothing extra for this: its metrics come from its log and its `Counters`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from trioflow._core.checks import check_async, check_positive, check_type
from trioflow._core.extras import import_extra
from trioflow.http._access import METHODS, Access
from trioflow.http._numbers import Numbers, Runs, StatusOf, Streams, of_counters
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http.wire.counters import Counters
from trioflow.operators.inspecting import Inspector

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """The handler that `metrics` returns. It answers with the metrics; its `observe` counts a server's requests."""

    def __init__(
        self,
        sources: Iterable[Callable[[], Iterable[Numbers]]],
        streams: Streams,
        registry: CollectorRegistry | None,
    ) -> None:
        import_extra("http.metrics", "prometheus_client", "metrics")
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._registry = CollectorRegistry() if registry is None else registry
        self._streams = streams
        self._rest = _Rest(sources)
        self._registry.register(self._rest)
        self._seconds = Histogram(
            "trioflow_http_request_duration_seconds",
            "Time from a request's head to the end of its response.",
            ("method", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._cut = Counter(
            "trioflow_http_responses_cut", "Responses that were cut off.", ("method",), registry=self._registry
        )
        # Kept here because looking one up by its labels costs more than counting.
        self._known: dict[tuple[str, int], tuple[Histogram, Counter]] = {}

    def observe(self, access: Access) -> None:
        """Count one answered request. Pass this method to `serve` as `log`, or call it from your own log function."""
        key = access.method, access.status // 100
        known = self._known.get(key)
        if known is None:  # the server accepts 46 methods, so clients cannot make this grow without limit
            method = access.method if access.method in METHODS else "other"
            status = f"{access.status // 100}xx" if access.status else "none"
            known = self._known[key] = (self._seconds.labels(method, status), self._cut.labels(method))
        seconds, cut = known
        seconds.observe(access.seconds)
        if not access.is_whole:
            cut.inc()

    async def __call__(self, request: Request, response: Response) -> None:
        """Answer with the metrics, in the format that the client asks for."""
        from prometheus_client.exposition import choose_encoder

        response.headers["cache-control"] = "no-store"
        if request.method not in ("GET", "HEAD"):
            response.status = 405
            response.headers["allow"] = "GET, HEAD"
            return
        await self._streams.refresh()
        source: Any = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client import multiprocess

            # What all processes counted is in prometheus_client's files. Of the rest, only this process's is known.
            collector: Any = multiprocess.MultiProcessCollector
            source = SimpleNamespace(collect=lambda: chain(collector(None).collect(), self._rest.collect()))
        encode, response.headers["content-type"] = choose_encoder(request.headers.get("accept") or "")
        await response.send(encode(source))


class _Rest:
    """The metrics that are counted elsewhere and read at each scrape."""

    def __init__(self, sources: Iterable[Callable[[], Iterable[Numbers]]]) -> None:
        self._sources = tuple(sources)

    def describe(self) -> list[Metric]:
        """Return an empty list; without this method a registry would collect all numbers just to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for source in self._sources:
            for numbers in source():
                make = CounterMetricFamily if numbers.kind == "counter" else GaugeMetricFamily
                family = make(numbers.name, numbers.text, labels=numbers.labels)
                for labels, value in numbers.values:
                    family.add_metric(labels, value)
                yield family


def metrics(
    *,
    counters: Counters | None = None,
    inspector: Inspector | None = None,
    redis_streams: Mapping[str, StatusOf] | None = None,
    every: float = 5.0,
    registry: CollectorRegistry | None = None,
) -> Metrics:
    """Return a handler that serves a program's metrics to Prometheus. Needs `trioflow[metrics]`.

    Pass its `observe` to `serve` as `log` to count requests and time them in a histogram, by method and status class. It
    is meant for operators: do not expose it to the public.

    Each worker process has numbers of its own, and a scrape reaches any one of them. To count the requests of all workers
    together, set `PROMETHEUS_MULTIPROC_DIR` to an empty directory before the program starts; the other metrics are still
    those of one process.

    Waits when: the client does; for the status of streams in Redis, five seconds at most.
    Holds: 16 numbers for each method and status class, and 7 for each stage of the first 100 run names.

    Args:
        counters: The `Counters` that you pass to `serve`: connections, bytes, stalls, refusals and failures.
        inspector: The inspector that `tf.inspect` yields. Its runs are counted from now on.
        redis_streams: The async function to call for the status of each stream in Redis, by the name to show, such as
            `{"jobs": partial(redis.status, url, "jobs")}`.
        every: How many seconds to keep the status of a stream before asking again.
        registry: Where to register the metrics, if you have others; a new registry by default.

    Raises:
        ImportError: prometheus_client is not installed.
        TypeError: an argument has the wrong type.
        ValueError: `every` is not above 0, or `registry` already has these metrics.
    """
    check_type("metrics: counters", counters, Counters | None, "Counters")
    check_type("metrics: inspector", inspector, Inspector | None, "what tf.inspect() yields")
    check_positive("every", every)
    ask = dict(redis_streams or {})
    for name, function in ask.items():
        check_async(f"metrics: the stream {name!r}", function)
    streams = Streams(ask, every)
    sources: list[Callable[[], Iterable[Numbers]]] = []
    if counters is not None:
        sources.append(partial(of_counters, counters))
    if inspector is not None:
        sources.append(Runs(inspector).numbers)
    if ask:
        sources.append(streams.numbers)
    return Metrics(sources, streams, registry)
