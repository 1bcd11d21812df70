"""Delta tables through SQL, Unity Catalog and COPY INTO."""

import io
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.arrow import arrow_schema, fit
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.databricks.cells import type_name
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import AppTransaction, ArrowStream, Column, TableInfo, TableSpec
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.lakehouse.warehouse import QueryResult, Warehouse
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from sqlglot import exp

TIMEOUT_SECONDS = 60.0
LONG_TIMEOUT_SECONDS = 1_800.0
STAGING_VOLUME = "lakemesh_staging"
WRITER_DAYS = 60.0
"""How long an application that does not write is remembered: longer than any spool is kept waiting."""
APPENDS = "_appends"
APP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")


class UnityTables:
    """An append is a Parquet file in a staging volume and a COPY INTO, which loads a file of one name once and
    remembers that in the table's own log, in the commit that adds the rows. So the append of one transaction may be
    repeated, after an error or a crash at any point, and adds its rows once.

    The newest version an application has applied is kept in a small file beside the staged ones. A staged file that
    is still there belongs to an append that was interrupted: it is loaded before that file is believed, so what
    `applied_version` says is exact. A table property instead would cost each append a second commit.
    """

    def __init__(self, client: "WorkspaceClient", calls: SdkCalls, *, warehouse: Warehouse, volumes: Volumes) -> None:
        self._unity = client.tables
        self._calls = calls
        self._warehouse = warehouse
        self._volumes = volumes
        self._columns: LRUCache[str, list[Column]] = LRUCache(1_000)
        self._applied: LRUCache[tuple[str, str], int] = LRUCache(10_000)

    async def create(self, spec: TableSpec) -> None:
        await self._change(create_statement(spec))

    async def add_columns(self, name: str, columns: Sequence[Column]) -> None:
        arrow_schema(columns)
        known = {column.name.lower() for column in (await self.describe(name)).columns}
        added = ", ".join(f"{identifier(one.name)} {one.type}" for one in columns if one.name.lower() not in known)
        if added:
            await self._change(f"ALTER TABLE {quoted(name)} ADD COLUMNS ({added})")
            await self.describe(name)

    async def append(self, name: str, rows: ArrowStream, *, transaction: AppTransaction | None = None) -> bool:
        folder = staging_folder(name, transaction.app_id if transaction else APPENDS)
        if transaction is None:
            return await self._load(name, rows, f"{folder}/{uuid.uuid4().hex}.parquet")
        applied = await self.applied_version(name, transaction.app_id)
        if applied is not None and applied >= transaction.version:
            return False
        self._applied.pop((name, transaction.app_id), None)  # what is applied is not known until this has ended
        path = f"{folder}/{transaction.version:020d}.parquet"
        added = await self._load(name, rows, path, applied=(f"{folder}/applied", transaction.version))
        self._applied[name, transaction.app_id] = transaction.version
        return added

    async def applied_version(self, name: str, app_id: str) -> int | None:
        """Asks the workspace once; after an append that failed, again."""
        key = (name, app_id)
        if key not in self._applied:
            await self._columns_of(name)
            version = await self._recover(name, staging_folder(name, app_id))
            if version is None:
                return None
            self._applied[key] = version
        return self._applied[key]

    async def describe(self, name: str) -> TableInfo:
        full_name = ".".join(split_name(name))
        table = await self._calls.run(
            lambda: self._unity.get(full_name), deadline=current_deadline(TIMEOUT_SECONDS), repeatable=True
        )
        columns = [
            Column(column.name or "", type_name(column.type_text), column.comment) for column in table.columns or []
        ]
        self._columns[name] = columns
        return TableInfo(name=name, columns=columns, comment=table.comment)

    async def list_tables(self, schema: str) -> list[str]:
        catalog, schema_name = split_name(schema, levels=2)
        found = await self._calls.run(
            lambda: list(self._unity.list(catalog, schema_name, omit_columns=True)),
            deadline=current_deadline(TIMEOUT_SECONDS),
            repeatable=True,
        )
        views = ("VIEW", "MATERIALIZED_VIEW")
        return sorted(
            table.full_name or f"{catalog}.{schema_name}.{table.name}"
            for table in found
            if table.table_type is None or table.table_type.value not in views
        )

    async def delete_rows(self, name: str, predicate: str) -> int:
        result = await self._change(f"DELETE FROM {quoted(name)} WHERE {predicate}")  # noqa: S608
        return affected(result)

    async def compact(self, name: str) -> Mapping[str, Any]:
        result = await self._change(f"OPTIMIZE {quoted(name)}", LONG_TIMEOUT_SECONDS)
        return (result.to_dicts() or [{}])[0]

    async def vacuum(self, name: str, *, retention_hours: float) -> int:
        """VACUUM itself does not say how many files it removes; its dry run lists them."""
        statement = f"VACUUM {quoted(name)} RETAIN {int(retention_hours)} HOURS"
        files = await self._change(f"{statement} DRY RUN", LONG_TIMEOUT_SECONDS)
        await self._change(statement, LONG_TIMEOUT_SECONDS)
        await self._forget_writers(name)
        return len(files.rows)

    async def drop(self, name: str) -> None:
        await self._change(f"DROP TABLE {quoted(name)}")
        self._columns.pop(name, None)
        for key in [key for key in self._applied if key[0] == name]:
            del self._applied[key]

    async def _forget_writers(self, name: str) -> None:
        """Remove the notes of applications that have not written for long: a server whose disk does not outlive it is
        a new application with every start. Where a file is staged an append was interrupted, and is kept."""
        catalog, schema, table = split_name(name)
        oldest = time.time() - WRITER_DAYS * 86_400
        with suppress(NotFound):
            for folder in await self._volumes.list_directory(f"/Volumes/{catalog}/{schema}/{STAGING_VOLUME}/{table}"):
                with suppress(NotFound, Conflict):
                    files = await self._volumes.list_directory(folder.path)
                    if all(file.name == "applied" and file.modified_at < oldest for file in files):
                        for file in files:
                            await self._volumes.delete(file.path)
                        await self._volumes.delete_directory(folder.path)

    async def _recover(self, name: str, folder: str) -> int | None:
        """Finish what an interrupted append began; the newest version that is applied then."""
        try:
            found = {entry.name for entry in await self._volumes.list_directory(folder)}
        except NotFound:
            return None
        version = int(await self._volumes.read(f"{folder}/applied")) if "applied" in found else None
        for staged in sorted(file for file in found if file.endswith(".parquet")):
            version = max(version or 0, int(staged.removesuffix(".parquet")))
            await self._copy(name, f"{folder}/{staged}", applied=(f"{folder}/applied", version))
        return version

    async def _load(self, name: str, rows: ArrowStream, path: str, *, applied: tuple[str, int] | None = None) -> bool:
        columns = await self._columns_of(name)
        content = await self._calls.run(
            lambda: parquet(name, columns, rows), deadline=current_deadline(TIMEOUT_SECONDS)
        )
        await self._stage(name, path, content)
        return await self._copy(name, path, applied=applied)

    async def _copy(self, name: str, path: str, *, applied: tuple[str, int] | None) -> bool:
        """Load a staged file, note its version, and remove it: in this order, or `_recover` could not help."""
        result = await self._change(copy_statement(name, await self._columns_of(name), path))
        if applied is not None:
            note, version = applied
            await self._volumes.write(note, str(version).encode(), overwrite=True)
        await self._volumes.delete(path)
        return affected(result) > 0

    async def _stage(self, name: str, path: str, content: bytes) -> None:
        """A file left by an append that was interrupted may be replaced: if it was loaded, it is not loaded again."""
        try:
            await self._volumes.write(path, content, overwrite=True)
        except NotFound:
            catalog, schema, _ = split_name(name)
            await self._change(f"CREATE VOLUME IF NOT EXISTS `{catalog}`.`{schema}`.`{STAGING_VOLUME}`")
            await self._volumes.write(path, content, overwrite=True)

    async def _columns_of(self, name: str) -> list[Column]:
        if name not in self._columns:
            await self.describe(name)
        return self._columns[name]

    async def _change(self, statement: str, timeout_seconds: float = TIMEOUT_SECONDS) -> QueryResult:
        return await self._warehouse.query(statement, timeout_seconds=timeout_seconds, read_only=False)


