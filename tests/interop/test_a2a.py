"""The official A2A client does real work at 1.0 and 0.3, over both bindings."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers.proto_helpers import new_data_message
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import MethodNotFoundError, TaskNotFoundError
from google.protobuf.json_format import MessageToDict

from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent, expose: [a2a]}}
  writer: {{class: {SAMPLES}:WriterAgent, expose: [a2a]}}
  trouble: {{class: {SAMPLES}:TroubleAgent, expose: [a2a]}}
  hidden: {{class: lakemesh.agents.echo:EchoAgent}}
"""
WAYS = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("a2a")
    folder = write_config(root / "config", AGENTS, more="a2a: {enabled: true}\n")
    with running_server(root / "home", folder) as running:
        yield running


@asynccontextmanager
async def connected(url: str, binding: str, version: str, *, streaming: bool = True) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=20) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        kept = [
            item
            for item in card.supported_interfaces
            if (item.protocol_binding, item.protocol_version) == (binding, version)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=streaming)
        yield ClientFactory(config).create(card)


def asking(skill: str, data: dict[str, object]) -> SendMessageRequest:
    message: Message = new_data_message(data, role=Role.ROLE_USER)
    message.metadata["skill"] = skill
    return SendMessageRequest(message=message)


@pytest.mark.parametrize(("binding", "version"), WAYS)
async def test_send_get_list(server: Server, binding: str, version: str) -> None:
    async with connected(server.url, binding, version, streaming=False) as client:
        answers = [item async for item in client.send_message(asking("echo", {"message": "hello"}))]
        task = answers[-1].task
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert dict(task.artifacts[-1].parts[0].data.struct_value)["message"] == "hello"
        assert (await client.get_task(GetTaskRequest(id=task.id))).id == task.id
        # The client reads the 0.3 binding's 404 as a missing method, whatever the body says.
        missing = MethodNotFoundError if (binding, version) == ("HTTP+JSON", "0.3") else TaskNotFoundError
        with pytest.raises(missing):
            await client.get_task(GetTaskRequest(id="none"))
        if version == "1.0":
            listed = await client.list_tasks(ListTasksRequest(context_id=task.context_id))
            assert [item.id for item in listed.tasks] == [task.id]


@pytest.mark.parametrize(("binding", "version"), WAYS)
async def test_stream(server: Server, binding: str, version: str) -> None:
    async with connected(server.url, binding, version) as client:
        words = [str(number) for number in range(20)]
        updates = [item async for item in client.send_message(asking("writer", {"words": words}))]
        texts = [u.artifact_update.artifact for u in updates if u.HasField("artifact_update")]
        assert [a.parts[0].text for a in texts if a.artifact_id == "text"] == [*words, ""]
        assert [u.artifact_update.last_chunk for u in updates if u.HasField("artifact_update")][-2:] == [True, True]
        assert updates[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize(("binding", "version"), WAYS)
async def test_the_stream_of_an_agent_that_answers_at_once_is_whole(server: Server, binding: str, version: str) -> None:
    async with connected(server.url, binding, version) as client:
        updates = [item async for item in client.send_message(asking("echo", {"message": "hello"}))]
        assert updates[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        assert dict(updates[-2].artifact_update.artifact.parts[0].data.struct_value)["message"] == "hello"


@pytest.mark.parametrize(("binding", "version"), WAYS)
async def test_resubscribe_and_cancel(server: Server, binding: str, version: str) -> None:
    async with connected(server.url, binding, version) as client:
        stream = client.send_message(asking("trouble", {"mode": "hang"}))
        task_id = (await anext(stream)).task.id
        again = client.subscribe(SubscribeToTaskRequest(id=task_id))
        assert (await anext(again)).task.id == task_id
        cancelled = await client.cancel_task(CancelTaskRequest(id=task_id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        last = [item async for item in again][-1]
        assert last.status_update.status.state == TaskState.TASK_STATE_CANCELED
        await stream.aclose()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", -32700),
        ("[]", -32600),
        ('{"jsonrpc": "2.0", "id": 1, "method": "Nothing"}', -32601),
        ('{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": 5}}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}', -32001),
    ],
)
def test_malformed_requests_get_the_protocols_codes(server: Server, body: str, code: int) -> None:
    headers = {"content-type": "application/json", "A2A-Version": "1.0"}
    answer = httpx.post(f"{server.url}/a2a", content=body, headers=headers)
    assert answer.json()["error"]["code"] == code


def test_tasks_belong_to_who_made_them(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = f"a2a: {{enabled: true}}\nauth: {{tokens: [{', '.join(tokens)}]}}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    params = MessageToDict(asking("echo", {"message": "mine"}))
    with running_server(tmp_path / "home", folder) as running:

        def call(method: str, params: object, user: str) -> httpx.Response:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            headers = {"authorization": f"Bearer {user}", "A2A-Version": "1.0"}
            return httpx.post(f"{running.url}/a2a/rpc", json=body, headers=headers)

        task_id = call("SendMessage", params, "ann").json()["result"]["task"]["id"]
        assert call("GetTask", {"id": task_id}, "ann").json()["result"]["id"] == task_id
        assert call("GetTask", {"id": task_id}, "bob").json()["error"]["code"] == -32001
        assert call("CancelTask", {"id": task_id}, "bob").json()["error"]["code"] == -32001
        assert call("ListTasks", {}, "bob").json()["result"]["tasks"] == []
        assert call("GetTask", {"id": task_id}, "nobody").status_code == 401


def test_pages_of_other_origins_are_refused(server: Server) -> None:
    answer = httpx.post(f"{server.url}/a2a", json={}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


def test_the_card_names_exposed_agents_only(server: Server) -> None:
    for path in ("/.well-known/agent-card.json", "/a2a/discover"):
        skills = httpx.get(server.url + path).json()["skills"]
        assert {skill["id"] for skill in skills} == {"echo", "writer", "trouble"}
