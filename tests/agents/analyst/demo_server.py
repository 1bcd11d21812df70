"""A real server with the demo's analyst over the demo's tables."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from lakemesh.jobs.analyst_data import generate, store
from lakemesh.lakehouse.embedded import open_workspace
from tests.server import MODELS, Server, running_server, write_config

DEMO = Path("lakemesh/jobs/analyst_demo.yaml")


def agents() -> dict:
    return yaml.safe_load(DEMO.read_text())


async def fill(home: Path) -> None:
    workspace = await open_workspace(home)
    try:
        await store(workspace, generate())
    finally:
        await workspace.close()


@contextmanager
def demo_server(root: Path, models: str = MODELS) -> Iterator[Server]:
    asyncio.run(fill(root / "home"))
    text = yaml.safe_dump(agents(), sort_keys=False)
    indented = "".join(f"  {line}\n" for line in text.splitlines())
    with running_server(root / "home", write_config(root / "config", indented, models=models)) as server:
        yield server


def ask(
    server: Server, question: str, session: str | None = None, *, agent: str = "analyst", **headers: str
) -> httpx.Response:
    body = {"agent": agent, "data": {"question": question}} | ({"session_id": session} if session else {})
    return httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=60)
