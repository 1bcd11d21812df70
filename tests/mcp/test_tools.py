"""What MCP clients are told of tools and of their results: over HTTP, in both families of revisions."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mcp.test_mcp import META, modern
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

A2A = "tests.a2a.agents"
AGENTS = f"""
  echo:
    class: lakemesh.agents.echo:EchoAgent
    tool: {{title: Say again, read_only: true, open_world: false, icon: "https://example.com/echo.png"}}
  poet: {{class: {A2A}:Poet}}
  report: {{class: {A2A}:Report}}
  mirror: {{class: {A2A}:Mirror}}
  asking: {{class: tests.agents.sample_agents:AskingAgent}}
  trouble: {{class: tests.agents.sample_agents:TroubleAgent}}
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
STREAM = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("tools")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


def call(server: Server, name: str, meta: dict | None = None, **arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = modern(
        server, "tools/call", name=name, arguments=arguments, _meta={**META, **(meta or {})}
    ).json()["result"]
    return result


def test_tools_have_titles_and_configured_hints(server: Server) -> None:
    tools = {tool["name"]: tool for tool in modern(server, "tools/list").json()["result"]["tools"]}
    assert tools["echo"]["title"] == "Say again"
    assert tools["echo"]["annotations"] == {"readOnlyHint": True, "openWorldHint": False}
    assert tools["echo"]["icons"] == [{"src": "https://example.com/echo.png"}]
    assert tools["poet"]["title"] == "Poet"
    assert "annotations" not in tools["poet"]


def test_a_result_says_what_every_door_says(server: Server) -> None:
    poem = call(server, "poet")
    assert poem["content"] == [{"type": "text", "text": "one two three"}], "text is not JSON"
    assert poem["_meta"]["degraded"] == ["the muse is away"]
    seen = call(server, "mirror")
    assert seen["structuredContent"]["execution_id"] == seen["_meta"]["execution_id"]
    assert call(server, "report")["_meta"]["confidence"] == 0.5
    broken = call(server, "trouble", mode="raise")
    assert broken["isError"]
    assert (broken["_meta"]["code"], len(broken["_meta"]["execution_id"])) == ("agent_failed", 32)


def test_what_an_agent_makes_beside_its_result_is_content(server: Server) -> None:
    text, file, *rows = call(server, "report")["content"]
    assert json.loads(text["text"]) == {"made": 2}
    assert file["resource"] == {"uri": "lakemesh://artifacts/file/a.bin", "mimeType": "a/b", "blob": "AP8="}
    assert [row["text"] for row in rows] == ["[1]", "[2]"]


def test_the_trace_in_meta_is_continued(server: Server) -> None:
    meta = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert call(server, "echo", meta, message="x")["_meta"]["trace_id"] == TRACE


def test_lists_come_in_pages(tmp_path: Path) -> None:
    names = [f"agent{number:03}" for number in range(450)]
    agents = "\n".join(f"  {name}: {{class: lakemesh.agents.echo:EchoAgent}}" for name in names)
    with running_server(tmp_path / "home", write_config(tmp_path / "config", agents)) as many:
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = modern(many, "tools/list", **cursor).json()["result"]
            seen += [tool["name"] for tool in page["tools"]]
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert seen == names
        for wrong in ("x", "\u0661", 5, ["x"]):
            assert modern(many, "tools/list", cursor=wrong).json()["error"]["code"] == -32602


def test_a_question_ends_the_call_which_goes_on_with_the_answer(server: Server) -> None:
    capable = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}

    def ask(**more: Any) -> dict[str, Any]:
        answer = modern(server, "tools/call", name="asking", arguments={}, _meta=capable, **more).json()
        return answer.get("result") or answer["error"]

    def answered(required: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
        (name,) = required["inputRequests"]
        return {
            "inputResponses": {name: {"action": "accept", "content": content}},
            "requestState": required["requestState"],
        }

    first = ask()
    assert first["resultType"] == "input_required"
    (request,) = first["inputRequests"].values()
    assert request["params"]["message"] == "Which color?"
    assert request["params"]["requestedSchema"]["required"] == ["color"]
    second = ask(**answered(first, {"color": "red", "count": 2}))
    (request,) = second["inputRequests"].values()
    assert request["params"]["message"] == "Are you sure?"
    replies = answered(second, {"sure": True})
    done = ask(**replies)
    assert done["structuredContent"] == {"color": "red", "count": 2, "sure": True}
    assert ask(**replies)["code"] == -32602, "a state is used once"


def test_a_client_that_cannot_be_asked_is_told_so(server: Server) -> None:
    refused = call(server, "asking")
    assert refused["isError"]
    assert refused["_meta"]["code"] == "input_required"


@asynccontextmanager
async def session(server: Server, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    params = {"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}, "clientInfo": {}}
    async with httpx.AsyncClient(base_url=server.url, headers={**STREAM, **headers}, timeout=30) as http:
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await http.post("/mcp", json=body)
        http.headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        yield http


async def test_a_client_of_a_session_is_asked_while_the_call_runs(server: Server) -> None:
    answers = {"Which color?": {"color": "blue"}, "Are you sure?": {"sure": False}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "asking", "arguments": {}}}
    async with session(server) as http, http.stream("POST", "/mcp", json=body) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: {"):
                continue
            message = json.loads(line[6:])
            if message.get("method") == "elicitation/create":
                content = answers[message["params"]["message"]]
                reply = {"jsonrpc": "2.0", "id": message["id"], "result": {"action": "accept", "content": content}}
                await http.post("/mcp", json=reply)
            if "result" in message:
                assert message["result"]["structuredContent"] == {"color": "blue", "count": 1, "sure": False}
                return
    raise AssertionError("no answer came")


async def test_a_session_gives_tools_one_session_id(server: Server) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "mirror", "arguments": {}}}
    async with session(server) as http:
        answers = [(await http.post("/mcp", json=body)).json() for _ in range(2)]
    seen = {answer["result"]["structuredContent"]["session_id"] for answer in answers}
    assert len(seen) == 1
    assert len(seen.pop()) == 32
    assert call(server, "mirror", {"session_id": "mine"})["structuredContent"]["session_id"] == "mine"


async def test_who_opens_many_sessions_ends_nobody_elses_calls(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    folder = write_config(tmp_path / "config", AGENTS, more=f"auth: {{tokens: [{', '.join(tokens)}]}}\n")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "asking", "arguments": {}}}
    with running_server(tmp_path / "home", folder) as guarded:
        async with session(guarded, authorization="Bearer ann") as ann, ann.stream("POST", "/mcp", json=body) as stream:
            lines = stream.aiter_lines()
            question = await question_of(lines)
            opening = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}
            initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening}
            async with httpx.AsyncClient(headers={**STREAM, "authorization": "Bearer bob"}, timeout=30) as bob:
                for _ in range(30):
                    await asyncio.gather(*(bob.post(f"{guarded.url}/mcp", json=initialize) for _ in range(20)))
            for content in ({"color": "red"}, {"sure": True}):
                reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": content}}
                await ann.post("/mcp", json=reply)
                question = await question_of(lines)
            assert question["result"]["structuredContent"]["color"] == "red"


async def question_of(lines: AsyncIterator[str]) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: {") and "notifications/" not in line:
            found: dict[str, Any] = json.loads(line[6:])
            return found
    raise AssertionError("the stream ended")


def test_limits_count_requests_that_call_no_tool(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {rate: {per_user_per_minute: 2}}\n")
    with running_server(tmp_path / "home", folder) as limited:
        answers = [modern(limited, "tools/list") for _ in range(4)]
    assert [answer.status_code for answer in answers][-1] == 429
    assert answers[-1].json()["error"]["code"] == -32029
    assert int(answers[-1].headers["retry-after"]) >= 1
