"""Whose content is kept, and what the span of a model call then shows."""

import json
from pathlib import Path
from typing import Any

import pytest

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.schemas import AgentInput, AgentOutput, Identity
from tests.models.scripted_server import completion, scripted_server, stream
from tests.server import write_config
from tests.telemetry.test_pipeline import rows

pytestmark = pytest.mark.anyio

AGENTS = """
  prompted: {class: tests.telemetry.test_content:AskingAgent}
  other: {class: tests.telemetry.test_content:AskingAgent}
"""
MODELS = """
models:
  endpoints: {{remote: {{base_url: "{url}", model: tiny, input_price: 2.0, output_price: 4.0}}}}
  routes: {{quality: {{endpoints: [remote]}}}}
"""


async def spans_of(home: Path, telemetry: str, url: str, *asked: tuple[str, str]) -> list[dict[str, Any]]:
    """The model calls' spans of executions of these agents for these users, in order."""
    folder = write_config(home / "config", AGENTS, more=f"telemetry: {telemetry}", models=MODELS.format(url=url))
    async with open_services(Settings(home=home, config_folder=folder)) as services:
        for agent, user in asked:
            request = AgentInput(agent_name=agent, data={"question": f"{user} has card 4111111111111111."})
            await services.router.execute(request, identity=Identity(user=user), door="api")
        assert await services.telemetry.flush()
        found = await rows(
            services.workspace, "SELECT attributes FROM main.agents.traces WHERE name LIKE 'chat %' ORDER BY time"
        )
    return [json.loads(row["attributes"]) for row in found]


async def test_content_is_kept_of_the_agents_and_users_that_are_named(tmp_path: Path) -> None:
    asked = [("prompted", "ann"), ("prompted", "bob"), ("other", "ann")]
    async with scripted_server(*[completion("fine")] * 3) as server:
        config = "{capture_content: {agents: [prompted], users: [ann]}}"
        kept, *others = await spans_of(tmp_path, config, server.base_url, *asked)
    [question] = json.loads(kept["gen_ai.input.messages"])
    [answer] = json.loads(kept["gen_ai.output.messages"])
    assert question == {"role": "user", "parts": [{"type": "text", "content": "ann has card [card number]."}]}
    assert (answer["role"], answer["parts"]) == ("assistant", [{"type": "text", "content": "fine"}])
    assert json.loads(kept["mlflow.spanInputs"])["messages"][0]["content"] == "ann has card [card number]."
    for span in others:
        assert not {"gen_ai.input.messages", "gen_ai.output.messages", "mlflow.spanInputs"} & set(span)
    assert kept["server.address"] == "127.0.0.1"
    assert kept["gen_ai.response.id"]


async def test_what_was_streamed_is_kept_with_the_time_of_its_first_piece(tmp_path: Path) -> None:
    async with scripted_server(stream("one ", "two")) as server:
        [span] = await spans_of(tmp_path, "{capture_content: true}", server.base_url, ("prompted", "stream"))
    [answer] = json.loads(span["gen_ai.output.messages"])
    assert answer["parts"] == [{"type": "text", "content": "one two"}]
    assert span["gen_ai.response.time_to_first_chunk"] > 0


class AskingAgent(Agent[dict, dict]):
    """Asks a model what it was asked; piece by piece for the user `stream`."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        messages = [{"role": "user", "content": request.data["question"]}]
        if context.identity.user == "stream":
            text = "".join([chunk.text async for chunk in context.models.stream(messages)])
        else:
            text = (await context.models.chat(messages)).text
        return AgentOutput(agent_name=self.name, result={"text": text})
