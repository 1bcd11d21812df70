"""Delta tables by delta-rs, in a folder each."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import structlog

from lakemesh.errors import InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.arrow import DEFAULT, GENERATED, arrow_schema, fit, sql_type
from lakemesh.lakehouse.embedded.compaction import compact
from lakemesh.lakehouse.embedded.durability import log_file, removed_files, sync_commits, sync_new_table
from lakemesh.lakehouse.embedded.log_cleanup import clean_log, make_checkpoint, newest_checkpoint
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import AppTransaction, ArrowStream, Column, TableInfo, TableSpec
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

logger = structlog.get_logger(__name__)

T = TypeVar("T")

REOPEN_AFTER_COMMITS = 20
"""Every commit reads again what the log holds since its last checkpoint: with a hundred commits of ten rows behind it
the next one costs 60 ms of processor time, with twenty 12."""
LOCK_SECONDS = 60.0
REFUSED_ROWS = "failed validation check"
"""How delta-rs says that rows break a CHECK constraint or are not what a generated column says."""

NOTED = "lakemesh.noted."
PLATFORM_PROPERTIES = frozenset(
    {"delta.enableTypeWidening", "delta.columnMapping.mode", "delta.feature.allowColumnDefaults"}
)
"""Properties that allow a change of the table here as on the platform. delta-rs does not write tables of these
features, so they are noted under names of our own, and what they allow is done by rewriting."""


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A handle, the version it was opened at, and which folder of that name it was (a table may be dropped and made
    anew by another process)."""

    handle: "DeltaTable"
    version: int
    folder: tuple[int, int]


