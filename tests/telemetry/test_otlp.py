"""Pass-through to a collector that reads the official protobuf."""

import gzip
import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from pydantic import ValidationError

from lakemesh.config.schema import Config
from lakemesh.governance.audit import change_of
from lakemesh.scope import ModelUse
from tests.telemetry.test_pipeline import execution, running

pytestmark = pytest.mark.anyio

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class Collector(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.answer = b""
        self.received: list[tuple[str, Any, dict[str, str]]] = []

    def of(self, path: str) -> list[Any]:
        return [message for at, message, _ in self.received if at == path]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
        if self.server.status == 200:
            message = REQUESTS[self.path].FromString(body)
            self.server.received.append((self.path, message, dict(self.headers)))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def options(collector: Collector, **more: Any) -> dict[str, Any]:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    return {"sinks": ["otlp"], "otlp": {"endpoint": endpoint, "headers": {"x-key": "k"}, **more}}


async def test_every_signal_arrives_as_otlp(tmp_path: Path, collector: Collector) -> None:
    async with running(tmp_path, **options(collector, table_header="x-table")) as (telemetry, _):
        with telemetry.tracer.start_as_current_span("work", attributes={"n": 1, "f": 1.5, "l": ["a", True]}) as span:
            span.add_event("happened", {"k": "v"})
            logging.getLogger("some.room").error("broken")
        telemetry.meter.create_histogram("duration").record(3.0)
        telemetry.record_execution(execution())
        telemetry.record_model_use(ModelUse(endpoint="e", model="m", route="fast"))
        await telemetry.close(timeout_seconds=10)
    [traces] = collector.of("/v1/traces")
    [sent] = traces.resource_spans[0].scope_spans[0].spans
    assert sent.trace_id == span.get_span_context().trace_id.to_bytes(16, "big")
    values = {item.key: item.value for item in sent.attributes}
    assert (values["n"].int_value, values["f"].double_value, sent.events[0].name) == (1, 1.5, "happened")
    assert [item.string_value or item.bool_value for item in values["l"].array_value.values] == ["a", True]
    lines = [
        line
        for message in collector.of("/v1/logs")
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for line in scope.log_records
    ]
    assert {line.event_name for line in lines} >= {"lakemesh.execution", "lakemesh.model_use"}
    assert "broken" in {line.body.string_value for line in lines}
    metrics = {
        metric.name: metric
        for message in collector.of("/v1/metrics")
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert metrics["duration"].histogram.data_points[0].sum == 3.0
    headers = next(headers for path, _, headers in collector.received if path == "/v1/traces")
    assert (headers["x-key"], headers["x-table"]) == ("k", "main.agents.lakemesh_otel_spans")


async def test_the_audit_trail_goes_to_tables_alone_and_holds_nothing_up(tmp_path: Path, collector: Collector) -> None:
    both = {**options(collector), "sinks": ["delta", "otlp"]}
    async with running(tmp_path, **both) as (telemetry, workspace):
        telemetry.record_audit(change_of("configuration", "lakemesh.yaml", "in force"))
        assert await telemetry.flush()
        assert telemetry.health()["spooled_records"] == 0
        found = await workspace.warehouse.query("SELECT kind FROM main.agents.audit")
    assert [row[0] for row in found.rows] == ["configuration"]
    assert collector.of("/v1/logs") == []


@pytest.mark.parametrize(("status", "waiting", "dead"), [(503, 1, 0), (401, 1, 0), (400, 0, 1)])
async def test_a_refusal_is_kept_and_an_outage_waited_for(
    tmp_path: Path, collector: Collector, status: int, waiting: int, dead: int
) -> None:
    collector.status = status
    async with running(tmp_path, log_level=None, **options(collector)) as (telemetry, _):
        telemetry.tracer.start_span("work").end()
        await telemetry.flush()
        health = telemetry.health()
    assert (health["spooled_records"], health["dead_batches"]) == (waiting, dead)


async def test_a_partial_success_is_not_sent_again_but_kept(tmp_path: Path, collector: Collector) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    answer.partial_success.error_message = "no"
    collector.answer = answer.SerializeToString()
    async with running(tmp_path, log_level=None, **options(collector)) as (telemetry, _):
        telemetry.tracer.start_span("work").end()
        assert await telemetry.flush()
        assert telemetry.health()["dead_batches"] == 1
        assert len(collector.of("/v1/traces")) == 1


def test_an_audit_trail_that_no_table_would_get_is_refused() -> None:
    otlp = {"sinks": ["otlp"], "otlp": {"endpoint": "http://127.0.0.1:4318"}}
    with pytest.raises(ValidationError, match="needs a sink that writes tables"):
        Config.model_validate({"agents": {}, "audit": {"enabled": True}, "telemetry": otlp})
