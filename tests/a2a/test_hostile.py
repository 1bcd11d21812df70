"""The A2A door under messages that are wrong: the protocol's own codes, and nothing else harmed."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.interop.test_a2a import AGENTS
from tests.server import Server, running_server, write_config

MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}], "metadata": {"skill": "echo"}}
DEEP = '{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": ' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}"
PARSE, INVALID, METHOD, PARAMS, TASK, UNSUPPORTED, VERSION = -32700, -32600, -32601, -32602, -32001, -32004, -32009


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("hostile")
    more = "a2a: {enabled: true}\nlimits: {max_body_bytes: 100000}\n"
    folder = write_config(root / "config", AGENTS, more=more)
    with running_server(root / "home", folder) as running:
        yield running


def send(server: Server, body: object, version: str = "1.0", **headers: str) -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    sent = {"content-type": "application/json", "A2A-Version": version, **headers}
    return httpx.post(f"{server.url}/a2a/rpc", content=content, headers=sent, timeout=20)


def call(method: object, params: object = None, **members: object) -> dict:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params if params is not None else {}, **members}


def message(**changes: object) -> dict:
    return call("SendMessage", {"message": {**MESSAGE, **changes}})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", PARSE),
        ("{", PARSE),
        (b"\xff\xfe", PARSE),
        ("nul", PARSE),
        (DEEP, PARSE),
        ("null", INVALID),
        ("1", INVALID),
        ('"text"', INVALID),
        ([], INVALID),
        ([call("GetTask")], INVALID),
        ({"id": 1, "method": "GetTask"}, INVALID),
        ({**call("GetTask"), "jsonrpc": "1.0"}, INVALID),
        (call(5), INVALID),
        (call(None), INVALID),
        (call("GetTask", id={}), INVALID),
        (call("GetTask", id=True), INVALID),
        (call("GetTask", id=1.5), INVALID),
        (call(""), METHOD),
        (call("Nothing"), METHOD),
        (call("sendmessage"), METHOD),
        (call("__init__"), METHOD),
        (call("GetTask", "text"), PARAMS),
        (call("GetTask", [1]), PARAMS),
        (call("GetTask", {"id": {"a": 1}}), PARAMS),
        (call("GetTask"), PARAMS),
        (call("GetTask", {"id": "none"}), TASK),
        (call("GetTask", {"id": "../../etc/passwd"}), TASK),
        (call("CancelTask", {"id": "' OR 1=1"}), TASK),
        (call("SubscribeToTask", {"id": "none"}), TASK),
        (call("ListTasks", {"pageSize": -1}), PARAMS),
        (call("ListTasks", {"pageSize": 100_000}), PARAMS),
        (call("ListTasks", {"pageToken": "x"}), PARAMS),
        (call("SendMessage"), PARAMS),
        (call("SendMessage", {"message": 5}), PARAMS),
        (message(parts=[]), PARAMS),
        (message(messageId=""), PARAMS),
        (message(role="ROLE_UNSPECIFIED"), PARAMS),
        (message(metadata={"skill": "hidden"}), PARAMS),
        (message(metadata={"skill": ["echo"]}), PARAMS),
        (message(metadata={"skill": {}}), PARAMS),
        (message(parts=[{"data": [1, 2]}]), PARAMS),
        (message(parts=[{"raw": "not base64!"}]), PARAMS),
        (message(taskId="none"), TASK),
        (call("CreateTaskPushNotificationConfig", {"taskId": "none", "url": "http://example.com"}), TASK),
    ],
)
def test_the_protocols_code_answers(server: Server, body: object, code: int) -> None:
    answer = send(server, body)
    assert answer.status_code == 200, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert "Traceback" not in answer.text
    assert send(server, message()).json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.parametrize("version", ["2.0", "0.2", "x", "1" * 500, ""])
def test_versions_that_are_not_spoken(server: Server, version: str) -> None:
    assert send(server, message(), version=version).json()["error"]["code"] == VERSION


def test_bodies_over_the_limit_and_of_another_kind(server: Server) -> None:
    assert send(server, message(parts=[{"text": "x" * 200_000}])).status_code == 413
    assert send(server, "a=b", **{"content-type": "application/x-www-form-urlencoded"}).status_code == 415
    assert httpx.get(f"{server.url}/a2a/rpc").status_code in (404, 405)
    assert httpx.put(f"{server.url}/a2a/rpc").status_code in (404, 405)
