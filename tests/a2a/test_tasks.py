"""Tasks as clients see them, over HTTP: said in JSON, where the official client cannot, and read by its protobuf."""

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

HERE = "tests.a2a.agents"
AGENTS = "\n".join(
    f"  {name.lower()}: {{class: {HERE}:{name}, expose: [a2a, api]}}"
    for name in ("Report", "Poet", "Refuser", "Guarded", "Talker", "Mirror")
)
AGENTS += "\n  trouble: {class: tests.agents.sample_agents:TroubleAgent, expose: [a2a]}\n"
AGENTS += "  asking: {class: tests.agents.sample_agents:AskingAgent, expose: [a2a]}\n"
AGENTS += "  fraud: {class: tests.agents.sample_agents:WriterAgent, expose: [a2a]}\n"
HEADERS = {"A2A-Version": "1.0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("tasks")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


def message(skill: str, *parts: dict[str, Any], **members: Any) -> dict[str, Any]:
    sent = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": list(parts) or [{"data": {}}]}
    return {**sent, "metadata": {"skill": skill}, **members}


def rpc(server: Server, method: str, params: object, path: str = "/a2a/rpc", **headers: str) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return httpx.post(server.url + path, json=body, headers={**HEADERS, **headers}, timeout=30)


def send(server: Server, sent: dict[str, Any], **configuration: Any) -> dict[str, Any]:
    answer = rpc(server, "SendMessage", {"message": sent, "configuration": configuration}).json()
    assert "error" not in answer, answer
    result: dict[str, Any] = answer["result"]
    # What we say is the protocol's: the SDK's protobuf reads all of it and says the same.
    read = ParseDict(result, a2a_pb2.SendMessageResponse())
    assert MessageToDict(read).keys() == result.keys()
    return result


def stream(server: Server, sent: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"jsonrpc": "2.0", "id": 7, "method": "SendStreamingMessage", "params": {"message": sent}}
    with httpx.stream("POST", f"{server.url}/a2a/rpc", json=body, headers=HEADERS, timeout=30) as response:
        updates = [json.loads(line[6:])["result"] for line in response.iter_lines() if line.startswith("data: ")]
    for update in updates:
        ParseDict(update, a2a_pb2.StreamResponse())
    return updates


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((path, None) for path in ("/a2a", "/a2a/", "/a2a/rpc", "/a2a/rpc/")),
        *((path, "1.0") for path in ("/a2a/message:send", "/a2a/message:send/")),
        *((path, "0.3") for path in ("/a2a/v1/message:send", "/a2a/v1/message:send/")),
    ],
)
def test_every_path_answers_with_and_without_its_slash(server: Server, path: str, body: str | None) -> None:
    if body is None:
        assert rpc(server, "SendMessage", {"message": message("poet")}, path).json()["result"]["task"]
        return
    sent = message("poet", {"text": "x"}) if body == "1.0" else {**message("poet"), "content": [{"text": "x"}]}
    answer = httpx.post(server.url + path, json={"message": sent}, headers={"A2A-Version": body}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_the_answer_says_what_every_door_says(server: Server) -> None:
    task = send(server, message("poet"))["task"]
    said = task["metadata"]
    assert (said["execution_id"], said["degraded"], said["confidence"]) == (task["id"], ["the muse is away"], None)
    assert len(said["trace_id"]) == 32
    assert send(server, message("report"))["task"]["metadata"]["confidence"] == 0.5
    seen = send(server, message("mirror"))["task"]
    assert seen["artifacts"][-1]["parts"][0]["data"]["execution_id"] == seen["id"]


def test_text_that_was_written_is_not_said_twice(server: Server) -> None:
    assert send(server, message("poet"))["task"]["artifacts"] == [
        {"artifactId": "text", "name": "text", "parts": [{"text": "one two three", "mediaType": "text/plain"}]}
    ]
    artifacts = [update["artifactUpdate"] for update in stream(server, message("poet")) if "artifactUpdate" in update]
    assert "".join(item["artifact"]["parts"][0]["text"] for item in artifacts) == "one two three"
    assert [item.get("append", False) for item in artifacts] == [False, True, True, True]
    assert [item.get("lastChunk", False) for item in artifacts] == [False, False, False, True]


def test_files_and_data_come_as_artifacts_in_pieces(server: Server) -> None:
    file, rows, result = send(server, message("report"))["task"]["artifacts"]
    assert file["parts"] == [{"raw": "AP8=", "filename": "a.bin", "mediaType": "a/b"}]
    assert [part["data"] for part in rows["parts"]] == [[1], [2]]
    assert result["parts"][0]["data"] == {"made": 2}
    updates = [update["artifactUpdate"] for update in stream(server, message("report")) if "artifactUpdate" in update]
    seen = [(item["artifact"]["artifactId"], item.get("append"), item.get("lastChunk")) for item in updates]
    assert seen == [
        ("file", False, None), ("rows", False, None), ("rows", True, True), ("file", True, True),
        ("result", None, True),
    ]  # fmt: skip


def test_an_event_has_one_time_and_a_message_an_id_of_its_own(server: Server) -> None:
    updates = stream(server, message("trouble", {"data": {"mode": "designed"}}))
    last = updates[-1]["statusUpdate"]["status"]
    task = rpc(server, "GetTask", {"id": updates[0]["task"]["id"]}).json()["result"]
    assert task["status"] == last
    assert last["message"]["taskId"] == task["id"]
    assert last["message"]["messageId"] not in ("status", task["id"])
    assert task["history"][-1] == last["message"], "who reads the last message of the history reads the agent's"


@pytest.mark.parametrize(
    ("skill", "data", "state", "code"),
    [
        ("refuser", {}, "TASK_STATE_REJECTED", "permission_denied"),
        ("trouble", {"mode": "designed"}, "TASK_STATE_FAILED", "unavailable"),
        ("trouble", {"wrong": 1}, "TASK_STATE_FAILED", "validation_failed"),
        ("guarded", {"number": 3}, "TASK_STATE_AUTH_REQUIRED", "unauthenticated"),
    ],
)
def test_a_failure_says_its_code_and_what_is_wrong(
    server: Server, skill: str, data: dict[str, Any], state: str, code: str
) -> None:
    task = send(server, message(skill, {"data": data}))["task"]
    text, facts = task["status"]["message"]["parts"]
    assert (task["status"]["state"], facts["data"]["code"], task["metadata"]["code"]) == (state, code, code)
    assert text["text"]
    if code == "validation_failed":
        assert facts["data"]["errors"][0]["path"] == "data.mode"


def test_a_task_that_wants_authorization_goes_on_with_the_next_message(server: Server) -> None:
    task = send(server, message("guarded", {"data": {"number": 3}}))["task"]
    again = send(server, message("guarded", {"text": "open sesame"}, taskId=task["id"]))["task"]
    assert (again["id"], again["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")
    assert again["artifacts"][-1]["parts"][0]["data"] == {"number": 3}
    assert [one["role"] for one in again["history"]] == ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]
    refused = rpc(server, "SendMessage", {"message": message("guarded", taskId=task["id"])}).json()["error"]
    assert (refused["code"], refused["data"][0]["reason"]) == (-32004, "UNSUPPORTED_OPERATION")


def test_an_agent_may_answer_in_messages(server: Server) -> None:
    answer = send(server, message("talker", {"text": "hello"}))["message"]
    assert (answer["role"], answer["parts"][0]["text"]) == ("ROLE_AGENT", "You said hello.")
    assert answer["metadata"]["execution_id"]
    assert [list(update) for update in stream(server, message("talker"))] == [["message"]]
    assert send(server, message("talker", {"data": {"number": 1}}))["task"]["status"]["state"] == "TASK_STATE_REJECTED"


def test_integers_of_any_size_keep_their_value(server: Server) -> None:
    data = {"large": 2**53 + 1, "larger": 2**62, "float": 3.0, "text": "x"}
    answer = rpc(server, "SendMessage", {"message": message("mirror", {"data": data})})
    seen = answer.json()["result"]["task"]["artifacts"][-1]["parts"][0]["data"]["data"]
    assert seen == data
    assert isinstance(seen["float"], float)
    sent = message("mirror")
    del sent["parts"]
    body = {"message": {**sent, "content": [{"data": {"data": data}}]}}
    legacy = httpx.post(f"{server.url}/a2a/v1/message:send", json=body, headers={"A2A-Version": "0.3"}).json()
    assert legacy["task"]["artifacts"][-1]["parts"][0]["data"]["data"]["data"] == data


@pytest.mark.parametrize(
    "part",
    [
        {"text": '{"words": ["a", "b"]}'},
        {"text": '{"words": ["a", "b"]}', "mediaType": "application/json"},
        {"raw": b64encode(b'{"words": ["a", "b"]}').decode(), "mediaType": "application/json; charset=utf-8"},
    ],
)
def test_json_in_other_parts_is_data(server: Server, part: dict[str, str]) -> None:
    task = send(server, message("fraud", part))["task"]
    assert task["artifacts"][-1]["parts"][0]["data"] == {"text": "a b"}


def test_a_client_that_takes_text_alone_gets_text(server: Server) -> None:
    task = send(server, message("report"), acceptedOutputModes=["text/plain"])["task"]
    assert json.loads(task["artifacts"][-1]["parts"][0]["text"]) == {"made": 2}


def test_what_comes_with_a_message_reaches_the_agent(server: Server) -> None:
    sent = message("mirror", referenceTaskIds=["before"])
    sent["metadata"]["color"] = "blue"
    seen = send(server, sent)["task"]["artifacts"][-1]["parts"][0]["data"]["metadata"]
    assert seen["color"] == "blue"
    assert (seen["a2a"]["message_id"], seen["a2a"]["reference_task_ids"]) == (sent["messageId"], ["before"])


async def test_a_message_sent_again_is_one_task(server: Server) -> None:
    sent = message("trouble", {"data": {"mode": "hang"}})
    body = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage"}
    params = {"message": sent, "configuration": {"returnImmediately": True}}
    async with httpx.AsyncClient(headers=HEADERS, base_url=server.url) as http:
        answers = await asyncio.gather(
            *(http.post("/a2a/rpc", json={**body, "params": params}, timeout=30) for _ in range(8))
        )
        tasks = {answer.json()["result"]["task"]["id"] for answer in answers}
        assert len(tasks) == 1
        task_id = tasks.pop()
        await http.post("/a2a/rpc", json={**body, "method": "CancelTask", "params": {"id": task_id}})
        again = (await http.post("/a2a/rpc", json={**body, "params": params})).json()["result"]["task"]
        assert (again["id"], again["status"]["state"]) == (task_id, "TASK_STATE_CANCELED")
        other = {"message": {**sent, "parts": [{"data": {"mode": "designed"}}]}}
        assert (await http.post("/a2a/rpc", json={**body, "params": other})).json()["result"]["task"]["id"] != task_id


def test_an_agent_asks_and_goes_on_with_the_next_messages(server: Server) -> None:
    task = send(server, message("asking"))["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    text, asked = task["status"]["message"]["parts"]
    assert (text["text"], asked["data"]["schema"]["required"]) == ("Which color?", ["color"])
    wrong = {"message": message("asking", {"data": {"count": 1}}, taskId=task["id"])}
    refused = rpc(server, "SendMessage", wrong).json()["error"]
    assert refused["data"][1]["fieldViolations"][0]["field"] == "value.color"
    task = send(server, message("asking", {"text": "red"}, taskId=task["id"]))["task"]
    assert (task["status"]["state"], task["history"][-1]["parts"][0]["text"]) == (
        "TASK_STATE_INPUT_REQUIRED",
        "Are you sure?",
    )
    updates = stream(server, message("asking", {"data": {"sure": True}}, taskId=task["id"]))
    assert updates[0]["task"]["id"] == task["id"]
    assert updates[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    done = rpc(server, "GetTask", {"id": task["id"]}).json()["result"]
    assert done["artifacts"][-1]["parts"][0]["data"] == {"color": "red", "count": 1, "sure": True}
    roles = [one["role"].removeprefix("ROLE_") for one in done["history"]]
    assert roles == ["USER", "AGENT", "USER", "AGENT", "USER"]


def test_a_stream_ends_with_a_question_and_who_declines_ends_the_task(server: Server) -> None:
    updates = stream(server, message("asking"))
    assert updates[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    sent = message("asking", taskId=updates[0]["task"]["id"])
    sent["metadata"]["decline"] = True
    assert send(server, sent)["task"]["metadata"]["code"] == "input_required"


@pytest.mark.parametrize("name", ["contextId", "taskId", "messageId"])
def test_ids_are_bounded(server: Server, name: str) -> None:
    error = rpc(server, "SendMessage", {"message": message("poet", **{name: "x" * 201})}).json()["error"]
    assert error["code"] == -32602
    assert "x" * 20 not in json.dumps(error)


def test_more_values_than_a_message_may_have_are_refused(server: Server) -> None:
    answer = rpc(server, "SendMessage", {"message": message("mirror", {"data": {"n": [0] * 300_000}})})
    assert answer.json()["error"]["data"][0]["metadata"]["code"] == "payload_too_large"
    assert send(server, message("mirror", {"text": "," * 300_000}))["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.parametrize(
    ("version", "path"), [("1.0", "/a2a/message:send"), ("0.3", "/a2a/v1/message:send"), ("0.3", "/a2a/rpc")]
)
@pytest.mark.parametrize("body", [b"\xff\xfe{}", b"{", b'{"message": 5}', b'{"message": {"parts": [{"data": 1}]}}'])
def test_malformed_messages_are_designed_errors_and_leave_no_trace_of_them(
    server: Server, version: str, path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    if path == "/a2a/rpc":
        body = b'{"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": %s}' % (
            b"5" if body[0] == 255 else body
        )
    secret = body.replace(b"data", b"PATIENT-078-05-1120")
    headers = {"A2A-Version": version, "content-type": "application/json"}
    answer = httpx.post(server.url + path, content=secret, headers=headers)
    assert answer.status_code == (200 if path == "/a2a/rpc" else 400), answer.text
    assert "error" in answer.json()
    assert "PATIENT" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_request_that_is_wrong_is_answered_under_its_id(server: Server) -> None:
    answer = httpx.post(f"{server.url}/a2a", json={"id": "mine", "method": "GetTask"}, headers=HEADERS).json()
    assert (answer["id"], answer["error"]["code"]) == ("mine", -32600)


def test_a_negative_history_length_is_refused(server: Server) -> None:
    task = send(server, message("poet"))["task"]
    assert rpc(server, "GetTask", {"id": task["id"], "historyLength": -1}).json()["error"]["code"] == -32602
    assert rpc(server, "GetTask", {"id": task["id"], "historyLength": 0}).json()["result"]["history"] == []


def test_limits_are_said_with_when_to_try_again(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {rate: {per_user_per_minute: 1}}\n")
    with running_server(tmp_path / "home", folder) as limited:
        for path in ("/a2a/rpc", "/a2a/message:send"):
            for _ in range(3):
                if path == "/a2a/rpc":
                    answer = rpc(limited, "SendMessage", {"message": message("poet")})
                else:
                    sent = {"message": message("poet")}
                    answer = httpx.post(limited.url + path, json=sent, headers=HEADERS, timeout=30)
            error = answer.json()["error"]
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            kinds = {detail["@type"].rpartition(".")[2] for detail in (error.get("data") or error.get("details"))}
            assert kinds == {"ErrorInfo", "RetryInfo"}


def test_the_card_is_kept_by_clients_and_has_whole_numbers(server: Server) -> None:
    answer = httpx.get(f"{server.url}/.well-known/agent-card.json")
    assert "max-age" in answer.headers["cache-control"]
    again = httpx.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    words = answer.json()["capabilities"]["extensions"][0]["params"]["fraud"]["input"]["properties"]["words"]
    assert (words["maxItems"], type(words["maxItems"])) == (1_000, int)
    ParseDict(answer.json(), a2a_pb2.AgentCard(), ignore_unknown_fields=True)


def test_the_card_says_how_to_authenticate(tmp_path: Path) -> None:
    more = (
        f"auth:\n  tokens: [{{user: ann, sha256: {'a' * 64}}}]\n"
        "  jwt: [{issuer: 'https://login.x', audiences: [mesh], jwks_url: 'https://login.x/keys'}]\n"
    )
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=more)) as guarded:
        card = httpx.get(f"{guarded.url}/.well-known/agent-card.json").json()
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"] == {"scheme": "bearer"}
    assert card["securitySchemes"]["openid"]["openIdConnectSecurityScheme"] == {
        "openIdConnectUrl": "https://login.x/.well-known/openid-configuration"
    }
    assert [list(one["schemes"]) for one in card["securityRequirements"]] == [["bearer"], ["openid"]]
    ParseDict(card, a2a_pb2.AgentCard(), ignore_unknown_fields=True)