def create_statement(spec: TableSpec) -> str:
    """CREATE TABLE for a spec whose types are checked and whose names and texts are quoted."""
    arrow_schema(spec.columns)
    columns = ", ".join(map(definition, spec.columns))
    clauses = [f"CREATE TABLE IF NOT EXISTS {quoted(spec.name)} ({columns}) USING DELTA"]
    if spec.partition_by:
        clauses.append(f"PARTITIONED BY ({', '.join(map(identifier, spec.partition_by))})")
    if spec.cluster_by:
        clauses.append(f"CLUSTER BY ({', '.join(map(identifier, spec.cluster_by))})")
    if spec.comment:
        clauses.append(f"COMMENT {literal(spec.comment)}")
    if spec.properties:
        pairs = ", ".join(f"{literal(key)} = {literal(value)}" for key, value in spec.properties.items())
        clauses.append(f"TBLPROPERTIES ({pairs})")
    return " ".join(clauses)


def definition(column: Column) -> str:
    """A column as CREATE TABLE takes it. The SQL of its values is ours, never from outside."""
    parts = [identifier(column.name), column.type]
    parts += [] if column.nullable else ["NOT NULL"]
    parts += [f"GENERATED ALWAYS AS ({column.generated})"] if column.generated else []
    parts += [f"DEFAULT {column.default}"] if column.default else []
    parts += [f"COMMENT {literal(column.comment)}"] if column.comment else []
    return " ".join(parts)


