"""Approvals: a run waits for a person, at whatever replica and door, and goes on once as that person decided."""

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import httpx
import psycopg
import pytest

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse import embedded
from tests.a2a.test_push import Receiver, receiving
from tests.governance.doors import by_rest, headers_of
from tests.server import Server, running_server, write_config

AGENTS = "".join(
    f"  {name}: {{class: 'tests.governance.agents:{kind}', expose: [api, mcp, a2a], timeout_seconds: 20,"
    " tool: {long_running: true}}\n"
    for name, kind in {"careful": "Careful", "doer": "Doer", "middleman": "Middleman"}.items()
)
TOKENS = {"ann": [], "bob": ["owners"], "cyd": ["owners"], "eve": [], "opa": []}
KEY = "a key of sixteen or more"
SECRET = "a secret of sixteen or more"
DATA = "/Volumes/main/data/files"
POLICIES = f"""
policies:
  rules:
    everybody: {{write: ["/Volumes/**"], read: ["/Volumes/**", "main.**"]}}
    guarded: {{effect: approve, write: ["{DATA}/guarded/**"], approvers: {{users: [eve]}}}}
    tainted: {{effect: approve, write: ["{DATA}/**"], origins: ["path:{DATA}/inbox/**"]}}
"""
MORE = f"""
server: {{operators: [opa], public_url: "http://mesh.example"}}
audit: {{enabled: true, key: "{KEY}"}}
approvals:
  approvers: {{groups: [owners]}}
  timeout_seconds: 600
  webhook: {{url: "HOOK", secret: "{SECRET}", to_private: true, users: {{U1: bob, U2: ann, U3: eve}}}}
telemetry: {{flush_seconds: 0.5}}
invocations: {{lease_seconds: 2, park_seconds: 0.2}}
mcp: {{key: {"k" * 32}}}
a2a: {{enabled: true}}
{POLICIES}
"""


def tokens() -> str:
    known = [
        {"user": user, "sha256": hashlib.sha256(f"token-{user}".encode()).hexdigest(), "groups": groups}
        for user, groups in TOKENS.items()
    ]
    return f"auth: {{tokens: {json.dumps(known)}}}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("approvals")


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def replicas(root: Path, postgres: str, hook: Receiver) -> Iterator[tuple[Server, ...]]:
    config = write_config(root / "config", AGENTS, more=tokens() + MORE.replace("HOOK", hook.url))
    for folder in ("guarded", "inbox", "out"):
        path = root / "one" / "volumes" / "main" / "data" / "files" / folder
        path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(running_server(root / name, config, database=postgres)) for name in ("one", "two")
        )


def post(server: Server, path: str, user: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers=headers_of(f"token-{user}"), timeout=30)


def get(server: Server, path: str, user: str) -> Any:
    return httpx.get(f"{server.url}{path}", headers=headers_of(f"token-{user}"), timeout=30).json()


def begin(server: Server, user: str, name: str, **data: Any) -> str:
    """A run in the background; its id."""
    body = {"id": str(uuid.uuid4()), "agent_name": name, "input": data, "background": True}
    answer = post(server, "/api/invocations", user, body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)
    return found


def asked(server: Server, user: str, invocation: str) -> Any:
    """What a person is asked for this run."""
    mine = lambda: [  # noqa: E731
        one
        for one in get(server, "/api/approvals?status=pending", user)["approvals"]
        if one["invocation_id"] == invocation
    ]
    return until(mine)[0]


def ended(server: Server, user: str, invocation: str) -> Any:
    def look() -> Any:
        found = get(server, f"/api/invocations/{invocation}", user)
        return found if found["status"] in ("completed", "failed", "cancelled") else None

    return until(look)


def decide(server: Server, user: str, approval: str, decision: str, comment: str = "") -> httpx.Response:
    return post(server, f"/api/approvals/{approval}/decision", user, {"decision": decision, "comment": comment})


