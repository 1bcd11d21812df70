"""The price of the ports: each port of the Databricks build against its own raw SDK call, on the emulator.

Claims: a port costs at most a tenth more than the SDK's call; calls scale to the pool; ten thousand requests of two
users in turn are never mixed up. The emulator runs in a process of its own; raw and port calls take turns.
"""

import asyncio
import io
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks.report import Row, report
from lakemesh.config.settings import Settings
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.databricks.calls import WORKERS, SdkCalls
from lakemesh.lakehouse.databricks.workspace import application_credentials, sdk_client, search_client
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity

ROUNDS = 5
CALLS = 200
WARM_UP = 30
SLOW_MS = 50
USER_REQUESTS = 10_000
TOKEN = secrets.token_hex(24)
FILE = "/Volumes/main/bench/files/config.yaml"
INDEX = "main.bench.vectors"
DIMENSION = 64
STATEMENT = "SELECT 1 AS a, 'x' AS b"
MESSAGES = [{"role": "user", "content": "Say something."}]

Call = Callable[[], Any]
Port = Callable[[], Awaitable[Any]]


@contextmanager
def emulator(home: Path, latency_ms: float = 0.0) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "lakemesh.cli",
        "workspace",
        "--home",
        str(home),
        "--port",
        str(port),
        "--token",
        TOKEN,
    ]
    process = subprocess.Popen([*command, "--latency-ms", str(latency_ms)], stderr=subprocess.DEVNULL, env=os.environ)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(f"{url}/.well-known/databricks-config")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def settings_of(url: str) -> Settings:
    return Settings(DATABRICKS_HOST=url, DATABRICKS_TOKEN=TOKEN, LAKEMESH_WAREHOUSE_ID="emulator")


async def pairs(settings: Settings, workspace: Workspace, stack: AsyncExitStack) -> dict[str, tuple[Call, Port]]:
    """The raw SDK's call and the port's, which do the same."""
    from openai import AsyncOpenAI

    credentials = application_credentials(settings)
    client = await asyncio.to_thread(sdk_client, settings, credentials, SdkCalls())
    search = await asyncio.to_thread(search_client, client, credentials)
    await workspace.volumes.write(FILE, b"x" * 2_000, overwrite=True)
    vector = [1.0] + [0.0] * (DIMENSION - 1)
    await workspace.indexes.create(IndexSpec(name=INDEX, dimension=DIMENSION))
    rows = [{"id": str(number), "embedding": [float(number), *vector[1:-1], 1.0]} for number in range(100)]
    await workspace.indexes.upsert(INDEX, rows)
    index = await asyncio.to_thread(search.get_async_index, settings.vector_search_endpoint, INDEX)
    openai = AsyncOpenAI(base_url=f"{settings.databricks_host}/serving-endpoints", api_key=credentials["token"])
    stack.push_async_callback(openai.close)
    chat = workspace.endpoints.serving_endpoint("databricks-claude-sonnet-4-5")

    def download() -> bytes:
        with client.files.download(FILE).contents as stream:
            return stream.read()

    return {
        "volumes.read": (download, lambda: workspace.volumes.read(FILE)),
        "volumes.write": (
            lambda: client.files.upload(FILE, io.BytesIO(b"x" * 2_000), overwrite=True),
            lambda: workspace.volumes.write(FILE, b"x" * 2_000, overwrite=True),
        ),
        "warehouse.query": (
            lambda: client.statement_execution.execute_statement(STATEMENT, "emulator", wait_timeout="5s"),
            lambda: workspace.warehouse.query(STATEMENT),
        ),
        "indexes.query": (
            lambda: index.similarity_search(columns=["id"], query_vector=vector, num_results=5, disable_notice=True),
            lambda: workspace.indexes.query(INDEX, vector, top_k=5, columns=["id"]),
        ),
        "endpoints.chat": (
            lambda: openai.chat.completions.create(model="databricks-claude-sonnet-4-5", messages=MESSAGES),
            lambda: chat.chat({"messages": MESSAGES}, timeout_seconds=30),
        ),
    }


