"""`run_tools` and `tool_agent` on a real server, with a scripted model that behaves and one that does not."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.tool_agent import ToolAgent, ToolAgentOptions
from lakemesh.agents.tool_loop import wire_names
from lakemesh.composition.services import open_services
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.errors import ConfigurationInvalid
from lakemesh.sessions import InMemorySessions
from tests.models.scripted_server import Reply, ScriptedServer, completion, error
from tests.models.scripted_thread import calls, says, scripted_model, told
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

FUNCTIONS = "tests.agents.sample_functions"
AGENTS = f"""
  add_days: {{function: "{FUNCTIONS}:add_days"}}
  broken: {{function: "{FUNCTIONS}:broken"}}
  slow: {{function: "{FUNCTIONS}:slow"}}
  secret: {{function: "{FUNCTIONS}:greet", allowed_groups: [nobody]}}
  remember: {{class: search_memory}}
  helper:
    class: tool_agent
    options:
      instructions: You are kind.
      tools: [add_days, broken, slow, secret]
      limits: {{steps: 4, repeats: 2, parallel: 2, tokens: 2000}}
  structured:
    class: tool_agent
    options: {{tools: [add_days], output: {{day: string, sure: boolean}}}}
  mindful:
    class: tool_agent
    options: {{prompt: mind, memory: true}}
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


class World:
    """One server for the module; each test gives its model a script."""

    def __init__(self, server: Server, model: ScriptedServer) -> None:
        self.server = server
        self.model = model

    def script(self, *replies: Reply) -> None:
        self.model.script = list(replies)
        self.model.requests = []

    def ask(self, message: str, *, agent: str = "helper", user: str = "ann", **more: object) -> httpx.Response:
        return httpx.post(
            f"{self.server.url}/api/execute",
            json={"agent": agent, "data": {"message": message}, **more},
            headers={"authorization": f"Bearer {user}"},
            timeout=30,
        )


@contextmanager
def world_with(folder: Path) -> Iterator[World]:
    with scripted_model(says("unscripted")) as model:
        config = write_config(
            folder / "config",
            AGENTS,
            more=f"auth: {{tokens: [{TOKENS}]}}\nmemory: {{flush_seconds: 0.2}}\n",
            models=MODELS.format(url=model.base_url),
        )
        (config / "prompts/mind_v1.jinja").write_text(
            "Speak to {{ user }}. {% for line in earlier %}* {{ line }}{% endfor %}"
        )
        with running_server(folder / "home", config) as server:
            yield World(server, model)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_with(tmp_path_factory.mktemp("tool_agent")) as made:
        yield made


