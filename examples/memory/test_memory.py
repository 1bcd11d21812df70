from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.testing import RunningServer, ScriptedModel, serve


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(Path(__file__).parent / "config", model=ScriptedModel("Noted."), token="ann") as running:
        running.execute("companion", {"message": "I like green tea."}, session_id="s1")
        running.sql("SELECT 1 AS delivered")  # what was remembered is in the index now
        yield running


@pytest.fixture
def model(server: RunningServer) -> ScriptedModel:
    assert isinstance(server.model, ScriptedModel)
    server.model.play("Noted.")
    return server.model


def shown(model: ScriptedModel) -> str:
    return str(model.requests[-1].messages)


def test_a_session_goes_on(server: RunningServer, model: ScriptedModel) -> None:
    server.execute("companion", {"message": "And in the evening?"}, session_id="s1")
    assert [one["role"] for one in model.requests[-1].messages][-3:] == ["user", "assistant", "user"]
    assert "green tea" in shown(model)


def test_what_was_said_is_remembered_in_another_session(server: RunningServer, model: ScriptedModel) -> None:
    server.execute("companion", {"message": "Which tea do I like?"}, session_id="s2")
    assert "green tea" in shown(model)


def test_nobody_else_sees_it(server: RunningServer, model: ScriptedModel) -> None:
    with server.client(token="bob") as bob:
        bob.execute("companion", {"message": "Which tea do I like?"}, session_id="s1")
    assert "green tea" not in shown(model)