async def ratio(raw: Call, port: Port) -> float:
    """The port's median time over the raw call's. A blocking raw call runs right here, an async one is awaited."""
    raw_times, port_times = [], []
    for number in range(CALLS + WARM_UP):
        started = time.perf_counter()
        answer = raw()
        if isinstance(answer, Awaitable):
            await answer
        between = time.perf_counter()
        await port()
        ended = time.perf_counter()
        if number >= WARM_UP:
            raw_times.append(between - started)
            port_times.append(ended - between)
    return statistics.median(port_times) / statistics.median(raw_times)


async def overhead(url: str) -> list[Row]:
    settings = settings_of(url)
    workspace = await databricks.open_workspace(settings)
    rows = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(workspace.close)
        for name, (raw, port) in (await pairs(settings, workspace, stack)).items():
            ratios = [await ratio(raw, port) for _ in range(ROUNDS)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append(Row(f"{name}: port / raw SDK call", statistics.median(ratios), "<= 1.1", spread))
    return rows


async def scaling(url: str) -> Row:
    """Reads a second with as many callers as the pool has threads, over reads a second with one."""
    workspace = await databricks.open_workspace(settings_of(url))
    await workspace.volumes.write(FILE, b"x", overwrite=True)

    async def rate(callers: int, reads: int) -> float:
        async def caller() -> None:
            for _ in range(reads):
                await workspace.volumes.read(FILE)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return callers * reads / (time.perf_counter() - started)

    await rate(WORKERS, 2)
    factor = await rate(WORKERS, 10) / await rate(1, 10)
    await workspace.close()
    return Row(f"reads/s, {WORKERS} callers / 1 caller ({SLOW_MS} ms a call)", factor, f">= {0.75 * WORKERS:g}")


async def mix_ups(home: Path) -> Row:
    """Two users in turn, each of whom may see one table."""
    import pyarrow as pa

    from lakemesh.emulator.accounts import Accounts
    from lakemesh.lakehouse.tables import Column, TableSpec
    from tests.emulator.served import serve

    users = {TOKEN: "admin@example.com", "token-ann": "ann", "token-bob": "bob"}
    mistakes = 0
    with serve(home, accounts=Accounts(tokens=users)) as served:
        workspace = await databricks.open_workspace(settings_of(served.url))
        for user in ("ann", "bob"):
            table = f"main.users.{user}"
            await workspace.tables.create(TableSpec(name=table, columns=[Column("owner", "STRING")]))
            await workspace.tables.append(table, pa.table({"owner": [user]}))
            needed = {"catalog/main": "USE_CATALOG", "schema/main.users": "USE_SCHEMA", f"table/{table}": "SELECT"}
            for securable, privilege in needed.items():
                change = {"changes": [{"principal": user, "add": [privilege]}]}
                served.call("PATCH", f"/api/2.1/unity-catalog/permissions/{securable}", change, token=TOKEN)

        async def ask(user: str) -> bool:
            theirs = await workspace.on_behalf_of(Identity(user=user, token=f"token-{user}"))
            return await theirs.tables.list_tables("main.users") == [f"main.users.{user}"]

        for _ in range(0, USER_REQUESTS, 100):
            answers = await asyncio.gather(*(ask(("ann", "bob")[number % 2]) for number in range(100)))
            mistakes += answers.count(False)
        await workspace.close()
    return Row(f"mix-ups in {USER_REQUESTS:,} requests of two users in turn", mistakes, "<= 0")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with emulator(home / "fast") as url:
            rows = uvloop.run(overhead(url))
        with emulator(home / "slow", SLOW_MS) as url:
            rows.append(uvloop.run(scaling(url)))
        rows.append(uvloop.run(mix_ups(home / "users")))
    report("workspace", "The Databricks build's ports", rows)


if __name__ == "__main__":
    main()
