"""The Statement Execution API: statements run as tasks, which answers wait for or poll."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lakemesh.emulator.cells import cell, column, parameters_of
from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.sql import Sql, failure
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.embedded.catalog import Session
from lakemesh.lakehouse.warehouse import QueryResult

WAREHOUSE = "emulator"
MAX_STATEMENT_BYTES = 16 * 2**20
INLINE_BYTES = 26_214_400
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
    byte_limit: int | None = None
    task: asyncio.Task[QueryResult]
    found: QueryResult | None = None
    link_key: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def result(self) -> QueryResult:
        """What the task found, within the statement's bounds; they are computed once."""
        if self.found is None:
            self.found = bounded(self, self.task.result())
        return self.found

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
            byte_limit=int(body["byte_limit"]) if body.get("byte_limit") else None,
            task=asyncio.ensure_future(self._run(text, parameters, user, row_limit, session_of(body))),
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

    async def _run(
        self, text: str, parameters: Mapping[str, Any], user: str, row_limit: int, session: Session
    ) -> QueryResult:
        if self._starts_at is None:
            self._starts_at = time.monotonic() + self.start_seconds
        await asyncio.sleep(max(0.0, self._starts_at - time.monotonic()))
        return await self._sql.run(
            text, parameters, user=user, row_limit=row_limit, timeout_seconds=LONGEST_SECONDS, session=session
        )


def routes(statements: Statements) -> APIRouter:
    router = APIRouter()

    @router.post("/api/2.0/sql/statements")
    @router.post("/api/2.0/sql/statements/", include_in_schema=False)
    async def execute(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        if not body.get("warehouse_id"):
            raise ApiError(400, "warehouse_id is missing.")
        require_known(body)
        wait = wait_seconds(body)
        statement = statements.submit(body, request.state.user)
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
        return chunk(statement, statement.result(), index, str(request.base_url))

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
        rows = slice_of(statement.result(), index)
        return Response(arrow_stream(rows), media_type="application/vnd.apache.arrow.stream")

    @router.get("/api/2.0/sql/warehouses")
    async def list_warehouses() -> dict[str, Any]:
        return {"warehouses": [warehouse(WAREHOUSE, statements)]}

    @router.get("/api/2.0/sql/warehouses/{warehouse_id}")
    async def get_warehouse(warehouse_id: str) -> dict[str, Any]:
        if warehouse_id != WAREHOUSE:
            raise not_found(f"The warehouse {warehouse_id!r:.100}")
        return warehouse(warehouse_id, statements)

    return router


def wait_seconds(body: Mapping[str, Any]) -> float:
    """`0s`, or 5 to 50 seconds (SDK 0.156, `ExecuteStatementRequest.wait_timeout`: "set between 5-50 seconds ...; when
    set to `0s`, the call is asynchronous")."""
    text = str(body.get("wait_timeout") or "10s")
    number = text.removesuffix("s")
    if not text.endswith("s") or not number.isdecimal() or not (int(number) == 0 or 5 <= int(number) <= 50):
        raise ApiError(400, f"wait_timeout must be 0s, or between 5s and 50s; it is {text!r:.40}.")
    return float(number)


def require_known(body: Mapping[str, Any]) -> None:
    """What the platform refuses before a statement runs (SDK 0.156, `StatementExecutionAPI.execute_statement`): formats
    other than JSON_ARRAY inline ("supported only with EXTERNAL_LINKS disposition"), texts beyond 16 MiB, warehouses
    that are not there. CSV is not emulated, so it is refused rather than answered as something else."""
    disposition, form = body.get("disposition") or "INLINE", body.get("format") or "JSON_ARRAY"
    if disposition not in ("INLINE", "EXTERNAL_LINKS") or form not in ("JSON_ARRAY", "ARROW_STREAM", "CSV"):
        raise ApiError(400, f"There is no disposition {disposition!r:.40} with the format {form!r:.40}.")
    if disposition == "INLINE" and form != "JSON_ARRAY":
        raise ApiError(400, f"The format {form} is supported only with the EXTERNAL_LINKS disposition.")
    if form == "CSV" or (form == "JSON_ARRAY" and disposition == "EXTERNAL_LINKS"):
        raise ApiError(501, f"The emulator has no results in the format {form} by EXTERNAL_LINKS.")
    if len(str(body.get("statement") or "").encode()) > MAX_STATEMENT_BYTES:
        raise ApiError(400, "The statement is longer than 16 MiB.")
    if body.get("warehouse_id") != WAREHOUSE:
        raise not_found(f"The warehouse {body.get('warehouse_id')!r:.100}")
    wait_seconds(body)


def session_of(body: Mapping[str, Any]) -> Session:
    """The request's `catalog` and `schema`, which shorter names stand in."""
    return Session(body.get("catalog") or None, body.get("schema") or None)


def bounded(statement: Statement, result: QueryResult) -> QueryResult:
    """The rows that fit `byte_limit`. Raises `ApiError` for more than 25 MiB inline, with the platform's sentence."""
    sizes = [sum(len(text) for value in row if (text := cell(value)) is not None) for row in result.rows]
    if statement.byte_limit is not None:
        kept, total = 0, 0
        for size in sizes:
            total += size
            if total > statement.byte_limit:
                break
            kept += 1
        if kept < len(result.rows):
            result = replace(result, rows=result.rows[:kept], truncated=True)
            sizes = sizes[:kept]
    if not statement.external and sum(sizes) > INLINE_BYTES:
        raise ApiError(
            400,
            "Inline byte limit exceeded. Statements executed with disposition=INLINE can have a result size of at most"
            f" {INLINE_BYTES} bytes. Please execute the statement with disposition=EXTERNAL_LINKS.",
        )
    return result


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
    try:
        result = statement.result()
    except ApiError as fault:
        return body | {"status": failure(fault)}
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
