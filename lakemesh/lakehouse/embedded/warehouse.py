"""A SQL warehouse: DuckDB over the Delta tables, spoken to in the Databricks dialect."""

import asyncio
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, InvalidRequest, PermissionDenied, WorkspaceUnavailable
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.embedded.catalog import Catalog, Session
from lakemesh.lakehouse.embedded.changes import change, command, is_command
from lakemesh.lakehouse.embedded.describe import described
from lakemesh.lakehouse.embedded.results import read_arrow, read_rows
from lakemesh.lakehouse.sql_gate import read_statement
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.scope import current_scope

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp

    from lakemesh.lakehouse.embedded.sql.scopes import Relation

T = TypeVar("T")
Fetch: TypeAlias = "Callable[[pa.RecordBatchReader, Relation, Run], T]"

WORKERS = 8
STATEMENTS_PER_USER = 3
"""Of the statements that agents send for one user, so many run at once; the others wait, within their deadline."""
SYSTEM_WORKERS = 3
"""For what the server asks for itself: telemetry, memory, console, jobs."""
MEMORY = "1GiB"
DISK = "8GiB"


class DuckDBWarehouse:
    """Reads go to DuckDB, with every table bound to the Parquet files of one Delta version; writes go to delta-rs,
    which keeps the log. DuckDB itself may read nothing but the tables' folder, and has bounded memory: what needs more
    goes through `scratch`, also bounded."""

    def __init__(self, catalog: Catalog, *, scratch: Path) -> None:
        self._catalog = catalog
        self._scratch = scratch
        self._for_agents = ThreadPoolExecutor(WORKERS, thread_name_prefix="warehouse")
        self._for_server = ThreadPoolExecutor(SYSTEM_WORKERS, thread_name_prefix="warehouse-system")
        self._shares: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(STATEMENTS_PER_USER))
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
        catalog: str | None = None,
        schema: str | None = None,
    ) -> QueryResult:
        from sqlglot import exp

        deadline = Deadline.after(timeout_seconds)
        session = Session(catalog, schema)
        values = dict(parameters or {})
        try:
            async with deadline.timeout():
                if not read_only and is_command(statement):
                    return await command(statement, self._catalog, session)
                parsed = await asyncio.to_thread(read_statement, statement, read_only=read_only, parameters=values)
                if isinstance(parsed, exp.Query | exp.Values):
                    return await self._run(parsed, values, session, partial(fetch_rows, row_limit), row_limit)
                if isinstance(parsed, Description):
                    return await described(parsed, self._catalog, session, partial(self._columns, session=session))
                select = partial(self.query_arrow, parameters=values, session=session)
                return await change(parsed, self._catalog, session, select)
        except TimeoutError:
            raise DeadlineExceeded(f"The statement took longer than {timeout_seconds} s.") from None

    async def query_arrow(self, query: "exp.Expr", parameters: dict[str, Any], session: Session) -> "pa.Table":
        """The rows of a parsed query as one Arrow table."""
        return await self._run(query, parameters, session, fetch_arrow, None)

    async def _columns(self, query: "exp.Expr", session: Session) -> QueryResult:
        """What columns a query has, without its rows."""
        return await self._run(query, {}, session, partial(fetch_rows, 0), 0)

    def close(self) -> None:
        """Stop what runs, wait for it to stop, and close the database. Blocks."""
        for run in list(self._runs):
            run.stop()
        for threads in (self._for_agents, self._for_server):
            threads.shutdown(cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _run(
        self, query: "exp.Expr", parameters: dict[str, Any], session: Session, fetch: "Fetch[T]", limit: int | None
    ) -> T:
        """In a thread of the server's, or of the agents' with this user's share of them."""
        scope = current_scope()
        task = partial(self._execute, query, parameters, session, fetch, limit)
        if scope is None:
            return await self._in_thread(self._for_server, task)
        share = self._shares[scope.identity.user]
        async with share:
            return await self._in_thread(self._for_agents, task)

    async def _in_thread(self, threads: ThreadPoolExecutor, task: "Callable[[Run], T]") -> T:
        """Whoever stops waiting also stops the query."""
        run = Run()
        self._runs.add(run)
        work = asyncio.get_running_loop().run_in_executor(threads, task, run)
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
        session: Session,
        fetch: "Fetch[T]",
        limit: int | None,
        run: "Run",
    ) -> T:
        import duckdb

        from lakemesh.lakehouse.embedded.sql.faults import fault_of
        from lakemesh.lakehouse.embedded.sql.queries import Compiler
        from lakemesh.lakehouse.embedded.sql.scopes import Scope

        cursor = self._connect().cursor()
        run.begin(cursor)
        try:
            compiler = Compiler(partial(self._catalog.relation, session=session, cursor=cursor), parameters)
            found = compiler.query(query, Scope())
            text = found.sql if limit is None else f"SELECT * FROM ({found.sql}) LIMIT {limit + 1}"
            # A parameter that is a path or a format is compiled in, and DuckDB takes none that its text does not name.
            named = cursor.extract_statements(text)[0].named_parameters if compiler.used_parameters else ()
            used = {name: parameters[name] for name in named}
            # A relation streams its rows but is planned twice, which counts where a few rows are asked for.
            result = cursor.sql(text, params=used) if limit is None else cursor.execute(text, used)
            return fetch(result.to_arrow_reader(100_000), found, run)
        except RecursionError:
            raise InvalidRequest("The statement is nested too deeply.") from None
        except duckdb.InterruptException:
            raise DeadlineExceeded("The statement was stopped.") from None
        except duckdb.PermissionException as error:
            raise PermissionDenied(str(error).splitlines()[0]) from None
        except duckdb.IOException as error:
            # A file of the version that is read was vacuumed, or its table dropped.
            reason = str(error).splitlines()[0]
            raise WorkspaceUnavailable(f"A table changed while it was read; ask again. {reason}") from None
        except (duckdb.Error, OSError, ValueError) as error:
            run.proceed()
            raise fault_of(error) from None
        finally:
            run.end()
            cursor.close()

    def _connect(self) -> "duckdb.DuckDBPyConnection":
        """The one database, locked down before it sees the first statement."""
        import duckdb

        from lakemesh.lakehouse.embedded.sql.udfs import register

        with self._connecting:
            if self._connection is None:
                warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)
                connection = duckdb.connect(":memory:")
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("SET autoinstall_known_extensions = false")
                connection.execute("SET autoload_known_extensions = false")
                connection.execute(f"SET memory_limit = '{MEMORY}'")
                connection.execute("SET temp_directory = ?", [str(self._scratch)])
                connection.execute(f"SET max_temp_directory_size = '{DISK}'")
                connection.execute("SET allowed_directories = [?]", [f"{self._catalog.tables_root}/"])
                register(connection)
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
        self.proceed()

    def proceed(self) -> None:
        """Raises `DeadlineExceeded` once it was stopped."""
        if self._stopped:
            raise DeadlineExceeded("The statement was stopped.")

    def end(self) -> None:
        with self._lock:
            self._cursor = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._cursor is not None:
                self._cursor.interrupt()


def fetch_arrow(batches: "pa.RecordBatchReader", found: "Relation", run: Run) -> "pa.Table":
    table = read_arrow(batches, [kind for _, kind in found.columns], [name for name, _ in found.columns])
    run.proceed()
    return table


def fetch_rows(row_limit: int, batches: "pa.RecordBatchReader", found: "Relation", run: Run) -> QueryResult:
    kinds = [kind for _, kind in found.columns]
    rows, truncated = read_rows(batches, kinds, row_limit, run.proceed)
    return QueryResult(
        columns=[name for name, _ in found.columns],
        types=[kind.text for kind in kinds],
        rows=rows,
        truncated=truncated,
    )
