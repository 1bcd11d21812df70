from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import Calls, Fails, RunningServer, ScriptedModel, calls, serve

pytest.importorskip("pydantic_ai", reason="needs lakemesh[pydantic-ai] (`make judge-clients` has it)")
PARIS = calls("final_result", city="Paris", days=3)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(Path(__file__).parent / "config", model=ScriptedModel("unscripted")) as running:
        yield running


@pytest.fixture
def model(server: RunningServer) -> ScriptedModel:
    assert isinstance(server.model, ScriptedModel)
    return server.model


def test_its_tools_the_servers_and_its_output(server: RunningServer, model: ScriptedModel) -> None:
    model.play(Calls([("home_of", {}), ("train_hours", {"city": "Paris"})]), PARIS)
    answer = server.execute("planner", {"message": "Plan a trip."})
    assert answer.result == {"city": "Paris", "days": 3}
    assert model.requests[1].told == ["local lives in Oslo", "9"]
    done = server.execution(answer)
    assert done.called == ["train_hours"]
    assert (done.input_tokens, len(done.model_calls)) == (200, 2)
    assert "execute_tool home_of" in {span.name for span in done.spans}
    [described] = [one for one in server.agents() if one["name"] == "planner"]
    assert set(described["output_schema"]["properties"]) == {"city", "days"}


def test_a_wrong_output_is_asked_for_again(server: RunningServer, model: ScriptedModel) -> None:
    model.play(calls("final_result", city="Paris", days=99), PARIS)
    assert server.execute("planner", {"message": "Plan a trip."}).result["days"] == 3


def test_sessions_go_on(server: RunningServer, model: ScriptedModel) -> None:
    model.play(PARIS)
    server.execute("planner", {"message": "I like museums."}, session_id="s")
    server.execute("planner", {"message": "Again."}, session_id="s")
    assert "museums" in str(model.requests[1].messages)
    server.execute("planner", {"message": "Again."}, session_id="other")
    assert "museums" not in str(model.requests[2].messages)


def test_it_tells_of_its_tools_and_fails_as_every_agent(server: RunningServer, model: ScriptedModel) -> None:
    model.play(calls("home_of"), PARIS)
    events = list(server.stream("planner", {"message": "Plan."}))
    assert [one.data["name"] for one in events if one.type == "tool_called"] == ["home_of"]
    model.play(Fails(400, "context_length exceeded"))
    with pytest.raises(ServerError, match="model_refused"):
        server.execute("planner", {"message": "?"})
