"""The app as its callers meet it: a real server on the embedded workspace, with the configuration of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lakemesh.app import create_app
from lakemesh.config.settings import Settings
from starlette.testclient import TestClient

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), config_folder=FOLDER / "config")
    with TestClient(create_app(settings), base_url="http://localhost") as opened:
        yield opened


def test_every_agent_started(client: TestClient) -> None:
    parts = client.get("/health/ready").json()["parts"]
    assert parts["agents"]["degraded"] is None


def test_echo(client: TestClient) -> None:
    answer = client.post("/api/execute", json={"agent": "echo", "data": {"message": "hello"}})
    assert answer.json()["result"] == {"message": "hello"}


def test_assistant_answers(client: TestClient) -> None:
    request = {"agent": "assistant", "data": {"question": "What is a lakehouse?"}, "session_id": "s1"}
    answer = client.post("/api/execute", json=request)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["answer"]


def test_an_empty_question_is_refused(client: TestClient) -> None:
    answer = client.post("/api/execute", json={"agent": "assistant", "data": {"question": ""}})
    assert answer.status_code == 422