def test_model_and_tools_until_there_is_an_answer(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-02-27", "days": 2}), text="Let me see."), says("The first of March."))
    answer = world.ask("two days after 27 February?").json()
    assert answer["result"] == {"text": "The first of March. "}
    assert answer["metadata"]["tools"] == [{"name": "add_days", "error": None}]
    assert answer["metadata"]["input_tokens"] == 200
    first, second = world.model.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["add_days", "broken", "slow"]
    assert first["messages"][0] == {"role": "system", "content": "You are kind."}
    assert told(second) == ['"2026-03-01"']
    assert second["messages"][2]["tool_calls"][0]["function"]["name"] == "add_days"


def test_each_tool_is_a_nested_run_with_a_row(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-02-27"})), says("Fine."))
    trace_id = world.ask("tomorrow?").json()["metadata"]["trace_id"]
    url = f"{world.server.url}/console/api/executions?nested=true"
    rows = httpx.get(url, headers={"authorization": "Bearer ann"}).json()
    found = {row["agent_id"]: row for row in rows["executions"] if row["trace_id"] == trace_id}
    assert set(found) == {"helper", "add_days"}


def test_text_and_tools_are_streamed(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-02-27"})), says("It is the 28th."))
    headers = {"authorization": "Bearer ann", "accept": "text/event-stream"}
    body = {"agent": "helper", "data": {"message": "tomorrow?"}}
    text = httpx.post(f"{world.server.url}/api/execute", json=body, headers=headers, timeout=30).text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names.index("tool_called") < names.index("tool_returned") < names.index("text_delta")
    assert names.count("text_delta") == 4
    assert names[-1] == "completed"


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("broken", {"x": 1}, "agent_failed"),
        ("add_days", {"day": "never"}, "validation_failed"),
        ("secret", {"name": "x"}, "invalid_request"),
        ("no_such_tool", {}, "invalid_request"),
        ("remember", {"query": "x"}, "invalid_request"),
        ("add_days", '{"day": ', "invalid_request"),
        ("add_days", "[1]", "invalid_request"),
        ("", {}, "invalid_request"),
        ("a b/c\n", {}, "invalid_request"),
    ],
)
def test_what_a_tool_cannot_do_is_told_to_the_model(world: World, name: str, arguments: object, code: str) -> None:
    world.script(calls((name, arguments)), says("I could not."))
    answer = world.ask("try").json()
    assert answer["result"]["text"] == "I could not. "
    assert [use["error"] for use in answer["metadata"]["tools"]] == [code]
    error = json.loads(told(world.model.requests[1])[0])["error"]
    assert error["code"] == code
    assert "division" not in json.dumps(error)
    if code == "validation_failed":
        assert error["errors"][0]["path"].endswith("day")


def test_tools_of_one_step_run_side_by_side_within_the_limit(world: World) -> None:
    from tests.agents import sample_functions

    sample_functions.most_running = 0
    world.script(calls(*[("slow", {"n": n}) for n in range(6)]), says("Done."))
    assert world.ask("all").json()["result"]["text"] == "Done. "
    assert told(world.model.requests[1]) == [str(n) for n in range(6)]
    assert sample_functions.most_running == 2


def test_endless_tool_calls_end_in_an_answer_that_says_so(world: World) -> None:
    days = iter(range(1, 100))

    def more(request: dict) -> bytes:
        if "tools" not in request:
            return says("This is all I have.")
        return calls(("add_days", {"day": "2026-01-01", "days": next(days)}))

    world.script(more)
    answer = world.ask("go on").json()
    assert answer["result"]["text"] == "This is all I have. "
    assert len(world.model.requests) == 5
    assert "limit of steps" in answer["metadata"]["degraded"][0]


def test_the_same_call_again_and_again_is_not_run(world: World) -> None:
    def again(request: dict) -> bytes:
        return calls(("add_days", {"day": "2026-01-01"})) if "tools" in request else says("Enough.")

    world.script(again)
    answer = world.ask("go on").json()
    assert [use["error"] for use in answer["metadata"]["tools"]] == [None, None, "invalid_request"]
    assert "limit of repeats" in answer["metadata"]["degraded"][0]


def test_tokens_end_the_loop(world: World) -> None:
    def costly(request: dict) -> bytes:
        if "tools" not in request:
            return says("Dear.")
        return calls(("add_days", {"day": "2026-01-01"})).replace(b'"prompt_tokens": 100', b'"prompt_tokens": 5000')

    world.script(costly)
    answer = world.ask("go on").json()
    assert "limit of tokens" in answer["metadata"]["degraded"][0]
    assert len(world.model.requests) == 2


def test_a_model_that_only_calls_tools_even_when_it_has_none_is_a_designed_error(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-01-01"})))
    answer = world.ask("go on")
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")


def test_more_tools_than_anybody_asks_for_is_a_designed_error(world: World) -> None:
    world.script(calls(*[("add_days", {"day": "2026-01-01"})] * 200))
    assert world.ask("go on").json()["code"] == "model_unavailable"


def test_who_leaves_ends_the_loop_and_its_tools(world: World) -> None:
    from tests.agents import sample_functions

    sample_functions.entered.clear()
    sample_functions.left.clear()
    world.script(calls(("slow", {"n": -1})), says("never"))

    async def leave() -> None:
        headers = {"authorization": "Bearer ann", "accept": "text/event-stream"}
        body = {"agent": "helper", "data": {"message": "x"}}
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", f"{world.server.url}/api/execute", json=body, headers=headers) as response,
        ):
            async for line in response.aiter_lines():
                if line == "event: tool_called":
                    await asyncio.to_thread(sample_functions.entered.wait, 10)
                    return

    asyncio.run(leave())
    assert sample_functions.left.wait(10)
    assert len(world.model.requests) == 1


def test_a_structured_answer(world: World) -> None:
    world.script(calls(("add_days", {"day": "2026-02-27"})), says('{"day": "2026-02-28", "sure": true}'))
    answer = world.ask("tomorrow?", agent="structured").json()
    assert answer["result"] == {"day": "2026-02-28", "sure": True}


def test_a_structured_answer_is_asked_for_when_words_came(world: World) -> None:
    mended = completion('{"day": "2026-02-28", "sure": false}')
    world.script(says("Tomorrow, I think."), completion('{"day": 1}'), mended)
    assert world.ask("tomorrow?", agent="structured").json()["result"] == {"day": "2026-02-28", "sure": False}
    assert world.model.requests[1]["response_format"]["type"] == "json_schema"
    agents = httpx.get(f"{world.server.url}/api/agents", headers={"authorization": "Bearer ann"}).json()["agents"]
    schema = next(agent["output_schema"] for agent in agents if agent["name"] == "structured")
    assert set(schema["properties"]) == {"day", "sure"}


def test_history_goes_on_for_its_user_alone(world: World) -> None:
    world.script(says("Hello."))
    world.ask("I am Ann and my PIN is 4711", session_id="s1")
    world.ask("who am I?", session_id="s1")
    spoken = [message["content"] for message in world.model.requests[-1]["messages"]]
    assert spoken == ["You are kind.", "I am Ann and my PIN is 4711", "Hello. ", "who am I?"]
    for user, session in (("bob", "s1"), ("ann", "s2"), ("ann", None)):
        world.ask("who am I?", user=user, session_id=session)
        assert "4711" not in json.dumps(world.model.requests[-1])
    world.ask("who am I?", agent="structured", session_id="s1")
    assert "4711" not in json.dumps(world.model.requests[-1])


def test_memory_is_its_users_across_sessions(world: World) -> None:
    world.script(says("Noted."))
    world.ask("my cat is called Mimi", agent="mindful", session_id="m1")
    for _ in range(100):  # written in the background, found when it is
        body = {"agent": "remember", "data": {"query": "cat", "agent_id": "mindful"}}
        found = httpx.post(f"{world.server.url}/api/execute", json=body, headers={"authorization": "Bearer ann"})
        if found.json()["result"]["matches"]:
            break
        time.sleep(0.1)
    world.ask("what is my cat called?", agent="mindful")
    assert "Mimi" in json.dumps(world.model.requests[-1]["messages"][0])
    assert world.model.requests[-1]["messages"][0]["content"].startswith("Speak to ann.")
    world.ask("what is my cat called?", agent="mindful", user="bob")
    assert "Mimi" not in json.dumps(world.model.requests[-1])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("{tools: [add_dayz]}", "agents.one.options.tools: there is no agent 'add_dayz'"),
        ("{route: fats}", "agents.one.options.route: there is no model route 'fats'"),
        ("{prompt: nowhere}", "agents.one.options.prompt: there is no prompt 'nowhere'"),
        ("{prompt: mind}", "agents.one.options.prompt: 'mind' needs mood"),
        ("{prompt: a, instructions: b}", "either instructions or prompt"),
        ("{output: {day: date}}", "agents.one.options.output.day"),
        ("{output: {'a b': string}}", "a b"),
        ("{limits: {steps: 0}}", "agents.one.options.limits.steps"),
    ],
)
async def test_faults_are_named_before_it_starts(tmp_path: Path, options: str, fault: str) -> None:
    folder = write_config(tmp_path / "config", f"  one: {{class: tool_agent, options: {options}}}")
    (folder / "prompts/mind_v1.jinja").write_text("{{ mood }} {{ user }}")
    with pytest.raises(ConfigurationInvalid) as refused:
        async with open_services(Settings(home=tmp_path / "home", config_folder=folder)):
            pass
    assert any(fault in error for error in refused.value.errors), refused.value.errors


