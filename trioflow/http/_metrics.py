"""The numbers of a program for Prometheus, through its own client library.

Rule 1: the number of series is bounded, whatever clients send and however many runs there are.
Rule 2: a source of numbers that fails is a 0 in the answer, and never an error page.
Rule 3: nothing is counted for the server but what it counts for its log and its `Counters` already.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from trioflow._core.checks import check_async, check_positive
from trioflow._core.extras import import_extra
from trioflow.http._access import METHODS, Access
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http.wire.counters import Counters

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

_log: Final = logging.getLogger("trioflow.http")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
_PATIENCE: Final = 5.0  # seconds for the status of a stream: Prometheus waits ten for the whole answer
_COUNTERS: Final = {
    "connections": ("trioflow_http_connections", "Connections accepted."),
    "received": ("trioflow_http_received_bytes", "Bytes received, within TLS where there is TLS."),
    "sent": ("trioflow_http_sent_bytes", "Bytes sent, within TLS where there is TLS."),
    "stalls": ("trioflow_http_stalls", "Clients that were dropped because they sent nothing, or read nothing."),
    "refusals": ("trioflow_http_refusals", "Requests answered with a client error, such as one that is malformed."),
    "failures": ("trioflow_http_failures", "Requests whose handler failed."),
}
_STREAM_GAUGES: Final = {
    "entries": ("trioflow_redis_entries", "Entries that are unread or unacknowledged."),
    "lag": ("trioflow_redis_lag", "Entries that have never been delivered."),
    "dead": ("trioflow_redis_dead_letters", "Dead letters that are kept."),
    "oldest": ("trioflow_redis_oldest_seconds", "Age of the oldest entry that is not acknowledged."),
}
_STREAM_COUNTERS: Final = {
    "retries": ("trioflow_redis_retries", "Deliveries of entries that had been tried before."),
    "dropped": ("trioflow_redis_dead_letters_dropped", "Dead letters that were dropped because there were too many."),
}


class _Source(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class Metrics:
    """What `metrics` returns: a handler that answers with the numbers, and what counts a server's requests."""

    def __init__(
        self,
        counters: Counters | None,
        redis_streams: Mapping[str, Callable[[], Awaitable[object]]],
        every: float,
        registry: CollectorRegistry | None,
    ) -> None:
        import_extra("http.metrics", "prometheus_client", "metrics")
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._registry = CollectorRegistry() if registry is None else registry
        self._streams = _Streams(redis_streams, every)
        self._rest = _Rest(counters, self._streams)
        self._registry.register(self._rest)
        self._seconds = Histogram(
            "trioflow_http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._cut = Counter(
            "trioflow_http_responses_cut", "Answers that were not sent whole.", ("method",), registry=self._registry
        )
        self._known: dict[
            tuple[str, int], tuple[Histogram, Counter]
        ] = {}  # to find one by its labels costs more than to count in it

    def observe(self, access: Access) -> None:
        """Count one answered request: pass this to `serve` as `log`, or call it from your own."""
        key = access.method, access.status // 100
        known = self._known.get(key)
        if known is None:  # the server answers 46 methods; a client cannot make up more
            method = access.method if access.method in METHODS else "other"
            status = f"{access.status // 100}xx" if access.status else "none"
            known = self._known[key] = (self._seconds.labels(method, status), self._cut.labels(method))
        seconds, cut = known
        seconds.observe(access.seconds)
        if not access.is_whole:
            cut.inc()

    async def __call__(self, request: Request, response: Response) -> None:
        """Answer with the numbers, in the format that the client asks for."""
        from prometheus_client.exposition import choose_encoder

        response.headers["cache-control"] = "no-store"
        if request.method not in ("GET", "HEAD"):
            response.status = 405
            response.headers["allow"] = "GET, HEAD"
            return
        await self._streams.refresh()
        source: _Source = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            source = _AllProcesses(self._rest)
        encode, response.headers["content-type"] = choose_encoder(request.headers.get("accept") or "")
        await response.send(encode(source))


class _AllProcesses:
    """What all processes have counted, by prometheus_client's files, and the numbers of this one that have no file."""

    def __init__(self, rest: _Source) -> None:
        self._rest = rest

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import multiprocess

        collector: Any = multiprocess.MultiProcessCollector
        yield from collector(None).collect()
        yield from self._rest.collect()


