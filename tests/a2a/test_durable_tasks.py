"""Two servers on one PostgreSQL: what one replica was told, the other follows, cancels, answers, lists and repeats."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import Client
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import TaskNotFoundError

from tests.a2a.test_push import Receiver, receiving, with_push
from tests.interop.test_a2a import asking, connected
from tests.server import running_server, write_config
from tests.server_process import ServerProcess

pytestmark = pytest.mark.anyio

HERE, SAMPLES = "tests.a2a.agents", "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent, expose: [a2a]}}
  writer: {{class: {SAMPLES}:WriterAgent, expose: [a2a]}}
  trouble: {{class: {SAMPLES}:TroubleAgent, expose: [a2a]}}
  asking: {{class: {SAMPLES}:AskingAgent, expose: [a2a]}}
  guarded: {{class: {HERE}:Guarded, expose: [a2a]}}
  report: {{class: {HERE}:Report, expose: [a2a]}}
"""
MORE = "a2a: {push_to_private: true}\ninvocations: {lease_seconds: 2, park_seconds: 0.5}\n"
HEADERS = {"A2A-Version": "1.0"}


class Replicas:
    """`one` and `two` answer; `three` is there to be killed."""

    def __init__(self, root: Path, database: str) -> None:
        self._config = write_config(root / "config", AGENTS, more=MORE)
        self._root, self._database = root, database
        with ThreadPoolExecutor() as pool:
            self.one, self.two, self.three = pool.map(self._start, ("one", "two", "three"))

    def _start(self, name: str) -> ServerProcess:
        return ServerProcess(self._root / name, self._config, {"LAKEMESH_DATABASE": self._database})

    def close(self) -> None:
        for server in (self.one, self.two, self.three):
            if server._process.poll() is None:
                server.stop()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Replicas]:
    running = Replicas(tmp_path_factory.mktemp("replicas"), postgres)
    yield running
    running.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def rpc(server: ServerProcess, method: str, params: object) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    answer = httpx.post(f"{server.url}/a2a/rpc", json=body, headers=HEADERS, timeout=30).json()
    return answer["error"] if "error" in answer else answer["result"]


def message(skill: str, *parts: dict[str, Any], **members: Any) -> dict[str, Any]:
    sent = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": list(parts) or [{"data": {}}]}
    return {**sent, "metadata": {"skill": skill}, **members}


def begun(server: ServerProcess, skill: str, data: dict[str, Any]) -> str:
    """The id of a task that goes on."""
    sent = {"message": message(skill, {"data": data}), "configuration": {"returnImmediately": True}}
    task_id: str = rpc(server, "SendMessage", sent)["task"]["id"]
    return task_id


def state(update: StreamResponse) -> int:
    return update.task.status.state or update.status_update.status.state


async def sent(client: Client, request: SendMessageRequest) -> Task:
    return [item async for item in client.send_message(request)][-1].task


def follow_up(task: Task, skill: str, data: dict[str, object]) -> SendMessageRequest:
    request = asking(skill, data)
    request.message.task_id, request.message.context_id = task.id, task.context_id
    return request


async def test_a_message_to_one_replica_is_known_to_the_other(replicas: Replicas) -> None:
    request = asking("report", {"number": 1})
    async with connected(replicas.one.url, "JSONRPC", "1.0", streaming=False) as one:
        done = await sent(one, request)
    assert done.status.state == TaskState.TASK_STATE_COMPLETED
    assert dict(done.metadata)["execution_id"] == done.id
    async with connected(replicas.two.url, "HTTP+JSON", "1.0", streaming=False) as two:
        read = await two.get_task(GetTaskRequest(id=done.id))
        assert (read.artifacts, read.history, read.metadata) == (done.artifacts, done.history, done.metadata)
        again = await sent(two, request)
        assert again.id == done.id, "the same message is the same task on every replica"
        listed = await two.list_tasks(ListTasksRequest(context_id=done.context_id))
        assert [(one.id, one.status) for one in listed.tasks] == [(done.id, done.status)]
        with pytest.raises(TaskNotFoundError):
            await two.get_task(GetTaskRequest(id="none"))


