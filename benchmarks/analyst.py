"""The price of a question over several domains: four Genie spaces of the emulator, each with a delay of its own.

Claims: a question over all of them takes at most 1.2 times what one to the slowest takes; a space that hangs costs its
share of the time, and not the answer.
"""

import asyncio
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from benchmarks.report import Row, report
from benchmarks.server_process import lakemesh_process
from lakemesh.emulator import create_emulator
from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.genie import ScriptedAnswer, Space
from lakemesh.lakehouse.embedded import open_workspace

ROUNDS = 7
TOKEN = "benchmark-token-0123456789abcdef"
DELAYS = {"rain": 0.2, "snow": 0.5, "wind": 1.0, "hail": 1.5}
"""Seconds before each space takes a question."""

TIMEOUT_SECONDS, SHARE = 20.0, 0.5
DOMAINS = "".join(f"        {name}: {{description: {name} by day, space_id: {name}}}\n" for name in DELAYS)
CONFIG = f"""
agents:
  analyst:
    class: analyst
    timeout_seconds: {TIMEOUT_SECONDS}
    options:
      share: {SHARE}
      domains:
{DOMAINS}
models: {{endpoints: {{offline: {{serving_endpoint: offline}}}}, routes: {{quality: {{endpoints: [offline]}}}}}}
telemetry: {{enabled: false}}
"""


@contextmanager
def emulator(home: Path) -> Iterator[str]:
    answers = {name: [ScriptedAnswer(when=name, query=f"SELECT 1 AS {name}")] for name in DELAYS}
    spaces = [Space(space_id=name, answers=answers[name]) for name in DELAYS]
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[uvicorn.Server] = []

    async def run() -> None:
        workspace = await open_workspace(home)
        accounts = Accounts(tokens={TOKEN: "admin@example.com"}, principals={})
        app = create_emulator(workspace, home=home, spaces=spaces, accounts=accounts)
        held.append(uvicorn.Server(uvicorn.Config(app, log_level="critical")))
        await held[0].serve(sockets=[listener])
        await workspace.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        held[0].should_exit = True
        thread.join(30)


def delay(client: httpx.Client, name: str, seconds: float, path: str = "start-conversation") -> None:
    fault = {"path": f".*/spaces/{name}/{path}", "times": 10_000, "delay_seconds": seconds}
    client.post("/emulator/faults", json=fault).raise_for_status()


def ask(port: int, question: str) -> tuple[float, dict]:
    started = time.perf_counter()
    body = {"agent": "analyst", "data": {"question": question}}
    headers = {"x-forwarded-user": "ann@example.com"}
    answer = httpx.post(f"http://127.0.0.1:{port}/api/execute", json=body, headers=headers, timeout=60)
    return time.perf_counter() - started, answer.json()


def median_seconds(port: int, question: str, expected: set[str]) -> float:
    waited = []
    for _ in range(ROUNDS):
        seconds, answer = ask(port, question)
        assert {one["domain"] for one in answer["result"]["answers"] if one["rows"]} == expected, answer
        waited.append(seconds)
    return statistics.median(waited)


def main() -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        tempfile.TemporaryDirectory() as folder,
        emulator(Path(folder) / "emulator") as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):
        path = "/api/2.0/fs/files/Volumes/main/agents/configs/lakemesh.yaml"
        client.put(path, content=CONFIG, params={"overwrite": "true"}).raise_for_status()
        for name, seconds in DELAYS.items():
            delay(client, name, seconds)
        environment = {
            "LAKEMESH_HOME": str(Path(folder) / "home"),
            "LAKEMESH_WORKSPACE": "databricks",
            "LAKEMESH_WAREHOUSE_ID": "emulator",
            "DATABRICKS_HOST": url,
            "DATABRICKS_TOKEN": TOKEN,
            "DATABRICKS_APP_NAME": "bench",
        }
        with lakemesh_process(environment) as server:
            measure(server.port, client)


def measure(port: int, client: httpx.Client) -> None:
    slowest = max(DELAYS, key=lambda name: DELAYS[name])
    alone = {name: median_seconds(port, f"{name}?", {name}) for name in DELAYS}
    together = median_seconds(port, " and ".join(DELAYS), set(DELAYS))
    client.delete("/emulator/faults").raise_for_status()
    delay(client, slowest, 120.0, ".*")
    hung, answer = ask(port, " and ".join(DELAYS))
    kept = sum(bool(one["rows"]) for one in answer["result"]["answers"])
    rows = [Row(f"{name} alone, s", seconds) for name, seconds in alone.items()]
    rows += [
        Row("all four, s", together),
        Row("all four / the slowest", together / alone[slowest], "<= 1.2"),
        Row("one hangs, s", hung),
        Row("one hangs / its share of the time", hung / (TIMEOUT_SECONDS * SHARE), "<= 1.2"),
        Row("one hangs, domains answered", kept, f">= {len(DELAYS) - 1}"),
    ]
    report("analyst", "A question over several domains (Genie on the emulator)", rows)


if __name__ == "__main__":
    main()
