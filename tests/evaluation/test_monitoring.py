"""Production's executions scored from telemetry, with what people corrected joined back; cases made of the same."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.agents.fraud.tables import fraud_tables
from lakemesh.cli.main import app
from lakemesh.evaluation.case_tables import judged_cases
from lakemesh.evaluation.drift import drift_of
from lakemesh.evaluation.late_labels import auc, figures
from lakemesh.evaluation.monitoring import is_sampled
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.schemas import AgentInput, AgentOutput
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
    with running_server(tmp_path / "home", config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
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
    with running_server(tmp_path / "home", config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
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


def test_fields_that_shift_are_named() -> None:
    def rows(amount: float, country: str, answer: str) -> list[dict]:
        return [
            {
                "latency_ms": 1.0, "confidence": None, "success": True, "degraded": [],
                "input_data": json.dumps({"card": {"amount": amount + place, "country": country}, "id": f"{place}"}),
                "output_data": json.dumps({"text": answer}),
            }
            for place in range(100)
        ]  # fmt: skip

    same = drift_of(rows(1, "FR", "yes"), rows(1, "FR", "yes"))
    moved = drift_of(rows(1, "FR", "yes"), rows(500, "PE", "I'm sorry, I cannot help."))
    assert same["input.card.amount (PSI)"] == pytest.approx(0, abs=1e-9)
    assert same["refusal rate (rise)"] == 0
    assert moved["input.card.amount (PSI)"] > 0.25
    assert moved["input.card.country (PSI)"] > 0.25
    assert moved["refusal rate (rise)"] == 1
    assert "input.id (PSI)" not in moved, "of so many different texts nothing is said"


def test_precision_of_a_day_is_known_when_its_highest_scores_are_labelled() -> None:
    day = [("a", 0.9, True), ("a", 0.2, None), ("b", 0.8, False), ("c", 0.1, None)]
    found = figures(day, top=2)
    assert (found["executions"], found["labelled"], found["positives"], found["top"]) == (4, 2, 1, 2)
    assert found["precision_at_top"] == 0.5
    assert figures(day, top=3)["precision_at_top"] is None, "c may turn out to be one"
    assert figures([*day[:2], ("b", 0.8, None)], top=2)["precision_at_top"] is None


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=2, max_size=60))
def test_auc_is_scikit_learns(scored: list) -> None:
    if len({label for _, label in scored}) < 2:
        assert auc(scored) is None
    else:
        assert auc(scored) == pytest.approx(roc_auc_score([one for _, one in scored], [score for score, _ in scored]))


def test_labels_that_come_late_give_the_precision_by_day(tmp_path: Path, monkeypatch) -> None:
    """`lakemesh monitor` on what the risk scorer said, before and after investigation found out."""
    home, config = tmp_path / "home", tmp_path / "config"
    monkeypatch.setenv("LAKEMESH_HOME", str(home))
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(config))
    risk = "  risk: {class: tests.evaluation.test_monitoring:Scores}"
    write_config(config, risk, "telemetry: {capture_content: true}")
    suite = tmp_path / "suite.yaml"
    suite.write_text("agent: risk\ndataset: '-'\nscorers: [{type: succeeds}]\nlabels: {top: 4, unit: customer_id}\n")

    async def label(ids: range) -> None:
        workspace = await open_workspace(home)
        for spec in fraud_tables():
            await workspace.tables.create(spec)
        columns = fraud_tables()[1].columns
        now = datetime.now(UTC) - timedelta(seconds=5)
        rows = [{"transaction_id": one, "is_fraud": one % 2 == 0, "known_at": now} for one in ids]
        await workspace.tables.append("main.fraud.labels", rows_to_arrow(columns, rows))
        await workspace.close()

    asyncio.run(label(range(90, 92)))
    with running_server(home, config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for one in range(10):
            sent = {"agent_name": "risk", "data": {"transaction_id": one, "customer_id": one // 2}}
            assert client.post("/api/execute", json=sent).status_code == 200
    assert "precision@4 not known yet, 0 of 10 labelled" in monitor(suite)
    asyncio.run(label(range(10)))
    assert "precision@4 1.000, 10 of 10 labelled" in monitor(suite)


class Scores(Agent[Any, Any]):
    """A score from the transaction's number."""

    async def process(self, request: AgentInput[Any], context: AgentContext) -> AgentOutput[Any]:
        return AgentOutput(agent_name=self.name, result={"score": request.data["transaction_id"] / 10})
