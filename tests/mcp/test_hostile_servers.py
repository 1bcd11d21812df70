"""Servers elsewhere that mean harm cost only themselves: real sockets that speak HTTP as badly as they like."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio

TOOLS = [{"name": "good", "inputSchema": {"type": "object"}}]
BOMB = gzip.compress(b" " * 100_000_000, compresslevel=9)
MAX_GROWN_BYTES = 250_000_000


def resident_bytes() -> int:
    """proc(5), /proc/PID/statm, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HostileServer:
    """An MCP server that lists one tool, and an A2A peer; everything else it does is `evil`."""

    def __init__(self, evil: str) -> None:
        self.evil = evil
        self.lists = 0
        self.sent_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            body = json.loads(await reader.readexactly(length)) if length else {}
            await self._answer(head, body, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: dict, writer: asyncio.StreamWriter) -> None:
        method = body.get("method", "")
        if head.startswith(b"GET /.well-known"):
            writer.write(answer(BOMB, "content-encoding: gzip", "content-type: application/json"))
        elif method == "subscriptions/listen":
            await self._listen(writer)
        elif method == "tools/call" and self.evil == "bomb":
            writer.write(answer(BOMB, "content-encoding: gzip", "content-type: application/json"))
        elif method in ("server/discover", "tools/list"):
            self.lists += method == "tools/list"
            result = {"tools": TOOLS, "resultType": "complete"} if method == "tools/list" else {"supportedVersions": []}
            sent = {"jsonrpc": "2.0", "id": body["id"], "result": result}
            writer.write(answer(json.dumps(sent).encode(), "content-type: application/json"))
        await writer.drain()

    async def _listen(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        if self.evil == "endless line":
            writer.write(b"data: ")
            for _ in range(600):
                writer.write(b"x" * 1_000_000)
                await writer.drain()
                self.sent_bytes += 1_000_000
        elif self.evil == "not json":
            writer.write(b"data: not json\n\n")
        await writer.drain()


@asynccontextmanager
async def hostile(evil: str) -> AsyncIterator[tuple[HostileServer, str]]:
    server = HostileServer(evil)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()[:2]
    try:
        yield server, f"http://{host}:{port}"
    finally:
        listening.close()


def config(folder: Path, url: str) -> Path:
    more = f"mcp: {{servers: {{far: {{url: '{url}/mcp', refresh_seconds: 0.3}}}}}}\n"
    more += f"a2a: {{peers: {{peer: {{url: '{url}', refresh_seconds: 0.3}}}}}}\n"
    return write_config(folder, "  echo: {class: lakemesh.agents.echo:EchoAgent}\n", more=more)


@pytest.mark.parametrize("evil", ["endless line", "not json", "bomb"])
async def test_a_hostile_server_costs_only_itself(tmp_path: Path, evil: str) -> None:
    async with hostile(evil) as (server, url):
        with running_server(tmp_path / "home", config(tmp_path / "config", url)) as ours:
            before = resident_bytes()
            async with httpx.AsyncClient(base_url=ours.url, timeout=30) as http, asyncio.timeout(60):
                while server.lists < 3:  # noqa: ASYNC110  (it is asked again and again, whatever it said)
                    await asyncio.sleep(0.05)
                called = await http.post("/api/execute", json={"agent": "far__good", "data": {}})
                assert called.status_code == 503
                parts = (await http.get("/health/ready")).json()["parts"]
                assert "compressed" in parts["peers"]["servers"]["peer"]["reason"]
                echo = await http.post("/api/execute", json={"agent": "echo", "data": {"message": "x"}})
                assert echo.json()["result"] == {"message": "x"}
            assert resident_bytes() - before < MAX_GROWN_BYTES
            assert server.sent_bytes < 100_000_000
