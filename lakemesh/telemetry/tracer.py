"""Spans at a quarter of the SDK's price: the tracer of the request path.

It is an OpenTelemetry tracer to everybody who uses it: the API's context, propagators and `use_span` work on its
spans. What the SDK does for every span and this server does not need is left out: a lock, a copy per span at its
end, per-value cleaning and processors that only pass on. Values are made JSON when rows are made, off the request path.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from lakemesh.telemetry.exceptions import exception_attributes
from lakemesh.telemetry.records import SpanEvent, SpanLink, SpanRecord
from lakemesh.telemetry.sampling import HeadSampling

MAX_ATTRIBUTES = 128
MAX_EVENTS = 128
MAX_LINKS = 128
KINDS = {kind: f"SPAN_KIND_{kind.name}" for kind in SpanKind}
STATUS_CODES = {code: f"STATUS_CODE_{code.name}" for code in StatusCode}
OK = STATUS_CODES[StatusCode.OK]
UNSET = (STATUS_CODES[StatusCode.UNSET], None)
SAMPLED = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
NOT_SAMPLED = TraceFlags(TraceFlags.RANDOM_TRACE_ID)

CALLER_LINK = "lakemesh.caller_link"
"""In a context: the span of a caller whose trace is not continued; a span that is started in it links there."""

Attributes = Mapping[str, Any] | None


class LeanSpan(Span):
    """One span. It belongs to the task that started it, as every span here does, so nothing is locked."""

    __slots__ = (
        "_attributes", "_context", "_dropped", "_dropped_events", "_dropped_links", "_end", "_events", "_kind",
        "_links", "_name", "_parent", "_start", "_status", "_tracer",
    )  # fmt: skip

    def __init__(self, tracer: "LeanTracer", name: str, context: SpanContext, parent: SpanContext | None) -> None:
        self._tracer = tracer
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = SpanKind.INTERNAL
        self._attributes: dict[str, Any] = {}
        self._dropped = self._dropped_events = self._dropped_links = 0
        self._events: list[SpanEvent] = []
        self._links: tuple[SpanLink, ...] = ()
        self._status: tuple[str, str | None] = UNSET
        self._start = 0
        self._end = 0

    @property
    def tracer(self) -> "LeanTracer":
        return self._tracer

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._end == 0

    def set_attribute(self, key: str, value: Any) -> None:
        attributes = self._attributes
        if self._end:
            return
        if len(attributes) >= MAX_ATTRIBUTES and key not in attributes:
            self._dropped += 1
        else:
            attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._end:
            return
        if len(self._events) < MAX_EVENTS:
            self._events.append(SpanEvent(timestamp or time_ns(), name, dict(attributes or {})))
        else:
            self._dropped_events += 1

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if len(self._links) < MAX_LINKS:
            self._links += (to_link(context, attributes),)
        else:
            self._dropped_links += 1

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        code = status.status_code if isinstance(status, Status) else status
        if self._end == 0 and self._status[0] != OK and code is not StatusCode.UNSET:
            self._status = (STATUS_CODES[code], status.description if isinstance(status, Status) else description)

    def record_exception(
        self, exception: BaseException, attributes: Attributes = None, timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:  # fmt: skip
        described = {**exception_attributes(exception), "exception.escaped": str(escaped)}
        self.add_event("exception", {**described, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if self._end:
            return
        self._end = end_time or time_ns()
        parent = self._parent
        trace_id, span_id, _, flags, state, _ = self._context  # at once: each property of it is a function call
        code, message = self._status
        self._tracer.put(
            SpanRecord(
                trace_id,
                span_id,
                parent.span_id if parent is not None else None,
                parent is None or parent.is_remote,
                state.to_header() if state else "",
                flags,
                self._name,
                KINDS[self._kind],
                self._start,
                self._end,
                self._attributes,
                self._dropped,
                tuple(self._events),
                self._links,
                code,
                message,
                self._tracer.scope,
                self._dropped_events,
                self._dropped_links,
            )
        )

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and self._end == 0:
            self.record_exception(error, escaped=True)
            self.set_status(StatusCode.ERROR, type(error).__name__)
        self.end()


class LeanTracer(Tracer):
    """Starts spans and hands each one that ended to `put`. A span that nobody will keep is not recorded."""

    def __init__(self, name: str, version: str | None, *, sampling: HeadSampling, put: Callable[[SpanRecord], None]):
        self.scope = (name, version)
        self.put = put
        self._sampling = sampling

    def start_span(
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None, links: Sequence[Link] | None = None, start_time: int | None = None,
        record_exception: bool = True, set_status_on_exception: bool = True,
    ) -> Span:  # fmt: skip
        parent: SpanContext | None = get_current_span(context).get_span_context()
        if parent is None or parent is INVALID_SPAN_CONTEXT or not parent.is_valid:
            parent = None
            trace_id, state = random.getrandbits(128) or 1, None
        else:
            trace_id, state = parent.trace_id, parent.trace_state
        sampled = self._sampling.is_sampled(trace_id, parent)
        own = SpanContext(trace_id, random.getrandbits(64) or 1, False, SAMPLED if sampled else NOT_SAMPLED, state)
        if not sampled and not self._sampling.record_unsampled:
            return NonRecordingSpan(own)
        span = LeanSpan(self, name, own, parent)
        span._kind = kind
        if attributes:
            span._attributes = dict(attributes)
        caller = None if context is None else context.get(CALLER_LINK)
        if isinstance(caller, SpanContext):
            links = (*(links or ()), Link(caller))
        if links:
            span._links = tuple(to_link(link.context, link.attributes) for link in links)
        span._start = start_time or time_ns()
        return span

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # the API's decorator is private
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None, links: Sequence[Link] | None = None, start_time: int | None = None,
        record_exception: bool = True, set_status_on_exception: bool = True, end_on_exit: bool = True,
    ) -> Iterator[Span]:  # fmt: skip
        span = self.start_span(name, context, kind, attributes, links, start_time)
        token = otel_context.attach(set_span_in_context(span))
        try:
            yield span
        except Exception as error:
            if record_exception:
                span.record_exception(error)
            if set_status_on_exception:
                span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            otel_context.detach(token)
            if end_on_exit:
                span.end()


def to_link(context: SpanContext, attributes: Attributes) -> SpanLink:
    state = context.trace_state.to_header() if context.trace_state else ""
    return SpanLink(context.trace_id, context.span_id, state, int(context.trace_flags), dict(attributes or {}))
