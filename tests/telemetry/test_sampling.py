"""Which traces are kept, seen from the tables."""

import asyncio
import os
from pathlib import Path

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from tests.telemetry.test_pipeline import rows, running

pytestmark = pytest.mark.anyio

NAMES = "SELECT name FROM main.agents.traces ORDER BY name"


async def test_a_trace_that_was_not_drawn_is_kept_when_it_failed_or_was_slow(tmp_path: Path) -> None:
    options = {"sample_ratio": 0.0, "keep_slower_than_ms": 50.0}
    async with running(tmp_path, **options) as (telemetry, workspace):
        for name, milliseconds, failed in [("fine", 1, False), ("slow", 60, False), ("failed", 1, True)]:
            root = telemetry.tracer.start_span(name, start_time=10**18)
            child = telemetry.tracer.start_span(f"{name} child", context=set_span_in_context(root))
            if failed:
                child.set_status(StatusCode.ERROR)
            child.end()
            root.end(10**18 + milliseconds * 10**6)
        assert await telemetry.flush()
        assert telemetry.health()["sampled_out"] == {"not_drawn": 2}
        names = [row["name"] for row in await rows(workspace, NAMES)]
    assert names == ["failed", "failed child", "slow", "slow child"]


async def test_a_share_of_traces_is_drawn_and_a_callers_decision_followed(tmp_path: Path) -> None:
    async with running(tmp_path, sample_ratio=0.25, keep_errors=False) as (telemetry, workspace):
        for sampled in (True, False):
            flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
            caller = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=flags))
            telemetry.tracer.start_span(f"called {sampled}", context=set_span_in_context(caller)).end()
        for _ in range(2_000):
            telemetry.tracer.start_span("root").end()
        assert await telemetry.flush()
        names = [row["name"] for row in await rows(workspace, NAMES)]
    assert "called True" in names
    assert "called False" not in names
    assert 350 < names.count("root") < 650


@pytest.mark.parametrize(
    ("sampler", "argument", "kept"),
    [("always_off", "", 0), ("parentbased_traceidratio", "1.0", 1), ("always_on", "", 1)],
)
async def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, kept: int
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument or "0")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    async with running(tmp_path, sample_ratio=0.5, keep_errors=False) as (telemetry, workspace):
        telemetry.tracer.start_span("work").end()
        assert await telemetry.flush()
        found = await rows(workspace, "SELECT service_name FROM main.agents.traces")
    assert found == [{"service_name": "named"}] * kept


async def test_processes_of_one_home_have_a_spool_each(tmp_path: Path) -> None:
    async with (
        running(tmp_path, log_level=None) as (first, workspace),
        running(tmp_path, log_level=None) as (second, _),
    ):
        first.tracer.start_span("first").end()
        second.tracer.start_span("second").end()
        assert await first.flush()
        assert await second.flush()
        assert [row["name"] for row in await rows(workspace, NAMES)] == ["first", "second"]
    assert len(list((tmp_path / "telemetry").glob("spool-*.db"))) == 2


async def test_a_forked_child_drops_and_leaves_the_parents_spool_alone(tmp_path: Path) -> None:
    async with running(tmp_path, log_level=None) as (telemetry, workspace):
        telemetry.tracer.start_span("before").end()
        child = os.fork()
        if child == 0:
            telemetry.tracer.start_span("in the child").end()
            os._exit(telemetry.health()["dropped"]["forked"])
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 2
        assert await telemetry.flush()
        assert [row["name"] for row in await rows(workspace, NAMES)] == ["before"]
