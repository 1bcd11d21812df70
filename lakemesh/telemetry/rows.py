"""From records to Arrow tables, column by column.

It runs in the telemetry thread. Ids become lowercase hex, attribute bags JSON, and what is the same in every row
(the resource, an empty list of events) is made once and repeated.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.arrow import NO_ITEMS, Constant, columns_to_arrow
from lakemesh.telemetry.audit_chain import AuditChain, AuditRecord
from lakemesh.telemetry.audit_seals import PersonKey
from lakemesh.telemetry.records import (
    ExecutionRecord,
    FeedbackRecord,
    LogRecord,
    MetricRecord,
    ModelRecord,
    SpanEvent,
    SpanRecord,
)
from lakemesh.telemetry.redaction import Redactor
from lakemesh.telemetry.tables import Kind, table_specs

if TYPE_CHECKING:
    import pyarrow as pa

DAY_NS = 86_400 * 1_000_000_000

Columns = dict[str, Any]


class RowMaker:
    """Makes the Arrow table of a batch of one kind. `resource` are the attributes of this process."""

    def __init__(self, config: TelemetryConfig, resource: Mapping[str, Any], *, chain: AuditChain) -> None:
        self._chain = chain
        self._columns = {kind: spec.columns for kind, spec in table_specs(config).items()}
        self._redactor = Redactor(config.redaction, limit=config.max_content_characters)
        self._service_name = str(resource.get("service.name", config.service_name))
        attributes = to_json(dict(resource), fallback=str).decode()
        self._resource = Constant({"attributes": attributes, "dropped_attributes_count": 0})
        self._makers: dict[Kind, Callable[[Sequence[Any]], Columns]] = {
            "spans": self._spans,
            "logs": self._logs,
            "metrics": self._metrics,
            "executions": self._executions,
            "models": self._models,
            "feedback": self._feedback,
            "audit": self._audit,
            "audit_keys": self._audit_keys,
        }

    def make(self, kind: Kind, records: Sequence[Any]) -> "pa.Table":
        """The rows of `records`, in their order; a column that nothing was said about is null."""
        return columns_to_arrow(self._columns[kind], self._makers[kind](records), len(records))

    def _spans(self, records: Sequence[SpanRecord]) -> Columns:
        (
            trace_ids, span_ids, parents, _, states, flags, names, kinds, starts, ends, attributes, dropped, events,
            links, codes, messages, scopes, dropped_events, dropped_links,
        ) = zip(*records, strict=True)  # fmt: skip
        return {
            **self._first(starts, "time"),
            **self._source(scopes),
            "trace_id": hex_column(trace_ids, 16),
            "span_id": hex_column(span_ids, 8),
            "trace_state": states,
            "parent_span_id": [f"{value:016x}" if value else None for value in parents] if any(parents) else None,
            "flags": flags,
            "name": names,
            "kind": kinds,
            "start_time_unix_nano": starts,
            "end_time_unix_nano": ends,
            "attributes": self._redactor.json_column(attributes),
            "dropped_attributes_count": dropped,
            "events": self._events(events) if any(events) else NO_ITEMS,
            "dropped_events_count": dropped_events,
            "links": [[self._link(link) for link in some] for some in links] if any(links) else NO_ITEMS,
            "dropped_links_count": dropped_links,
            "status": [
                {"code": code, "message": self._redactor.text(message)}
                for code, message in zip(codes, messages, strict=True)
            ]
            if any(messages) or len(set(codes)) > 1
            else constant_status(codes[0]),
        }

    def _events(self, events: Sequence[Sequence[SpanEvent]]) -> list[list[dict[str, Any]]]:
        """Of each span; the attributes of all of them are looked at together."""
        texts = iter(self._redactor.json_column([event.attributes for some in events for event in some]))
        return [
            [
                {
                    "time_unix_nano": event.time_ns,
                    "name": event.name,
                    "attributes": next(texts),
                    "dropped_attributes_count": 0,
                }
                for event in some
            ]
            for some in events
        ]

    def _link(self, link: Any) -> dict[str, Any]:
        return {
            "trace_id": f"{link.trace_id:032x}",
            "span_id": f"{link.span_id:016x}",
            "trace_state": link.trace_state,
            "attributes": self._redactor.json(link.attributes),
            "dropped_attributes_count": 0,
            "flags": link.flags,
        }

    def _logs(self, records: Sequence[LogRecord]) -> Columns:
        times, numbers, severities, bodies, events, attributes, traces, spans, flags, scopes = zip(
            *records, strict=True
        )
        return {
            **self._first(times, "time"),
            **self._source([(scope, None) for scope in scopes]),
            "event_name": events,
            "trace_id": [f"{value:032x}" if value else None for value in traces],
            "span_id": [f"{value:016x}" if value else None for value in spans],
            "time_unix_nano": times,
            "observed_time_unix_nano": times,
            "severity_number": [str(number) for number in numbers],
            "severity_text": severities,
            "body": [to_json(self._redactor.text(body)).decode() for body in bodies],
            "attributes": self._redactor.json_column(attributes),
            "dropped_attributes_count": Constant(0),
            "flags": flags,
        }

    def _metrics(self, records: Sequence[MetricRecord]) -> Columns:
        times, starts, names, descriptions, units, types, _, scopes = zip(*records, strict=True)
        points = {
            kind: [self._point(record.point) if record.metric_type == kind else None for record in records]
            for kind in set(types)
        }
        return {
            **self._first(times, "time"),
            **self._source(scopes),
            "start_time_unix_nano": starts,
            "time_unix_nano": times,
            "name": names,
            "description": descriptions,
            "unit": units,
            "metric_type": types,
            **points,
            "metadata": Constant("{}"),
        }

    def _point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        exemplars = [
            {**one, "filtered_attributes": self._redactor.json(one["filtered_attributes"])}
            for one in point.get("exemplars", ())
        ]
        return {**point, "attributes": self._redactor.json(point["attributes"]), "exemplars": exemplars}

    def _executions(self, records: Sequence[ExecutionRecord]) -> Columns:
        told = dict(zip(ExecutionRecord._fields, zip(*records, strict=True), strict=True))
        uses, prompts = told["model_uses"], told["prompt_uses"]
        texts = {"input_data": self._redactor.content, "output_data": self._redactor.content}
        texts["error_message"] = self._redactor.text
        sums = ("input_tokens", "output_tokens", "cost_usd")
        return {
            **told,
            **moments(told["timestamp_ns"], "timestamp"),
            "user_id": told["user"],
            **{name: list(map(redact, told[name])) for name, redact in texts.items() if any(told[name])},
            "degraded": told["degraded"] if any(told["degraded"]) else NO_ITEMS,
            "models": [sorted({use.model for use in some}) for some in uses] if any(uses) else NO_ITEMS,
            "prompts": [sorted({f"{use.name}_v{use.version}" for use in some}) for some in prompts]
            if any(prompts)
            else NO_ITEMS,
            **{
                name: [sum(getattr(use, name) for use in some) for some in uses] if any(uses) else Constant(0)
                for name in sums
            },
        }

    def _models(self, records: Sequence[ModelRecord]) -> Columns:
        told = dict(zip(ModelRecord._fields, zip(*records, strict=True), strict=True))
        of_use = (
            "endpoint", "model", "route", "input_tokens", "output_tokens", "cost_usd", "latency_ms", "finish_reason",
            "cached", "error_code",
        )  # fmt: skip
        return {
            **told,
            "record_id": time_ordered_ids(told["timestamp_ns"]),
            **moments(told["timestamp_ns"], "timestamp"),
            "user_id": told["user"],
            **{name: [getattr(use, name) for use in told["use"]] for name in of_use},
        }

    def _feedback(self, records: Sequence[FeedbackRecord]) -> Columns:
        told = dict(zip(FeedbackRecord._fields, zip(*records, strict=True), strict=True))
        return {
            **told,
            "record_id": time_ordered_ids(told["timestamp_ns"]),
            **moments(told["timestamp_ns"], "timestamp"),
            "user_id": told["user"],
            **{name: [self._redactor.content(text) for text in told[name]] for name in ("comment", "correction")},
        }

    def _audit(self, records: Sequence[AuditRecord]) -> Columns:
        return {**self._chain.extend(records), **moments([record.time_ns for record in records], "timestamp")}

    def _audit_keys(self, records: Sequence[PersonKey]) -> Columns:
        times = [record.time_ns for record in records]
        return {
            "record_id": time_ordered_ids(times),
            **moments(times, "timestamp"),
            "key_id": [record.key_id for record in records],
            "user_id": [record.user for record in records],
            "key": [record.key.hex() for record in records],
        }

    def _first(self, times: Sequence[int], column: str) -> Columns:
        return {
            "record_id": time_ordered_ids(times),
            **moments(times, column),
            "service_name": Constant(self._service_name),
        }

    def _source(self, scopes: Sequence[tuple[str, str | None]]) -> Columns:
        same = len(set(scopes)) == 1
        return {
            "resource": self._resource,
            "instrumentation_scope": constant_scope(scopes[0]) if same else [scope_value(s) for s in scopes],
        }


def moments(times: Sequence[int], column: str) -> Columns:
    """A timestamp column (microseconds) and the `date` (days) the tables are pruned by, from Unix nanoseconds."""
    return {column: [at // 1_000 for at in times], "date": [at // DAY_NS for at in times]}


def hex_column(numbers: Sequence[int], width: int) -> "pa.Array":
    """Numbers of `width` bytes as lowercase hex, all of them in one text."""
    import pyarrow as pa

    digits = b"".join([number.to_bytes(width) for number in numbers]).hex().encode()
    ends = pa.array(range(0, len(digits) + 1, 2 * width), pa.int32())
    return pa.StringArray.from_buffers(len(numbers), ends.buffers()[1], pa.py_buffer(digits))


@lru_cache(maxsize=64)
def constant_status(code: str) -> Constant:
    return Constant({"code": code, "message": None})


@lru_cache(maxsize=64)
def constant_scope(scope: tuple[str, str | None]) -> Constant:
    return Constant(scope_value(scope))


def scope_value(scope: tuple[str, str | None]) -> dict[str, Any]:
    return {"name": scope[0], "version": scope[1], "attributes": "{}", "dropped_attributes_count": 0}


def time_ordered_ids(times: Sequence[int]) -> list[str]:
    """UUIDs version 7 (RFC 9562 section 5.7) for Unix nanoseconds: milliseconds first, so that ids sort by time, then
    bits that are random for the batch and counted up within it (section 6.2, method 1)."""
    version = f"7{random.getrandbits(12):03x}"
    variant = f"{0x8000 | random.getrandbits(14):04x}"
    counter = random.getrandbits(47)
    milliseconds, head, ids = -1, "", []
    for at in times:
        if at // 1_000_000 != milliseconds:
            milliseconds = at // 1_000_000
            text = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
            head = f"{text[:8]}-{text[8:]}-{version}-{variant}-"
        counter += 1
        ids.append(f"{head}{counter:012x}")
    return ids
