"""Pass-through to any OpenTelemetry collector, or to Zerobus' OTLP endpoint, as OTLP over HTTP with protobuf.

Executions and model calls, which OTLP has no signal for, go as log records whose `event_name` tells what they are.
"""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, Any

import httpx
from pydantic_core import from_json, to_jsonable_python

from lakemesh.config.telemetry import OtlpConfig
from lakemesh.errors import Unavailable
from lakemesh.telemetry.sinks.base import Leftover, Parcel, Refused
from lakemesh.telemetry.tables import Kind

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PATHS: Mapping[Kind, str] = {
    "spans": "traces",
    "logs": "logs",
    "metrics": "metrics",
    "executions": "logs",
    "models": "logs",
}
# OTLP 1.9, "Failures": these may be retried, every other 4xx and 5xx must not.
RETRYABLE = frozenset({408, 429, 502, 503, 504})
# A wrong address or credential is the operator's to mend; the records are fine.
OPERATORS = frozenset({401, 403, 404})
EVENT_NAMES = {"executions": "lakemesh.execution", "models": "lakemesh.model_use"}


class OtlpSink:
    name = "otlp"
    group_records = 1_000

    def __init__(self, config: OtlpConfig) -> None:
        self._config = config
        self._client: httpx.AsyncClient | None = None
        self._encoded: tuple[tuple[str, int], bytes] | None = None

    async def open(self) -> None:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._config.timeout_seconds)

    async def applied_version(self, target: str, app_id: str) -> int | None:
        return None

    async def deliver(self, parcel: Parcel) -> Leftover | None:
        assert self._client is not None
        if PATHS[parcel.kind] not in self._config.signals:
            return None
        headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip", **self._config.headers}
        if self._config.table_header is not None:
            headers[self._config.table_header] = parcel.target
        url = f"{self._config.endpoint.rstrip('/')}/v1/{PATHS[parcel.kind]}"
        try:
            response = await self._client.post(url, content=await self._encode(parcel), headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"The collector at {url} does not answer: {error}") from error
        if response.is_success:
            self._encoded = None
            return rejected(parcel, response.content)
        if response.status_code in RETRYABLE | OPERATORS:
            raise Unavailable(f"The collector at {url} answered {response.status_code}.")
        raise Refused(f"the collector answered {response.status_code}: {response.text[:500]}")

    async def _encode(self, parcel: Parcel) -> bytes:
        """The request's body, made in a worker thread and kept for the next try of the same parcel."""
        key = (parcel.target, parcel.version)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = (key, await asyncio.to_thread(encode, parcel))
        return self._encoded[1]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def encode(parcel: Parcel) -> bytes:
    return gzip.compress(MESSAGES[PATHS[parcel.kind]](parcel).SerializeToString(), 1)


def rejected(parcel: Parcel, content: bytes) -> Leftover | None:
    """Partial success does not say which records were rejected, and forbids to send them again: all are kept aside."""
    # The three signals' answers are the same on the wire: partial_success = 1 {rejected = 1, error_message = 2}.
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    partial = ExportTraceServiceResponse.FromString(content).partial_success
    count = partial.rejected_spans
    if not count:
        return None
    return Leftover(parcel.rows, f"{count} of {len(parcel.rows)} rejected by the collector: {partial.error_message}")


def trace_messages(parcel: Parcel) -> "Message":
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
    from opentelemetry.proto.trace.v1 import trace_pb2 as trace

    request = service.ExportTraceServiceRequest()
    for row, scoped in scoped_rows(parcel, request.resource_spans, "scope_spans"):
        span = scoped.spans.add(
            trace_id=bytes.fromhex(row["trace_id"]),
            span_id=bytes.fromhex(row["span_id"]),
            parent_span_id=bytes.fromhex(row["parent_span_id"] or ""),
            trace_state=row["trace_state"],
            flags=row["flags"],
            name=row["name"],
            kind=trace.Span.SpanKind.Value(row["kind"]),
            start_time_unix_nano=row["start_time_unix_nano"],
            end_time_unix_nano=row["end_time_unix_nano"],
            attributes=key_values(row["attributes"]),
            dropped_attributes_count=row["dropped_attributes_count"],
        )
        span.status.code = trace.Status.StatusCode.Value(row["status"]["code"])
        span.status.message = row["status"]["message"] or ""
        for event in row["events"]:
            at, name = event["time_unix_nano"], event["name"]
            span.events.add(time_unix_nano=at, name=name, attributes=key_values(event["attributes"]))
        for link in row["links"]:
            trace_id, span_id = bytes.fromhex(link["trace_id"]), bytes.fromhex(link["span_id"])
            span.links.add(trace_id=trace_id, span_id=span_id, attributes=key_values(link["attributes"]))
    return request