def copy_statement(name: str, columns: list[Column], path: str) -> str:
    """COPY INTO of one staged file; a VARIANT, also one inside a STRUCT or an ARRAY, travels as JSON text."""
    source = literal(path)
    if any("VARIANT" in column.type.upper() for column in columns):
        items = ", ".join(copied_column(column) for column in columns)
        source = f"(SELECT {items} FROM {source})"  # noqa: S608
    return f"COPY INTO {quoted(name)} FROM {source} FILEFORMAT = PARQUET"


def copied_column(column: Column) -> str:
    from sqlglot import exp

    name = identifier(column.name)
    if "VARIANT" not in column.type.upper():
        return name
    return f"{parsed_json(exp.DataType.build(column.type, dialect='databricks'), name)} AS {name}"


def parsed_json(kind: "exp.DataType", value: str, depth: int = 0) -> str:
    """SQL that makes a value of type `kind` of `value`, which has JSON text wherever `kind` has a VARIANT."""
    from sqlglot import exp

    if kind.this == exp.DataType.Type.VARIANT:
        return f"parse_json({value})"
    if not any(part.this == exp.DataType.Type.VARIANT for part in kind.find_all(exp.DataType)):
        return value
    if kind.this == exp.DataType.Type.ARRAY:
        item = f"item_{depth}"
        return f"transform({value}, {item} -> {parsed_json(kind.expressions[0], item, depth + 1)})"
    members = ", ".join(
        f"{literal(member.name)}, {parsed_json(member.args['kind'], f'{value}.{identifier(member.name)}', depth)}"
        for member in kind.expressions
    )
    return f"if({value} IS NULL, NULL, named_struct({members}))"


def parquet(name: str, columns: list[Column], rows: ArrowStream) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(fit(pa.table(rows), arrow_schema(columns), name), buffer)
    return buffer.getvalue()


def staging_folder(name: str, app_id: str) -> str:
    """Raises `InvalidRequest` for an `app_id` that cannot be part of a path."""
    catalog, schema, table = split_name(name)
    if app_id != APPENDS and not APP_ID.fullmatch(app_id):
        raise InvalidRequest(f"{app_id!r:.100} is not an application id: letters, digits and then _ . : - make one.")
    return f"/Volumes/{catalog}/{schema}/{STAGING_VOLUME}/{table}/{app_id}"


def affected(result: QueryResult) -> int:
    row = (result.to_dicts() or [{}])[0]
    return int(row.get("num_affected_rows") or 0)


def quoted(name: str) -> str:
    return ".".join(identifier(part) for part in split_name(name))


def identifier(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