def test_an_echo_needs_no_models(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", "  echo: {class: echo}", models="")
    with running_server(tmp_path / "home", folder) as server:
        answer = httpx.post(f"{server.url}/api/execute", json={"agent": "echo", "data": {"message": "x"}})
    assert answer.json()["result"] == {"message": "x"}


def test_tools_of_servers_are_checked_by_their_server_alone() -> None:
    known = KnownNames(agents=["a"], servers=["tickets", "peer"], routes=["quality"], prompts=None)
    options = ToolAgentOptions(tools=["a", "tickets__search", "peer__skill", "other__x"], prompt="unchecked")
    assert ToolAgent.check_options(options, known) == ["tools: there is no agent 'other__x'; there are: a"]


def test_names_a_model_takes() -> None:
    names = wire_names(["a.b", "a_b", "peer__skill", "x" * 80, "x" * 90])
    assert list(names.values()) == ["a.b", "a_b", "peer__skill", "x" * 80, "x" * 90]
    assert all(len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in names)


async def test_sessions_are_bounded_in_bytes() -> None:
    sessions = InMemorySessions(max_bytes=1_000, max_session_bytes=400)
    for n in range(20):
        for session_id in ("one", "two"):
            message = {"role": "user", "content": f"{n} " + "x" * 60}
            await sessions.append(agent="a", user="u", session_id=session_id, messages=[message])
    kept = (await sessions.read(agent="a", user="u", session_id="one", limit=100)).messages
    assert [message["content"].split()[0] for message in kept] == ["16", "17", "18", "19"]
    for n in range(10):
        await sessions.append(agent="a", user="v", session_id=str(n), messages=[{"content": "y" * 200}])
    assert (await sessions.read(agent="a", user="u", session_id="one", limit=100)).messages == []
    assert await sessions.forget(user="v") == 4
    assert (await sessions.read(agent="a", user="v", session_id="9", limit=1)).messages == []


def test_a_kept_answer_is_told_in_the_metadata(tmp_path: Path) -> None:
    prompted = '  prompted: {class: "tests.agents.sample_agents:PromptedAgent"}'
    with scripted_model(completion("kept"), completion("new")) as model:
        models = MODELS.format(url=model.base_url).replace("attempts: 1", "attempts: 1, cache: {lifetime_seconds: 60}")
        folder = write_config(tmp_path / "config", prompted, more=f"auth: {{tokens: [{TOKENS}]}}\n", models=models)
        (folder / "prompts/ask_v1.txt").write_text("{{ question }}")
        with running_server(tmp_path / "home", folder) as server:

            def ask(user: str) -> tuple[str, object, object]:
                answer = httpx.post(
                    f"{server.url}/api/execute",
                    json={"agent": "prompted", "data": {"question": "what?"}},
                    headers={"authorization": f"Bearer {user}"},
                    timeout=30,
                ).json()
                metadata = answer["metadata"]
                return answer["result"]["text"], metadata["input_tokens"], metadata.get("cached_answers")

            assert [ask("ann"), ask("ann"), ask("bob")] == [("kept", 7, None), ("kept", 0, 1), ("new", 7, None)]


def test_memory_asks_one_embedding_model() -> None:
    endpoints = {"a": {"serving_endpoint": "gte"}, "b": {"serving_endpoint": "bge"}}
    routes = {"embeddings": {"endpoints": ["a", "b"]}}
    with pytest.raises(ValueError, match=r"different models \(bge, gte\)"):
        Config.model_validate({"agents": {}, "models": {"endpoints": endpoints, "routes": routes}})
    endpoints["b"]["model"] = "gte"
    Config.model_validate({"agents": {}, "models": {"endpoints": endpoints, "routes": routes}})


def test_tools_that_stall_leave_time_for_an_answer(world: World) -> None:
    world.script(calls(("slow", {"n": -1})), says("It took too long."))
    body = {"agent": "helper", "data": {"message": "x"}}
    headers = {"authorization": "Bearer ann", "x-request-timeout": "2"}
    answer = httpx.post(f"{world.server.url}/api/execute", json=body, headers=headers, timeout=30).json()
    assert answer["result"]["text"] == "It took too long. "
    assert answer["metadata"]["tools"] == [{"name": "slow", "error": "deadline_exceeded"}]


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (error(400, "This model's maximum context length is 8192 tokens."), 422, "model_refused"),
        (error(429, retry_after="inf"), 503, "model_unavailable"),
        (error(429, retry_after="nan"), 503, "model_unavailable"),
        (error(429, retry_after="9"), 503, "model_unavailable"),
        (says("fine").replace(b'"prompt_tokens": 100', b'"prompt_tokens": 1e300'), 200, None),
    ],
)
def test_what_a_model_does_wrong_is_a_designed_answer(
    world: World, reply: bytes, status: int, code: str | None
) -> None:
    world.script(reply)
    response = world.ask("x")
    assert (response.status_code, response.json().get("code")) == (status, code)
    if code == "model_refused":
        assert response.json()["reason"] == "context_length"
        assert "retry-after" not in response.headers
    if code is None:
        assert response.json()["metadata"]["input_tokens"] == 2**31 - 1


