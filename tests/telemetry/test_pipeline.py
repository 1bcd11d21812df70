"""Through the public door: record, flush, ask the warehouse."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode, get_current_span

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.scope import ModelUse, PromptUse
from lakemesh.telemetry import ExecutionRecord, Telemetry

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[tuple[Telemetry, Workspace]]:
    workspace = await open_workspace(home / "workspace")
    telemetry = Telemetry(TelemetryConfig(**options), workspace=workspace, folder=home / "telemetry")
    await telemetry.start()
    try:
        yield telemetry, workspace
    finally:
        await telemetry.close(timeout_seconds=10)
        await workspace.close()


async def rows(workspace: Workspace, statement: str) -> list[dict[str, Any]]:
    return (await workspace.warehouse.query(statement)).to_dicts()


def execution(**changes: Any) -> ExecutionRecord:
    values: dict[str, Any] = {
        "execution_id": "e1",
        "parent_execution_id": None,
        "timestamp_ns": 1_700_000_000_123_456_789,
        "agent_id": "echo",
        "session_id": "s1",
        "user": "ada",
        "door": "api",
        "trace_id": "0" * 31 + "1",
        "span_id": "0" * 15 + "1",
        "input_data": None,
        "output_data": None,
        "latency_ms": 1.5,
        "success": True,
        "error_code": None,
        "error_message": None,
        "confidence": None,
        "degraded": (),
        "model_uses": (ModelUse(endpoint="e", model="m", route="fast", input_tokens=3, output_tokens=4, cost_usd=0.5),),
        "prompt_uses": (PromptUse(name="p", version=2, label="latest"),),
    }
    return ExecutionRecord(**{**values, **changes})


async def test_spans_arrive_with_their_parents_events_and_errors(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        with telemetry.tracer.start_as_current_span("outer", attributes={"a": 1}) as outer:
            inner = telemetry.tracer.start_span("inner", attributes={"b": [1, 2], "c": "x"})
            inner.add_event("happened", {"k": "v"})
            inner.set_status(StatusCode.ERROR, "broken")
            inner.end()
        assert await telemetry.flush()
        found = await rows(workspace, "SELECT * FROM main.agents.traces ORDER BY name")
    child, parent = found
    assert child["parent_span_id"] == parent["span_id"] == f"{outer.get_span_context().span_id:016x}"
    assert child["trace_id"] == parent["trace_id"]
    assert child["attributes"] == '{"b":[1,2],"c":"x"}'
    assert child["status"] == {"message": "broken", "code": "STATUS_CODE_ERROR"}
    assert child["events"][0]["name"] == "happened"
    assert parent["parent_span_id"] is None
    assert parent["kind"] == "SPAN_KIND_INTERNAL"


async def test_spans_of_other_libraries_join_the_same_trace(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        library = telemetry.tracer_provider.get_tracer("library", "1.0")
        with telemetry.tracer.start_as_current_span("ours"), library.start_as_current_span("theirs"):
            assert get_current_span().is_recording()
        assert await telemetry.flush()
        found = await rows(workspace, "SELECT name, trace_id, instrumentation_scope FROM main.agents.traces ORDER BY 1")
    assert [row["name"] for row in found] == ["ours", "theirs"]
    assert found[0]["trace_id"] == found[1]["trace_id"]
    assert found[1]["instrumentation_scope"]["name"] == "library"


async def test_an_execution_and_its_model_calls_become_rows(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        telemetry.record_execution(execution())
        telemetry.record_model_use(ModelUse(endpoint="e", model="m", route="fast", latency_ms=2.0, cached=True))
        assert await telemetry.flush()
        [row] = await rows(workspace, "SELECT * FROM main.agents.telemetry")
        [use] = await rows(workspace, "SELECT * FROM main.agents.model_inference_logs")
    assert row["timestamp"].timestamp() == pytest.approx(1_700_000_000.123456)
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (3, 4, 0.5)
    assert (row["models"], row["prompts"], row["user_id"]) == (["m"], ["p_v2"], "ada")
    assert (use["endpoint"], use["cached"], use["latency_ms"]) == ("e", True, 2.0)


async def test_log_lines_carry_their_trace(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        with telemetry.tracer.start_as_current_span("work") as span:
            logging.getLogger("some.room").warning("%s is low", "disk", extra={"free": 3})
        assert await telemetry.flush()
        [line] = await rows(workspace, "SELECT * FROM main.agents.logs WHERE severity_text = 'WARN'")
    assert line["body"] == "disk is low"
    assert line["attributes"] == '{"free":3}'
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


async def test_metrics_of_every_kind_become_rows(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        telemetry.meter.create_counter("calls").add(2, {"agent": "echo"})
        telemetry.meter.create_histogram("duration", unit="ms").record(12.5)
        telemetry.meter.create_gauge("level").set(7)
        await telemetry.close(timeout_seconds=10)
        found = await rows(workspace, "SELECT * FROM main.agents.metrics WHERE name NOT LIKE 'lakemesh%' ORDER BY name")
    counter, histogram, gauge = found
    assert (counter["metric_type"], counter["sum"]["value"], counter["sum"]["is_monotonic"]) == ("sum", 2.0, True)
    assert counter["sum"]["attributes"] == '{"agent":"echo"}'
    assert (histogram["histogram"]["count"], histogram["histogram"]["max"]) == (1, 12.5)
    assert gauge["gauge"]["value"] == 7.0


async def test_secrets_stay_out_of_rows(tmp_path: Path) -> None:
    async with running(tmp_path, max_content_characters=40) as (telemetry, workspace):
        card, token = "4111 1111 1111 1111", "Bearer abcdefgh12345678"
        attributes = {"note": f"paid with {card}", "x.api_key": "k", "nested": [token], "order": "1234567890123"}
        telemetry.tracer.start_span("pay", attributes=attributes).end()
        telemetry.record_execution(execution(input_data="x" * 100, error_message=card))
        assert await telemetry.flush()
        [span] = await rows(workspace, "SELECT attributes FROM main.agents.traces")
        [row] = await rows(workspace, "SELECT input_data, error_message FROM main.agents.telemetry")
    assert span["attributes"] == (
        '{"nested":["[token]"],"note":"paid with [card number]","order":"1234567890123","x.api_key":"[redacted]"}'
    )
    assert row == {"input_data": "x" * 40 + "… (100 characters)", "error_message": "[card number]"}


async def test_the_buffer_is_bounded_and_counts_what_it_drops(tmp_path: Path) -> None:
    async with running(tmp_path, buffer_size=100, batch_size=1_000) as (telemetry, _):
        for _ in range(150):
            telemetry.record_execution(execution())
        health = telemetry.health()
    assert health["dropped"] == {"buffer_full": 50}
    assert "50 records dropped" in health["degraded"]


async def test_what_was_spooled_is_delivered_after_a_restart_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        telemetry.record_execution(execution(execution_id="first"))
        await telemetry.close(timeout_seconds=0)
        assert "main.agents.agent_executions" not in await workspace.tables.list_tables("main.agents")
    async with running(tmp_path) as (telemetry, workspace):
        telemetry.record_execution(execution(execution_id="second"))
        assert await telemetry.flush()
        found = await rows(workspace, "SELECT execution_id FROM main.agents.telemetry ORDER BY 1")
    assert [row["execution_id"] for row in found] == ["first", "second"]


async def test_a_record_that_cannot_be_a_row_does_not_take_the_others_along(tmp_path: Path) -> None:
    async with running(tmp_path) as (telemetry, workspace):
        telemetry.record_execution(execution(execution_id="bad", latency_ms="not a number"))
        telemetry.record_execution(execution(execution_id="good"))
        assert await telemetry.flush()
        assert telemetry.health()["dropped"] == {"not_convertible": 1}
        assert [row["execution_id"] for row in await rows(workspace, "SELECT * FROM main.agents.telemetry")] == ["good"]


@pytest.mark.parametrize("variable", [None, "OTEL_SDK_DISABLED"])
async def test_disabled_telemetry_still_traces_for_its_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv(variable, "true")
    async with running(tmp_path, enabled=variable is not None) as (telemetry, workspace):
        with telemetry.tracer.start_as_current_span("work") as span:
            span.set_attribute("a", 1)
        telemetry.record_execution(execution())
        assert await telemetry.flush()
        assert telemetry.health() == {"enabled": False}
        assert not await workspace.tables.list_tables("main.agents")


FIRST_BATCH = """
import asyncio, sys
from pathlib import Path
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry import Telemetry

async def main(home):
    workspace = await open_workspace(home / "workspace")
    telemetry = Telemetry(TelemetryConfig(log_level=None, before_answer=True), workspace=workspace, folder=home / "t")
    await telemetry.start()
    await telemetry.before_answer()  # behind what the start has put into the thread
    while telemetry._pipeline.warming_up:
        await telemetry.before_answer()
    before = set(sys.modules)
    telemetry.tracer.start_span("first").end()
    await telemetry.before_answer()
    print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ("pandas", "pyarrow", "numpy")))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_the_first_batch_waits_for_no_library(tmp_path: Path) -> None:
    """They take 0.3 s of processor time, and many times that on a busy machine; a killed server loses what waits."""
    command = [sys.executable, "-c", FIRST_BATCH, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr
