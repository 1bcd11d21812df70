"""The Responses door, driven by OpenAI's own client, with a database and without one."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from lakemesh.services.responses.events import ResponseEvents, ResponseHead
from tests.models.scripted_server import ScriptedServer
from tests.models.scripted_thread import calls, says, scripted_model
from tests.server import Server, running_server, write_config

AGENTS = """
  echo: {class: echo}
  worker: {class: "tests.invocations.agents:Worker", timeout_seconds: 60}
  asker: {class: "tests.invocations.agents:Asker", timeout_seconds: 60}
  titled: {class: "tests.invocations.agents:Worker", text_field: ledger}
  trouble: {class: "tests.agents.sample_agents:TroubleAgent"}
  add_days: {function: "tests.agents.sample_functions:add_days"}
  helper: {class: tool_agent, options: {instructions: You are kind., tools: [add_days]}}
"""
MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted, timeout_seconds: 20}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""
USERS = ("ann", "bob")
TOKENS = ", ".join(f"{{user: {user}, sha256: {hashlib.sha256(user.encode()).hexdigest()}}}" for user in USERS)
MORE = f"auth: {{tokens: [{TOKENS}]}}\ninvocations: {{default_agent: echo, lease_seconds: 3, retry_seconds: 0.1}}\n"


@dataclass(frozen=True)
class World:
    servers: tuple[Server, ...]
    model: ScriptedServer

    def client(self, user: str = "ann", place: int = 0) -> OpenAI:
        return OpenAI(base_url=f"{self.servers[place].url}/api", api_key=user, max_retries=0, timeout=30)

    def script(self, *replies: bytes) -> None:
        self.model.script, self.model.requests = list(replies), []


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[dict[str, World]]:
    """A server without a database, and two replicas with one."""
    folder = tmp_path_factory.mktemp("responses")
    with ExitStack() as stack:
        model = stack.enter_context(scripted_model(says("unscripted")))
        config = write_config(folder / "config", AGENTS, MORE, MODELS.format(url=model.base_url))

        def start(name: str, **settings: Any) -> Server:
            return stack.enter_context(running_server(folder / name, config, **settings))

        kept = tuple(start(name, database=postgres) for name in ("one", "two"))
        yield {"engine": World((start("alone"),), model), "kept": World(kept, model)}


@pytest.fixture(params=["engine", "kept"])
def world(worlds: dict[str, World], request: pytest.FixtureRequest) -> World:
    return worlds[request.param]


@pytest.fixture
def kept(worlds: dict[str, World]) -> World:
    return worlds["kept"]


def test_create_answers_with_the_agents_text(world: World) -> None:
    response = world.client().responses.create(model="echo", input="hello", metadata={"mine": "yes"}, temperature=0.5)
    assert response.status == "completed"
    assert response.output_text == "hello"
    assert response.metadata is not None
    assert response.metadata["mine"] == "yes"
    assert response.metadata["ignored"] == "temperature"
    assert len(response.metadata["execution_id"]) == len(response.metadata["trace_id"]) == 32
    assert response.usage is not None
    assert response.usage.total_tokens == 0


def test_the_text_goes_into_the_agents_field_and_custom_inputs_into_the_others(world: World, tmp_path: Path) -> None:
    create = world.client().responses.create
    response = create(model="worker", input="hi", extra_body={"custom_inputs": {"pieces": 2}})
    assert response.output[-1].content[0].text == "hi"  # type: ignore[union-attr]
    assert response.custom_outputs == {"text": "hi", "user": "ann"}  # type: ignore[attr-defined]
    ledger = tmp_path / "ledger"
    create(model="titled", input=str(ledger))
    assert ledger.read_text() == "run\n"
    assert "2026-03-01" in create(model="add_days", input='{"day": "2026-02-27", "days": 2}').output_text


def test_a_stream_has_the_whole_order(world: World) -> None:
    events = list(
        world.client().responses.create(
            model="worker", input="done", stream=True, extra_body={"custom_inputs": {"pieces": 2}}
        )
    )
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert {kind for kind in kinds if kind.endswith(".delta")} == {"response.output_text.delta"}
    for item in events[-1].response.output:
        deltas = "".join(event.delta for event in events if getattr(event, "item_id", "") == item.id
                         and event.type == "response.output_text.delta")  # fmt: skip
        assert deltas == item.content[0].text


def test_the_clients_own_stream_helper_accepts_it_with_tools(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-02-27", "days": 2}), text="Let me see."), says("The first of March."))
    with world.client().responses.stream(model="helper", input="two days after 27 February?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    assert [item.type for item in final.output] == ["message", "function_call", "function_call_output", "message"]
    call = final.output[1]
    assert (call.name, json.loads(call.arguments)) == ("add_days", {"day": "2026-02-27", "days": 2})  # type: ignore[union-attr]
    assert final.output_text.endswith("The first of March. ")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (200, 20)


def test_previous_response_id_goes_on_with_the_conversation_of_the_same_user_alone(world: World) -> None:
    world.script(says("Hello Ann."), says("You are Ann."))
    ann, bob = world.client(), world.client("bob")
    first = ann.responses.create(model="helper", input="I am Ann.")
    second = ann.responses.create(model="helper", input="Who am I?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    shown = world.model.requests[1]["messages"]
    assert [message["content"].strip() for message in shown] == [
        "You are kind.",
        "I am Ann.",
        "Hello Ann.",
        "Who am I?",
    ]
    world.script(says("No idea."))
    try:
        bob.responses.create(model="helper", input="Who am I?", previous_response_id=first.id)
    except openai.NotFoundError:
        assert world.model.requests == []
    else:
        assert "Ann" not in json.dumps(world.model.requests)


def test_a_conversation_is_named_and_goes_on(world: World) -> None:
    world.script(says("One."), says("Two."), says("Three."))
    client, name = world.client(), f"thread {id(world)}"
    first = client.responses.create(model="helper", input="first", conversation=name)
    assert first.conversation is not None
    assert first.conversation.id == name
    second = client.responses.create(model="helper", input="second", previous_response_id=first.id)
    client.responses.create(model="helper", input="third", previous_response_id=second.id)
    shown = [message["content"].strip() for message in world.model.requests[2]["messages"]]
    assert shown[1:] == ["first", "One.", "second", "Two.", "third"]


def test_messages_before_the_last_are_shown_to_the_agent(world: World) -> None:
    world.script(says("Paris."))
    turns = [
        {"role": "user", "content": "A city in France?"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Lyon."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "Another?"}]},
    ]
    response = world.client().responses.create(model="helper", input=turns)  # type: ignore[arg-type]
    assert response.output_text.strip() == "Paris."
    shown = [message["content"] for message in world.model.requests[0]["messages"]]
    assert shown == ["You are kind.", "A city in France?", "Lyon.", "Another?"]


@pytest.mark.parametrize("path", ["/invocations", "/responses", "/api/responses"])
def test_a_caller_of_mlflows_agent_server(world: World, path: str) -> None:
    body = {"input": [{"role": "user", "content": "hi"}], "context": {"conversation_id": "c1", "user_id": "eve"}}
    answer = httpx.post(f"{world.servers[0].url}{path}", json=body, headers={"authorization": "Bearer bob"}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"][0]["content"][0]["text"] == "hi"
    assert httpx.post(f"{world.servers[0].url}{path}", json=body).status_code == 401


def test_failures_are_designed_errors(world: World) -> None:
    client = world.client()
    with pytest.raises(openai.InternalServerError) as failed:
        client.responses.create(model="trouble", input="raise")
    assert failed.value.code == "agent_failed"
    events = list(client.responses.create(model="trouble", input="raise", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "agent_failed"
    assert "Traceback" not in events[-1].to_json()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="nobody", input="x")
    assert unknown.value.code == "unknown_agent"


@pytest.mark.parametrize(
    "body",
    [
        {"input": []},
        {"input": [{"role": "assistant", "content": "I"}]},
        {"input": [{"role": "user", "content": 7}]},
        {"input": "x", "conversation": "c", "previous_response_id": "resp_" + "0" * 32},
        {"input": "x", "previous_response_id": "another"},
        {"input": "x", "metadata": {"a": 1}},
        {"input": "plain text", "model": "add_days"},
    ],
)
def test_bad_requests_are_refused(world: World, body: dict[str, Any]) -> None:
    url, headers = f"{world.servers[0].url}/api/responses", {"authorization": "Bearer ann"}
    answer = httpx.post(url, json={"model": "echo", **body}, headers=headers, timeout=30)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"] == answer.json()["detail"]


def test_background_retrieve_and_stream_from_the_other_replica(kept: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    accepted = kept.client().responses.create(
        model="worker",
        input="late",
        background=True,
        metadata={"mine": "yes"},
        extra_body={"custom_inputs": {"gate": str(gate), "pieces": 3}},
    )
    assert accepted.status in ("queued", "in_progress")
    other = kept.client(place=1)
    assert other.responses.retrieve(accepted.id).status in ("queued", "in_progress")
    with pytest.raises(openai.NotFoundError):
        kept.client("bob").responses.retrieve(accepted.id)
    gate.touch()
    events = list(other.responses.retrieve(accepted.id, stream=True))
    assert events[-1].type == "response.completed"
    after = list(kept.client().responses.retrieve(accepted.id, stream=True, starting_after=3))
    assert [event.to_dict() for event in after] == [event.to_dict() for event in events[4:]]
    final = other.responses.retrieve(accepted.id)
    assert final.to_dict() == events[-1].response.to_dict()
    assert final.output_text.endswith("late")
    assert final.metadata is not None
    assert final.metadata["mine"] == "yes"


def test_cancel_from_the_other_replica(kept: World, tmp_path: Path) -> None:
    gate = {"custom_inputs": {"gate": str(tmp_path / "never")}}
    accepted = kept.client().responses.create(model="worker", input="x", background=True, extra_body=gate)
    with pytest.raises(openai.NotFoundError):
        kept.client("bob").responses.cancel(accepted.id)
    kept.client(place=1).responses.cancel(accepted.id)
    assert list(kept.client().responses.retrieve(accepted.id, stream=True))[-1].type == "response.failed"
    assert kept.client().responses.retrieve(accepted.id).status == "cancelled"


def test_an_idempotency_key_is_one_response(world: World) -> None:
    create, headers = world.client().responses.create, {"Idempotency-Key": "k1"}
    first = create(model="echo", input="once", extra_headers=headers)
    again = create(model="echo", input="once", extra_headers=headers)
    assert first.id == again.id
    assert first.metadata == again.metadata
    with pytest.raises(openai.ConflictError):
        create(model="echo", input="other", extra_headers=headers)


def test_what_is_not_stored_is_not_found(kept: World) -> None:
    response = kept.client().responses.create(model="echo", input="x", store=False)
    with pytest.raises(openai.NotFoundError):
        kept.client().responses.retrieve(response.id)


def test_without_a_database_the_background_is_refused(worlds: dict[str, World]) -> None:
    client = worlds["engine"].client()
    with pytest.raises(openai.BadRequestError, match="LAKEMESH_DATABASE"):
        client.responses.create(model="echo", input="x", background=True)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_" + "0" * 32)


def test_what_an_attempt_wrote_that_was_interrupted_is_not_part_of_the_answer() -> None:
    events = ResponseEvents(ResponseHead(id="resp_x", model="m", created_at=1.0))
    happened = [
        ("started", {"execution_id": "1"}),
        ("text_delta", {"text": "half an ans"}),
        ("interrupted", {"attempt": 1}),
        ("started", {"execution_id": "2"}),
        ("text_delta", {"text": "whole"}),
        ("completed", {"result": "whole", "metadata": {"execution_id": "2"}}),
    ]
    made = [event for kind, data in happened for event in events.feed(kind, data)]
    assert [event["type"] for event in made].count("response.created") == 1
    done = [event["item"]["status"] for event in made if event["type"] == "response.output_item.done"]
    assert done == ["incomplete", "completed"]
    assert [item["content"][0]["text"] for item in events.response()["output"]] == ["whole"]
