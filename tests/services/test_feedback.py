"""What people say of answers reaches Delta, by execution id."""

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.server import running_server, write_config

ECHO = "  echo: {class: lakemesh.agents.echo:EchoAgent}"


def rows_of(home: Path) -> list[dict]:
    from deltalake import DeltaTable

    folder = home / "tables" / "main" / "agents" / "feedback"
    for _ in range(300):
        if DeltaTable.is_deltatable(str(folder)):
            found = DeltaTable(str(folder)).to_pyarrow_table().sort_by("timestamp").to_pylist()
            if len(found) == 2:
                return found
        time.sleep(0.1)
    raise AssertionError("the feedback did not reach Delta")


def test_feedback_is_kept_by_execution_and_user(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more="telemetry: {flush_seconds: 0.1}")
    with running_server(tmp_path / "home", folder) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post("/api/execute", json={"agent": "echo", "data": {"message": "hi"}}).json()
        execution_id = answer["metadata"]["execution_id"]
        body = {"execution_id": execution_id, "value": 0, "comment": "wrong; my card is 4111111111111111",
                "correction": {"message": "hello"}}  # fmt: skip
        assert client.post("/api/feedback", json=body).status_code == 204
        assert client.post("/api/feedback", json={"execution_id": execution_id, "value": 1}).status_code == 204
        bad, good = rows_of(tmp_path / "home")
    assert bad["execution_id"] == good["execution_id"] == execution_id
    assert (bad["value"], good["value"], bad["user_id"]) == (0.0, 1.0, "local")
    assert json.loads(bad["correction"]) == {"message": "hello"}
    assert bad["comment"].startswith("wrong")
    assert "4111" not in bad["comment"]


@pytest.mark.parametrize(
    "body",
    [
        {"execution_id": "x", "value": 2},
        {"execution_id": "x", "value": "good"},
        {"execution_id": "../x", "value": 1},
        {"value": 1},
        {"execution_id": "x", "value": 1, "more": 1},
    ],
)
def test_what_does_not_fit_is_refused_by_field(server, body: dict) -> None:
    answer = httpx.post(f"{server.url}/api/feedback", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_without_telemetry_it_is_refused(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more="telemetry: {enabled: false}")
    with running_server(tmp_path / "home", folder) as server:
        answer = httpx.post(f"{server.url}/api/feedback", json={"execution_id": "x", "value": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