class DeltaTables:
    """One writer per table at a time, in this process (an asyncio lock) and beside others (a file lock): delta-rs by
    itself accepts two compactions of the same files and doubles their rows, and lets an overwrite lose what was
    appended meanwhile. Readers need no lock. What is acknowledged is on the disk itself.

    Handles are kept open, since opening one reads the log, and brought up to date under the lock. After every
    `REOPEN_AFTER_COMMITS` commits one is opened anew, from a checkpoint of the log.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._opened: dict[str, OpenTable] = {}

    async def create(self, spec: TableSpec) -> None:
        if not await asyncio.to_thread(self.exists, spec.name):
            await self._write(spec.name, lambda: self._create(spec))

    async def create_with(self, spec: TableSpec, rows: "pa.Table") -> bool:
        """The table with its first rows, in one commit; False when another process made one of that name first."""
        return await self._write(spec.name, lambda: self._create(spec, rows))

    async def add_columns(self, name: str, columns: Sequence[Column]) -> None:
        await self.exclusively(name, lambda table: add_missing(table, columns))

    async def append(self, name: str, rows: ArrowStream, *, transaction: AppTransaction | None = None) -> bool:
        return await self.exclusively(name, lambda table: append_rows(table, name, rows, transaction))

    async def applied_version(self, name: str, app_id: str) -> int | None:
        async with self._locks[name]:
            return await self._run_alone(name, lambda: self._open(name).transaction_version(app_id))

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
        def delete(table: "DeltaTable") -> int:
            return int(table.delete(predicate)["num_deleted_rows"] or 0)

        return await self.exclusively(name, delete)

    async def rewrite(self, name: str, select: Callable[[], Awaitable["pa.Table | None"]]) -> None:
        """Replace the table's rows, in one commit, by what `select` makes of them while nobody else writes; None
        leaves them as they are."""

        async def change() -> "Callable[[DeltaTable], None] | None":
            rows = await select()
            return None if rows is None else lambda table: overwrite(table, name, rows)

        await self.exclusively_after(name, change)

    async def compact(self, name: str) -> Mapping[str, Any]:
        return await self.exclusively(name, compact)

    async def vacuum(self, name: str, *, retention_hours: float) -> int:
        def vacuum(table: "DeltaTable") -> int:
            return len(table.vacuum(int(retention_hours), dry_run=False, enforce_retention_duration=False))

        def clean(table: "DeltaTable") -> None:
            clean_log(table, self.folder(name), retention_hours=retention_hours)

        removed = await self.exclusively(name, vacuum)
        await self.exclusively(name, clean)
        return removed

    async def drop(self, name: str) -> None:
        def drop() -> None:
            if not self.exists(name):
                raise NotFound(f"There is no table {name!r:.100}.")
            self._opened.pop(name, None)
            shutil.rmtree(self.folder(name))

        await self._write(name, drop)

    async def exclusively(self, name: str, action: Callable[["DeltaTable"], T]) -> T:
        """Run `action` on the table's newest version in a worker thread, while nobody else writes to it. What it
        commits is on the disk when this returns. Raises `NotFound`, and `WorkspaceUnavailable` when others do not let
        go of the table in time."""
        return await self._write(name, lambda: self._act(name, action))

    async def exclusively_after(
        self, name: str, prepare: Callable[[], Awaitable[Callable[["DeltaTable"], T] | None]]
    ) -> T | None:
        """As `exclusively`, with an action that is made while nobody else writes; None leaves the table as it is."""
        async with self._locked(name):
            action = await prepare()
            return None if action is None else await self._run_alone(name, lambda: self._act(name, action))

    def folder(self, name: str) -> Path:
        return self._root.joinpath(*split_name(name))

    def exists(self, name: str) -> bool:
        """Whether a first commit is there; a process killed while it made the table leaves a log without one."""
        return any((self.folder(name) / "_delta_log").glob("*.json"))

    def snapshot(self, name: str) -> "DeltaTable":
        """The newest version, for a reader in a worker thread. Raises `NotFound`."""
        return self._translate(name, lambda: self._new_handle(name))

    async def _write(self, name: str, action: Callable[[], T]) -> T:
        async with self._locked(name):
            return await self._run_alone(name, action)

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        catalog, schema, table = split_name(name)
        lock = FileLock(self._root.parent / ".locks" / self._root.name / f"{catalog}.{schema}.{table}.lock")
        seconds = min(LOCK_SECONDS, current_deadline(LOCK_SECONDS).remaining_seconds())
        async with self._locks[name]:
            try:
                await self._run_alone(name, lambda: lock.acquire(seconds))
                yield
            finally:
                lock.release()

    async def _run_alone(self, name: str, action: Callable[[], T]) -> T:
        """A caller that is cancelled waits for `action` all the same: its thread cannot be stopped, and the next
        writer must not meet it."""
        work = asyncio.ensure_future(asyncio.to_thread(self._translate, name, action))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _act(self, name: str, action: Callable[["DeltaTable"], T]) -> T:
        table = self._open(name)
        before = table.version()
        result = action(table)
        check_alone(table, self.folder(name), name, before)
        sync_commits(self.folder(name), before, table.version())
        return result

    def _translate(self, name: str, action: Callable[[], T]) -> T:
        """Run `action` with delta-rs' and Arrow's exceptions as ours. Their texts have backtraces and paths of this
        machine, so only the first line is told."""
        import pyarrow as pa
        from deltalake.exceptions import DeltaError, SchemaMismatchError, TableNotFoundError

        try:
            return action()
        except TableNotFoundError:
            raise NotFound(f"There is no table {name!r:.100}.") from None
        except SchemaMismatchError as error:
            raise InvalidRequest(f"The rows do not fit the table {name!r:.100}: {self._told(error)}") from None
        except (DeltaError, OSError, pa.ArrowException) as error:
            if REFUSED_ROWS in str(error):
                raise InvalidRequest(
                    f"[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] A row does not keep to a constraint of {name!r:.100}, or"
                    " has another value than its GENERATED column."
                ) from None
            self._opened.pop(name, None)
            reason = self._told(error)
            logger.warning("table cannot be used", table=name, reason=reason)
            raise WorkspaceUnavailable(f"The table {name!r:.100} cannot be used: {reason}") from error
        except BaseException as error:
            # A panic in delta-rs is no `Exception`, and would end the event loop instead of the request.
            if type(error).__name__ != "PanicException":
                raise
            self._opened.pop(name, None)
            raise WorkspaceUnavailable(f"The table {name!r:.100} cannot be used: delta-rs failed.") from error

    def _told(self, error: BaseException) -> str:
        """The first line, without where this machine keeps its tables."""
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        root = str(self._root)
        return line.replace(f"{root}/", "").replace(f"{root.lstrip('/')}/", "")[:500]

    def _create(self, spec: TableSpec, rows: "pa.Table | None" = None) -> bool:
        import pyarrow as pa
        from deltalake import DeltaTable, write_deltalake

        if self.exists(spec.name):
            return False
        check_columns(spec)
        # delta-rs refuses properties it does not know, such as `otel.schemaVersion`.
        properties = {key: value for key, value in spec.properties.items() if key.startswith("delta.")}
        known = {key: value for key, value in properties.items() if key not in PLATFORM_PROPERTIES}
        folder = self.folder(spec.name)
        schema, partitions = arrow_schema(spec.columns), list(spec.partition_by) or None
        if rows is None:
            DeltaTable.create(
                str(folder), schema, partition_by=partitions, description=spec.comment, configuration=known or None
            )
        else:
            write_deltalake(
                str(folder),
                pa.Table.from_arrays(rows.columns, schema=schema),
                mode="error",
                partition_by=partitions,
                description=spec.comment,
                configuration=known or None,
            )
        if len(known) < len(properties):
            set_properties(DeltaTable(str(folder)), properties)
        sync_new_table(folder, self._root)
        return True

    def _open(self, name: str) -> "DeltaTable":
        """The handle at the newest version."""
        folder = folder_identity(self.folder(name))
        opened = self._opened.get(name)
        if opened is not None and opened.folder == folder:
            opened.handle.update_incremental()
            if opened.handle.version() - opened.version < REOPEN_AFTER_COMMITS:
                return opened.handle
            if opened.handle.version() - newest_checkpoint(self.folder(name)) >= REOPEN_AFTER_COMMITS:
                make_checkpoint(opened.handle, self.folder(name))
        handle = self._new_handle(name)
        self._opened[name] = OpenTable(handle, handle.version(), folder)
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


def set_properties(table: "DeltaTable", properties: Mapping[str, str]) -> None:
    noted_as = {f"{NOTED}{key}" if key in PLATFORM_PROPERTIES else key: value for key, value in properties.items()}
    table.alter.set_table_properties(noted_as, raise_if_not_exists=False)


def properties_of(table: "DeltaTable") -> dict[str, str]:
    return {key.removeprefix(NOTED): value for key, value in table.metadata().configuration.items()}


def add_missing(table: "DeltaTable", columns: Sequence[Column]) -> None:
    from deltalake import Schema

    known = {field.name.lower() for field in table.schema().fields}
    missing = [column for column in columns if column.name.lower() not in known]
    if missing:
        table.alter.add_columns(list(Schema.from_arrow(arrow_schema(missing)).fields))


def append_rows(table: "DeltaTable", name: str, rows: ArrowStream, transaction: AppTransaction | None = None) -> bool:
    """One commit; False when `transaction` is in the table already."""
    import pyarrow as pa
    from deltalake import CommitProperties, Transaction, write_deltalake

    properties = None
    if transaction is not None:
        applied = table.transaction_version(transaction.app_id)
        if applied is not None and applied >= transaction.version:
            return False
        properties = CommitProperties(app_transactions=[Transaction(transaction.app_id, transaction.version)])
    fitted = fit(pa.table(rows), pyarrow_schema(table), name)
    write_deltalake(table, fitted, mode="append", commit_properties=properties)
    return True


def overwrite(table: "DeltaTable", name: str, rows: "pa.Table", transaction: AppTransaction | None = None) -> None:
    """Replace all rows in one commit, which fails when somebody else's came between."""
    from deltalake import CommitProperties, Transaction, write_deltalake

    noted = [Transaction(transaction.app_id, transaction.version)] if transaction is not None else None
    properties = CommitProperties(max_commit_retries=0, app_transactions=noted)
    write_deltalake(table, fit(rows, pyarrow_schema(table), name), mode="overwrite", commit_properties=properties)


