"""Tasks without a database: what a server keeps of them is bounded in number, bytes and age."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import Server, running_server, write_config

AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent, expose: [a2a]}
  trouble: {class: tests.agents.sample_agents:TroubleAgent, expose: [a2a]}
"""


@contextmanager
def keeping(folder: Path, **limits: Any) -> Iterator[Server]:
    keys = ", ".join(f"{name}: {value}" for name, value in limits.items())
    more = f"a2a: {{{keys}}}\n"
    with running_server(folder / "home", write_config(folder / "config", AGENTS, more=more)) as server:
        yield server


def rpc(server: Server, method: str, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    answer = httpx.post(f"{server.url}/a2a/rpc", json=body, headers={"A2A-Version": "1.0"}, timeout=30).json()
    return answer.get("result") or answer["error"]


def send(server: Server, skill: str, data: dict[str, Any], **members: Any) -> Any:
    message = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"data": data}], **members}
    configuration = {"returnImmediately": skill == "trouble"}
    message["metadata"] = {"skill": skill}
    return rpc(server, "SendMessage", message=message, configuration=configuration)


def ids(server: Server, **query: Any) -> list[str]:
    return [task["id"] for task in rpc(server, "ListTasks", **query)["tasks"]]


def test_ended_tasks_give_way_and_running_ones_do_not(tmp_path: Path) -> None:
    with keeping(tmp_path, max_tasks=2) as server:
        running = send(server, "trouble", {"mode": "hang"})["task"]["id"]
        first, second = (send(server, "echo", {"message": text})["task"]["id"] for text in ("a", "b"))
        assert ids(server) == [second, running]
        assert rpc(server, "GetTask", id=first)["code"] == -32001
        another = send(server, "trouble", {"mode": "hang"})["task"]["id"]
        full = send(server, "echo", {"message": "c"})
        assert "taken by running ones" in full["message"]
        assert set(ids(server)) == {running, another}


def test_what_ended_tasks_hold_is_bounded_in_bytes(tmp_path: Path) -> None:
    with keeping(tmp_path, max_task_megabytes=1) as server:
        kept = [send(server, "echo", {"message": "x" * 90_000})["task"]["id"] for _ in range(8)]
        listed = ids(server)
        assert 0 < len(listed) < 8
        assert listed == list(reversed(kept))[: len(listed)]


def test_ended_tasks_are_forgotten_in_time(tmp_path: Path) -> None:
    with keeping(tmp_path, task_ttl_seconds=0.05) as server:
        task_id = send(server, "echo", {"message": "a"})["task"]["id"]
        while rpc(server, "GetTask", id=task_id).get("code") != -32001:
            pass
        assert rpc(server, "ListTasks")["totalSize"] == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with keeping(tmp_path_factory.mktemp("local"), enabled="true") as running:
        yield running


def test_pages_hold_every_task_once_newest_first(server: Server) -> None:
    context = uuid.uuid4().hex
    sent = [send(server, "echo", {"message": str(n)}, contextId=context)["task"] for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = rpc(server, "ListTasks", contextId=context, pageSize=2, pageToken=token)
        assert page["totalSize"] == 5
        seen += [task["id"] for task in page["tasks"]]
        send(server, "echo", {"message": "another"})
        if not (token := page["nextPageToken"]):
            break
    assert seen == [task["id"] for task in reversed(sent)]
    newest = sent[-1]["status"]["timestamp"]
    assert sent[-1]["id"] in ids(server, contextId=context, statusTimestampAfter=newest)
    assert ids(server, contextId=context, status="TASK_STATE_WORKING") == []


@pytest.mark.parametrize("token", ["x", "-1", "1; DROP TABLE", "9" * 30, "١"])
def test_tokens_never_given_are_refused(server: Server, token: str) -> None:
    assert rpc(server, "ListTasks", pageToken=token)["code"] == -32602
