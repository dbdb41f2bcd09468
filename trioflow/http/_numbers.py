"""What a program counts, as metrics with names and labels: its server, the runs an inspector sees, its Redis streams.

Rule 1: the number of metrics depends only on the program's code, never on what clients send or on what runs carry.
Rule 2: a counter never falls while the inspector's block runs, even though runs end and are forgotten.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import trio

from trioflow.http.wire.counters import Counters
from trioflow.operators.inspecting import Inspector, RunSnapshot
from trioflow.operators.watching import Counted, Look

_log: Final = logging.getLogger("trioflow.http")
PATIENCE: Final = 5.0  # seconds to wait for the status of a stream: Prometheus gives the whole scrape ten
NAMES: Final = 100  # run names that are counted by themselves; later names are counted together
_OTHER: Final = "(other)"
Kind: TypeAlias = Literal["counter", "gauge"]
StatusOf: TypeAlias = Callable[[], Awaitable[object]]


class Numbers(NamedTuple):
    """One metric: its numbers, each with its label values."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    values: Iterable[tuple[tuple[str, ...], float]]


_COUNTERS: Final = (
    ("connections", "trioflow_http_connections", "Connections accepted."),
    ("received", "trioflow_http_received_bytes", "Bytes received; with TLS, as encrypted."),
    ("sent", "trioflow_http_sent_bytes", "Bytes sent; with TLS, as encrypted."),
    ("stalls", "trioflow_http_stalls", "Clients dropped because they sent or read nothing for too long."),
    ("refusals", "trioflow_http_refusals", "Requests answered with a client error, such as malformed ones."),
    ("failures", "trioflow_http_failures", "Requests whose handler failed."),
)
_STATUS: Final[tuple[tuple[Kind, str, str, str], ...]] = (
    ("gauge", "entries", "trioflow_redis_entries", "Entries that are unread or unacknowledged."),
    ("gauge", "lag", "trioflow_redis_lag", "Entries that have never been delivered."),
    ("gauge", "dead", "trioflow_redis_dead_letters", "Dead letters kept."),
    ("gauge", "oldest", "trioflow_redis_oldest_seconds", "Age of the oldest unacknowledged entry."),
    ("counter", "retries", "trioflow_redis_retries", "Deliveries of entries that had been delivered before."),
    ("counter", "dropped", "trioflow_redis_dead_letters_dropped", "Dead letters dropped because there were too many."),
)


def of_counters(counters: Counters) -> Iterator[Numbers]:
    """Yield the metrics of a server."""
    now = [((), counters.open)]
    yield Numbers("gauge", "trioflow_http_connections_open", "Connections open now.", (), now)
    for key, name, text in _COUNTERS:
        yield Numbers("counter", name, text, (), [((), getattr(counters, key))])


class Streams:
    """The status of streams in Redis, read at most once every `every` seconds."""

    def __init__(self, ask: Mapping[str, StatusOf], every: float) -> None:
        self._ask = ask
        self._every = every
        self._asked = -every
        self._lock = trio.Lock()
        self._known: dict[str, dict[str, float]] = {}  # by stream; empty if its status could not be read

    async def refresh(self) -> None:
        """Read each stream's status again, unless the last one is less than `every` seconds old."""
        async with self._lock:
            if 0 <= trio.current_time() - self._asked < self._every:
                return
            async with trio.open_nursery() as nursery:
                for stream in self._ask:
                    nursery.start_soon(self._refresh, stream)
            self._asked = trio.current_time()

    async def _refresh(self, stream: str) -> None:
        try:
            with trio.fail_after(PATIENCE):
                status = await self._ask[stream]()
            self._known[stream] = {key: float(getattr(status, key)) for _, key, _, _ in _STATUS}
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other metrics are still served
            if self._known.get(stream, True):
                _log.warning("metrics: cannot read the status of the stream %r: %r", stream, exc)
            self._known[stream] = {}

    def numbers(self) -> Iterator[Numbers]:
        """Yield the metrics from the last status of each stream."""
        up = {(stream,): float(bool(status)) for stream, status in self._known.items()}
        yield Numbers(
            "gauge", "trioflow_redis_up", "Whether the stream's status could be read.", ("stream",), up.items()
        )
        for kind, key, name, text in _STATUS:
            values = {(stream,): status[key] for stream, status in self._known.items() if status}
            yield Numbers(kind, name, text, ("stream",), values.items())


