"""A SQL warehouse: DuckDB over the Delta tables, spoken to in the Databricks dialect."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, InvalidRequest, PermissionDenied, WorkspaceUnavailable
from lakemesh.lakehouse.embedded.catalog import Catalog, StoredTable
from lakemesh.lakehouse.embedded.changes import change
from lakemesh.lakehouse.embedded.dialect import to_duckdb
from lakemesh.lakehouse.statements import full_name, parse_statement, replace_tables, require_reading
from lakemesh.lakehouse.tables import Column
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp

T = TypeVar("T")
Fetch: TypeAlias = "Callable[[duckdb.DuckDBPyConnection, str, dict[str, Any]], T]"

TYPE_NAMES = {'"NULL"': "VOID", "HUGEINT": "BIGINT", "UBIGINT": "BIGINT", "JSON": "STRING", "UUID": "STRING"}
"""DuckDB's types that Databricks does not have, as the ones that it has in the same place."""

MAX_VIEW_DEPTH = 16
WORKERS = 4


class DuckDBWarehouse:
    """Reads go to DuckDB, with every table bound to the Parquet files of its newest Delta version; writes go to
    delta-rs, which keeps the log. DuckDB itself may read nothing but the tables' folder."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="warehouse")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._connecting = threading.Lock()
        self._runs: set[Run] = set()

    async def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = 10_000,
        timeout_seconds: float = 60.0,
        read_only: bool = True,
    ) -> QueryResult:
        from sqlglot import exp

        parsed = parse_statement(statement)
        if read_only:
            require_reading(parsed)
        deadline = Deadline.after(timeout_seconds)
        values = dict(parameters or {})
        try:
            async with deadline.timeout():
                if isinstance(parsed, exp.Query):
                    return await self._on_cursor(parsed, values, partial(fetch_rows, row_limit))
                if isinstance(parsed, exp.Describe):
                    return await self._describe(described_table(parsed))
                if isinstance(parsed, exp.Command) and str(parsed.this).upper() == "SHOW":
                    return await asyncio.to_thread(self._catalog.show, str(parsed.expression))
                return await change(parsed, self._catalog, lambda query: self.query_arrow(query, values))
        except TimeoutError:
            raise DeadlineExceeded(f"The statement took longer than {timeout_seconds} s.") from None

    async def _describe(self, name: str) -> QueryResult:
        """A row per column, as Databricks answers, of tables and of views."""
        from sqlglot import exp

        empty = exp.select("*").from_(exp.to_table(name, dialect="databricks")).limit(0)
        result = await self._on_cursor(empty, {}, partial(fetch_rows, 0))
        rows = [(column, kind.lower(), None) for column, kind in zip(result.columns, result.types, strict=True)]
        return QueryResult(columns=["col_name", "data_type", "comment"], types=["STRING"] * 3, rows=rows)

    async def query_arrow(self, query: "exp.Expr", parameters: dict[str, Any]) -> "pa.Table":
        """The rows of a parsed query as one Arrow table."""
        return await self._on_cursor(query, parameters, fetch_arrow)

    def close(self) -> None:
        """Stop what runs, wait for it to stop, and close the database. Blocks."""
        for run in list(self._runs):
            run.stop()
        self._threads.shutdown(cancel_futures=True)
        if self._connection is not None:
            self._connection.close()

    async def _on_cursor(self, query: "exp.Expr", parameters: dict[str, Any], fetch: "Fetch[T]") -> T:
        """Run the query on a cursor of its own in a worker thread; whoever stops waiting also stops the query."""
        run = Run()
        self._runs.add(run)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._execute, query, parameters, fetch, run)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            run.stop()
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            work.add_done_callback(lambda _: self._runs.discard(run))

    def _execute(
        self,
        query: "exp.Expr",
        parameters: dict[str, Any],
        fetch: "Fetch[T]",
        run: "Run",
    ) -> T:
        import duckdb

        bound = replace_tables(query.copy(), lambda name: self._source(name, 0))
        values = {name: parameter(parameters, name) for name in placeholders(bound)}
        text = to_duckdb(bound)
        cursor = self._connect().cursor()
        run.begin(cursor)
        try:
            return fetch(cursor, text, values)
        except duckdb.InterruptException:
            raise DeadlineExceeded("The statement was stopped.") from None
        except duckdb.PermissionException as error:
            raise PermissionDenied(first_line(error)) from None
        except duckdb.IOException as error:
            # A file of the version that is read was vacuumed, or its table dropped.
            raise WorkspaceUnavailable(f"A table changed while it was read; ask again. {first_line(error)}") from None
        except duckdb.Error as error:
            raise InvalidRequest(first_line(error)) from None
        finally:
            run.end()
            cursor.close()

    def _source(self, name: str, depth: int) -> "exp.Expr":
        """What stands for a table in DuckDB: its files, its view's query, or an empty selection of its columns."""
        from sqlglot import exp

        if depth > MAX_VIEW_DEPTH:
            raise InvalidRequest(f"The view {name!r} is defined through too many others, or through itself.")
        view = self._catalog.view(name)
        if view is not None:
            return exp.Subquery(this=replace_tables(view, lambda below: self._source(below, depth + 1)))
        return table_source(self._catalog.table(name))

    def _connect(self) -> "duckdb.DuckDBPyConnection":
        """The one database, locked down before it sees the first statement."""
        import duckdb

        with self._connecting:
            if self._connection is None:
                connection = duckdb.connect(":memory:")
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("SET autoinstall_known_extensions = false")
                connection.execute("SET autoload_known_extensions = false")
                connection.execute("SET allowed_directories = [?]", [f"{self._catalog.tables_root}/"])
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
                self._connection = connection
            return self._connection


