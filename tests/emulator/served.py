"""The emulator on a real port, in a thread or a process of its own, and settings that point at it."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from lakemesh.config.settings import Settings
from lakemesh.emulator import create_emulator
from lakemesh.emulator.accounts import Accounts
from lakemesh.lakehouse.embedded import open_workspace

TOKEN = "emulator-token"
ACCOUNTS = Accounts(tokens={TOKEN: "admin@example.com"}, principals={"emulator-client": "emulator-secret"})


@dataclass(frozen=True)
class Emulator:
    url: str

    def fault(self, **fault: Any) -> None:
        self.call("POST", "/emulator/faults", fault).raise_for_status()

    def clear(self) -> None:
        self.call("DELETE", "/emulator/faults").raise_for_status()
        self.call("DELETE", "/emulator/requests").raise_for_status()

    def requests(self) -> list[dict[str, Any]]:
        return self.call("GET", "/emulator/requests").json()

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> httpx.Response:
        return httpx.request(method, self.url + path, json=body, headers={"authorization": f"Bearer {token}"})

    def settings(self, **changes: Any) -> Settings:
        values = {
            "DATABRICKS_HOST": self.url,
            "DATABRICKS_CLIENT_ID": "emulator-client",
            "DATABRICKS_CLIENT_SECRET": "emulator-secret",
            "LAKEMESH_WAREHOUSE_ID": "emulator",
            "workspace": "databricks",
        }
        return Settings(**(values | changes))


@contextlib.contextmanager
def serve(home: Path, **options: Any) -> Iterator[Emulator]:
    """`options` are those of `create_emulator`, besides `home`."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    server: uvicorn.Server | None = None

    async def run() -> None:
        nonlocal server
        workspace = await open_workspace(home)
        app = create_emulator(workspace, home=home, **({"accounts": ACCOUNTS} | options))
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        ready.set()
        await server.serve(sockets=[listener])
        await workspace.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(20)
        yield Emulator(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        if server is not None:
            server.should_exit = True
        thread.join(20)
        listener.close()


@contextlib.contextmanager
def serve_by_command(home: Path, *, port: int = 0, **environment: str) -> Iterator[Emulator]:
    """`lakemesh workspace`, in a process of its own; what it says goes to a file beside its home."""
    command = [sys.executable, "-m", "lakemesh.cli", "workspace", "--home", str(home), "--port", str(port)]
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "LAKEMESH_EMULATOR_TOKEN": TOKEN, **environment}
    said = home.with_name(f"{home.name}.log")
    with said.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=own, cwd=home.parent)
    try:
        while (found := re.search(r"running on (http://[\d.:]+)", said.read_text())) is None:
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        yield Emulator(found[1])
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
