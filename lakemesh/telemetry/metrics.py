"""From the OpenTelemetry SDK's metrics to records: one per data point."""

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)

from lakemesh.telemetry.records import MetricRecord

TEMPORALITIES = {
    0: "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    1: "AGGREGATION_TEMPORALITY_DELTA",
    2: "AGGREGATION_TEMPORALITY_CUMULATIVE",
}


class BufferExporter(MetricExporter):
    """Hands every data point to `put`."""

    def __init__(self, put: Callable[[MetricRecord], None]) -> None:
        super().__init__()
        self._put = put

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        for record in records_of(metrics_data):
            self._put(record)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


def records_of(data: MetricsData) -> Iterator[MetricRecord]:
    for resource in data.resource_metrics:
        for in_scope in resource.scope_metrics:
            scope = (in_scope.scope.name, in_scope.scope.version)
            for metric in in_scope.metrics:
                kind, common = type_of(metric)
                for point in metric.data.data_points:
                    yield MetricRecord(
                        point.time_unix_nano,
                        getattr(point, "start_time_unix_nano", None) or 0,
                        metric.name,
                        metric.description or "",
                        metric.unit or "",
                        kind,
                        {**MEMBERS[kind](point), **common, "attributes": dict(point.attributes or {}), "flags": 0,
                         "exemplars": [exemplar(one) for one in point.exemplars]},
                        scope,
                    )  # fmt: skip


def type_of(metric: Metric) -> tuple[str, dict[str, Any]]:
    """The name of the point's column, and what all points of the metric share."""
    data = metric.data
    if isinstance(data, Gauge):
        return "gauge", {}
    temporality = {"aggregation_temporality": TEMPORALITIES[int(data.aggregation_temporality)]}
    if isinstance(data, Sum):
        return "sum", {**temporality, "is_monotonic": data.is_monotonic}
    return ("histogram" if isinstance(data, Histogram) else "exponential_histogram"), temporality


def value(point: Any) -> dict[str, Any]:
    return {"value": float(point.value)}


def histogram(point: Any) -> dict[str, Any]:
    return {
        "count": point.count,
        "sum": float(point.sum),
        "bucket_counts": list(point.bucket_counts),
        "explicit_bounds": list(point.explicit_bounds),
        "min": finite(point.min),
        "max": finite(point.max),
    }


def exponential_histogram(point: Any) -> dict[str, Any]:
    return {
        "count": point.count,
        "sum": float(point.sum),
        "scale": point.scale,
        "zero_count": point.zero_count,
        "positive_bucket": {"offset": point.positive.offset, "bucket_counts": list(point.positive.bucket_counts)},
        "negative_bucket": {"offset": point.negative.offset, "bucket_counts": list(point.negative.bucket_counts)},
        "min": finite(point.min),
        "max": finite(point.max),
        "zero_threshold": 0.0,
    }


MEMBERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "gauge": value,
    "sum": value,
    "histogram": histogram,
    "exponential_histogram": exponential_histogram,
}


def finite(number: float) -> float | None:
    """The SDK's minimum of nothing is infinite."""
    return float(number) if abs(number) != float("inf") else None


def exemplar(one: Any) -> dict[str, Any]:
    return {
        "time_unix_nano": one.time_unix_nano,
        "value": float(one.value),
        "span_id": f"{one.span_id:016x}" if one.span_id else None,
        "trace_id": f"{one.trace_id:032x}" if one.trace_id else None,
        "filtered_attributes": dict(one.filtered_attributes or {}),
    }
