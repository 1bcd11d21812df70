"""From the OpenTelemetry SDK's spans, which other libraries' instrumentation makes, to flat records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span

from lakemesh.telemetry.records import SpanEvent, SpanRecord
from lakemesh.telemetry.sampling import HeadSampling
from lakemesh.telemetry.tracer import KINDS, STATUS_CODES, to_link

NO_SCOPE = ("", None)


class FlatteningProcessor(SpanProcessor):
    """Copies what an ended span says and lets go of it."""

    def __init__(self, put: Callable[[SpanRecord], None]) -> None:
        self._put = put

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        self._put(flatten(span))

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def flatten(span: ReadableSpan) -> SpanRecord:
    """This runs in the request's way: it reads the fields behind the SDK's properties, of which some copy."""
    context, parent, status, scope = span._context, span._parent, span._status, span._instrumentation_scope
    attributes: Any = span._attributes
    assert context is not None
    return SpanRecord(
        context.trace_id,
        context.span_id,
        parent.span_id if parent is not None else None,
        parent is None or parent.is_remote,
        context.trace_state.to_header() if context.trace_state else "",
        context.trace_flags,
        span._name,
        KINDS[span._kind],
        span._start_time or 0,
        span._end_time or 0,
        attributes.copy() if attributes else {},
        attributes.dropped if attributes is not None else 0,
        tuple(SpanEvent(event.timestamp, event.name, dict(event.attributes or {})) for event in span._events)
        if span._events
        else (),
        tuple(to_link(link.context, link.attributes) for link in span._links) if span._links else (),
        STATUS_CODES[status.status_code],
        status.description,
        (scope.name, scope.version) if scope is not None else NO_SCOPE,
        getattr(span._events, "dropped", 0),
        getattr(span._links, "dropped", 0),
    )


class HeadSampler(Sampler):
    """The server's own head decision, as the SDK wants it."""

    def __init__(self, sampling: HeadSampling) -> None:
        self._sampling = sampling

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None, links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:  # fmt: skip
        context = get_current_span(parent_context).get_span_context()
        parent = context if context.is_valid else None
        if self._sampling.is_sampled(trace_id, parent):
            decision = Decision.RECORD_AND_SAMPLE
        else:
            decision = Decision.RECORD_ONLY if self._sampling.record_unsampled else Decision.DROP
        return SamplingResult(decision, attributes, parent.trace_state if parent else None)

    def get_description(self) -> str:
        return f"HeadSampler({self._sampling.ratio})"
