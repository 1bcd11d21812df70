"""Delta tables by delta-rs, in a folder each."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from lakemesh.errors import InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.arrow import arrow_schema, fit, sql_type
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import AppTransaction, ArrowStream, Column, TableInfo, TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

T = TypeVar("T")

REOPEN_AFTER_COMMITS = 100


class DeltaTables:
    """One writer per table: delta-rs resolves conflicts by failing, so writes to a table wait for each other.

    Handles are kept open, since opening one reads the log, and opened anew after every `REOPEN_AFTER_COMMITS`
    commits, since a handle gets slower with every commit behind it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._handles: dict[str, DeltaTable] = {}
        self._commits: dict[str, int] = defaultdict(int)

    async def create(self, spec: TableSpec) -> None:
        await self._write(spec.name, lambda: self._create(spec))

    async def append(self, name: str, rows: ArrowStream, *, transaction: AppTransaction | None = None) -> bool:
        return await self._write(name, lambda: self._append(name, rows, transaction))

    async def applied_version(self, name: str, app_id: str) -> int | None:
        return await self._write(name, lambda: self._open(name, fresh=True).transaction_version(app_id))

    async def describe(self, name: str) -> TableInfo:
        return await asyncio.to_thread(self._translate, name, lambda: self._describe(name))

    async def list_tables(self, schema: str) -> list[str]:
        catalog, schema_name = split_name(schema, levels=2)
        folder = self._root / catalog / schema_name

        def found() -> list[str]:
            names = (f"{catalog}.{schema_name}.{table.name}" for table in folder.glob("*/"))
            return sorted(name for name in names if self.exists(name))

        return await asyncio.to_thread(found)

    async def delete_rows(self, name: str, predicate: str) -> int:
        def delete() -> int:
            self._commits[name] += 1
            return int(self._open(name).delete(predicate)["num_deleted_rows"] or 0)

        return await self._write(name, delete)

    async def rewrite(self, name: str, select: Callable[[], Awaitable["pa.Table | None"]]) -> None:
        """Replace the table's rows, in one commit, by what `select` makes of them while nobody else writes; None
        leaves them as they are."""

        def overwrite(rows: "pa.Table") -> None:
            from deltalake import write_deltalake

            table = self._open(name, fresh=True)
            write_deltalake(table, fit(rows, pyarrow_schema(table), name), mode="overwrite")
            self._commits[name] += 1

        async with self._locks[name]:
            rows = await select()
            if rows is not None:
                await self._run_alone(name, lambda: overwrite(rows))

    async def compact(self, name: str) -> Mapping[str, Any]:
        def compact() -> Mapping[str, Any]:
            metrics: Mapping[str, Any] = self._open(name, fresh=True).optimize.compact()
            return metrics

        return await self._write(name, compact)

    async def vacuum(self, name: str, *, retention_hours: float) -> int:
        def vacuum() -> int:
            table = self._open(name, fresh=True)
            return len(table.vacuum(int(retention_hours), dry_run=False, enforce_retention_duration=False))

        return await self._write(name, vacuum)

    async def drop(self, name: str) -> None:
        def drop() -> None:
            self._open(name)
            self._handles.pop(name, None)
            shutil.rmtree(self.folder(name))

        await self._write(name, drop)

    def folder(self, name: str) -> Path:
        return self._root.joinpath(*split_name(name))

    def exists(self, name: str) -> bool:
        """Whether a first commit is there; a process killed while it made the table leaves a log without one."""
        return any((self.folder(name) / "_delta_log").glob("*.json"))

    def snapshot(self, name: str) -> "DeltaTable":
        """The newest version, for a reader in a worker thread. Raises `NotFound`."""
        return self._translate(name, lambda: self._new_handle(name))

    async def _write(self, name: str, action: Callable[[], T]) -> T:
        """Run `action` in a worker thread, alone on its table."""
        async with self._locks[name]:
            return await self._run_alone(name, action)

    async def _run_alone(self, name: str, action: Callable[[], T]) -> T:
        """A caller that is cancelled waits for `action` all the same: its thread cannot be stopped, and the next
        writer must not meet it."""
        work = asyncio.ensure_future(asyncio.to_thread(self._translate, name, action))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _translate(self, name: str, action: Callable[[], T]) -> T:
        """Run `action` with delta-rs' exceptions as ours."""
        from deltalake.exceptions import DeltaError, SchemaMismatchError, TableNotFoundError

        try:
            return action()
        except TableNotFoundError:
            raise NotFound(f"There is no table {name!r:.100}.") from None
        except SchemaMismatchError as error:
            raise InvalidRequest(f"The rows do not fit the table {name!r:.100}: {error}") from None
        except (DeltaError, OSError) as error:
            self._handles.pop(name, None)
            raise WorkspaceUnavailable(f"The table {name!r:.100} cannot be used: {error}") from error
        except BaseException as error:
            # A panic in delta-rs is no `Exception`, and would end the event loop instead of the request.
            if type(error).__name__ != "PanicException":
                raise
            self._handles.pop(name, None)
            raise WorkspaceUnavailable(f"The table {name!r:.100} cannot be used: delta-rs failed.") from error

    def _create(self, spec: TableSpec) -> None:
        from deltalake import DeltaTable

        if self.exists(spec.name):
            return
        check_columns(spec)
        # delta-rs refuses properties it does not know, such as `otel.schemaVersion`.
        known = {key: value for key, value in spec.properties.items() if key.startswith("delta.")}
        self._handles[spec.name] = DeltaTable.create(
            str(self.folder(spec.name)),
            arrow_schema(spec.columns),
            partition_by=list(spec.partition_by) or None,
            description=spec.comment,
            configuration=known or None,
        )

    def _append(self, name: str, rows: ArrowStream, transaction: AppTransaction | None) -> bool:
        import pyarrow as pa
        from deltalake import CommitProperties, Transaction, write_deltalake

        # A commit may have landed without this process learning of it, so a transaction asks a fresh handle.
        table = self._open(name, fresh=transaction is not None)
        properties = None
        if transaction is not None:
            applied = table.transaction_version(transaction.app_id)
            if applied is not None and applied >= transaction.version:
                return False
            properties = CommitProperties(app_transactions=[Transaction(transaction.app_id, transaction.version)])
        fitted = fit(pa.table(rows), pyarrow_schema(table), name)
        write_deltalake(table, fitted, mode="append", commit_properties=properties)
        self._commits[name] += 1
        return True

    def _open(self, name: str, *, fresh: bool = False) -> "DeltaTable":
        handle = self._handles.get(name)
        if handle is None or self._commits[name] >= REOPEN_AFTER_COMMITS:
            handle = self._handles[name] = self._new_handle(name)
            self._commits[name] = 0
        elif fresh:
            handle.update_incremental()
        return handle

    def _new_handle(self, name: str) -> "DeltaTable":
        from deltalake import DeltaTable

        if not self.exists(name):
            raise NotFound(f"There is no table {name!r:.100}.")
        return DeltaTable(str(self.folder(name)))

    def _describe(self, name: str) -> TableInfo:
        import pyarrow as pa

        table = self._new_handle(name)
        sizes = pa.table(table.get_add_actions())["size_bytes"].to_pylist()
        return TableInfo(
            name=name,
            columns=columns_of(table),
            comment=table.metadata().description,
            version=table.version(),
            file_count=len(sizes),
            size_bytes=sum(sizes),
        )


def check_columns(spec: TableSpec) -> None:
    """Raises `InvalidRequest` for what Delta would refuse only after the table's log was begun."""
    names = [column.name.lower() for column in spec.columns]
    if not names:
        raise InvalidRequest(f"The table {spec.name!r:.100} needs at least one column.")
    if len(set(names)) < len(names):
        raise InvalidRequest(f"The table {spec.name!r:.100} has two columns of one name; case makes no difference.")
    unknown = [name for name in spec.partition_by if name.lower() not in names]
    if unknown:
        raise InvalidRequest(f"The table {spec.name!r:.100} has no column {unknown[0]!r:.100} to partition by.")


def pyarrow_schema(table: "DeltaTable") -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(table.schema().to_arrow())


def columns_of(table: "DeltaTable") -> list[Column]:
    return [Column(field.name, sql_type(field.type)) for field in pyarrow_schema(table)]


def data_files(table: "DeltaTable", folder: Path) -> list[str]:
    """The table's Parquet files on disk. The log holds their paths percent-encoded, relative to the folder."""
    import pyarrow as pa

    return [str(folder / unquote(path)) for path in pa.table(table.get_add_actions())["path"].to_pylist()]