class Run:
    """A statement that can be stopped from another thread, also before it has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._stopped = False

    def begin(self, cursor: "duckdb.DuckDBPyConnection") -> None:
        with self._lock:
            self._cursor = cursor
            if self._stopped:
                raise DeadlineExceeded("The statement was stopped before it began.")

    def end(self) -> None:
        with self._lock:
            self._cursor = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._cursor is not None:
                self._cursor.interrupt()


def fetch_arrow(cursor: "duckdb.DuckDBPyConnection", text: str, values: dict[str, Any]) -> "pa.Table":
    return cursor.sql(text, params=values).to_arrow_table()


def fetch_rows(row_limit: int, cursor: "duckdb.DuckDBPyConnection", text: str, values: dict[str, Any]) -> QueryResult:
    rows = cursor.execute(text, values).fetchmany(row_limit + 1)
    description = cursor.description or []
    return QueryResult(
        columns=[column[0] for column in description],
        types=[databricks_type(str(column[1])) for column in description],
        rows=rows[:row_limit],
        truncated=len(rows) > row_limit,
    )


def table_source(table: StoredTable) -> "exp.Expr":
    """What DuckDB reads for the table. Partition columns come out of the files' paths as text, after the others;
    they get their types and places back."""
    from sqlglot import exp

    def column(definition: Column, value: "exp.Expr") -> "exp.Expr":
        cast = exp.cast(value, definition.type, dialect="databricks")
        return exp.alias_(cast, definition.name, quoted=True)

    if not table.files:
        nulls = [column(definition, exp.null()) for definition in table.columns]
        return exp.Subquery(this=exp.select(*nulls).where(exp.false()))
    arguments: list[exp.Expr] = [exp.Array(expressions=[exp.Literal.string(file) for file in table.files])]
    if not table.partition_by:
        return exp.Table(this=exp.Anonymous(this="read_parquet", expressions=arguments))
    arguments.append(exp.EQ(this=exp.to_identifier("hive_partitioning"), expression=exp.true()))
    arguments.append(exp.EQ(this=exp.to_identifier("hive_types_autocast"), expression=exp.false()))
    columns = [
        column(definition, exp.column(definition.name, quoted=True))
        if definition.name in table.partition_by
        else exp.column(definition.name, quoted=True)
        for definition in table.columns
    ]
    files = exp.Table(this=exp.Anonymous(this="read_parquet", expressions=arguments))
    return exp.Subquery(this=exp.select(*columns).from_(files))


def described_table(statement: "exp.Expr") -> str:
    from sqlglot import exp

    table = statement.find(exp.Table)
    if table is None or statement.args.get("style") not in (None, "EXTENDED", "FORMATTED"):
        raise InvalidRequest("Ask DESCRIBE TABLE catalog.schema.table.")
    return full_name(table)


def placeholders(statement: "exp.Expr") -> set[str]:
    from sqlglot import exp

    return {placeholder.name for placeholder in statement.find_all(exp.Placeholder) if placeholder.name}


def parameter(parameters: Mapping[str, Any], name: str) -> Any:
    if name not in parameters:
        raise InvalidRequest(f"The statement needs a value for its parameter :{name}.")
    return parameters[name]


def databricks_type(duckdb_type: str) -> str:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if duckdb_type in TYPE_NAMES:
        return TYPE_NAMES[duckdb_type]
    try:
        return exp.DataType.build(duckdb_type, dialect="duckdb").sql("databricks")
    except SqlglotError:
        return duckdb_type


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["The statement failed."])[0]
