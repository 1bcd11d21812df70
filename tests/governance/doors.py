"""The same call through each door, and whether it was refused."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from websockets.sync.client import connect

from tests.mcp.test_mcp import META, MODERN

Ask = Callable[[httpx.Client, str, str, dict[str, Any]], tuple[str, str]]
"""(client, token, agent, data) → ("answered", the answer) or (the error's code, what was said)."""


def headers_of(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def by_rest(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    answer = client.post("/api/execute", json={"agent": agent, "data": data}, headers=headers_of(token), timeout=30)
    return outcome(answer.json())


def by_batch(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    body = {"requests": [{"agent": agent, "data": data}]}
    answer = client.post("/api/execute/batch", json=body, headers=headers_of(token))
    return outcome(answer.json()["results"][0])


def by_stream(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    headers = headers_of(token) | {"accept": "text/event-stream"}
    answer = client.post("/api/execute", json={"agent": agent, "data": data}, headers=headers)
    if answer.headers["content-type"].startswith("text/event-stream"):
        return outcome(json.loads(answer.text.strip().split("data: ")[-1]))
    return outcome(answer.json())


def by_websocket(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    url = str(client.base_url).rstrip("/").replace("http", "ws") + "/api/ws"
    with connect(url, additional_headers={"authorization": f"Bearer {token}"}) as socket:
        socket.send(json.dumps({"id": "1", "agent": agent, "data": data}))
        while True:
            message = json.loads(socket.recv(timeout=30))
            if message["event"] in ("completed", "failed"):
                return outcome(message["data"])


def by_mcp(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": agent}
    params = {"_meta": META, "name": agent, "arguments": data}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = client.post("/mcp", json=body, headers=headers_of(token) | routing).json()
    if "error" in answer:
        return outcome({"code": answer["error"].get("data", {}).get("code", "unknown_agent"), **answer["error"]})
    result = answer["result"]
    text = json.dumps(result)
    return ("error" if result["isError"] else "answered"), text


def by_a2a(client: httpx.Client, token: str, agent: str, data: dict[str, Any]) -> tuple[str, str]:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": data}], "metadata": {"skill": agent}}
    message["messageId"] = f"m{abs(hash((token, agent, json.dumps(data))))}"
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    headers = headers_of(token) | {"A2A-Version": "1.0"}
    answer = client.post("/a2a/rpc", json=body, headers=headers).json()
    if "error" in answer:
        return "error", json.dumps(answer)
    state = answer["result"]["task"]["status"]["state"]
    return ("answered" if state == "TASK_STATE_COMPLETED" else "error"), json.dumps(answer)


def outcome(body: dict[str, Any]) -> tuple[str, str]:
    return str(body["code"] if "code" in body else body.get("error", {}).get("code", "answered")), json.dumps(body)


DOORS: dict[str, Ask] = {
    "rest": by_rest,
    "batch": by_batch,
    "stream": by_stream,
    "websocket": by_websocket,
    "mcp": by_mcp,
    "a2a": by_a2a,
}
