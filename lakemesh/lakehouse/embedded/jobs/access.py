"""How a job reaches SQL: the embedded warehouse in its own process, or the API of the workspace it runs on."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakemesh.errors import AgentFailed, InvalidRequest
from lakemesh.lakehouse.embedded.jobs.sql import Run
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    import httpx

STATEMENT_SECONDS = 3_600.0
ROWS = 10_000
POLL_SECONDS = 0.5
ENDED = ("COMPLETED", "FAILED", "CANCELED")
STATEMENTS = "/api/2.0/sql/statements"


async def open_sql(order: Mapping[str, Any], stack: AsyncExitStack) -> Run:
    """Statements with named parameters, until the stack is closed."""
    if order["api"] is not None:
        import httpx

        host, token = order["api"]
        headers = {"Authorization": f"Bearer {token}"}
        client = httpx.AsyncClient(base_url=host, headers=headers, timeout=60.0, trust_env=False)
        return partial(asked, await stack.enter_async_context(client))
    from lakemesh.lakehouse.embedded.workspace import open_workspace

    workspace = await open_workspace(Path(order["home"]))
    stack.push_async_callback(workspace.close)
    return partial(workspace.warehouse.query, read_only=False, row_limit=ROWS, timeout_seconds=STATEMENT_SECONDS)


async def asked(client: "httpx.AsyncClient", statement: str, parameters: Mapping[str, Any]) -> QueryResult:
    """By the Statement Execution API. Raises `InvalidRequest` with what it says of a statement that failed."""
    body = {
        "statement": statement,
        "warehouse_id": "emulator",
        "row_limit": ROWS,
        "parameters": [{"name": name, "value": str(value)} for name, value in parameters.items()],
    }
    answer = await client.post(STATEMENTS, json=body)
    found = said(answer)
    try:
        while found["status"]["state"] in ("PENDING", "RUNNING"):
            await asyncio.sleep(POLL_SECONDS)
            found = said(await client.get(f"{STATEMENTS}/{found['statement_id']}"))
    except asyncio.CancelledError:
        await asyncio.shield(client.post(f"{STATEMENTS}/{found['statement_id']}/cancel"))
        raise
    if found["status"]["state"] != "SUCCEEDED":
        raise InvalidRequest(found["status"].get("error", {}).get("message", "The statement did not succeed."))
    columns = found["manifest"]["schema"].get("columns") or []
    rows = found.get("result", {}).get("data_array") or []
    return QueryResult(
        columns=[column["name"] for column in columns],
        types=[column["type_text"] for column in columns],
        rows=[tuple(row) for row in rows],
    )


async def update_pipeline(api: tuple[str, str], asked_for: Mapping[str, Any]) -> None:
    """By the Pipelines API, to its end. Raises `AgentFailed` for an update that did not complete."""
    import httpx

    host, token = api
    selection = {name: value for name, value in asked_for.items() if name != "pipeline_id" and value}
    place = f"/api/2.0/pipelines/{asked_for['pipeline_id']}"
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=host, headers=headers, timeout=60.0, trust_env=False) as client:
        update = said(await client.post(f"{place}/updates", json=selection))["update_id"]
        try:
            state = ""
            while state not in ENDED:
                await asyncio.sleep(POLL_SECONDS)
                state = said(await client.get(f"{place}/updates/{update}"))["update"]["state"]
        except asyncio.CancelledError:
            await asyncio.shield(client.post(f"{place}/stop"))
            raise
    if state != "COMPLETED":
        raise AgentFailed(f"The update {update} is {state}; the pipeline's events say why.")


def said(answer: "httpx.Response") -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    if answer.status_code >= 400:
        raise InvalidRequest(str(found.get("message", "The workspace refused the statement.")))
    return found