def log_messages(parcel: Parcel) -> "Message":
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

    request = service.ExportLogsServiceRequest()
    if parcel.kind != "logs":
        scoped = request.resource_logs.add().scope_logs.add()
        for row in parcel.rows.to_pylist():
            at = int(row["timestamp"].timestamp() * 1e9)
            attributes = list(starmap(key_value, to_jsonable_python(row).items()))
            scoped.log_records.add(time_unix_nano=at, event_name=EVENT_NAMES[parcel.kind], attributes=attributes)
        return request
    for row, scoped in scoped_rows(parcel, request.resource_logs, "scope_logs"):
        scoped.log_records.add(
            time_unix_nano=row["time_unix_nano"],
            observed_time_unix_nano=row["observed_time_unix_nano"],
            severity_number=int(row["severity_number"]),
            severity_text=row["severity_text"],
            body=any_value(from_json(row["body"])),
            attributes=key_values(row["attributes"]),
            flags=row["flags"],
            trace_id=bytes.fromhex(row["trace_id"] or ""),
            span_id=bytes.fromhex(row["span_id"] or ""),
        )
    return request


def metric_messages(parcel: Parcel) -> "Message":
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
    from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics

    request = service.ExportMetricsServiceRequest()
    for row, scoped in scoped_rows(parcel, request.resource_metrics, "scope_metrics"):
        kind = row["metric_type"]
        point = row[kind]
        metric = scoped.metrics.add(name=row["name"], description=row["description"], unit=row["unit"])
        data = getattr(metric, kind)
        if "aggregation_temporality" in point:
            data.aggregation_temporality = metrics.AggregationTemporality.Value(point["aggregation_temporality"])
        if "is_monotonic" in point:
            data.is_monotonic = point["is_monotonic"]
        target = data.data_points.add(
            start_time_unix_nano=row["start_time_unix_nano"],
            time_unix_nano=row["time_unix_nano"],
            attributes=key_values(point["attributes"]),
        )
        fill_point(target, point)
    return request


def fill_point(target: Any, point: Mapping[str, Any]) -> None:
    """The numbers of one data point."""
    if "value" in point:
        target.as_double = point["value"]
    for name in ("count", "sum", "min", "max", "scale", "zero_count"):
        if point.get(name) is not None:
            setattr(target, name, point[name])
    for name in ("bucket_counts", "explicit_bounds"):
        getattr(target, name, []).extend(point.get(name) or ())
    for name, bucket in (("positive", "positive_bucket"), ("negative", "negative_bucket")):
        if point.get(bucket) is not None:
            getattr(target, name).offset = point[bucket]["offset"]
            getattr(target, name).bucket_counts.extend(point[bucket]["bucket_counts"])


MESSAGES: "Mapping[str, Callable[[Parcel], Message]]" = {
    "traces": trace_messages,
    "logs": log_messages,
    "metrics": metric_messages,
}


def scoped_rows(parcel: Parcel, resources: Any, scopes: str) -> Any:
    """Each row with the message of its instrumentation scope, under the message of its resource."""
    found: dict[tuple[str, str, str | None], Any] = {}
    by_resource: dict[str, Any] = {}
    for row in parcel.rows.to_pylist():
        bag, scope = row["resource"]["attributes"], row["instrumentation_scope"]
        key = (bag, scope["name"], scope["version"])
        if key not in found:
            if bag not in by_resource:
                by_resource[bag] = resources.add()
                by_resource[bag].resource.attributes.extend(key_values(bag))
            found[key] = getattr(by_resource[bag], scopes).add()
            found[key].scope.name, found[key].scope.version = scope["name"] or "", scope["version"] or ""
        yield row, found[key]


def key_values(bag: str) -> "list[KeyValue]":
    """A JSON object as OTLP attributes."""
    return list(starmap(key_value, from_json(bag).items())) if bag != "{}" else []


def key_value(key: str, value: Any) -> "KeyValue":
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return KeyValue(key=key, value=any_value(value))


def any_value(value: Any) -> "AnyValue":
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList

    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(1 << 63) <= value < 1 << 63 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=list(starmap(key_value, value.items()))))
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    return AnyValue()
