"""Why something failed, through a real server into Delta; what its caller sent is not told on the way."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.schemas import AgentInput, AgentOutput
from tests.server import write_config
from tests.server_process import server_process
from tests.telemetry.test_pipeline import rows

pytestmark = pytest.mark.anyio

AGENTS = """
  broken: {class: tests.telemetry.test_failures:BrokenAgent}
  liar: {class: tests.telemetry.test_failures:LyingAgent}
  rejecting: {class: tests.telemetry.test_failures:RejectingAgent}
"""


class BrokenAgent(Agent[dict, dict]):
    """Fails with what must not be written in its message."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        raise RuntimeError("no route to postgres://svc:HUNTER2PW@db.internal/x")


class Verdict(BaseModel):
    amount: int


class LyingAgent(Agent[dict, Verdict]):
    """Returns what it did not promise."""

    output_model = Verdict

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        return AgentOutput(agent_name=request.agent_name, result={"amount": request.data["text"]})


class RejectingAgent(Agent[dict, dict]):
    """Fails over the caller's own text."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        Verdict.model_validate({"amount": request.data["text"]})
        return AgentOutput(agent_name=request.agent_name, result={})


async def told_of(home: Path, *agents: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The log rows and the spans of one failing call of each agent; and nothing of it may be in the process' log."""
    with server_process(home, write_config(home / "config", AGENTS)) as server:
        for agent in agents:
            async with httpx.AsyncClient(base_url=server.url) as client:
                answer = await client.post("/api/execute", json={"agent_name": agent, "data": {"text": "PATIENT-SSN"}})
            assert answer.status_code == 500
    assert not any("PATIENT" in line or "HUNTER2PW" in line for line in server.log)
    workspace = await open_workspace(home)
    try:
        logs = await rows(
            workspace, "SELECT body, attributes, trace_id FROM main.agents.logs WHERE body LIKE 'agent %'"
        )
        return logs, await rows(workspace, "SELECT trace_id, events FROM main.agents.traces ORDER BY time")
    finally:
        await workspace.close()


async def test_the_cause_is_on_the_log_row_and_on_the_span_without_secrets(tmp_path: Path) -> None:
    [line], [span] = await told_of(tmp_path, "broken")
    told = json.loads(line["attributes"])
    [event] = span["events"]
    on_span = json.loads(event["attributes"])
    assert line["body"] == "agent failed"
    assert line["trace_id"] == span["trace_id"]
    for attributes in (told, on_span):
        assert attributes["exception.type"] == "RuntimeError"
        assert attributes["exception.message"] == "no route to postgres://[credentials]@db.internal/x"
        assert "in process" in attributes["exception.stacktrace"]
        assert "HUNTER2PW" not in json.dumps(attributes)
    assert event["name"] == "exception"


async def test_an_invalid_output_names_its_fields_and_no_callers_text_is_told(tmp_path: Path) -> None:
    logs, spans = await told_of(tmp_path, "liar", "rejecting")
    bodies = {line["body"]: json.loads(line["attributes"]) for line in logs}
    [fault] = bodies["agent output invalid"]["faults"]
    assert fault.startswith("result.amount: Input should be a valid integer")
    assert "ValidationError" in bodies["agent failed"]["exception.type"]
    assert "PATIENT" not in json.dumps([logs, [span["events"] for span in spans]])
    assert all(span["events"] for span in spans)
