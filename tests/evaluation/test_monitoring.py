"""Production's executions scored from telemetry, with what people corrected joined back; cases made of the same."""

import asyncio
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from lakemesh.cli.main import app
from lakemesh.evaluation.case_tables import judged_cases
from lakemesh.evaluation.monitoring import drift_of, is_sampled
from lakemesh.lakehouse.embedded import open_workspace
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio


def monitor(suite: Path) -> str:
    result = CliRunner().invoke(app, ["monitor", str(suite)])
    assert result.exit_code == 0, result.output
    return result.output


def test_executions_are_scored_once_and_labels_that_come_late_are_joined(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(tmp_path / "config"))
    config = write_config(tmp_path / "config", "  echo: {class: echo}", "telemetry: {capture_content: true}")
    suite = tmp_path / "suite.yaml"
    suite.write_text("agent: echo\ndataset: '-'\nscorers: [{type: exact}, {type: succeeds}]\n")
    with running_server(tmp_path / "home", config) as server, httpx.Client(base_url=server.url) as client:
        ids = []
        for place in range(4):
            answer = client.post("/api/execute", json={"agent_name": "echo", "data": {"message": f"{place}"}}).json()
            ids.append((answer["metadata"]["execution_id"], answer["result"]))
        told = {"execution_id": ids[0][0], "value": 1, "correction": ids[0][1]}
        assert client.post("/api/feedback", json=told).status_code == 204
    first = monitor(suite)
    assert "4 executions, 5 new scores" in first, first
    assert "exact: 1 over 1" in first
    assert "4 executions, 0 new scores" in monitor(suite)
    with running_server(tmp_path / "home", config) as server, httpx.Client(base_url=server.url) as client:
        told = {"execution_id": ids[1][0], "value": 0, "correction": {"n": "other"}}
        assert client.post("/api/feedback", json=told).status_code == 204
        told = {"execution_id": ids[2][0], "value": 1}
        assert client.post("/api/feedback", json=told).status_code == 204
        told = {"execution_id": ids[3][0], "value": 0}
        assert client.post("/api/feedback", json=told).status_code == 204
    later = monitor(suite)
    assert "1 new scores" in later
    assert "exact: 0.5 over 2" in later

    async def cases() -> tuple:
        workspace = await open_workspace(tmp_path / "home")
        try:
            return await judged_cases(workspace, "main.agents", "echo")
        finally:
            await workspace.close()

    found, unusable = asyncio.run(cases())
    assert unusable == 1, "a bare thumb down expects nothing that could be checked"
    expected = {case.inputs["message"]: case.expectations.output for case in found}
    assert expected == {"0": ids[0][1], "1": {"n": "other"}, "2": ids[2][1]}


def test_drift_is_seen_and_sameness_is_not() -> None:
    def rows(latency: float, failed: int) -> list[dict]:
        return [
            {
                "latency_ms": latency + place, "confidence": None, "input_data": "x", "output_data": None,
                "success": place >= failed, "degraded": [],
            }
            for place in range(100)
        ]  # fmt: skip

    same, moved = drift_of(rows(10, 0), rows(10, 0)), drift_of(rows(10, 0), rows(80, 20))
    assert same["latency_ms (PSI)"] == pytest.approx(0, abs=1e-9)
    assert moved["latency_ms (PSI)"] > 0.25
    assert moved["error rate (rise)"] == pytest.approx(0.2)
    assert drift_of(rows(10, 0)[:5], rows(10, 0)) == {}


def test_the_sample_is_of_its_rate_and_always_the_same() -> None:
    ids = [f"e{place}" for place in range(2_000)]
    sampled = [one for one in ids if is_sampled(one, 0.1)]
    assert len(sampled) == pytest.approx(200, abs=60)
    assert all(is_sampled(one, 0.2) for one in sampled)
