"""Record runs as OpenTelemetry spans. It uses only the API; the program configures where spans go.

Rule 1: a span has names and counts, never items. A failure is recorded with its message.
Rule 2: a span is current within its block, so spans that start there are its children.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from trioflow._core import observing
from trioflow._core.extras import import_extra
from trioflow._core.labels import name_without_values
from trioflow._core.observing import HIDDEN, NotBegun, Watched, failure_of, state_of
from trioflow.operators.watching import BEGIN, WatchedRun, busiest

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

Attributes: TypeAlias = dict[str, Any]


class Span:
    """A span that is current within its block and ends with it.

    Args:
        provider: Where to get a tracer; None for the program's global provider.
        attributes: The attributes known at the start.
        headers: The headers of the request that this span answers, which may name its parent span.

    Attributes:
        is_kept: Whether the span is recorded; it is not if there is no SDK or the span was not sampled.
        at_end: Called at the end with the exception that left the block, or None; returns the attributes known by then,
            and the exception to record.
    """

    at_end: Callable[[BaseException | None], tuple[Attributes, BaseException | None]]

    def __init__(
        self,
        provider: TracerProvider | None,
        name: str,
        attributes: Attributes,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        from opentelemetry import propagate, trace

        kind = trace.SpanKind.INTERNAL if headers is None else trace.SpanKind.SERVER
        parent = None if headers is None else propagate.extract(headers)
        tracer = trace.get_tracer("trioflow", tracer_provider=provider)
        self._span = tracer.start_span(name, parent, kind, attributes=attributes)
        self._context = trace.set_span_in_context(self._span, parent)
        self.is_kept = self._span.is_recording()

    def __enter__(self) -> Self:
        from opentelemetry import context

        self._token = context.attach(self._context)
        return self

    def __exit__(self, kind: object, raised: BaseException | None, traceback: object) -> None:
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        context.detach(self._token)
        if not self.is_kept or isinstance(raised, NotBegun):
            return  # not ended, so it is not exported
        attributes, failure = self.at_end(raised)
        if failure is not None:
            attributes["error.type"] = _type_of(failure)
            self._span.record_exception(failure)
        if "error.type" in attributes:
            self._span.set_status(StatusCode.ERROR, None if failure is None else str(failure))
        self._span.set_attributes(attributes)
        self._span.end()


def _type_of(failure: BaseException) -> str:
    kind = type(failure)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Tracing:
    """Traces runs until its block ends or it is closed. Make one with `trace`."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._watch = self._traced  # keep this bound method, so that `close` can find it by identity
        observing.observers = (*observing.observers, self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop tracing: runs that start later are not traced. Closing twice is harmless."""
        observing.observers = tuple(each for each in observing.observers if each is not self._watch)

    def _traced(self, tasks: Sequence[Watched]) -> AbstractContextManager[object]:
        if observing.place.get() is HIDDEN:
            return nullcontext()  # the run serves an inspector's page
        names = [name_without_values(label) for task in tasks for label in task.labels]
        span = Span(self._provider, " | ".join(names), {"trioflow.run.stages": names})
        if span.is_kept:
            span.at_end = partial(_at_end, WatchedRun(tasks), names)
        return span


def _at_end(
    run: WatchedRun, names: Sequence[str], raised: BaseException | None
) -> tuple[Attributes, BaseException | None]:
    """Return a run's attributes at its end, and the exception that it failed with."""
    stages = run.look().since(BEGIN, names)
    attributes: Attributes = {
        "trioflow.run.state": state_of(raised),
        "trioflow.run.items": [stage.items for stage in stages],
        "trioflow.run.bytes": [stage.bytes or 0 for stage in stages],
    }
    if (slowest := busiest(stages)) is not None:
        attributes["trioflow.run.slowest"] = slowest.name
    return attributes, failure_of(raised)


def trace(tracer_provider: TracerProvider | None = None) -> Tracing:
    """Record an OpenTelemetry span for each run that starts from now on. Needs `trioflow[otel]`.

    A span has the names of the stages, without their arguments, and how the run went: its state, the counts of each
    stage, and the exception if it failed. The run's tasks, and the block of `open`, are inside the span, so spans that
    start there are its children.

    Use `with trace():` to stop at the end of the block. Or just call it; then it traces until the program ends or you
    call `close()`. Set up an OpenTelemetry SDK to export the spans; without one they are discarded.

    Args:
        tracer_provider: Where to get the tracer; by default the program's global provider.

    Raises:
        ImportError: opentelemetry is not installed.

    Example:
        >>> with trace():
        ...     run(pipeline(range(3), count()))
        3
    """
    import_extra("trace", "opentelemetry.trace", "otel")
    return Tracing(tracer_provider)
