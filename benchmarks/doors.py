"""The price of the MCP and the A2A door: one call of an echo agent, our whole engine on, against the official SDKs.

MCP `tools/call`: at least the requests a second of the SDK's bare server at revision 2026-07-28, and twice those of its
stateless handshake mode. A2A `SendMessage`: at least eight times the SDK's own request handler with its in-memory
store, and 0.3 of a bare Starlette echo; each message has an id of its own, since one that is sent again is answered by
the task it began. One server process each, 16 keep-alive connections, rounds in turn. And a thousand
streams of one server, open at the same time, deliver every event in its order.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.execute import CONFIG
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process, server_process
from lakemesh.jobs.http_load import post, run_load

CONNECTIONS = 16
REQUESTS_PER_CONNECTION = 100
ROUNDS = 3
STREAMS, EVENTS, PAUSE_SECONDS = 1_000, 20, 0.5
COUNTING = "benchmarks.counting_agent:CountingAgent"
PEER_ENVIRONMENT = Path(__file__).parents[1] / ".cache/benchmark-mcp"
PEER_PACKAGES = ("mcp==2.3.0", "uvicorn", "uvloop", "httptools")
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
MCP_ANSWER, A2A_ANSWER = b'"structuredContent":{"message":"helloworld"}', b'"data":{"message":"helloworld"}'
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


def peer_python() -> str:
    """An interpreter with the SDK, whose pins would clash with those of lakemesh's users."""
    interpreter = PEER_ENVIRONMENT / "bin/python"
    if not (PEER_ENVIRONMENT / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_ENVIRONMENT)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (PEER_ENVIRONMENT / "installed").touch()
    return str(interpreter)


def call(request_id: int, version: str) -> bytes:
    params = {"name": "echo", "arguments": {"message": "hello world"}}
    headers = {"accept": "application/json, text/event-stream", "mcp_protocol_version": version}
    if version == MODERN:
        params["_meta"] = META
        headers |= {"mcp_method": "tools/call", "mcp_name": "echo"}
    body = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
    return post("/mcp", json.dumps(body).encode(), **headers)


def send_message(request_id: int) -> bytes:
    message_id = uuid.uuid4().hex
    part = {"data": {"message": "hello world"}, "mediaType": "application/json"}
    message = {"messageId": message_id, "role": "ROLE_USER", "parts": [part], "metadata": {"skill": "echo"}}
    body = {"jsonrpc": "2.0", "id": request_id, "method": "SendMessage", "params": {"message": message}}
    return post("/a2a/rpc", json.dumps(body).encode(), a2a_version="1.0")


def measured(server: ServerProcess, make: Callable[[int], bytes], answer: bytes) -> tuple[float, float]:
    """Requests a second, and the processor time of one in microseconds, over one round."""
    before = server.cpu_seconds()
    rate = per_second(server, make, answer)
    return rate, (server.cpu_seconds() - before) / (CONNECTIONS * REQUESTS_PER_CONNECTION) * 1e6


def per_second(server: ServerProcess, make: Callable[[int], bytes], answer: bytes) -> float:
    """One round, every request under an id of its own, every answer checked."""
    starts = range(0, CONNECTIONS * REQUESTS_PER_CONNECTION, REQUESTS_PER_CONNECTION)
    requests = [[make(start + i) for i in range(REQUESTS_PER_CONNECTION)] for start in starts]
    failed = 0

    def check(connection: int, place: int, head: bytes, body: bytes) -> None:
        nonlocal failed
        failed += answer not in body.replace(b" ", b"")

    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120, on_answer=check))
    assert result.errors == failed == 0
    return result.per_second


@contextmanager
def lakemesh(text: str = CONFIG) -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        opened = text.replace("EchoAgent}", "EchoAgent, expose: [mcp, a2a]}")
        (config / "lakemesh.yaml").write_text(f"{opened}a2a: {{enabled: true}}\n")
        environment = {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}
        with lakemesh_process(environment) as server:
            yield server


