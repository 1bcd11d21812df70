"""`lakemesh serve` as users run it, in a process of its own (and so on uvloop)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.server import write_config

WAIT_SECONDS = 30.0


@dataclass(slots=True)
class ServeProcess:
    process: subprocess.Popen
    url: str
    folder: Path
    lines: list[str]

    def client(self, **arguments: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **arguments)

    def alive(self) -> bool:
        return self.process.poll() is None

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def health(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/health/ready", timeout=30).json()

    def active(self) -> int:
        return self.health()["parts"]["engine"]["active"]


def wait_until(condition: Callable[[], Any], what: str = "") -> Any:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"it did not happen: {what}")


@contextmanager
def serve(
    root: Path, agents: str, more: str = "", *, program: str | None = None, **environment: str
) -> Iterator[ServeProcess]:
    """The server; or `program`, which ends in the command line and may set what is too long for a test before."""
    folder = write_config(root / "config", agents, more=more)
    variables = {"LAKEMESH_HOME": str(root / "home"), "LAKEMESH_CONFIG_FOLDER": str(folder), **environment}
    begin = ["-m", "lakemesh.cli"] if program is None else ["-c", program]
    process = subprocess.Popen(
        [sys.executable, *begin, "serve", "--port", "0"],
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("{") and "Uvicorn running on" in line:
                url = json.loads(line)["event"].split()[3]
                break
        else:
            raise AssertionError("the server did not start: " + "".join(lines)[-3_000:])
        threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
        yield ServeProcess(process, url, folder, lines)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def execute(client: httpx.Client, agent: str, data: Any = None, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/execute", json={"agent_name": agent, "data": data or {}}, headers=names)


def events_of(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in response.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


def stream(client: httpx.Client, agent: str, data: Any = None, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    return events_of(execute(client, agent, data, accept="text/event-stream", **headers))


def executions(client: httpx.Client, agent: str, outcome: str) -> int:
    """How often `agent` ended so, by the server's own count."""
    start = f'lakemesh_executions_total{{agent="{agent}",outcome="{outcome}"}} '
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(start):
            return int(float(line.removeprefix(start)))
    return 0