def check_alone(table: "DeltaTable", folder: Path, name: str, before: int) -> None:
    """Take back a commit that removed files which another program, one that knows nothing of our lock, had removed
    meanwhile: delta-rs accepts two compactions of the same files, and every row would be there twice."""
    after = table.version()
    if after <= before + 1:
        return
    ours = removed_files(folder, after)
    if any(ours & removed_files(folder, version) for version in range(before + 1, after)):
        table.restore(after - 1)
        logger.error("another program rewrote the table at the same time; our rewrite was taken back", table=name)
        raise WorkspaceUnavailable(f"Another program rewrote the table {name!r:.100} at the same time; try again.")


def folder_identity(folder: Path) -> tuple[int, int]:
    """Which table of that name it is, by its first commit: a folder made anew may have the inode of the one before."""
    for path in (log_file(folder, 0), folder / "_delta_log"):
        with suppress(FileNotFoundError):
            status = path.stat()
            return status.st_ino, status.st_mtime_ns if path.suffix else 0
    return 0, 0


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
    """With the type that was asked for where Delta has none of its own (VARIANT is kept as text)."""
    return [
        Column(
            field.name,
            noted(field, "lakemesh.type") or sql_type(field.type),
            noted(field, "comment"),
            nullable=field.nullable,
            default=noted(field, DEFAULT),
            generated=noted(field, GENERATED),
        )
        for field in pyarrow_schema(table)
    ]


def noted(field: "pa.Field", key: str) -> str | None:
    """A note of the column's metadata."""
    found = (field.metadata or {}).get(key.encode())
    return found.decode() if found is not None else None


def data_files(table: "DeltaTable", folder: Path) -> list[str]:
    """The table's Parquet files on disk. The log holds their paths percent-encoded, relative to the folder."""
    import pyarrow as pa

    return [str(folder / unquote(path)) for path in pa.table(table.get_add_actions())["path"].to_pylist()]