def test_many_users_at_once_each_get_their_own(world: World) -> None:
    """Answers, histories and tools of users who ask at the same time in sessions of one name."""

    def reply(request: dict) -> bytes:
        asked = [message["content"] for message in request["messages"] if message["role"] == "user"]
        if not told(request):
            return calls(("add_days", {"day": "2026-01-01", "days": int(asked[-1].split()[-1])}))
        return says(f"{asked[-1]} gives {told(request)[-1]} after {len(asked)}")

    world.script(reply)

    async def converse(user: str, rounds: int) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            for n in range(1, rounds + 1):
                body = {"agent": "helper", "data": {"message": f"{user} {n}"}, "session_id": "together"}
                headers = {"authorization": f"Bearer {user}"}
                response = await client.post(f"{world.server.url}/api/execute", json=body, headers=headers)
                text = response.json()["result"]["text"]
                assert text.startswith(f'{user} {n} gives "2026-01-{n + 1:02}" after {n}'), text

    async def all_of_them() -> None:
        await asyncio.gather(*(converse(user, 5) for user in USERS))

    asyncio.run(all_of_them())
    for request in world.model.requests:
        users = {m["content"].split()[0] for m in request["messages"] if m["role"] == "user"}
        assert len(users) == 1


def test_a_tool_whose_server_is_away_is_missed_not_fatal(tmp_path: Path) -> None:
    agents = "  helper: {class: tool_agent, options: {tools: [far__search]}}"
    with scripted_model(says("Without it, then.")) as model:
        more = 'mcp: {servers: {far: {url: "http://127.0.0.1:9/mcp"}}}\n'
        folder = write_config(tmp_path / "config", agents, more=more, models=MODELS.format(url=model.base_url))
        with running_server(tmp_path / "home", folder) as server:
            body = {"agent": "helper", "data": {"message": "search"}}
            answer = httpx.post(f"{server.url}/api/execute", json=body, timeout=30).json()
    assert answer["result"]["text"] == "Without it, then. "
    assert answer["metadata"]["degraded"] == ["tools: 'far__search' is not there"]
    assert "tools" not in model.requests[0]
