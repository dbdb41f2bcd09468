"""Runs as OpenTelemetry spans: what a span says, and whose child it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import trio
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

import trioflow as tf
from trioflow._core import observing


class Spans:
    """The spans that have ended, in the order in which they ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with tf.trace(spans.provider):
        yield spans
    assert observing.observers == ()


async def test_a_run_is_a_span_with_its_stages_and_counts_and_no_values(spans: Spans) -> None:
    def double(n: int) -> int:
        return 2 * n

    await tf.from_iterable([1, 2, 3]).pipe(tf.map(double)).pipe(tf.take(2)).pipe(tf.collect())

    [span] = spans.ended()
    assert span.name == "from_iterable | map(double) | take | collect"
    assert span.attributes is not None
    assert span.attributes["trioflow.run.stages"] == ("from_iterable", "map(double)", "take", "collect")
    assert span.attributes["trioflow.run.items"] == (3, 3, 2, 2)
    assert span.attributes["trioflow.run.bytes"] == (0, 0, 0, 0)
    assert span.attributes["trioflow.run.slowest"] in span.attributes["trioflow.run.stages"]
    assert span.attributes["trioflow.run.state"] == "done"
    assert span.status.status_code is StatusCode.UNSET


async def test_the_span_of_a_failed_run_is_an_error_with_its_exception_and_a_cancelled_run_is_not_an_error(
    spans: Spans,
) -> None:
    with pytest.raises(KeyError):
        await tf.failed(KeyError("gone")).pipe(tf.drain())
    with trio.CancelScope() as scope:
        scope.cancel()
        await tf.ticks(1).pipe(tf.drain())
    async with tf.ticks(1).open():
        pass

    failed, cancelled, left = spans.ended()
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "'gone'")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "KeyError"
    assert failed.attributes["trioflow.run.state"] == "failed"
    [event] = failed.events
    assert event.attributes is not None
    assert "in stage 1 of 2: failed" in str(event.attributes["exception.stacktrace"])
    for span, state in ((cancelled, "cancelled"), (left, "done")):
        assert span.attributes is not None
        assert (span.status.status_code, span.attributes["trioflow.run.state"]) == (StatusCode.UNSET, state)


async def test_spans_started_in_a_run_or_in_its_block_are_its_children_and_later_ones_are_not(spans: Spans) -> None:
    async def inner(n: int) -> int:
        return await tf.from_iterable(range(n)).pipe(tf.count())

    tracer = spans.provider.get_tracer("test")
    with tracer.start_as_current_span("mine"):
        await tf.from_iterable([1, 2]).pipe(tf.map_async(inner)).pipe(tf.drain())
        async with tf.from_iterable([1]).pipe(tf.map(str)).open() as receive:
            with tracer.start_as_current_span("in the block"):
                await receive.receive()
        assert otel.get_current_span().get_span_context().span_id

    named = {span.context.span_id: span.name for span in spans.ended()}
    tree = sorted((span.name, None if span.parent is None else named[span.parent.span_id]) for span in spans.ended())
    assert tree == [
        ("from_iterable | count", "from_iterable | map_async(inner) | drain"),
        ("from_iterable | count", "from_iterable | map_async(inner) | drain"),
        ("from_iterable | map(str)", "mine"),
        ("from_iterable | map_async(inner) | drain", "mine"),
        ("in the block", "from_iterable | map(str)"),
        ("mine", None),
    ]
    assert not otel.get_current_span().get_span_context().is_valid


async def test_a_source_that_cannot_be_copied_as_a_whole_makes_one_span(spans: Spans, tmp_path: object) -> None:
    path = f"{tmp_path}/a"
    await tf.from_iterable([b"abc"]).pipe(tf.write_file(path))
    await tf.read_file(path).pipe(tf.write_file(f"{path}.copy"))

    assert [span.name for span in spans.ended()] == ["from_iterable | write_file", "read_file | write_file"]
    assert spans.ended()[1].attributes is not None
    assert spans.ended()[1].attributes["trioflow.run.bytes"] == (3, 3)


async def test_a_run_is_traced_until_tracing_is_closed_and_can_be_inspected_at_the_same_time() -> None:
    spans = Spans()
    tracing = tf.trace(spans.provider)
    async with tf.inspect() as inspector:
        await tf.empty().pipe(tf.drain())
        tracing.close()
        tracing.close()
        await tf.empty().pipe(tf.drain())
        with inspector._hidden(), tf.trace(spans.provider):  # hidden, as the runs of an inspector's own page are
            await tf.empty().pipe(tf.drain())

        assert [run.name for run in inspector.runs()] == ["empty | drain"] * 2
    assert [span.name for span in spans.ended()] == ["empty | drain"]


async def test_a_run_that_is_not_sampled_is_neither_recorded_nor_timed() -> None:
    spans = Spans(ALWAYS_OFF)
    with tf.trace(spans.provider):
        async with tf.from_iterable([1]).open() as receive:
            assert receive._buffer.clock is None  # type: ignore[attr-defined]
            assert not otel.get_current_span().is_recording()
            await receive.receive()

    assert spans.ended() == ()


def test_without_opentelemetry_the_error_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)

    with pytest.raises(ImportError, match=r"trace needs opentelemetry.trace: pip install 'trioflow\[otel\]'"):
        tf.trace()
    assert observing.observers == ()