class _Total(NamedTuple):
    """What a stage has done in all runs of the same name."""

    items: int = 0
    bytes: int = 0
    source_wait: float = 0.0
    reader_wait: float = 0.0
    busy: float = 0.0

    def plus(self, stage: Counted) -> _Total:
        """Return this total plus what the stage of one more run has counted."""
        return _Total(
            self.items + stage.items,
            self.bytes + (stage.bytes or 0),
            self.source_wait + stage.source_wait,
            self.reader_wait + stage.reader_wait,
            self.busy + max(stage.lasted - stage.source_wait - stage.reader_wait, 0.0),
        )


_Totals: TypeAlias = defaultdict[tuple[str, ...], _Total]


class Runs:
    """The metrics of the runs that an inspector sees, and has seen since this object was made."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._names: set[str] = set()
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._totals: _Totals = defaultdict(_Total)
        inspector._on_end.append(self._end)

    def _end(self, run: RunSnapshot, look: Look) -> None:
        self._ended[self._name_of(run), run.state] += 1
        self._count(run, look, self._totals)

    def _name_of(self, run: RunSnapshot) -> str:
        if run.name not in self._names:
            if len(self._names) >= NAMES:
                return _OTHER
            self._names.add(run.name)
        return run.name

    def _count(self, run: RunSnapshot, look: Look, totals: _Totals) -> list[tuple[str, ...]]:
        """Add a run's stages to `totals` and return their keys there; an empty list if its name is not counted by itself."""
        name = self._name_of(run)
        if name == _OTHER:
            return []
        places: list[tuple[str, ...]] = [(name, str(i), stage.name) for i, stage in enumerate(run.stages, 1)]
        for place, stage in zip(places, look.stages, strict=True):
            totals[place] = totals[place].plus(stage)
        return places

    def numbers(self) -> Iterator[Numbers]:
        """Yield what all runs have done, and the state of those in progress."""
        going: Counter[tuple[str, ...]] = Counter({(name,): 0 for name in self._names})
        slowest: Counter[tuple[str, ...]] = Counter()
        fill: dict[tuple[str, ...], float] = {}
        totals = self._totals.copy()
        for run, look in self._inspector._looks():
            going[self._name_of(run),] += 1
            for place, stage in zip(self._count(run, look, totals), run.stages, strict=False):
                slowest[place] += stage is run.slowest
                if stage.fill is not None:
                    fill[place] = max(fill.get(place, 0.0), stage.fill)
        yield Numbers("gauge", "trioflow_runs", "Runs in progress.", ("run",), going.items())
        yield Numbers("counter", "trioflow_runs_ended", "Runs that have ended.", ("run", "state"), self._ended.items())
        at = ("run", "place", "stage")
        for key, name, text in (
            ("items", "trioflow_stage_items", "Items that a stage has sent, or received if it is the last."),
            ("bytes", "trioflow_stage_bytes", "Bytes that a stage has sent or received, if they are counted."),
            ("source_wait", "trioflow_stage_source_wait_seconds", "Time that a stage has waited for items."),
            ("reader_wait", "trioflow_stage_reader_wait_seconds", "Time that a stage has waited for its reader."),
            ("busy", "trioflow_stage_busy_seconds", "Time that a stage has waited for neither."),
        ):
            values = {
                place: float(getattr(total, key)) for place, total in totals.items() if total.bytes or key != "bytes"
            }
            yield Numbers("counter", name, text, at, values.items())
        yield Numbers("gauge", "trioflow_stage_slowest", "Runs whose slowest stage is this one.", at, slowest.items())
        yield Numbers(
            "gauge", "trioflow_channel_fill_ratio", "How full the channel after a stage is.", at, fill.items()
        )
