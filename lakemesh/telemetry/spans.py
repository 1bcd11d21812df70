"""From the OpenTelemetry SDK's spans to flat records."""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from lakemesh.telemetry.records import SpanRecord


class FlatteningProcessor(SpanProcessor):
    """Copies what an ended span says and lets go of it."""

    def __init__(self, put: Callable[[str, Any], None]) -> None:
        self._put = put

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self._put("spans", flatten(span))

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def flatten(span: ReadableSpan) -> SpanRecord:
    context, parent, status = span.context, span.parent, span.status
    assert context is not None
    scope = span.instrumentation_scope
    return SpanRecord(
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_span_id=parent.span_id if parent else None,
        trace_state=context.trace_state.to_header() if context.trace_state else "",
        flags=int(context.trace_flags),
        name=span.name,
        kind=f"SPAN_KIND_{span.kind.name}",
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        attributes=plain(span.attributes),
        dropped_attributes=span.dropped_attributes,
        events=tuple((event.timestamp, event.name, plain(event.attributes)) for event in span.events),
        status_code=f"STATUS_CODE_{status.status_code.name}",
        status_message=status.description,
        scope_name=scope.name if scope else "",
        scope_version=scope.version if scope else None,
    )


def plain(attributes: Mapping[str, Any] | None) -> dict[str, object]:
    return dict(attributes) if attributes else {}
