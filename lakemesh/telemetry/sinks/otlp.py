"""Pass-through to any OpenTelemetry collector, or to Zerobus' OTLP endpoint, as OTLP over HTTP with protobuf.

Executions and model calls, which OTLP has no signal for, go as log records whose `event_name` tells what they are.
"""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
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
    "feedback": "logs",
}
# OTLP 1.9, "Failures": these may be retried, every other 4xx and 5xx must not.
RETRYABLE = frozenset({408, 429, 502, 503, 504})
# A wrong address or credential is the operator's to mend; the records are fine.
OPERATORS = frozenset({401, 403, 404})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EVENT_NAMES: Mapping[Kind, str] = {
    "executions": "lakemesh.execution",
    "models": "lakemesh.model_use",
    "feedback": "lakemesh.feedback",
}


class OtlpSink:
    name = "otlp"
    group_records = 1_000

    def __init__(self, config: OtlpConfig, resource: Mapping[str, Any]) -> None:
        self._config = config
        self._resource = resource
        self._client: httpx.AsyncClient | None = None

    async def open(self, kind: Kind) -> None:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._config.timeout_seconds)

    async def applied_version(self, target: str, app_id: str) -> int | None:
        return None

    async def deliver(self, parcel: Parcel) -> Leftover | None:
        assert self._client is not None
        if PATHS.get(parcel.kind) not in self._config.signals:
            return None  # the audit trail and its keys go to tables alone
        headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip", **self._config.headers}
        if self._config.table_header is not None:
            headers[self._config.table_header] = parcel.target
        url = f"{self._config.endpoint.rstrip('/')}/v1/{PATHS[parcel.kind]}"
        content = await asyncio.to_thread(encode, parcel, self._resource)
        try:
            response = await self._client.post(url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"The collector at {url} does not answer: {error}") from error
        if response.is_success:
            return rejected(parcel, response.content)
        if response.status_code in RETRYABLE | OPERATORS:
            raise Unavailable(
                f"The collector at {url} answered {response.status_code}.",
                retry_after_seconds=retry_after_seconds(response.headers),
            )
        raise Refused(f"the collector answered {response.status_code}: {response.text[:500]}")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def encode(parcel: Parcel, resource: Mapping[str, Any]) -> bytes:
    path = PATHS[parcel.kind]
    message = event_messages(parcel, resource) if parcel.kind in EVENT_NAMES else MESSAGES[path](parcel)
    return gzip.compress(message.SerializeToString(), 1)


def retry_after_seconds(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds (RFC 9110 section 10.2.3); a date is not what collectors send, and is left out."""
    given = headers.get("retry-after", "")
    return float(given) if given.isdecimal() and len(given) < 7 else None


def rejected(parcel: Parcel, content: bytes) -> Leftover | None:
    """Partial success does not say which records were rejected, and forbids to send any of them again (OTLP 1.9,
    "Partial Success"): they are kept when all were rejected, and counted otherwise."""
    # The three signals' answers are the same on the wire: partial_success = 1 {rejected = 1, error_message = 2}.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(content).partial_success
    except DecodeError:
        return None  # an empty or a JSON answer: it was taken all the same
    count = partial.rejected_spans
    if count <= 0:
        return None
    everything = count >= len(parcel.rows)
    reason = f"{count} of {len(parcel.rows)} rejected by the collector: {partial.error_message[:500]}"
    return Leftover(rows=parcel.rows if everything else None, count=count, reason=reason)


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
            dropped_events_count=row["dropped_events_count"],
            dropped_links_count=row["dropped_links_count"],
        )
        span.status.code = trace.Status.StatusCode.Value(row["status"]["code"])
        span.status.message = row["status"]["message"] or ""
        for event in row["events"]:
            span.events.add(
                time_unix_nano=event["time_unix_nano"],
                name=event["name"],
                attributes=key_values(event["attributes"]),
                dropped_attributes_count=event["dropped_attributes_count"],
            )
        for link in row["links"]:
            span.links.add(
                trace_id=bytes.fromhex(link["trace_id"]),
                span_id=bytes.fromhex(link["span_id"]),
                trace_state=link["trace_state"],
                attributes=key_values(link["attributes"]),
                dropped_attributes_count=link["dropped_attributes_count"],
                flags=link["flags"],
            )
    return request


def event_messages(parcel: Parcel, resource: Mapping[str, Any]) -> "Message":
    """Executions and model calls as log records: the columns are their attributes, the trace is theirs."""
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

    request = service.ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(key_value(name, value) for name, value in to_jsonable_python(resource).items())
    scoped = group.scope_logs.add()
    scoped.scope.name = "lakemesh"
    for row in parcel.rows.to_pylist():
        at = (row.pop("timestamp") - EPOCH) // MICROSECOND * 1_000
        failed = row.get("error_code") is not None
        scoped.log_records.add(
            time_unix_nano=at,
            observed_time_unix_nano=at,
            severity_number=17 if failed else 9,
            severity_text="ERROR" if failed else "INFO",
            event_name=EVENT_NAMES[parcel.kind],
            body=any_value(event_body(row)),
            trace_id=bytes.fromhex(row.pop("trace_id", None) or ""),
            span_id=bytes.fromhex(row.pop("span_id", None) or ""),
            attributes=[key_value(*item) for item in to_jsonable_python(row).items() if item[1] is not None],
        )
    return request


def event_body(row: Mapping[str, Any]) -> str:
    if "value" in row:
        return f"feedback on {row['execution_id']}: {row['value']}"
    return f"{row['agent_id'] or row.get('model')}: {row['error_code'] or 'ok'}"


def log_messages(parcel: Parcel) -> "Message":
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

    request = service.ExportLogsServiceRequest()
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
        for one in point["exemplars"] or ():
            target.exemplars.add(
                time_unix_nano=one["time_unix_nano"],
                as_double=one["value"],
                span_id=bytes.fromhex(one["span_id"] or ""),
                trace_id=bytes.fromhex(one["trace_id"] or ""),
                filtered_attributes=key_values(one["filtered_attributes"]),
            )
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
