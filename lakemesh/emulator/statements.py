"""The Statement Execution API: statements run as tasks, which answers wait for or poll."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lakemesh.emulator.cells import cell, column, parameters_of
from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.sql import Sql, failure
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.warehouse import QueryResult

MAX_STATEMENTS = 1_000
CHUNK_ROWS = 5_000
LONGEST_SECONDS = 600.0
LINK_MINUTES = 15


@dataclass(slots=True, kw_only=True)
class Statement:
    """One statement, from the moment it was sent."""

    statement_id: str
    user: str
    external: bool
    arrow: bool
    task: asyncio.Task[QueryResult]
    link_key: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    async def task_over(self, timeout_seconds: float = LONGEST_SECONDS) -> None:
        """Wait for the end of the task, however it ends."""
        await asyncio.wait([self.task], timeout=timeout_seconds)


class Statements:
    """`start_seconds` is how long the warehouse takes to start when it is first asked."""

    def __init__(self, sql: Sql, *, start_seconds: float = 0.0) -> None:
        self._sql = sql
        self._known: OrderedDict[str, Statement] = OrderedDict()
        self.start_seconds = start_seconds
        self._starts_at: float | None = None

    @property
    def warehouse_state(self) -> str:
        if self._starts_at is None:
            return "STOPPED"
        return "RUNNING" if time.monotonic() >= self._starts_at else "STARTING"

    def submit(self, body: Mapping[str, Any], user: str) -> Statement:
        text = str(body.get("statement") or "")
        parameters = parameters_of(body.get("parameters") or ())
        row_limit = int(body.get("row_limit") or 1_000_000)
        statement = Statement(
            statement_id=f"01ef{secrets.token_hex(14)}",
            user=user,
            external=body.get("disposition") == "EXTERNAL_LINKS",
            arrow=body.get("format") == "ARROW_STREAM",
            task=asyncio.ensure_future(self._run(text, parameters, user, row_limit)),
        )
        self._known[statement.statement_id] = statement
        while len(self._known) > MAX_STATEMENTS:
            self._known.popitem(last=False)[1].task.cancel()
        return statement

    def close(self) -> None:
        """Stop what still runs."""
        for statement in self._known.values():
            statement.task.cancel()

    def get(self, statement_id: str, user: str | None = None) -> Statement:
        statement = self._known.get(statement_id)
        if statement is None or (user is not None and statement.user != user):
            raise not_found(f"The statement {statement_id!r}")
        return statement

    async def _run(self, text: str, parameters: Mapping[str, Any], user: str, row_limit: int) -> QueryResult:
        if self._starts_at is None:
            self._starts_at = time.monotonic() + self.start_seconds
        await asyncio.sleep(max(0.0, self._starts_at - time.monotonic()))
        return await self._sql.run(text, parameters, user=user, row_limit=row_limit, timeout_seconds=LONGEST_SECONDS)


def routes(statements: Statements) -> APIRouter:
    router = APIRouter()

    @router.post("/api/2.0/sql/statements")
    @router.post("/api/2.0/sql/statements/", include_in_schema=False)
    async def execute(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        if not body.get("warehouse_id"):
            raise ApiError(400, "warehouse_id is missing.")
        statement = statements.submit(body, request.state.user)
        wait = float(str(body.get("wait_timeout") or "10s").removesuffix("s"))
        await statement.task_over(wait)
        if not statement.task.done() and body.get("on_wait_timeout") == "CANCEL":
            statement.task.cancel()
            await statement.task_over()
        return answer(statement, str(request.base_url))

    @router.get("/api/2.0/sql/statements/{statement_id}")
    async def get_statement(statement_id: str, request: Request) -> dict[str, Any]:
        return answer(statements.get(statement_id, request.state.user), str(request.base_url))

    @router.get("/api/2.0/sql/statements/{statement_id}/result/chunks/{index}")
    async def get_chunk(statement_id: str, index: int, request: Request) -> dict[str, Any]:
        statement = statements.get(statement_id, request.state.user)
        if not statement.task.done() or statement.task.cancelled():
            raise ApiError(400, "The statement has no result.")
        return chunk(statement, statement.task.result(), index, str(request.base_url))

    @router.post("/api/2.0/sql/statements/{statement_id}/cancel")
    async def cancel(statement_id: str, request: Request) -> dict[str, Any]:
        statements.get(statement_id, request.state.user).task.cancel()
        return {}

    @router.get("/emulator/results/{statement_id}/{index}")
    async def result_file(statement_id: str, index: int, key: str, request: Request) -> Response:
        """What stands for cloud storage: it takes the link's own key, and no other credentials."""
        statement = statements.get(statement_id)
        if "authorization" in request.headers or not secrets.compare_digest(key, statement.link_key):
            raise ApiError(400, "Presigned links are fetched without credentials.")
        rows = slice_of(statement.task.result(), index)
        return Response(arrow_stream(rows), media_type="application/vnd.apache.arrow.stream")

    @router.get("/api/2.0/sql/warehouses")
    async def list_warehouses() -> dict[str, Any]:
        return {"warehouses": [warehouse("emulator", statements)]}

    @router.get("/api/2.0/sql/warehouses/{warehouse_id}")
    async def get_warehouse(warehouse_id: str) -> dict[str, Any]:
        return warehouse(warehouse_id, statements)

    return router


