from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import RunningServer, ScriptedModel, serve

pytest.importorskip("langgraph", reason="needs lakemesh[langgraph] (`make judge-clients` has it)")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(Path(__file__).parent / "config", model=ScriptedModel("unscripted")) as running:
        yield running


@pytest.fixture
def model(server: RunningServer) -> ScriptedModel:
    assert isinstance(server.model, ScriptedModel)
    return server.model


def review(server: RunningServer, message: str, session: str) -> tuple[str, str]:
    """What was streamed, and the answer, when the question is answered with yes."""
    streamed = ""
    for event in server.stream("review", {"message": message}, session_id=session):
        if event.type == "text_delta":
            streamed += event.data["text"]
        if event.type == "asked":
            assert event.data["message"] == "Send this? Dear Ann"
            server.answer(event.data["execution_id"], event.data["question_id"], {"answer": "yes"})
        if event.type == "completed":
            return streamed, event.data["result"]["text"]
    raise AssertionError("the stream had no end")


def test_it_streams_asks_and_goes_on(server: RunningServer, model: ScriptedModel) -> None:
    model.play("Dear Ann")
    assert review(server, "Write to Ann.", "s") == ("drafted ", "Dear Ann (yes)")
    assert len(model.requests) == 1  # the draft is not made again after the question


def test_a_session_has_its_state(server: RunningServer, model: ScriptedModel) -> None:
    model.play("Dear Ann")
    review(server, "Write to Ann.", "long")
    review(server, "Once more.", "long")
    assert [one["content"] for one in model.requests[1].messages] == [
        "Write to Ann.", "Dear Ann", "Dear Ann (yes)", "Once more.",
    ]  # fmt: skip
    review(server, "Once more.", "other")
    assert len(model.requests[2].messages) == 1


def test_who_cannot_be_asked_is_told(server: RunningServer, model: ScriptedModel) -> None:
    model.play("Dear Ann")
    with pytest.raises(ServerError, match="input_required"):
        server.execute("review", {"message": "Write to Ann."})
