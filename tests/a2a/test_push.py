"""Push notifications: asked for by the official client, received by a real web server."""

import asyncio
import hashlib
import http.server
import json
import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from a2a.types.a2a_pb2 import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    SendMessageConfiguration,
    SendMessageRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lakemesh.errors import InvalidRequest
from lakemesh.outgoing import checked
from tests.interop.test_a2a import AGENTS, WAYS, asking, connected
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 20.0


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it gets; fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures = failures
        self.status = 503
        self.hangs = False
        self.released = threading.Event()
        self.answer_bytes = self.sent_bytes = 0
        self.received: queue.Queue[tuple[dict[str, str], Any]] = queue.Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"

    def next(self) -> tuple[dict[str, str], Any]:
        return self.received.get(timeout=WAIT_SECONDS)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"]))
        status = 204
        if self.server.hangs:
            self.server.released.wait(WAIT_SECONDS)
        if self.server.failures > 0:
            self.server.failures -= 1
            status = self.server.status
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.received.put(({**headers, "body": text.decode()}, json.loads(text)))
        self.send_response(status)
        self.send_header("content-length", str(self.server.answer_bytes))
        self.end_headers()
        with suppress(OSError):
            for _ in range(self.server.answer_bytes // 1_000_000):
                self.wfile.write(b"x" * 1_000_000)
                self.server.sent_bytes += 1_000_000

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("push")
    folder = write_config(root / "config", AGENTS, more="a2a: {enabled: true, push_to_private: true}\n")
    with running_server(root / "home", folder) as running:
        yield running


def with_push(request: SendMessageRequest, receiver: Receiver) -> SendMessageRequest:
    push = TaskPushNotificationConfig(
        url=receiver.url, token="known", authentication=AuthenticationInfo(scheme="Bearer", credentials="secret")
    )
    request.configuration.CopyFrom(
        SendMessageConfiguration(return_immediately=True, task_push_notification_config=push)
    )
    return request


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_what_a_message_asks_for_arrives(server: Server, receiver: Receiver, binding: str) -> None:
    async with connected(server.url, binding, "1.0", streaming=False) as client:
        asked = with_push(asking("writer", {"words": ["a", "b"], "pause_seconds": 0.05}), receiver)
        task = [item async for item in client.send_message(asked)][-1].task
        headers, first = receiver.next()
        assert (headers["x-a2a-notification-token"], headers["authorization"]) == ("known", "Bearer secret")
        assert first["task"]["id"] == task.id
        while "task" not in (last := receiver.next()[1]):
            assert last["statusUpdate"]["status"]["state"] == "TASK_STATE_WORKING"
        assert last["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert last["task"]["artifacts"][-1]["parts"][0]["data"] == {"text": "a b"}


@pytest.mark.parametrize(("binding", "version"), WAYS)
async def test_configurations_are_kept_and_deleted(
    server: Server, receiver: Receiver, binding: str, version: str
) -> None:
    async with connected(server.url, binding, version) as client:
        stream = client.send_message(asking("trouble", {"mode": "hang"}))
        task_id = (await anext(stream)).task.id
        made = await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task_id, url=receiver.url, token="t")
        )
        assert (made.url, made.task_id) == (receiver.url, task_id)
        same = GetTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
        assert (await client.get_task_push_notification_config(same)).url == receiver.url
        _, first = receiver.next()
        assert first["kind" if version == "0.3" else "task"]
        if (binding, version) != ("HTTP+JSON", "0.3"):  # the official client lists and deletes nothing there
            listed = ListTaskPushNotificationConfigsRequest(task_id=task_id)
            assert len((await client.list_task_push_notification_configs(listed)).configs) == 1
            gone = DeleteTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
            await client.delete_task_push_notification_config(gone)
            assert len((await client.list_task_push_notification_configs(listed)).configs) == 0
        await stream.aclose()


async def test_a_receiver_that_fails_is_tried_again(server: Server, receiver: Receiver) -> None:
    receiver.failures = 2
    async with connected(server.url, "JSONRPC", "1.0", streaming=False) as client:
        asked = with_push(asking("echo", {"message": "hello"}), receiver)
        task = [item async for item in client.send_message(asked)][-1].task
        while (last := receiver.next()[1].get("task", {})).get("status", {}).get("state") != "TASK_STATE_COMPLETED":
            pass
        assert last["id"] == task.id


async def test_what_is_refused_for_good_is_counted(server: Server, receiver: Receiver) -> None:
    receiver.failures, receiver.status = 1_000, 400
    async with connected(server.url, "JSONRPC", "1.0", streaming=False) as client:
        asked = with_push(asking("echo", {"message": "hello"}), receiver)
        assert [item async for item in client.send_message(asked)][-1].task.status.state != TaskState.TASK_STATE_FAILED
    async with httpx.AsyncClient() as http:
        while 'outcome="failed"' not in (await http.get(f"{server.url}/metrics")).text:
            pass


async def test_of_an_answer_only_the_status_is_read(server: Server, receiver: Receiver) -> None:
    receiver.answer_bytes = 200_000_000
    async with connected(server.url, "JSONRPC", "1.0", streaming=False) as client:
        asked = with_push(asking("echo", {"message": "hello"}), receiver)
        [item async for item in client.send_message(asked)]
        while (receiver.next()[1].get("task", {})).get("status", {}).get("state") != "TASK_STATE_COMPLETED":
            pass
    assert receiver.sent_bytes < receiver.answer_bytes