def mcp() -> list[Row]:
    python = peer_python()
    with (
        server_process("benchmarks.mcp_peer:modern_app", python=python) as modern,
        server_process("benchmarks.mcp_peer:handshake_app", python=python) as handshake,
        lakemesh() as ours,
    ):
        servers = ((ours, MODERN), (modern, MODERN), (ours, HANDSHAKE), (handshake, HANDSHAKE))
        rounds = [
            [per_second(server, partial(call, version=version), MCP_ANSWER) for server, version in servers]
            for _ in range(ROUNDS + 1)
        ][1:]
    return [
        ratio("2026-07-28: lakemesh / SDK", [(own, peer) for own, peer, _, _ in rounds], ">= 1"),
        ratio("2025-11-25: lakemesh / SDK, stateless", [(own, peer) for _, _, own, peer in rounds], ">= 2"),
        Row("2026-07-28: lakemesh, requests/s", statistics.median(own for own, _, _, _ in rounds)),
        Row("2026-07-28: SDK, requests/s", statistics.median(peer for _, peer, _, _ in rounds)),
    ]


def a2a() -> list[Row]:
    with (
        server_process("benchmarks.a2a_peer:app") as sdk,
        server_process("benchmarks.peers:starlette_app") as echo,
        lakemesh() as ours,
    ):
        servers = (ours, sdk, echo)
        rounds = [[measured(server, send_message, A2A_ANSWER) for server in servers] for _ in range(ROUNDS + 1)][1:]
    rates = [[rate for rate, _ in one] for one in rounds]
    times = [[time for _, time in one] for one in rounds]  # which a busy machine changes little
    return [
        ratio("A2A: lakemesh / SDK's request handler", [(own, sdk) for own, sdk, _ in rates], ">= 8"),
        ratio("A2A: lakemesh / bare Starlette echo", [(own, echo) for own, _, echo in rates], ">= 0.3"),
        ratio("A2A: processor time, SDK's request handler / lakemesh", [(sdk, own) for own, sdk, _ in times], ""),
        ratio("A2A: processor time, bare Starlette echo / lakemesh", [(echo, own) for own, _, echo in times], ""),
        Row("A2A: lakemesh, requests/s", statistics.median(own for own, _, _ in rates)),
        Row("A2A: SDK's request handler, requests/s", statistics.median(sdk for _, sdk, _ in rates)),
    ]


async def follow(port: int, number: int, opened: asyncio.Semaphore) -> tuple[list[int], bool]:
    """One streamed `tools/call`: the progress in the order it came, and whether the answer was there."""
    params = {"name": "count", "arguments": {"to": EVENTS, "pause_seconds": PAUSE_SECONDS}}
    params["_meta"] = {**META, "progressToken": number}
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    headers = {"accept": "application/json, text/event-stream", "mcp_protocol_version": MODERN}
    request = post("/mcp", json.dumps(body).encode(), **headers, mcp_method="tools/call", mcp_name="count")
    async with opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
    text = (await reader.read()).decode()
    writer.close()
    progress = [int(found) for found in re.findall(r'"progress":(\d+)', text)]
    return progress, f'"structuredContent":{{"counted":{EVENTS}}}' in text


def thousand_streams() -> list[Row]:
    async def follow_all(port: int) -> list[tuple[list[int], bool]]:
        opened = asyncio.Semaphore(100)
        async with asyncio.timeout(300):
            return await asyncio.gather(*(follow(port, number, opened) for number in range(STREAMS)))

    config = CONFIG.replace("agents:", f"agents:\n  count: {{class: {COUNTING}, timeout_seconds: 300}}")
    config = config.replace("limits: {", f"limits: {{max_concurrency: {STREAMS}, ")
    with lakemesh(config) as server:
        before = server.resident_mb()
        seen = uvloop.run(follow_all(server.port))
        grown = server.resident_mb() - before
    whole = sum(answered and progress == list(range(1, EVENTS + 1)) for progress, answered in seen)
    return [
        Row(f"{STREAMS} open streams, {EVENTS} events each: whole and in order", whole, f">= {STREAMS}"),
        Row("open streams: memory grown, MB", grown),
    ]


def ratio(name: str, pairs: list[tuple[float, float]], target: str) -> Row:
    ratios = [own / peer for own, peer in pairs]
    return Row(name, statistics.median(ratios), target, f"{min(ratios):.2f}..{max(ratios):.2f}")


def main() -> None:
    report("doors", "The MCP and the A2A door", [*mcp(), *a2a(), *thousand_streams()])


if __name__ == "__main__":
    main()
