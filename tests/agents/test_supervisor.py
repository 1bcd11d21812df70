"""`supervisor` on a real server: by a scripted model, and without any."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lakemesh.agents.supervisor.choice import Candidate, ranked
from tests.agents.test_tool_agent import MODELS, TOKENS
from tests.models.scripted_server import Reply, ScriptedServer, error
from tests.models.scripted_thread import calls, says, scripted_model, told
from tests.server import MODELS as OFFLINE
from tests.server import Server, running_server, write_config

FUNCTIONS = "tests.agents.sample_functions"
AGENTS = f"""
  calendar: {{function: "{FUNCTIONS}:add_days", description: Adds days or weeks to a date of the calendar.}}
  greeter: {{function: "{FUNCTIONS}:greet", description: Greets a person by name.}}
  arithmetic: {{function: "{FUNCTIONS}:broken", description: Divides numbers.}}
  vault: {{function: "{FUNCTIONS}:greet", description: Opens the vault., allowed_groups: [nobody]}}
  supervisor: {{class: supervisor, options: {{agents: [calendar, greeter, arithmetic, vault]}}}}
"""


class World:
    def __init__(self, server: Server, model: ScriptedServer | None) -> None:
        self.server = server
        self.model = model

    def script(self, *replies: Reply) -> None:
        assert self.model is not None
        self.model.script, self.model.requests = list(replies), []

    def ask(self, message: str, data: dict | None = None, accept: str = "application/json") -> httpx.Response:
        given = {"message": message} | ({"data": data} if data is not None else {})
        headers = {"authorization": "Bearer ann", "accept": accept}
        body = {"agent": "supervisor", "data": given}
        return httpx.post(f"{self.server.url}/api/execute", json=body, headers=headers, timeout=30)

    def report(self, message: str, data: dict | None = None) -> dict:
        response = self.ask(message, data)
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def server_with(folder: Path, models: str) -> Iterator[Server]:
    config = write_config(folder / "config", AGENTS, more=f"auth: {{tokens: [{TOKENS}]}}\n", models=models)
    with running_server(folder / "home", config) as server:
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        scripted_model(says("unscripted")) as model,
        server_with(tmp_path_factory.mktemp("supervisor"), MODELS.format(url=model.base_url)) as server,
    ):
        yield World(server, model)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with server_with(tmp_path_factory.mktemp("offline"), OFFLINE) as server:
        yield World(server, None)


def test_it_hands_over_data_and_puts_answers_together(world: World) -> None:
    both = calls(("calendar", {"day": "2026-02-27"}), ("greeter", {"name": "Bob"}))
    world.script(both, says("The 28th, and Bob is greeted."))
    answer = world.report("add a day and greet Bob", {"day": "2026-02-27", "name": "Bob"})
    assert answer["result"] == {
        "text": "The 28th, and Bob is greeted. ",
        "asked": [{"agent": "calendar", "error": None}, {"agent": "greeter", "error": None}],
        "refused": False,
    }
    assert "2026-02-27" in world.model.requests[0]["messages"][-1]["content"]
    assert told(world.model.requests[1]) == ['"2026-02-28"', '"ann greets Bob"']
    assert "degraded" not in answer["metadata"]


def test_an_answer_of_the_models_own_is_not_passed_on(world: World) -> None:
    world.script(says("The capital of France is Paris."))
    answer = world.report("what is the capital of France?")
    assert answer["result"]["refused"]
    assert "Paris" not in json.dumps(answer)
    assert "calendar: Adds days" in answer["result"]["text"]
    assert "vault" not in answer["result"]["text"]  # this caller may not know that there is one
    streamed = world.ask("what is the capital of France?", accept="text/event-stream").text
    assert "Paris" not in streamed


def test_an_agent_that_is_not_its_own_is_not_asked(world: World) -> None:
    world.script(calls(("supervisor", {"message": "go on"})), says("Done by myself."))
    assert world.report("go on")["result"]["refused"]


def test_agents_that_fail_are_named(world: World) -> None:
    world.script(calls(("arithmetic", {"x": 1}), ("vault", {"name": "x"})), says("Neither could."))
    asked = world.report("divide and open the vault")["result"]["asked"]
    assert asked == [
        {"agent": "arithmetic", "error": "agent_failed"},
        {"agent": "vault", "error": "invalid_request"},
    ]
    assert [tool["function"]["name"] for tool in world.model.requests[0]["tools"]] == [
        "calendar",
        "greeter",
        "arithmetic",
    ]


def test_what_agents_answered_is_streamed(world: World) -> None:
    world.script(calls(("greeter", {"name": "Bob"}), text="Secret thoughts."), says("Bob is greeted."))
    text = world.ask("greet Bob", accept="text/event-stream").text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names.index("tool_called") < names.index("text_delta")
    assert "Secret" not in text


def test_models_away_leave_the_choice_to_the_words(world: World) -> None:
    world.script(error(500))
    answer = world.report("please greet this person by name", {"name": "Bob"})
    assert answer["result"]["asked"] == [{"agent": "greeter", "error": None}]
    assert "no model" in answer["metadata"]["degraded"][0]


def test_models_that_go_away_half_way_do_not_ask_twice(world: World) -> None:
    world.script(calls(("greeter", {"name": "Bob"})), error(500))
    assert world.ask("greet this person by name", {"name": "Bob"}).json()["code"] == "model_unavailable"


@pytest.mark.parametrize(
    ("message", "data", "asked", "text"),
    [
        ("add three days to this date", {"day": "2026-02-27", "days": 3}, "calendar", '"2026-03-02"'),
        ("Greet somebody by the name of Bob", {"name": "Bob"}, "greeter", '"ann greets Bob"'),
        ("Greets", None, "greeter", '"ann greets Greets"'),
        ("divide these numbers", {"x": 1}, "arithmetic", "'arithmetic' failed"),
    ],
)
def test_without_a_model_words_choose(offline: World, message: str, data: dict | None, asked: str, text: str) -> None:
    answer = offline.report(message, data)
    assert [one["agent"] for one in answer["result"]["asked"]] == [asked]
    assert text in answer["result"]["text"]
    assert any("no model" in reason for reason in answer["metadata"]["degraded"])
    assert offline.report(message, data)["result"]["asked"] == answer["result"]["asked"]


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("what is the capital of France?", None),
        ("add three days to this date", None),  # data is never made up
        ("add three days to this date", {"name": "Bob", "other": 1}),
        ("use calendar", None),
    ],
)
def test_without_a_model_what_fits_none_is_refused(offline: World, message: str, data: dict | None) -> None:
    result = offline.report(message, data)["result"]
    assert (result["refused"], result["asked"]) == (True, [])


def test_ranking_is_the_same_every_time_and_knows_rare_words() -> None:
    agents = [
        Candidate(name="orders", description="Looks up orders of customers.", schema={}),
        Candidate(name="refunds", description="Refunds orders of customers.", schema={}),
    ]
    ordered = ranked("refund the order of this customer", agents)
    assert [one.name for _, one in ordered] == ["refunds", "orders"]
    assert ordered[0][0] > ordered[1][0] > 0
    assert ranked("", agents)[0][0] == 0


def test_the_shipped_configuration_has_one(tmp_path: Path) -> None:
    transaction = {
        "transaction_id": 1,
        "tx_datetime": "2018-08-08T12:00:00Z",
        "customer_id": 5,
        "terminal_id": 7,
        "amount": 250,
    }
    facts = {"subject": "card 5", "facts": ["The amount is 250."]}
    with running_server(tmp_path / "home", Path(__file__).parents[2] / "config") as server:
        world = World(server, None)
        decided = world.report("Decide on this card transaction, with reasons", transaction)
        told_facts = world.report("Write a short account of these facts for an analyst", facts)
        refused = world.report("Book a flight to Rome")
    assert decided["result"]["asked"] == [{"agent": "fraud_detector", "error": "unavailable"}]
    assert "lakemesh train-risk" in decided["result"]["text"]
    assert told_facts["result"]["asked"] == [{"agent": "narrative", "error": None}]
    assert refused["result"]["refused"]