async def test_an_ended_task_keeps_what_is_asked_of_it(server: Server, receiver: Receiver) -> None:
    async with connected(server.url, "JSONRPC", "1.0", streaming=False) as client:
        task = [item async for item in client.send_message(asking("echo", {"message": "hello"}))][-1].task
        made = await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task.id, url=receiver.url)
        )
        listed = ListTaskPushNotificationConfigsRequest(task_id=task.id)
        assert [one.id for one in (await client.list_task_push_notification_configs(listed)).configs] == [made.id]


@pytest.mark.parametrize("change", [{"token": "sch\u00f6n"}, {"token": "x" * 3_000_000}, {"token": "a\r\nb: c"}])
async def test_tokens_that_are_no_headers_are_refused(server: Server, receiver: Receiver, change: dict) -> None:
    async with connected(server.url, "HTTP+JSON", "1.0", streaming=False) as client:
        task = [item async for item in client.send_message(asking("echo", {"message": "hello"}))][-1].task
        with pytest.raises(Exception, match=r"token|413"):
            await client.create_task_push_notification_config(
                TaskPushNotificationConfig(task_id=task.id, url=receiver.url, **change)
            )


async def test_a_users_receivers_that_hang_delay_nobody_elses(tmp_path: Path, receiver: Receiver) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = f"a2a: {{push_to_private: true}}\nauth: {{tokens: [{', '.join(tokens)}]}}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with ExitStack() as stack:
        running = stack.enter_context(running_server(tmp_path / "home", folder))
        hanging = stack.enter_context(receiving())
        hanging.hangs = True

        async def send(user: str, to: Receiver) -> None:
            push = {"url": to.url}
            message = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"data": {"message": "x"}}]}
            params = {"message": {**message, "metadata": {"skill": "echo"}}}
            params["configuration"] = {"taskPushNotificationConfig": push}
            body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
            headers = {"A2A-Version": "1.0", "authorization": f"Bearer {user}"}
            answer = await http.post(f"{running.url}/a2a/rpc", json=body, headers=headers)
            assert "result" in answer.json(), answer.text

        async with httpx.AsyncClient(timeout=30) as http:
            await asyncio.gather(*(send("bob", hanging) for _ in range(60)))
            await send("ann", receiver)
            await asyncio.to_thread(receiver.next)
        assert hanging.received.empty(), "ann was not told after bob's had their time, but beside them"


async def test_notifications_are_signed_for_their_receiver(tmp_path: Path, receiver: Receiver) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    indented = pem.decode().replace("\n", "\n    ")
    more = f"a2a:\n  push_to_private: true\n  signing_key_id: k1\n  signing_key: |\n    {indented}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with running_server(tmp_path / "home", folder) as running:
        async with connected(running.url, "JSONRPC", "1.0", streaming=False) as client:
            asked = with_push(asking("echo", {"message": "hello"}), receiver)
            asked.configuration.task_push_notification_config.ClearField("authentication")
            [item async for item in client.send_message(asked)]
            headers, body = await asyncio.to_thread(receiver.next)
        keys = jwt.PyJWKClient(f"{running.url}/.well-known/jwks.json")
        token = headers["authorization"].removeprefix("Bearer ")
        key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=receiver.url)
    assert claims["request_body_sha256"] == hashlib.sha256(headers["body"].encode()).hexdigest()
    assert claims["taskId"] == body["task"]["id"]
    assert headers["x-a2a-notification-signature"] == token


async def test_a_private_address_is_refused_and_nothing_runs(tmp_path: Path, receiver: Receiver) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="a2a: {enabled: true}\n")
    with running_server(tmp_path / "home", folder) as running:
        async with connected(running.url, "JSONRPC", "1.0", streaming=False) as client:
            asked = with_push(asking("echo", {"message": "hello"}), receiver)
            with pytest.raises(Exception, match="not public"):
                [item async for item in client.send_message(asked)]
    assert receiver.received.empty()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8000/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[64:ff9b:1::808:808]/",
        "http://[fec0::1]/",
        "http://[2001::1]/",
        "http://[::]/",
        "http://168.63.129.16/",
        "http://192.0.0.192/",
        "http://[64:ff9b::a83f:8110]/",
        "http://93.184.216.34:22/",
        "http://93.184.216.34:6379/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://224.0.0.1/",
        "http://user:password@93.184.216.34/",
        "ftp://93.184.216.34/",
        "file:///etc/passwd",
        "gopher://93.184.216.34/",
        "//93.184.216.34/",
        "http://",
        "http://[/",
        "not a url",
        "",
    ],
)
async def test_hostile_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        await checked(url, allow_private=False)


async def test_a_public_address_is_pinned_under_its_name() -> None:
    to = await checked("https://93.184.216.34:8443/hook?x=1", allow_private=False)
    assert (str(to.url), to.headers["Host"]) == ("https://93.184.216.34:8443/hook?x=1", "93.184.216.34:8443")
    local = await checked("http://localhost:81/a", allow_private=True)
    assert local.url.host in ("127.0.0.1", "::1")
    assert (local.headers["Host"], local.extensions["sni_hostname"]) == ("localhost:81", "localhost")
