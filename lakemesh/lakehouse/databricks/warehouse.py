"""A SQL warehouse through the Statement Execution API."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, WorkspaceUnavailable
from lakemesh.lakehouse.databricks.calls import WORKERS, SdkCalls
from lakemesh.lakehouse.databricks.cells import arrow_reader, parameters_of, read_rows, type_name
from lakemesh.lakehouse.databricks.translation import statement_error
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.sql_gate import read_statement
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    import httpx
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.sql import ExternalLink, ResultData, StatementParameterListItem, StatementResponse

INLINE_ROWS = 10_000
"""Results asked for with a higher row limit come as Arrow files by link: inline answers end at 25 MiB."""

SERVER_WAIT_SECONDS = 5
PATIENT_THREADS = WORKERS // 2
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.1, 2.0
CANCEL_SECONDS = 10.0
KNOWN_STATEMENTS = 1_000


class SqlWarehouse:
    """The SDK's HTTP time limit is not shorter than its retry budget (see `workspace.py`), so a statement is never
    sent twice because its answer was slow; one whose connection broke may be, hence changes are best idempotent."""

    def __init__(
        self, client: "WorkspaceClient", calls: SdkCalls, *, warehouse_id: str, http: "httpx.AsyncClient"
    ) -> None:
        self._api = client.statement_execution
        self._calls = calls
        self._warehouse_id = warehouse_id
        self._http = http
        self._cancelling: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._patient = 0
        self._written: LRUCache[str, str] = LRUCache(KNOWN_STATEMENTS)

    async def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = INLINE_ROWS,
        timeout_seconds: float = 60.0,
        read_only: bool = True,
        catalog: str | None = None,
        schema: str | None = None,
    ) -> QueryResult:
        statement = await asyncio.to_thread(self._readable, statement, parameters or {}) if read_only else statement
        deadline = current_deadline(timeout_seconds).sooner(timeout_seconds)
        request = Request(statement, parameters_of(parameters), row_limit, catalog, schema)
        answer = await self._submit(request, deadline, links=row_limit > INLINE_ROWS)
        try:
            answer = await self._finish(answer, deadline)
            if is_too_large(answer):  # inline answers end at 25 MiB, however few their rows are
                answer = await self._submit(request, deadline, links=True)
                answer = await self._finish(answer, deadline)
            return await self._result(answer, deadline)
        except TimeoutError:
            raise DeadlineExceeded(f"The statement took longer than {timeout_seconds} s.") from None
        finally:
            if not is_over(answer) and answer.statement_id:
                self._cancel_later(answer.statement_id)

    async def close(self) -> None:
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=CANCEL_SECONDS)

    def _readable(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """The statement written anew from its tree, which the gate has judged. Parsing costs a third of a millisecond
        and the same few statements come again and again, so what they are written as is kept."""
        from lakemesh.lakehouse.spark_dialect import render

        known = self._written.get(statement)
        if known is not None:
            return known
        parsed = read_statement(statement, parameters=parameters)
        written = parsed.render() if isinstance(parsed, Description) else render(parsed)
        if "IDENTIFIER" not in statement.upper():  # what that names depends on the parameters
            self._written[statement] = written
        return written

    async def _submit(self, request: "Request", deadline: Deadline, *, links: bool) -> "StatementResponse":
        """A thread waits for the statement only while no other statement is known to take long, and while half of the
        threads do not: a warehouse that starts would otherwise hold every thread, and with them the files and
        indexes."""
        from databricks.sdk.service import sql

        is_calm = not self._waiting and self._patient < PATIENT_THREADS
        patient = is_calm and deadline.remaining_seconds() > SERVER_WAIT_SECONDS
        wait = SERVER_WAIT_SECONDS if patient else 0

        def execute() -> sql.StatementResponse:
            return self._api.execute_statement(
                request.statement,
                self._warehouse_id,
                parameters=request.parameters,
                row_limit=request.row_limit,
                catalog=request.catalog,
                schema=request.schema,
                wait_timeout=f"{wait}s",
                on_wait_timeout=sql.ExecuteStatementRequestOnWaitTimeout.CONTINUE,
                disposition=sql.Disposition.EXTERNAL_LINKS if links else sql.Disposition.INLINE,
                format=sql.Format.ARROW_STREAM if links else sql.Format.JSON_ARRAY,
            )

        def cancel(answer: sql.StatementResponse) -> None:
            if answer.statement_id and not is_over(answer):
                self._api.cancel_execution(answer.statement_id)

        self._patient += patient
        try:
            return await self._calls.run(execute, deadline=deadline, when_late=cancel)
        finally:
            self._patient -= patient

    async def _finish(self, answer: "StatementResponse", deadline: Deadline) -> "StatementResponse":
        """Wait, without a thread, until the statement is over."""
        statement_id, pause = answer.statement_id or "", FIRST_POLL_SECONDS
        if is_over(answer):
            return answer
        self._waiting += 1
        try:
            return await self._poll(answer, statement_id, pause, deadline)
        finally:
            self._waiting -= 1

    async def _poll(
        self, answer: "StatementResponse", statement_id: str, pause: float, deadline: Deadline
    ) -> "StatementResponse":
        while not is_over(answer):
            async with deadline.timeout():
                await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
            answer = await self._calls.run(
                lambda: self._api.get_statement(statement_id), deadline=deadline, repeatable=True
            )
        return answer

    async def _result(self, answer: "StatementResponse", deadline: Deadline) -> QueryResult:
        from databricks.sdk.service.sql import StatementState

        status = answer.status
        if status is None or status.state is not StatementState.SUCCEEDED:
            error = status.error if status else None
            code = error.error_code.value if error and error.error_code else None
            raise statement_error(code, (error.message if error else None) or "The statement was cancelled.")
        manifest = answer.manifest
        columns = (manifest.schema.columns or []) if manifest and manifest.schema else []
        types = [type_name(column.type_text) for column in columns]
        rows: list[tuple[Any, ...]] = []
        chunk = answer.result
        while chunk is not None:
            rows += await self._rows(chunk, types, deadline)
            chunk = await self._next_chunk(answer.statement_id or "", chunk, deadline)
        return QueryResult(
            columns=[column.name or "" for column in columns],
            types=types,
            rows=rows,
            truncated=bool(manifest and manifest.truncated),
        )

    async def _rows(self, chunk: "ResultData", types: list[str], deadline: Deadline) -> list[tuple[Any, ...]]:
        if not chunk.external_links:
            return read_rows(types, chunk.data_array or [])
        rows: list[tuple[Any, ...]] = []
        for link in chunk.external_links:
            content = await self._fetch(link, deadline)
            rows += await self._calls.run(lambda content=content: rows_of_arrow(content, types), deadline=deadline)  # type: ignore[misc]
        return rows

    async def _fetch(self, link: "ExternalLink", deadline: Deadline) -> bytes:
        """The bytes behind a presigned link. It must not see our credentials, so this is not an SDK call."""
        import httpx

        try:
            async with deadline.timeout():
                answer = await self._http.get(link.external_link or "", headers=link.http_headers or {})
                answer.raise_for_status()
        except httpx.HTTPError as error:
            raise WorkspaceUnavailable(f"A result file cannot be read: {type(error).__name__}.") from error
        return answer.content

    async def _next_chunk(self, statement_id: str, chunk: "ResultData", deadline: Deadline) -> "ResultData | None":
        links = chunk.external_links
        following = links[-1].next_chunk_index if links else chunk.next_chunk_index
        if following is None:
            return None
        read: Callable[[], ResultData] = lambda: self._api.get_statement_result_chunk_n(statement_id, following)  # noqa: E731
        return await self._calls.run(read, deadline=deadline, repeatable=True)

    def _cancel_later(self, statement_id: str) -> None:
        async def cancel() -> None:
            deadline = Deadline.after(CANCEL_SECONDS)
            await self._calls.run(lambda: self._api.cancel_execution(statement_id), deadline=deadline)

        task = asyncio.ensure_future(cancel())
        self._cancelling.add(task)
        task.add_done_callback(self._cancelled)

    def _cancelled(self, task: "asyncio.Task[None]") -> None:
        self._cancelling.discard(task)
        if not task.cancelled():
            task.exception()  # a statement that could not be cancelled ends by itself


@dataclass(frozen=True, slots=True)
class Request:
    """A statement and what goes with it, however its result comes."""

    statement: str
    parameters: "list[StatementParameterListItem] | None"
    row_limit: int
    catalog: str | None = None
    schema: str | None = None


def is_too_large(answer: "StatementResponse") -> bool:
    """Whether it failed for nothing but the size of its result inline."""
    error = answer.status.error if answer.status else None
    return bool(error and "Inline byte limit exceeded" in (error.message or ""))


def is_over(answer: "StatementResponse") -> bool:
    from databricks.sdk.service.sql import StatementState

    state = answer.status.state if answer.status else None
    return state not in (StatementState.PENDING, StatementState.RUNNING)


def rows_of_arrow(content: bytes, types: "Sequence[str]") -> list[tuple[Any, ...]]:
    """The same Python values as the cells of an inline answer give: maps are dictionaries, moments are in UTC."""
    import pyarrow as pa

    table = pa.ipc.open_stream(content).read_all()
    columns = [column.to_pylist() for column in table.columns]
    for place, kind in enumerate(types):
        convert = arrow_reader(kind)
        if convert is not None:
            columns[place] = [None if value is None else convert(value) for value in columns[place]]
    return list(zip(*columns, strict=True))
