"""The audit trail of servers that are killed again and again: every chain whole, and every answered request in one."""

import asyncio
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from lakemesh.governance.audit import verify
from lakemesh.lakehouse import embedded
from tests.chaos.rounds import ROUNDS
from tests.judge import judged
from tests.server import running_server, write_config
from tests.server_process import ServerProcess

KEY = "a key of sixteen or more"
MORE = f"""
audit: {{enabled: true, sealed: true, key: "{KEY}", anchors: /Volumes/main/audit/anchors, anchor_seconds: 0.3}}
telemetry: {{before_answer: true, flush_seconds: 0.2}}
"""
AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}\n"
CALLERS = 4


def ask_until_it_dies(url: str, answered: list[str]) -> None:
    body = {"agent": "echo", "data": {"message": "hello"}}
    with suppress(httpx.HTTPError), httpx.Client(base_url=url, timeout=30) as client:
        while True:
            answer = client.post("/api/execute", json=body)
            if answer.status_code == 200:
                answered.append(answer.json()["metadata"]["execution_id"])


def rows_and_anchors(home: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    async def read() -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
        workspace = await embedded.open_workspace(home, mounts={}, database=None)
        rows = await workspace.warehouse.query("SELECT * FROM main.agents.audit", row_limit=1_000_000)
        keys = await workspace.warehouse.query("SELECT DISTINCT key_id FROM main.agents.audit_keys")
        entries = await workspace.volumes.list_directory("/Volumes/main/audit/anchors")
        anchors = [json.loads(await workspace.volumes.read(entry.path)) for entry in entries]
        await workspace.close()
        return rows.to_dicts(), anchors, len(keys.rows)

    return asyncio.run(read())


@judged
def test_a_killed_server_leaves_a_whole_chain(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more=MORE)
    answered: list[str] = []
    for _ in range(ROUNDS):
        server = ServerProcess(tmp_path, folder)
        with ThreadPoolExecutor(CALLERS) as callers:
            for _ in range(CALLERS):
                callers.submit(ask_until_it_dies, server.url, answered)
            time.sleep(random.uniform(0.2, 2.0))
            server.kill()
    with running_server(tmp_path, folder) as last:  # brings what the others left
        assert httpx.post(f"{last.url}/api/execute", json={"agent": "echo", "data": {"message": "x"}}).is_success
    rows, anchors, keys = rows_and_anchors(tmp_path)
    assert verify(rows, key=KEY.encode(), anchors=anchors) == []
    assert {row["chain"] for row in rows} >= {anchor["chain"] for anchor in anchors}
    kept = {row["execution_id"] for row in rows if row["kind"] == "execution"}
    assert set(answered) <= kept
    assert len(answered) >= ROUNDS
    assert keys == len({row["actor"] for row in rows if row["actor"] != "server"}), "each sealed record has its key"
    print(f"{ROUNDS} rounds: {len(answered)} answered, {len(rows)} records, {len(anchors)} anchors")  # noqa: T201
