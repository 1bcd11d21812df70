"""Streams are bounded, whole, in order, and can be taken up again."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from lakemesh.mcp.streams import KEPT, Stream
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio


def note(number: int) -> dict:
    return {"number": number}


async def read(events: AsyncGenerator[bytes]) -> list[int]:
    lines = [line async for event in events for line in event.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(line[6:])["number"] for line in lines]


async def test_a_reader_that_keeps_up_gets_everything_in_order() -> None:
    stream = Stream()
    reading = asyncio.ensure_future(read(stream.read()))
    for number in range(10_000):
        stream.put(note(number), droppable=True)
        await asyncio.sleep(0)
    stream.end()
    assert await reading == list(range(10_000))


async def test_a_slow_reader_misses_notifications_and_no_answer() -> None:
    stream = Stream()
    for number in range(10_000):
        stream.put(note(number), droppable=True)
    stream.put(note(-1))
    stream.end()
    assert stream.dropped == 10_000 - KEPT
    assert await read(stream.read()) == [*range(KEPT), -1]


async def test_a_lost_stream_is_taken_up_after_the_last_event() -> None:
    stream = Stream("7", resumable=True)
    for number in range(1, 6):
        stream.put(note(number))
    events = stream.read(primed=True)
    first = [(await anext(events)).decode() for _ in range(3)]
    assert first[0].startswith("id: 7_0\nretry: ")
    assert "id: 7_2" in first[2]
    await events.aclose()
    stream.put(note(6))
    stream.end()
    assert await read(stream.resume(2)) == [3, 4, 5, 6]
    assert await read(stream.resume(6)) == []


async def test_what_is_long_read_is_forgotten_first() -> None:
    stream = Stream("1", resumable=True)
    reading = stream.read()
    for number in range(1, 3 * KEPT + 1):
        stream.put(note(number), droppable=True)
        await anext(reading)
    assert stream.dropped == 0
    stream.end()
    assert await read(stream.resume(1)) == list(range(2 * KEPT + 1, 3 * KEPT + 1))


async def test_a_client_that_never_reads_harms_nobody(tmp_path: Path) -> None:
    agents = (
        "  count: {class: benchmarks.counting_agent:CountingAgent}\n  echo: {class: lakemesh.agents.echo:EchoAgent}"
    )
    with running_server(tmp_path / "home", write_config(tmp_path / "config", agents)) as server:
        arguments = {"to": 200_000, "pause_seconds": 0}
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": 1,
        }
        params = {"name": "count", "arguments": arguments, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        head = (
            "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\naccept: text/event-stream\r\n"
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: count\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.sendall(head.encode() + body)
            async with httpx.AsyncClient(timeout=20) as client:
                for _ in range(20):
                    echo = {"agent_name": "echo", "data": {"message": "hello"}}
                    assert (await client.post(f"{server.url}/api/execute", json=echo)).status_code == 200
