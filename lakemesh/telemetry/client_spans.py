"""Spans of calls to other servers, and the trace context that goes along with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import NoOpTracer, Span, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lakemesh.telemetry.tracer import LeanSpan


@contextmanager
def client_span(name: str, url: str | None, attributes: Mapping[str, Any]) -> Iterator[Span]:
    """A CLIENT span below the current one, around a call to the server at `url`. What is sent inside carries it."""
    current = get_current_span()
    tracer: Tracer = current.tracer if isinstance(current, LeanSpan) else NoOpTracer()
    parts = urlsplit(url or "")
    address: dict[str, Any] = {"server.address": parts.hostname} if parts.hostname else {}
    if parts.port:
        address["server.port"] = parts.port
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes={**attributes, **address}) as span:
        yield span


def trace_context() -> dict[str, str]:
    """`traceparent` and `tracestate` (W3C Trace Context) of the current span, for a protocol's metadata; empty outside
    of one. MCP has them in `_meta`."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