def warehouse(warehouse_id: str, statements: Statements) -> dict[str, Any]:
    return {
        "id": warehouse_id,
        "name": warehouse_id,
        "state": statements.warehouse_state,
        "warehouse_type": "PRO",
        "enable_serverless_compute": True,
    }


def answer(statement: Statement, base_url: str) -> dict[str, Any]:
    """The statement as it stands now."""
    body: dict[str, Any] = {"statement_id": statement.statement_id}
    if not statement.task.done():
        return body | {"status": {"state": "RUNNING"}}
    if statement.task.cancelled():
        return body | {"status": {"state": "CANCELED"}}
    error = statement.task.exception()
    if isinstance(error, LakemeshError | ApiError):
        return body | {"status": failure(error)}
    result = statement.task.result()
    return body | {
        "status": {"state": "SUCCEEDED"},
        "manifest": manifest(statement, result),
        "result": chunk(statement, result, 0, base_url),
    }


def manifest(statement: Statement, result: QueryResult) -> dict[str, Any]:
    columns = [
        column(name, kind, place) for place, (name, kind) in enumerate(zip(result.columns, result.types, strict=True))
    ]
    return {
        "format": "ARROW_STREAM" if statement.arrow else "JSON_ARRAY",
        "schema": {"column_count": len(columns), "columns": columns},
        "total_chunk_count": chunk_count(result),
        "total_row_count": len(result.rows),
        "truncated": result.truncated,
    }


def chunk(statement: Statement, result: QueryResult, index: int, base_url: str) -> dict[str, Any]:
    if not 0 <= index < chunk_count(result):
        raise ApiError(400, f"There is no chunk {index}.")
    rows = slice_of(result, index).rows
    place: dict[str, Any] = {"chunk_index": index, "row_offset": index * CHUNK_ROWS, "row_count": len(rows)}
    if index + 1 < chunk_count(result):
        internal = f"/api/2.0/sql/statements/{statement.statement_id}/result/chunks/{index + 1}"
        place |= {"next_chunk_index": index + 1, "next_chunk_internal_link": internal}
    if not statement.external:
        return place | {"data_array": [[cell(value) for value in row] for row in rows]}
    address = f"{base_url.rstrip('/')}/emulator/results/{statement.statement_id}/{index}?key={statement.link_key}"
    expiration = (datetime.now(UTC) + timedelta(minutes=LINK_MINUTES)).isoformat().replace("+00:00", "Z")
    return {"external_links": [place | {"external_link": address, "expiration": expiration}]}


def chunk_count(result: QueryResult) -> int:
    return max(1, -(-len(result.rows) // CHUNK_ROWS))


def slice_of(result: QueryResult, index: int) -> QueryResult:
    rows = result.rows[index * CHUNK_ROWS : (index + 1) * CHUNK_ROWS]
    return QueryResult(columns=result.columns, types=result.types, rows=rows)


def arrow_stream(result: QueryResult) -> bytes:
    import pyarrow as pa

    from lakemesh.lakehouse.arrow import arrow_type

    arrays = [
        pa.array([row[place] for row in result.rows], type=arrow_type(kind)) for place, kind in enumerate(result.types)
    ]
    table = pa.table(arrays, names=list(result.columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