def test_a_person_sees_what_will_happen_and_the_run_goes_on(
    replicas: tuple[Server, ...], root: Path, tmp_path: Path
) -> None:
    one, two = replicas
    ledger = tmp_path / "ledger"
    invocation = begin(one, "ann", "careful", what="main.sales.old", ledger=str(ledger))
    shown = asked(two, "bob", invocation)
    assert shown["action"] == "delete main.sales.old"
    assert shown["details"] == {"table": "main.sales.old", "rows": 3}
    assert (shown["diff"], shown["cost_usd"]) == ("- 3 rows\n+ 0 rows", 0.25)
    assert (shown["asked_by"], shown["agents"], shown["rule"]) == ("ann", ["careful"], None)
    assert shown["input"]["what"] == "main.sales.old"
    assert shown["expires_at"] > shown["asked_at"]
    until(lambda: get(one, f"/api/invocations/{invocation}", "ann")["status"] == "waiting")
    assert get(one, f"/api/approvals/{shown['id']}", "eve")["code"] == "not_found", "it is none of Eve's business"
    assert decide(two, "eve", shown["id"], "approve").status_code == 404
    assert decide(two, "ann", shown["id"], "approve").status_code == 403, "four eyes"
    approved = decide(two, "bob", shown["id"], "approve", "They are old.")
    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    found = ended(one, "ann", invocation)
    assert found["output"] == {"approved_by": "bob", "said": "They are old."}
    assert ledger.read_text() == "began\n" * 2, "it left memory, and began again with the approval"
    late = decide(one, "cyd", shown["id"], "refuse")
    assert (late.status_code, late.json()["status_now"]) == (409, "approved")


