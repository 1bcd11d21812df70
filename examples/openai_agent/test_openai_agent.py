from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import Calls, Fails, RunningServer, ScriptedModel, calls, serve

pytest.importorskip("agents", reason="needs lakemesh[openai-agents] (`make judge-clients` has it)")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(Path(__file__).parent / "config", model=ScriptedModel("unscripted")) as running:
        yield running


@pytest.fixture
def model(server: RunningServer) -> ScriptedModel:
    assert isinstance(server.model, ScriptedModel)
    return server.model


def test_its_tools_and_the_servers(server: RunningServer, model: ScriptedModel) -> None:
    both = Calls([("opening_hours", {"day": "Monday"}), ("order_status", {"order": "4711"})])
    model.play(both, "Open, and on its way.")
    answer = server.execute("desk", {"message": "Are you open, and where is 4711?"})
    assert answer.result["text"].strip() == "Open, and on its way."
    assert sorted(model.requests[0].tools) == ["opening_hours", "order_status", "transfer_to_refunds"]
    assert model.requests[1].told == ["Monday: 9 to 18, said to local", '"4711 is on its way"']
    done = server.execution(answer)
    assert done.called == ["order_status"]
    assert (done.input_tokens, len(done.model_calls)) == (200, 2)
    assert {"execute_tool opening_hours", "execute_tool order_status"} <= {span.name for span in done.spans}


def test_sessions_go_on_and_belong_to_their_user(server: RunningServer, model: ScriptedModel) -> None:
    model.play("Hello Ann.", "You are Ann.", "Who?")
    server.execute("desk", {"message": "I am Ann."}, session_id="s")
    server.execute("desk", {"message": "Who am I?"}, session_id="s")
    assert "I am Ann." in str(model.requests[1].messages)
    server.execute("desk", {"message": "Who am I?"}, session_id="other")
    assert "Ann" not in str(model.requests[2].messages)


def test_a_handoff(server: RunningServer, model: ScriptedModel) -> None:
    model.play(calls("transfer_to_refunds"), "You get it back.")
    assert server.execute("desk", {"message": "Money back!"}).result["text"].strip() == "You get it back."
    assert "You decide on refunds." in model.requests[1].instructions


def test_it_streams_and_fails_as_every_agent(server: RunningServer, model: ScriptedModel) -> None:
    model.play(calls("opening_hours", day="Monday"), "We are open.")
    events = list(server.stream("desk", {"message": "Open?"}))
    assert "".join(one.data["text"] for one in events if one.type == "text_delta").strip() == "We are open."
    assert [one.data["name"] for one in events if one.type == "tool_called"] == ["opening_hours"]
    model.play(Fails(400, "context_length exceeded"))
    with pytest.raises(ServerError, match="model_refused"):
        server.execute("desk", {"message": "?"})
