"""Tools: Python functions, the lakehouse, Unity Catalog; through the doors and by agents."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.errors import ConfigurationInvalid
from tests.a2a.test_peers import SAMPLES, spans_of
from tests.server import Server, running_server, write_config

FUNCTIONS = "tests.agents.sample_functions"
ROOM = "lakemesh.agents.tools.lakehouse"
AGENTS = f"""
  add_days: {{function: "{FUNCTIONS}:add_days", expose: [api, mcp]}}
  greet: {{function: "{FUNCTIONS}:greet"}}
  broken: {{function: "{FUNCTIONS}:broken"}}
  query: {{class: "{ROOM}:QueryTool", options: {{schemas: [main.agents], row_limit: 2}}}}
  describe: {{class: "{ROOM}:DescribeTool", options: {{schemas: [main.agents]}}}}
  remember: {{class: "{ROOM}:SearchMemoryTool"}}
  prompts: {{class: "{ROOM}:PromptTool"}}
  analysts: {{class: "{ROOM}:QueryTool", options: {{schemas: [main.agents]}}, allowed_groups: [analysts]}}
  user: {{class: "{SAMPLES}:ToolUserAgent"}}
"""
TOKENS = ", ".join(
    f"{{user: {user}, groups: [{group}], sha256: {hashlib.sha256(user.encode()).hexdigest()}}}"
    for user, group in (("ann", "analysts"), ("bob", "guests"))
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("tools")
    folder = write_config(root / "config", AGENTS, more=f"auth: {{tokens: [{TOKENS}]}}\n")
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(root / "home", folder) as running:
        yield running


def use(server: Server, tool: str, user: str = "ann", **data: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {user}"}
    return httpx.post(f"{server.url}/api/execute", json={"agent_name": tool, "data": data}, headers=headers)


def mcp(server: Server, method: str, user: str = "ann", **params: object) -> dict:
    headers = {"authorization": f"Bearer {user}", "accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(f"{server.url}/mcp", json=body, headers=headers).json()["result"]


def test_a_function_is_described_by_its_signature_and_docstring(server: Server) -> None:
    tools = {tool["name"]: tool for tool in mcp(server, "tools/list")["tools"]}
    described = tools["add_days"]
    assert described["description"].startswith("The date some days later.")
    properties = described["inputSchema"]["properties"]
    assert properties["day"] == {
        "description": "the date to begin with",
        "format": "date",
        "title": "Day",
        "type": "string",
    }
    assert (properties["days"]["default"], properties["unit"]["enum"]) == (1, ["day", "week"])
    assert described["inputSchema"]["required"] == ["day"]
    assert set(tools["greet"]["inputSchema"]["properties"]) == {"name"}


def test_a_function_is_called_with_what_fits_it(server: Server) -> None:
    assert use(server, "add_days", day="2026-02-27", days=2).json()["result"] == "2026-03-01"
    assert use(server, "greet", name="bob").json()["result"] == "ann greets bob"
    wrong = use(server, "add_days", day="never", unit="year", more=1)
    assert wrong.status_code == 422
    assert {error["path"] for error in wrong.json()["errors"]} == {"data.day", "data.unit", "data.more"}
    failed = use(server, "broken", x=1)
    assert (failed.status_code, failed.json()["code"]) == (500, "agent_failed")
    assert "division" not in failed.text


def test_tables_are_listed_described_and_queried(server: Server) -> None:
    end = time.monotonic() + 60
    while "main.agents.agent_executions" not in use(server, "describe").json()["result"]["tables"]:
        assert time.monotonic() < end, "telemetry makes its tables beside the first requests"
        time.sleep(0.1)
    described = use(server, "describe", table="main.agents.agent_executions").json()["result"]
    assert {"name": "latency_ms", "type": "DOUBLE", "comment": None} in described["columns"]
    statement = "SELECT a FROM VALUES (1), (2), (3) AS t(a) WHERE a > :least ORDER BY a"
    found = mcp(server, "tools/call", name="query", arguments={"statement": statement, "parameters": {"least": 0}})
    assert found["structuredContent"]["rows"] == [[1], [2]]
    assert found["structuredContent"]["truncated"] is True
    own = use(server, "query", statement="SELECT count(*) AS n FROM main.agents.agent_executions").json()["result"]
    assert own["columns"] == ["n"]


@pytest.mark.parametrize(
    ("tool", "data"),
    [
        ("query", {"statement": "SELECT * FROM main.information_schema.tables"}),
        ("query", {"statement": "DROP TABLE main.agents.agent_executions"}),
        ("query", {"statement": "SELECT * FROM read_text('/etc/passwd')"}),
        ("describe", {"table": "main.information_schema.tables"}),
        ("describe", {"table": "main.other.t"}),
    ],
)
def test_what_is_not_allowed_is_refused(server: Server, tool: str, data: dict) -> None:
    assert use(server, tool, **data).json()["code"] == "permission_denied"


def test_memory_and_prompts(server: Server) -> None:
    assert use(server, "remember", query="anything").json()["result"] == {"matches": []}
    assert use(server, "prompts").json()["result"] == {"prompts": {"ask": [1]}}
    read = use(server, "prompts", name="ask").json()["result"]
    assert (read["source"], read["variables"]) == ("one {{ question }}", ["question"])


def test_policy_holds_for_each_tool(server: Server) -> None:
    seen = {user: {tool["name"] for tool in mcp(server, "tools/list", user)["tools"]} for user in ("ann", "bob")}
    assert seen["ann"] - seen["bob"] == {"analysts"}
    assert use(server, "analysts", "bob", statement="SELECT 1").json()["code"] == "permission_denied"


def test_an_agent_uses_tools_and_shows_them_to_its_model(server: Server) -> None:
    answer = use(server, "user", day="2026-02-27").json()
    assert answer["result"]["later"] == "2026-02-28"
    [definition] = answer["result"]["tools"]
    assert definition["function"]["name"] == "add_days"
    json.dumps(definition)
    streamed = httpx.post(
        f"{server.url}/api/execute",
        json={"agent_name": "user", "data": {"day": "2026-02-27"}},
        headers={"authorization": "Bearer ann", "accept": "text/event-stream"},
    ).text
    assert "event: tool_called" in streamed
    assert "event: tool_returned" in streamed


def test_a_trace_names_tools_as_tools(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS)
    with running_server(tmp_path / "home", folder) as running:
        answer = httpx.post(
            f"{running.url}/api/execute", json={"agent_name": "user", "data": {"day": "2026-02-27"}}
        ).json()
    names = {span["name"] for span in spans_of(tmp_path / "home", answer["metadata"]["trace_id"])}
    assert names == {"invoke_agent user", "execute_tool add_days"}


@pytest.mark.parametrize("function", ["nowhere:x", f"{FUNCTIONS}:nothing", f"{FUNCTIONS}:anything", "json:__doc__"])
def test_what_is_no_function_is_said_at_start(tmp_path: Path, function: str) -> None:
    async def start() -> None:
        folder = write_config(tmp_path / "config", f'  bad: {{function: "{function}"}}\n')
        async with open_services(Settings(home=tmp_path / "home", config_folder=folder)):
            pass

    with pytest.raises(ConfigurationInvalid, match=r"agents\.bad\.function"):
        asyncio.run(start())
