"""The same metrics as Prometheus reads them: the text exposition format 0.0.4, names by OpenTelemetry's compatibility
specification ("Prometheus and OpenMetrics Compatibility")."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from lakemesh.telemetry.records import MetricRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "By": "bytes", "USD": "usd"}
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_:]+")
NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")


def exposition(records: Iterable[MetricRecord]) -> str:
    """The page: the points of each metric together, below what it is."""
    families: dict[str, list[str]] = {}
    for record in records:
        name, kind = family_of(record)
        if name not in families:
            families[name] = [f"# HELP {name} {escaped_help(record.description)}", f"# TYPE {name} {kind}"]
        families[name] += samples(name, record)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def family_of(record: MetricRecord) -> tuple[str, str]:
    """The metric's name there, and its type."""
    name = NOT_IN_NAMES.sub("_", record.name)
    unit = UNITS.get(record.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name += f"_{unit}"
    if record.metric_type == "histogram":
        return name, "histogram"
    if record.metric_type == "sum" and record.point["is_monotonic"]:
        return (name if name.endswith("_total") else f"{name}_total"), "counter"
    return name, "gauge"


def samples(name: str, record: MetricRecord) -> Iterator[str]:
    point = record.point
    attributes = point["attributes"]
    if record.metric_type != "histogram":
        yield f"{name}{labels(attributes)} {number(point['value'])}"
        return
    bounds = [*(number(bound) for bound in point["explicit_bounds"]), "+Inf"]
    for bound, count in zip(bounds, accumulate(point["bucket_counts"]), strict=True):
        yield f"{name}_bucket{labels(attributes, le=bound)} {number(count)}"
    yield f"{name}_count{labels(attributes)} {number(point['count'])}"
    yield f"{name}_sum{labels(attributes)} {number(point['sum'])}"


def labels(attributes: Mapping[str, Any], **more: str) -> str:
    pairs = {NOT_IN_LABELS.sub("_", name): value for name, value in attributes.items()} | more
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{escaped(str(value))}"' for name, value in pairs.items()) + "}"


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def number(value: float) -> str:
    """As Go writes a float, which is what Prometheus parses."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