class _Streams:
    """The numbers of streams in Redis, asked for at most every so many seconds."""

    def __init__(self, ask: Mapping[str, Callable[[], Awaitable[object]]], every: float) -> None:
        self._ask = ask
        self._every = every
        self._asked = -every
        self._lock = trio.Lock()
        self.numbers: dict[str, dict[str, float]] = {}  # by stream; empty if its status could not be read

    async def refresh(self) -> None:
        """Ask again, unless that was done a moment ago."""
        async with self._lock:
            if 0 <= trio.current_time() - self._asked < self._every:
                return
            async with trio.open_nursery() as nursery:
                for name in self._ask:
                    nursery.start_soon(self._refresh, name)
            self._asked = trio.current_time()

    async def _refresh(self, name: str) -> None:
        try:
            with trio.fail_after(_PATIENCE):
                status = await self._ask[name]()
            self.numbers[name] = {key: float(getattr(status, key)) for key in (*_STREAM_GAUGES, *_STREAM_COUNTERS)}
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other numbers are answered
            if self.numbers.get(name, True):
                _log.warning("metrics: the status of the stream %r cannot be read: %r", name, exc)
            self.numbers[name] = {}


class _Rest:
    """What is counted elsewhere, read when it is asked for."""

    def __init__(self, counters: Counters | None, streams: _Streams) -> None:
        self._counters = counters
        self._streams = streams

    def describe(self) -> list[Metric]:
        """Return nothing: a registry that wants to know the names would ask for the numbers otherwise."""
        return []

    def collect(self) -> Iterator[Metric]:
        if self._counters is not None:
            yield from _of_counters(self._counters)
        if self._streams.numbers:
            yield from _of_streams(self._streams.numbers)


def _of_counters(counters: Counters) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("trioflow_http_connections_open", "Connections at this moment.", counters.open)
    for key, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(name, text, getattr(counters, key))


def _of_streams(numbers: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    up = GaugeMetricFamily("trioflow_redis_up", "Whether the stream's status could be read.", labels=["stream"])
    for stream, values in numbers.items():
        up.add_metric([stream], bool(values))
    yield up
    for keys, kind in ((_STREAM_GAUGES, GaugeMetricFamily), (_STREAM_COUNTERS, CounterMetricFamily)):
        for key, (name, text) in keys.items():
            family = kind(name, text, labels=["stream"])
            for stream, values in numbers.items():
                if values:
                    family.add_metric([stream], values[key])
            yield family


def metrics(
    *,
    counters: Counters | None = None,
    redis_streams: Mapping[str, Callable[[], Awaitable[object]]] | None = None,
    every: float = 5.0,
    registry: CollectorRegistry | None = None,
) -> Metrics:
    """Return a handler that answers with a program's numbers for Prometheus. Needs `trioflow[metrics]`.

    Pass its `observe` to `serve` as `log`: then requests are counted, and timed in a histogram, by method and class of
    status. It is meant for those who run the server: do not expose it to the public.

    Waits when: the client does; for the status of streams in Redis, five seconds at most.
    Holds: 16 numbers for each method and class of status, at most 8 times 6; the last status of each stream.

    Args:
        counters: The ones that you pass to `serve`: connections, bytes, stalls, refusals and failures.
        redis_streams: What to call for the status of each stream in Redis, by the name to show, such as
            `{"jobs": partial(redis.status, url, "jobs")}`.
        every: For how many seconds the status of a stream is kept.
        registry: Where to register the metrics, beside others of yours; a new registry by default.

    Raises:
        ImportError: prometheus_client is not installed.
        TypeError: an argument has the wrong type.
        ValueError: `every` is not above 0, or `registry` has these metrics already.
    """
    if not (counters is None or isinstance(counters, Counters)):
        raise TypeError(f"metrics: counters must be Counters, got {counters!r}")
    check_positive("every", every)
    streams = dict(redis_streams or {})
    for name, ask in streams.items():
        check_async(f"metrics: the stream {name!r}", ask)
    return Metrics(counters, streams, every, registry)
