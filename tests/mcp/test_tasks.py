"""Tool calls as tasks, in both revisions, begun on one replica and finished through the other."""

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.server import Server, running_server, write_config

MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
EXTENSION = "io.modelcontextprotocol/tasks"
SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent}}
  report: {{class: tests.a2a.agents:Report, tool: {{long_running: true}}}}
  writer: {{class: {SAMPLES}:WriterAgent, tool: {{long_running: true}}}}
  asking: {{class: {SAMPLES}:AskingAgent, tool: {{long_running: true}}}}
  trouble: {{class: {SAMPLES}:TroubleAgent, tool: {{long_running: true}}}}
"""
TOKENS = "\n".join(
    f"    - {{user: {user}, sha256: {digest}}}"
    for user, digest in (
        ("alice", "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"),
        ("bob", "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9"),
    )
)
MORE = f"auth:\n  tokens:\n{TOKENS}\nmcp: {{key: {'k' * 32}}}\ninvocations: {{lease_seconds: 2, park_seconds: 0.2}}\n"


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[tuple[Server, ...]]:
    root = tmp_path_factory.mktemp("mcp_tasks")
    config = write_config(root / "config", AGENTS, more=MORE)
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(running_server(root / name, config, database=postgres)) for name in ("one", "two")
        )


def modern(server: Server, method: str, *, knows_tasks: bool = True, user: str = "alice", **params: Any) -> Any:
    """The result, or the error."""
    capabilities = {"elicitation": {}, **({"extensions": {EXTENSION: {}}} if knows_tasks else {})}
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    named = params.get("name") or params.get("taskId") or ""
    headers = {"mcp-protocol-version": MODERN, "mcp-method": method, "authorization": f"Bearer {user}"}
    body = {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": method, "params": {"_meta": meta, **params}}
    answer = httpx.post(
        f"{server.url}/mcp", json=body, headers={**headers, **({"mcp-name": named} if named else {})}, timeout=30
    ).json()
    return answer.get("result") or answer["error"]


def handshake(server: Server, method: str, *, session: str = "", user: str = "alice", **params: Any) -> Any:
    headers = {"authorization": f"Bearer {user}", "mcp-protocol-version": HANDSHAKE}
    if session:
        headers["mcp-session-id"] = session
    body = {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": method, "params": params}
    answer = httpx.post(f"{server.url}/mcp", json=body, headers=headers, timeout=30).json()
    return answer.get("result") or answer["error"]


def ended(server: Server, task_id: str) -> Any:
    while (task := modern(server, "tasks/get", taskId=task_id))["status"] == "working":
        pass
    return task


def test_both_eras_say_that_there_are_tasks(replicas: tuple[Server, ...]) -> None:
    assert modern(replicas[0], "server/discover")["capabilities"]["extensions"] == {EXTENSION: {}}
    hello = handshake(replicas[0], "initialize", protocolVersion=HANDSHAKE, capabilities={}, clientInfo={})
    assert hello["capabilities"]["tasks"]["requests"] == {"tools": {"call": {}}}
    tools = handshake(replicas[0], "tools/list")["tools"]
    assert {tool["execution"]["taskSupport"] for tool in tools} == {"optional"}
    assert all("execution" not in tool for tool in modern(replicas[0], "tools/list")["tools"])


def test_a_long_tool_is_a_task_that_any_replica_tells_of(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    created = modern(one, "tools/call", name="report", arguments={"number": 1})
    assert (created["resultType"], created["status"], created["pollIntervalMs"]) == ("task", "working", 1_000)
    task = ended(two, created["taskId"])
    assert (task["resultType"], task["status"], task["result"]["isError"]) == ("complete", "completed", False)
    assert task["result"]["structuredContent"] == {"made": 2}
    assert [block["type"] for block in task["result"]["content"]] == ["text", "resource", "text", "text"]
    assert task["result"]["_meta"]["execution_id"] == created["taskId"]
    assert modern(two, "tasks/get", user="bob", taskId=created["taskId"])["code"] == -32602
    assert modern(two, "tasks/result", taskId=created["taskId"])["code"] == -32601


def test_only_clients_that_know_tasks_get_them(replicas: tuple[Server, ...]) -> None:
    plain = modern(replicas[0], "tools/call", knows_tasks=False, name="report", arguments={})
    assert (plain["resultType"], plain["structuredContent"]) == ("complete", {"made": 2})
    short = modern(replicas[0], "tools/call", name="echo", arguments={"message": "x"})
    assert (short["resultType"], short["structuredContent"]) == ("complete", {"message": "x"})


def test_a_failed_tool_has_completed_since_2026_and_failed_before(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    created = modern(one, "tools/call", name="trouble", arguments={"mode": "designed"})
    task = ended(two, created["taskId"])
    assert (task["status"], task["result"]["isError"]) == ("completed", True)
    assert "after midnight" in task["result"]["content"][0]["text"]
    assert handshake(two, "tasks/get", taskId=created["taskId"])["status"] == "failed"


def test_what_a_task_asks_is_answered_through_the_other_replica(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    task_id = modern(one, "tools/call", name="asking", arguments={})["taskId"]
    for answer in ({"color": "red"}, {"sure": True}):
        task = ended(two, task_id)
        assert task["status"] == "input_required"
        (question_id,) = task["inputRequests"]
        assert task["inputRequests"][question_id]["method"] == "elicitation/create"
        responses = {question_id: {"action": "accept", "content": answer}, "never": {"action": "decline"}}
        assert modern(two, "tasks/update", taskId=task_id, inputResponses=responses) == {"resultType": "complete"}
    assert ended(one, task_id)["result"]["structuredContent"] == {"color": "red", "count": 1, "sure": True}


def test_the_other_replica_cancels(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    task_id = modern(one, "tools/call", name="trouble", arguments={"mode": "hang"})["taskId"]
    assert modern(two, "tasks/cancel", taskId=task_id) == {"resultType": "complete"}
    assert ended(one, task_id)["status"] == "cancelled"


def test_a_client_of_2025_asks_for_a_task_and_waits_at_the_other_replica(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    created = handshake(one, "tools/call", name="report", arguments={}, task={"ttl": 60_000})["task"]
    assert created["ttl"] > 60_000, "as long as runs are kept"
    result = handshake(two, "tasks/result", taskId=created["taskId"])
    assert result["structuredContent"] == {"made": 2}
    assert result["_meta"]["io.modelcontextprotocol/related-task"] == {"taskId": created["taskId"]}
    listed = handshake(two, "tasks/list")["tasks"]
    assert created["taskId"] in [task["taskId"] for task in listed]
    assert handshake(two, "tasks/list", user="bob")["tasks"] == []
    assert handshake(two, "tasks/cancel", taskId=created["taskId"])["code"] == -32602
    declined = handshake(one, "tools/call", name="asking", arguments={}, task={})["task"]["taskId"]
    while handshake(two, "tasks/get", taskId=declined)["status"] == "working":
        pass
    assert handshake(two, "tasks/result", taskId=declined)["_meta"]["code"] == "input_required"


def test_without_a_database_there_are_no_tasks(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("no_tasks")
    with running_server(root / "home", write_config(root / "config", AGENTS, more=MORE)) as server:
        assert "extensions" not in modern(server, "server/discover")["capabilities"]
        assert modern(server, "tasks/get", taskId="x")["code"] == -32601
        assert modern(server, "tools/call", name="report", arguments={})["structuredContent"] == {"made": 2}


class Client:
    """A client of 2025-11-25 in one session, at whichever replica; it reads streams event by event."""

    def __init__(self, *replicas: Server) -> None:
        self._urls = [f"{one.url}/mcp" for one in replicas]
        self._http = httpx.Client(timeout=30, headers={"authorization": "Bearer alice"})
        self._http.headers["accept"] = "application/json, text/event-stream"
        params = {"protocolVersion": HANDSHAKE, "capabilities": {"elicitation": {}}, "clientInfo": {}}
        hello = self.post(0, {"id": 0, "method": "initialize", "params": params})
        self._http.headers["mcp-session-id"] = hello.headers["mcp-session-id"]

    def post(self, replica: int, message: dict[str, Any]) -> httpx.Response:
        return self._http.post(self._urls[replica], json={"jsonrpc": "2.0", **message})

    @contextmanager
    def call(self, replica: int, request_id: int, name: str, arguments: dict[str, Any]) -> Iterator[Iterator[Any]]:
        params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}}
        body = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        with self._http.stream("POST", self._urls[replica], json=body) as response:
            yield events_of(response)

    @contextmanager
    def resume(self, replica: int, event_id: str) -> Iterator[Iterator[Any]]:
        with self._http.stream("GET", self._urls[replica], headers={"last-event-id": event_id}) as response:
            yield events_of(response)


def events_of(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    assert response.status_code == 200, response.read()
    event_id = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data: "):
            yield event_id, json.loads(line[6:] or "null")


def test_a_long_call_whose_stream_is_lost_goes_on_at_the_other_replica(replicas: tuple[Server, ...]) -> None:
    client = Client(*replicas)
    words = ["a", "b", "c", "d"]
    with client.call(0, 7, "writer", {"words": words, "pause_seconds": 0.2}) as events:
        first_id, primer = next(events)
        event_id, progress = next(events)
    assert (primer, progress["params"]["progress"]) == (None, 1.0)
    with client.resume(1, event_id) as events:
        rest = [message for _, message in events]
    assert [message["params"]["progress"] for message in rest[:-1]] == [2.0, 3.0, 4.0]
    assert (rest[-1]["id"], rest[-1]["result"]["structuredContent"]) == (7, {"text": "a b c d"})
    with client.resume(0, first_id) as events:
        assert [message for _, message in events][-1] == rest[-1], "the answer is kept"
    client._http.headers["authorization"] = "Bearer bob"
    assert client._http.get(client._urls[1], headers={"last-event-id": event_id}).status_code == 404


def test_a_long_call_is_answered_and_cancelled_at_the_other_replica(replicas: tuple[Server, ...]) -> None:
    client = Client(*replicas)
    with client.call(0, 1, "asking", {}) as events:
        for answer in ({"color": "red"}, {"sure": True}):
            question = next(message for _, message in events if message and message.get("method", "").startswith("eli"))
            client.post(1, {"id": question["id"], "result": {"action": "accept", "content": answer}})
        last = [message for _, message in events][-1]
    assert last["result"]["structuredContent"] == {"color": "red", "count": 1, "sure": True}
    with client.call(0, 2, "trouble", {"mode": "hang"}) as events:
        next(events)
        client.post(1, {"method": "notifications/cancelled", "params": {"requestId": 2}})
        assert [message for _, message in events] == [], "what was cancelled is not answered"
