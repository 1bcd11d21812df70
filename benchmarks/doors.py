"""The price of the MCP door: `tools/call` of an echo agent, our whole engine on, against the SDK's bare server.

Claim: at least the SDK's requests a second at revision 2026-07-28, and twice those of its stateless handshake mode. One
server process each, 16 keep-alive connections, rounds in turn.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.execute import CONFIG
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, server_process
from lakemesh.jobs.http_load import post, run_load

CONNECTIONS = 16
REQUESTS_PER_CONNECTION = 100
ROUNDS = 3
PEER_ENVIRONMENT = Path(__file__).parents[1] / ".cache/benchmark-mcp"
PEER_PACKAGES = ("mcp==2.3.0", "uvicorn", "uvloop", "httptools")
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
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


def per_second(server: ServerProcess, version: str) -> float:
    """One round, every request under an id of its own."""
    starts = range(0, CONNECTIONS * REQUESTS_PER_CONNECTION, REQUESTS_PER_CONNECTION)
    requests = [[call(start + i, version) for i in range(REQUESTS_PER_CONNECTION)] for start in starts]
    failed = 0

    def check(connection: int, place: int, head: bytes, body: bytes) -> None:
        nonlocal failed
        failed += b'"structuredContent":{"message":"hello world"}' not in body

    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120, on_answer=check))
    assert result.errors == failed == 0
    return result.per_second


def mcp() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(CONFIG)
        environment = {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}
        python = peer_python()
        with (
            server_process("benchmarks.mcp_peer:modern_app", python=python) as modern,
            server_process("benchmarks.mcp_peer:handshake_app", python=python) as handshake,
            server_process("app:app", environment) as ours,
        ):
            servers = ((ours, MODERN), (modern, MODERN), (ours, HANDSHAKE), (handshake, HANDSHAKE))
            rounds = [[per_second(*each) for each in servers] for _ in range(ROUNDS + 1)][1:]
    return [
        ratio("2026-07-28: lakemesh / SDK", [(own, peer) for own, peer, _, _ in rounds], ">= 1"),
        ratio("2025-11-25: lakemesh / SDK, stateless", [(own, peer) for _, _, own, peer in rounds], ">= 2"),
        Row("2026-07-28: lakemesh, requests/s", statistics.median(own for own, _, _, _ in rounds)),
        Row("2026-07-28: SDK, requests/s", statistics.median(peer for _, peer, _, _ in rounds)),
    ]


def ratio(name: str, pairs: list[tuple[float, float]], target: str) -> Row:
    ratios = [own / peer for own, peer in pairs]
    return Row(name, statistics.median(ratios), target, f"{min(ratios):.2f}..{max(ratios):.2f}")


def main() -> None:
    report("doors", "MCP tools/call of an echo agent", mcp())


if __name__ == "__main__":
    main()
