"""One set of OpenTelemetry instruments, read for the tables and for Prometheus."""

import threading
from pathlib import Path

import httpx
import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from prometheus_client.parser import text_string_to_metric_families

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.scope import ModelUse
from lakemesh.telemetry.meter import MAX_POINTS, LeanMeterProvider
from lakemesh.telemetry.prometheus import exposition
from tests.server import running_server, write_config
from tests.telemetry.test_pipeline import rows, running

pytestmark = pytest.mark.anyio


def families(page: str) -> dict:
    return {family.name: family for family in text_string_to_metric_families(page)}


def test_instruments_sum_by_their_attributes_in_any_order_and_from_any_thread() -> None:
    provider = LeanMeterProvider()
    counter = provider.get_meter("m").create_counter("work.done", "By")
    histogram = provider.get_meter("m").create_histogram("work", "s", explicit_bucket_boundaries_advisory=[1, 2])

    def work() -> None:
        for n in range(1_000):
            counter.add(2, {"a": 1, "b": "x"} if n % 2 else {"b": "x", "a": 1})
            histogram.record(n % 3 + 0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total, spread = provider.collect()
    assert (total.point["value"], total.point["attributes"]) == (8_000.0, {"a": 1, "b": "x"})
    assert (spread.point["bucket_counts"], spread.point["min"]) == ([1_336, 1_332, 1_332], 0.5)
    assert provider.get_meter("m").create_counter("work.done") is counter


def test_what_is_measured_under_too_many_names_is_one_point() -> None:
    provider = LeanMeterProvider()
    counter = provider.get_meter("m").create_counter("c")
    for n in range(3 * MAX_POINTS):
        counter.add(1, {"n": n})
    points = [record.point for record in provider.collect()]
    assert len(points) == MAX_POINTS + 1
    assert points[-1]["value"] == 2 * MAX_POINTS
    assert points[-1]["attributes"] == {"otel.metric.overflow": True}


def test_an_observer_that_fails_leaves_the_others() -> None:
    def broken(_: CallbackOptions) -> list[Observation]:
        raise RuntimeError

    meter = (provider := LeanMeterProvider()).get_meter("m")
    meter.create_observable_gauge("broken", [broken])
    meter.create_observable_counter("sound", [lambda _: [Observation(3, {"k": 'a"\n\\b'})]])
    [record] = provider.collect()
    found = families(exposition([record]))["sound"]
    assert [(sample.name, sample.labels, sample.value) for sample in found.samples] == [
        ("sound_total", {"k": 'a"\n\\b'}, 3.0)
    ]


async def test_the_engine_and_model_calls_are_on_the_page_and_in_delta(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", "  echo: {class: lakemesh.agents.echo:EchoAgent}")
    with running_server(tmp_path, config) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            for agent in ("echo", "echo", "nobody"):
                await client.post("/api/execute", json={"agent_name": agent, "data": {"message": "x"}})
            answer = await client.get("/metrics")
    page = families(answer.text)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    [executed] = page["lakemesh_executions"].samples
    assert (executed.labels, executed.value) == ({"agent": "echo", "outcome": "ok"}, 2.0)
    counts = {s.labels.get("le"): s.value for s in page["lakemesh_execution_seconds"].samples if "bucket" in s.name}
    assert counts["+Inf"] == 2.0
    assert [s.labels["code"] for s in page["lakemesh_refusals"].samples] == ["unknown_agent"]
    workspace = await open_workspace(tmp_path)
    found = await rows(
        workspace, "SELECT name, max(sum.value) AS v, max(histogram.count) AS n FROM main.agents.metrics GROUP BY 1"
    )
    values = {row["name"]: row["v"] or row["n"] for row in found}
    assert (values["lakemesh.executions"], values["lakemesh.execution"], values["lakemesh.refusals"]) == (2, 2, 1)
    [histogram] = await rows(
        workspace, "SELECT histogram.exemplars AS exemplars FROM main.agents.metrics WHERE name = 'lakemesh.execution'"
    )
    traces = {row["trace_id"] for row in await rows(workspace, "SELECT trace_id FROM main.agents.telemetry")}
    assert {example["trace_id"] for example in histogram["exemplars"]} <= traces
    assert histogram["exemplars"], "a measurement leads to the trace it was made in"
    await workspace.close()


async def test_model_calls_are_measured_by_the_genai_conventions(tmp_path: Path) -> None:
    async with running(tmp_path, log_level=None) as (telemetry, workspace):
        with telemetry.tracer.start_as_current_span("chat") as span:
            telemetry.record_model_use(
                ModelUse(
                    endpoint="e", model="m", route="r", provider="databricks", input_tokens=30, output_tokens=5,
                    latency_ms=120, first_token_ms=20, cost_usd=0.5,
                )
            )  # fmt: skip
        await telemetry.close(timeout_seconds=10)
        found = {
            (row["name"], row["sum"]): row
            for row in await rows(
                workspace,
                "SELECT name, histogram.sum AS sum, histogram.attributes AS attributes,"
                " histogram.exemplars AS exemplars FROM main.agents.metrics WHERE name LIKE 'gen_ai%'",
            )
        }
    assert set(found) == {
        ("gen_ai.client.token.usage", 30.0),
        ("gen_ai.client.token.usage", 5.0),
        ("gen_ai.client.operation.duration", 0.12),
        ("gen_ai.client.operation.time_to_first_chunk", 0.02),
    }
    [example] = found["gen_ai.client.operation.duration", 0.12]["exemplars"]
    assert example["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert '"gen_ai.token.type":"input"' in found["gen_ai.client.token.usage", 30.0]["attributes"]


async def test_an_idle_server_writes_no_metrics_again(tmp_path: Path) -> None:
    async with running(tmp_path, log_level=None) as (telemetry, _):
        telemetry.meter.create_counter("c").add(1)
        before = len(telemetry._pipeline.buffer._waiting["metrics"])
        for expected in (1, 1, 2):
            if expected == 2:
                telemetry.meter.create_counter("c").add(1)
            telemetry._feed.put_changed()
            names = [record.name for record in telemetry._pipeline.buffer._waiting["metrics"]]
            assert names.count("c") == expected + before