def test_a_refusal_ends_it(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    invocation = begin(one, "ann", "careful", what="everything")
    shown = asked(one, "cyd", invocation)
    assert decide(two, "cyd", shown["id"], "refuse", "Never.").status_code == 200
    error = ended(two, "ann", invocation)["error"]
    assert (error["code"], error["status"], error["approval_id"]) == ("approval_refused", 403, shown["id"])
    assert "Never." in error["detail"]


def test_who_asked_may_refuse_and_not_approve_at_the_runs_own_door(replicas: tuple[Server, ...]) -> None:
    one, two = replicas
    invocation = begin(one, "ann", "careful", what="mine")
    shown = asked(one, "ann", invocation)
    (question,) = until(lambda: get(two, f"/api/invocations/{invocation}", "ann").get("questions"))
    assert question["answerable"] is False
    assert shown["id"] in question["message"]
    path = f"/api/invocations/{invocation}/answer"
    answer = {"question_id": question["question_id"], "value": {"approved": True}}
    assert post(two, path, "ann", answer).json()["code"] == "permission_denied"
    assert post(two, path, "ann", {**answer, "value": None}).status_code == 202
    assert ended(one, "ann", invocation)["error"]["code"] == "approval_refused"


def test_it_is_decided_once_however_many_decide_at_once(replicas: tuple[Server, ...]) -> None:
    for _ in range(3):
        invocation = begin(replicas[0], "ann", "careful", what="raced")
        shown = asked(replicas[1], "bob", invocation)

        def race(number: int, approval: str = shown["id"]) -> httpx.Response:
            decision = "approve" if number % 2 else "refuse"
            return decide(replicas[number // 2 % 2], ("bob", "cyd")[number // 4 % 2], approval, decision)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(race, range(8)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        found = ended(replicas[0], "ann", invocation)
        assert (found["status"] == "completed") == (won["status"] == "approved")


def test_what_nobody_decides_in_time_is_refused(replicas: tuple[Server, ...]) -> None:
    invocation = begin(replicas[0], "ann", "careful", what="late", timeout_seconds=0.5)
    error = ended(replicas[1], "ann", invocation)["error"]
    assert (error["code"], "in time" in error["detail"]) == ("approval_refused", True)
    (found,) = [
        one for one in get(replicas[1], "/api/approvals", "bob")["approvals"] if one["invocation_id"] == invocation
    ]
    assert found["status"] == "withdrawn"
    assert decide(replicas[0], "bob", found["id"], "approve").status_code == 409


def test_a_policy_wants_a_person_too(replicas: tuple[Server, ...]) -> None:
    """Its rule names who; where nobody can be waited for, it says so."""
    one, two = replicas
    data = {"do": "write_file", "what": f"{DATA}/guarded/a.txt"}
    code, said = by_rest(httpx.Client(base_url=one.url), "token-ann", "doer", data)
    assert (code, json.loads(said)["rule"]) == ("approval_required", "guarded")
    assert "POST /api/invocations" in json.loads(said)["detail"]
    invocation = begin(one, "ann", "doer", **data)
    shown = asked(two, "eve", invocation)
    assert (shown["action"], shown["rule"]) == (f"write {DATA}/guarded/a.txt", "guarded")
    assert decide(two, "bob", shown["id"], "approve").status_code == 404, "the rule names Eve"
    assert decide(two, "eve", shown["id"], "approve").status_code == 200
    assert ended(one, "ann", invocation)["status"] == "completed"


def test_what_strangers_text_leads_to_waits_for_a_person(replicas: tuple[Server, ...]) -> None:
    one = replicas[0]
    write = {"do": "write_file", "what": f"{DATA}/out/b.txt"}
    code, _ = by_rest(httpx.Client(base_url=one.url, timeout=30), "token-ann", "doer", write)
    assert code == "answered", "nobody is asked of what a user wants himself"
    inbox = {"do": "write_file", "what": f"{DATA}/inbox/letter.txt"}
    assert by_rest(httpx.Client(base_url=one.url, timeout=30), "token-ann", "doer", inbox)[0] == "answered"
    read = {"agent": "doer", "data": {"do": "read_file", "what": f"{DATA}/inbox/letter.txt"}}
    steps = {"agent": "doer", "data": write, "before": [read]}
    refused = json.loads(by_rest(httpx.Client(base_url=one.url, timeout=30), "token-ann", "middleman", steps)[1])
    assert (refused["code"], refused["rule"]) == ("approval_required", "tainted")
    invocation = begin(one, "ann", "middleman", **steps)
    shown = asked(one, "bob", invocation)
    assert f"path:{DATA}/inbox/letter.txt" in shown["origins"]
    assert shown["agents"] == ["doer", "middleman"]
    assert decide(one, "bob", shown["id"], "approve").status_code == 200
    assert ended(one, "ann", invocation)["status"] == "completed"


def test_an_a2a_task_waits_for_it(replicas: tuple[Server, ...]) -> None:
    one, two = replicas

    def rpc(server: Server, method: str, params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = headers_of("token-ann") | {"A2A-Version": "1.0"}
        return httpx.post(f"{server.url}/a2a/rpc", json=body, headers=headers, timeout=30).json()

    def message(data: Any, **more: Any) -> Any:
        sent = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"data": data}], **more}
        return {"message": {**sent, "metadata": {"skill": "careful"}}}

    task = rpc(one, "SendMessage", message({"what": "tasks"}))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    shown = asked(two, "bob", str(uuid.UUID(task["id"])))
    assert (shown["door"], shown["id"] in json.dumps(task["status"])) == ("a2a", True)
    reply = rpc(two, "SendMessage", message({"approved": True}, taskId=task["id"]))
    assert "another person has to decide" in json.dumps(reply["error"])
    assert decide(two, "bob", shown["id"], "approve").status_code == 200
    until(lambda: rpc(one, "GetTask", {"id": task["id"]})["result"]["status"]["state"] == "TASK_STATE_COMPLETED")


def test_an_mcp_task_waits_for_it_and_its_client_is_not_asked(replicas: tuple[Server, ...]) -> None:
    from tests.mcp.test_tasks import modern

    one, two = replicas
    created = modern(one, "tools/call", user="token-ann", name="careful", arguments={"what": "tools"})
    shown = asked(two, "bob", str(uuid.UUID(created["taskId"])))
    task = modern(two, "tasks/get", user="token-ann", taskId=created["taskId"])
    assert (task["status"], shown["id"] in task["statusMessage"]) == ("working", True)
    assert decide(two, "bob", shown["id"], "approve", "Go.").status_code == 200

    def result() -> Any:
        return modern(one, "tasks/get", user="token-ann", taskId=created["taskId"]).get("result")

    assert until(result)["structuredContent"] == {"approved_by": "bob", "said": "Go."}


def told(hook: Receiver, approval: str) -> tuple[dict[str, str], Any]:
    """The message about it; those about others are passed by."""
    while True:
        headers, message = hook.next()
        if approval in headers["body"]:
            return headers, message


def press(server: Server, value: str, user: str, *, secret: str = SECRET, seconds_ago: int = 0) -> httpx.Response:
    """A button of the message is pressed, as Slack tells of it."""
    payload = {"type": "block_actions", "user": {"id": user}, "actions": [{"action_id": "approve", "value": value}]}
    body = urlencode({"payload": json.dumps(payload)}).encode()
    timestamp = str(int(time.time()) - seconds_ago)
    signed = hmac.new(secret.encode(), b"v0:%s:%s" % (timestamp.encode(), body), hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": f"v0={signed}",
    }
    return httpx.post(f"{server.url}/api/approvals/callback", content=body, headers=headers, timeout=30)


def test_a_signed_message_tells_of_it_and_its_buttons_decide(replicas: tuple[Server, ...], hook: Receiver) -> None:
    one, two = replicas
    invocation = begin(one, "ann", "careful", what="main.sales.told")
    shown = asked(one, "bob", invocation)
    headers, message = told(hook, shown["id"])
    said = f"v0:{headers['x-lakemesh-request-timestamp']}:{headers['body']}".encode()
    expected = hmac.new(SECRET.encode(), said, hashlib.sha256).hexdigest()
    assert headers["x-lakemesh-signature"] == f"v0={expected}"
    assert message["text"] == "ann asks for an approval: delete main.sales.told"
    text = json.dumps(message)
    assert all(fact in text for fact in ("0.25 USD", "- 3 rows", "Asked by: ann", "Agent: careful"))
    value = elements_of(message)["approve"]["value"]
    assert press(two, value, "U1", secret="another secret of mine").status_code == 401
    assert press(two, value, "U1", seconds_ago=600).status_code == 401
    assert press(two, value, "U9").status_code == 403, "nobody knows who that is"
    assert press(two, value, "U2").status_code == 403, "four eyes"
    assert press(two, value, "U3").status_code == 404, "Eve may not decide on it"
    assert press(two, value.replace("approve", "refuse"), "U1").status_code == 403
    assert press(two, value, "U1").status_code == 200
    assert ended(one, "ann", invocation)["output"]["approved_by"] == "bob"
    assert press(one, value, "U1").status_code == 409
    while not hook.received.empty():
        assert shown["id"] not in hook.received.get()[0]["body"], "it was told once, by two replicas"


def elements_of(message: Any) -> dict[str, Any]:
    return {element["action_id"]: element for element in message["blocks"][-1]["elements"]}


def test_a_link_of_the_message_decides_for_who_is_signed_in(replicas: tuple[Server, ...], hook: Receiver) -> None:
    one, two = replicas
    first, second = (begin(one, "ann", "careful", what=f"linked {number}") for number in range(2))
    shown, other = asked(one, "bob", first), asked(one, "bob", second)
    url = elements_of(told(hook, shown["id"])[1])["open_approve"]["url"]
    assert url.startswith(f"http://mesh.example/#approvals/{shown['id']}?token=")
    token = {"token": unquote(url.partition("token=")[2])}
    path = f"/api/approvals/{shown['id']}/decision"
    assert post(two, f"/api/approvals/{other['id']}/decision", "bob", token).status_code == 403
    assert post(two, path, "bob", {"token": f"{token['token']}0"}).status_code == 403
    assert post(two, path, "bob", {}).status_code == 400
    assert post(two, path, "ann", token).status_code == 403, "four eyes"
    assert post(two, path, "bob", token).status_code == 200
    assert ended(one, "ann", first)["status"] == "completed"
    decide(one, "bob", other["id"], "refuse")


def test_a_message_that_was_not_taken_is_sent_again(
    replicas: tuple[Server, ...], hook: Receiver, postgres: str
) -> None:
    hook.failures = 1
    shown = asked(replicas[0], "bob", begin(replicas[0], "ann", "careful", what="told late"))
    until(lambda: hook.failures == 0)
    with psycopg.connect(postgres) as connection:  # as if a minute had gone by
        connection.execute("UPDATE lakemesh.approvals SET tell_after = now() WHERE told_at IS NULL")
        connection.execute("SELECT pg_notify('lakemesh', 'approvals')")
    told(hook, shown["id"])
    decide(replicas[0], "bob", shown["id"], "refuse")


def test_every_step_is_in_the_audit_trail(replicas: tuple[Server, ...], root: Path) -> None:
    invocation = begin(replicas[0], "ann", "careful", what="audited")
    shown = asked(replicas[1], "bob", invocation)
    decide(replicas[1], "bob", shown["id"], "refuse")
    ended(replicas[0], "ann", invocation)

    async def steps(home: str) -> list[tuple[str, str]]:
        workspace = await embedded.open_workspace(root / home, mounts={}, database=None)
        query = "SELECT actor, outcome FROM main.agents.audit WHERE kind = 'approval' AND subject = 'delete audited'"
        try:
            rows = (await workspace.warehouse.query(query)).to_dicts()
        except LakemeshError:  # nothing has been written yet
            rows = []
        await workspace.close()
        return [(row["actor"], row["outcome"]) for row in rows]

    def both() -> list[tuple[str, str]]:  # it ran at either of them
        return sorted(asyncio.run(steps("one")) + asyncio.run(steps("two")))

    until(lambda: both() == [("ann", "requested"), ("bob", "refused")])