async def test_the_other_replica_follows_and_cancels(replicas: Replicas) -> None:
    async with (
        connected(replicas.one.url, "JSONRPC", "1.0") as one,
        connected(replicas.two.url, "JSONRPC", "1.0") as two,
    ):
        stream = one.send_message(asking("trouble", {"mode": "hang"}))
        task_id = (await anext(stream)).task.id
        following = two.subscribe(SubscribeToTaskRequest(id=task_id))
        assert state(await anext(following)) == TaskState.TASK_STATE_WORKING
        cancelled = await two.cancel_task(CancelTaskRequest(id=task_id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        for rest in ([item async for item in stream], [item async for item in following]):
            assert state(rest[-1]) == TaskState.TASK_STATE_CANCELED


async def test_the_other_replica_streams_what_is_written(replicas: Replicas) -> None:
    words = [f"w{number} " for number in range(8)]
    task_id = begun(replicas.one, "writer", {"words": words, "pause_seconds": 0.05})
    async with connected(replicas.two.url, "JSONRPC", "1.0") as two:
        updates = [item async for item in two.subscribe(SubscribeToTaskRequest(id=task_id))]
    written = "".join(part.text for a in updates[0].task.artifacts for part in a.parts)
    pieces = [u.artifact_update.artifact for u in updates if u.HasField("artifact_update")]
    written += "".join(piece.parts[0].text for piece in pieces if piece.artifact_id == "text")
    assert written == "".join(words)
    assert state(updates[-1]) == TaskState.TASK_STATE_COMPLETED


async def test_a_question_is_answered_through_the_other_replica(replicas: Replicas, receiver: Receiver) -> None:
    async with (
        connected(replicas.one.url, "JSONRPC", "1.0", streaming=False) as one,
        connected(replicas.two.url, "JSONRPC", "1.0", streaming=False) as two,
    ):
        request = with_push(asking("asking", {}), receiver)
        request.configuration.return_immediately = False
        asked = await sent(one, request)
        assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert asked.status.message.parts[0].text == "Which color?"
        waiting = await two.list_tasks(ListTasksRequest(status=TaskState.TASK_STATE_INPUT_REQUIRED))
        assert asked.id in [task.id for task in waiting.tasks]
        again = await sent(two, follow_up(asked, "asking", {"color": "red"}))
        assert again.status.message.parts[0].text == "Are you sure?"
        done = await sent(one, follow_up(asked, "asking", {"sure": True}))
    assert done.status.state == TaskState.TASK_STATE_COMPLETED
    assert dict(done.artifacts[-1].parts[0].data.struct_value) == {"color": "red", "count": 1, "sure": True}
    roles = [said.role for said in done.history]
    assert roles == [1, 2, 1, 2, 1], "user and agent in turn"
    assert told(receiver) == [
        "WORKING",
        "INPUT_REQUIRED",
        "WORKING",
        "WORKING",
        "INPUT_REQUIRED",
        "WORKING",
        "COMPLETED",
    ]


def told(receiver: Receiver) -> list[str]:
    """The states that were pushed, up to the end."""
    states: list[str] = []
    while not states or states[-1] not in ("COMPLETED", "FAILED", "CANCELED"):
        _, body = receiver.next()
        status = body["task"]["status"] if "task" in body else body["statusUpdate"]["status"]
        states.append(status["state"].removeprefix("TASK_STATE_"))
    assert receiver.received.empty(), "nothing is told twice"
    return states


def test_a_task_that_wants_authorization_goes_on_through_the_other(replicas: Replicas) -> None:
    task = rpc(replicas.one, "SendMessage", {"message": message("guarded", {"data": {"number": 3}})})["task"]
    assert task["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
    word = {"message": message("guarded", {"text": "open sesame"}, taskId=task["id"])}
    again = rpc(replicas.two, "SendMessage", word)["task"]
    assert (again["id"], again["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")
    assert again["artifacts"][-1]["parts"][0]["data"] == {"number": 3}
    assert [one["role"] for one in again["history"]] == ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]
    assert rpc(replicas.one, "SendMessage", word)["data"][0]["reason"] == "UNSUPPORTED_OPERATION"


def test_push_configurations_are_every_replicas_and_a_removed_one_is_not_told(
    replicas: Replicas, receiver: Receiver
) -> None:
    task_id = begun(replicas.one, "trouble", {"mode": "hang"})
    config = {"taskId": task_id, "url": receiver.url, "id": "mine"}
    rpc(replicas.one, "CreateTaskPushNotificationConfig", config)
    assert receiver.next()[1]["task"]["id"] == task_id
    kept = rpc(replicas.two, "ListTaskPushNotificationConfigs", {"taskId": task_id})["configs"]
    assert [(one["id"], one["url"]) for one in kept] == [("mine", receiver.url)]
    other = {**config, "id": "other"}
    rpc(replicas.two, "CreateTaskPushNotificationConfig", other)
    assert receiver.next()[1]["task"]["id"] == task_id
    rpc(replicas.two, "DeleteTaskPushNotificationConfig", {"taskId": task_id, "id": "mine"})
    rpc(replicas.two, "CancelTask", {"id": task_id})
    assert told(receiver) == ["CANCELED"], "once: by the one that is left"


def test_a_replica_that_dies_loses_neither_task_nor_notification(replicas: Replicas, receiver: Receiver) -> None:
    task_id = begun(replicas.three, "asking", {})
    config = {"taskId": task_id, "url": receiver.url, "id": "mine"}
    rpc(replicas.three, "CreateTaskPushNotificationConfig", config)
    while (task := receiver.next()[1].get("task")) is None or task["status"]["state"] != "TASK_STATE_INPUT_REQUIRED":
        pass
    replicas.three.kill()
    for data in ({"color": "blue"}, {"sure": False}):
        sent = {"message": message("asking", {"data": data}, taskId=task_id)}
        task = rpc(replicas.two, "SendMessage", sent)["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][-1]["parts"][0]["data"] == {"color": "blue", "count": 1, "sure": False}
    assert told(receiver)[-1] == "COMPLETED"


def test_tasks_belong_to_their_door(replicas: Replicas) -> None:
    body = {"agent_name": "echo", "input": {"message": "x"}}
    httpx.post(f"{replicas.one.url}/api/invocations", json=body, timeout=30)
    listed = httpx.get(f"{replicas.one.url}/api/invocations?limit=100", timeout=30).json()["invocations"]
    tasks = {task["id"] for task in rpc(replicas.one, "ListTasks", {"pageSize": 100})["tasks"]}
    assert tasks <= {one["id"].replace("-", "") for one in listed}, "a task is an invocation"


def test_what_the_engine_refuses_is_no_task_and_may_be_sent_again(tmp_path: Path, postgres: str) -> None:
    limited = f"{MORE}limits: {{rate: {{per_user_per_minute: 1}}}}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=limited)
    body = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": message("echo", {"text": "x"})}}
    with running_server(tmp_path / "home", folder, database=postgres) as server:
        for number in range(3):
            body["params"]["message"]["messageId"] = f"{uuid.uuid4().hex}{number}"  # type: ignore[index]
            answer = httpx.post(f"{server.url}/a2a/rpc", json=body, headers=HEADERS, timeout=30)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        listed = httpx.get(f"{server.url}/api/invocations?limit=100", timeout=30).json()
        assert not [one for one in listed["invocations"] if (one.get("error") or {}).get("code") == "rate_limited"]


def test_pages_filters_and_totals(replicas: Replicas) -> None:
    context = uuid.uuid4().hex
    for number in range(5):
        sent = {"message": message("echo", {"data": {"message": str(number)}}, contextId=context)}
        rpc(replicas.one, "SendMessage", sent)
    refused = {"message": message("echo", {"data": {"wrong": 1}}, contextId=context)}
    assert rpc(replicas.one, "SendMessage", refused)["task"]["status"]["state"] == "TASK_STATE_FAILED"
    seen: list[str] = []
    token = ""
    while True:
        page = rpc(replicas.two, "ListTasks", {"contextId": context, "pageSize": 4, "pageToken": token})
        assert page["totalSize"] == 6
        seen += [task["id"] for task in page["tasks"]]
        if not (token := page["nextPageToken"]):
            break
    assert len(set(seen)) == 6
    done = rpc(replicas.two, "ListTasks", {"contextId": context, "status": "TASK_STATE_COMPLETED"})
    assert [task["id"] for task in done["tasks"]] == seen[1:]
    assert all("artifacts" not in task for task in done["tasks"])
    whole = rpc(replicas.two, "ListTasks", {"contextId": context, "includeArtifacts": True, "pageSize": 1})
    assert whole["tasks"][0]["status"]["state"] == "TASK_STATE_FAILED"
    newest = done["tasks"][0]["status"]["timestamp"]
    since = rpc(replicas.two, "ListTasks", {"contextId": context, "statusTimestampAfter": newest})
    assert {task["id"] for task in since["tasks"]} >= set(seen[:2])
    assert rpc(replicas.two, "ListTasks", {"pageToken": "x"})["code"] == -32602
