"""What the embedded warehouse knows: tables, views as the text of their queries, and information_schema."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.embedded.tables import DeltaTables, columns_of, data_files
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import Column

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable
    from sqlglot import exp

    from lakemesh.lakehouse.embedded.sql.relations import Reading
    from lakemesh.lakehouse.embedded.sql.scopes import Relation

UNREADABLE_FEATURES = frozenset({"deletionVectors", "columnMapping"})
"""Features of Delta by which the Parquet files alone say something else than the table; delta-rs reads those."""


@dataclass(frozen=True, slots=True)
class Session:
    """The catalog and schema that shorter names stand in."""

    catalog: str | None = None
    schema: str | None = None

    def full_name(self, parts: Sequence[str]) -> str:
        """Raises `InvalidRequest` when a level is missing that the session does not give."""
        given = [self.catalog, self.schema][: 3 - len(parts)]
        if len(parts) > 3 or not all(given):
            raise InvalidRequest(f"Name the table {'.'.join(parts)!r:.100} with its catalog and schema.")
        return ".".join([*(level for level in given if level), *parts]).lower()


class Catalog:
    """Folders of tables under `tables_root` and views as `.sql` files under `views_root`, both by catalog and
    schema. Its methods block and belong in a worker thread."""

    def __init__(self, tables: DeltaTables, tables_root: Path, views_root: Path) -> None:
        self.tables = tables
        self.tables_root = tables_root
        self._views_root = views_root

    def view(self, name: str) -> "exp.Expr | None":
        """The view's query, or None when there is no such view."""
        from lakemesh.lakehouse.spark_dialect import parse_statement

        file = self._view_file(name)
        return parse_statement(file.read_text()) if file.is_file() else None

    def exists(self, name: str) -> bool:
        """Whether a table or a view has the name."""
        return self.tables.exists(name) or self._view_file(name).is_file()

    def write_view(self, name: str, query: "exp.Expr") -> None:
        from lakemesh.lakehouse.spark_dialect import render

        file = self._view_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(render(query))
        temporary.replace(file)

    def drop_view(self, name: str) -> bool:
        """False when there is no such view."""
        file = self._view_file(name)
        existed = file.is_file()
        file.unlink(missing_ok=True)
        return existed

    def relation(
        self, reading: "Reading", *, session: Session, cursor: "duckdb.DuckDBPyConnection"
    ) -> "Relation | exp.Expr":
        """What stands for a table in DuckDB, or the query of a view. Raises `NotFound`."""
        if len(reading.name) >= 2 and reading.name[-2] == "information_schema":
            catalog = reading.name[0] if len(reading.name) == 3 else session.catalog
            return self.information(reading.name[-1], catalog)
        name = session.full_name(reading.name)
        view = self.view(name)
        if view is not None:
            if reading.version is not None or reading.moment is not None or reading.changes:
                raise InvalidRequest(f"{name!r:.100} is a view, which has no versions.")
            return view
        table = self.tables.snapshot(name)
        if reading.changes:
            return changes_of(table, reading.changes, cursor)
        if reading.version is not None or reading.moment is not None:
            to_version(table, reading)
        return relation_of(table, self.tables.folder(name), cursor)

    def information(self, what: str, catalog: str | None) -> "Relation":
        """`information_schema` of one catalog: schemata, tables, columns, views."""
        from lakemesh.lakehouse.embedded.sql.literals import literal_relation

        if catalog is None or what not in INFORMATION:
            raise NotFound(f"There is no table {what!r:.60} in information_schema; there are {', '.join(INFORMATION)}.")
        return literal_relation(INFORMATION[what], list(getattr(self, f"_{what}")(catalog)))

    def schemas(self, catalog: str) -> list[str]:
        found = {path.name for root in self._roots for path in (root / catalog).glob("*/")}
        return sorted(found | {"information_schema"} if found else found)

    def catalogs(self) -> list[str]:
        return sorted({path.name for root in self._roots for path in root.glob("*/")})

    def names(self, catalog: str, schema: str) -> list[tuple[str, bool]]:
        """Tables and views of a schema, and whether each is a view."""
        folders = (self.tables_root / catalog / schema).glob("*/")
        tables = {folder.name for folder in folders if self.tables.exists(f"{catalog}.{schema}.{folder.name}")}
        views = {file.stem for file in (self._views_root / catalog / schema).glob("*.sql")}
        return sorted([*((name, False) for name in tables), *((name, True) for name in views)])

    @property
    def _roots(self) -> tuple[Path, Path]:
        return self.tables_root, self._views_root

    def _schemata(self, catalog: str) -> Iterator[tuple[Any, ...]]:
        return ((catalog, schema) for schema in self.schemas(catalog))

    def _tables(self, catalog: str) -> Iterator[tuple[Any, ...]]:
        for schema in self.schemas(catalog):
            for name, is_view in self.names(catalog, schema):
                yield catalog, schema, name, "VIEW" if is_view else "MANAGED"

    def _views(self, catalog: str) -> Iterator[tuple[Any, ...]]:
        for schema in self.schemas(catalog):
            for name, is_view in self.names(catalog, schema):
                if is_view:
                    yield catalog, schema, name, self._view_file(f"{catalog}.{schema}.{name}").read_text()

    def _columns(self, catalog: str) -> Iterator[tuple[Any, ...]]:
        for schema in self.schemas(catalog):
            for name, is_view in self.names(catalog, schema):
                if not is_view:
                    table = self.tables.snapshot(f"{catalog}.{schema}.{name}")
                    for place, column in enumerate(columns_of(table)):
                        yield catalog, schema, name, column.name, place, column.type, column.comment

    def _view_file(self, name: str) -> Path:
        *folders, view = split_name(name)
        return self._views_root.joinpath(*folders, f"{view}.sql")


def texts(*names: str) -> list[Column]:
    return [Column(name, "STRING") for name in names]


INFORMATION: dict[str, list[Column]] = {
    "schemata": texts("catalog_name", "schema_name"),
    "tables": texts("table_catalog", "table_schema", "table_name", "table_type"),
    "views": texts("table_catalog", "table_schema", "table_name", "view_definition"),
    "columns": [
        *texts("table_catalog", "table_schema", "table_name", "column_name"),
        Column("ordinal_position", "INT"),
        *texts("full_data_type", "comment"),
    ],
}


def to_version(table: "DeltaTable", reading: "Reading") -> None:
    """Moves the handle to an older version. Raises `InvalidRequest` for one that is not there."""
    from deltalake.exceptions import DeltaError

    target = reading.version if reading.version is not None else version_at(table, str(reading.moment))
    try:
        table.load_as_version(target)
    except (DeltaError, ValueError, OSError):
        raise InvalidRequest(f"[DELTA_VERSION_NOT_FOUND] The table has no version {str(target)!r:.60}.") from None


def version_at(table: "DeltaTable", text: str) -> int:
    """The newest version that the history dates no later than the moment. delta-rs goes by the files' own times, which
    on a busy machine are later than those of DESCRIBE HISTORY. Raises `InvalidRequest`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r:.60} is not a moment to read a table at.") from None
    target = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    milliseconds = round(target.timestamp() * 1_000_000) // 1_000
    found = [entry["version"] for entry in table.history() if entry.get("timestamp", 0) <= milliseconds]
    if not found:
        raise InvalidRequest(f"[DELTA_VERSION_NOT_FOUND] The table has no version of {text!r:.60} or before.")
    return int(max(found))


def relation_of(table: "DeltaTable", folder: Path, cursor: "duckdb.DuckDBPyConnection") -> "Relation":
    """The table's files as DuckDB reads them, or delta-rs' stream where files alone do not say it. Partition columns
    come out of the paths as text; they get their types back. Columns added later are null in older files."""
    from lakemesh.lakehouse.embedded.sql.literals import literal_relation
    from lakemesh.lakehouse.embedded.sql.scopes import Relation
    from lakemesh.lakehouse.embedded.sql.types import quoted, text_literal, type_of

    columns = columns_of(table)
    kinds = [(column.name, type_of(column.type)) for column in columns]
    names = [column.name for column in columns]
    features = set(table.protocol().reader_features or ())
    mapped = table.protocol().min_reader_version == 2 or features & UNREADABLE_FEATURES
    if mapped and (
        table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none" or has_vectors(table)
    ):
        return stream_relation(table.scan(), columns, cursor)
    files = data_files(table, folder)
    if not files:
        return literal_relation(columns, [])
    partitions = {name.lower() for name in table.metadata().partition_columns}
    listed = ", ".join(text_literal(file) for file in files)
    options = ", union_by_name = true" if len(files) > 1 else ""
    if partitions:
        options += ", hive_partitioning = true, hive_types_autocast = false"
    items = [
        f"CAST({quoted(name)} AS {kind.duck}) AS {quoted(name)}" if name.lower() in partitions else quoted(name)
        for name, kind in kinds
    ]
    missing = cursor.execute(f"SELECT * FROM read_parquet([{listed}]{options}) LIMIT 0").description or []
    there = {column[0].lower() for column in missing}
    items = [
        item if name.lower() in there else f"CAST(NULL AS {kind.duck}) AS {quoted(name)}"
        for item, (name, kind) in zip(items, kinds, strict=True)
    ]
    return Relation(f"SELECT {', '.join(items)} FROM read_parquet([{listed}]{options})", kinds, names)


def has_vectors(table: "DeltaTable") -> bool:
    """Whether rows of some file are deleted by a deletion vector."""
    return any(batch.num_rows for batch in table.deletion_vectors())


def stream_relation(stream: Any, columns: Sequence[Column], cursor: "duckdb.DuckDBPyConnection") -> "Relation":
    """Rows that come as an Arrow stream, which is read once."""
    import pyarrow as pa

    from lakemesh.lakehouse.embedded.sql.scopes import Relation
    from lakemesh.lakehouse.embedded.sql.types import quoted, type_of

    name = f"stream_{id(stream)}_"
    reader = pa.RecordBatchReader.from_stream(stream)
    cursor.register(name, reader)
    items = ", ".join(f"CAST({quoted(c.name)} AS {type_of(c.type).duck}) AS {quoted(c.name)}" for c in columns)
    kinds = [(column.name, type_of(column.type)) for column in columns]
    return Relation(f"SELECT {items} FROM {quoted(name)}", kinds, [column.name for column in columns])


def changes_of(table: "DeltaTable", versions: Sequence[Any], cursor: "duckdb.DuckDBPyConnection") -> "Relation":
    """`table_changes`: the rows of the change data feed. Raises `InvalidRequest` for a table that keeps none."""
    from deltalake.exceptions import DeltaError

    try:
        first, last = int(versions[0]), int(versions[1]) if len(versions) > 1 else None
        stream = table.load_cdf(starting_version=first, ending_version=last)
    except (DeltaError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequest(f"[DELTA_MISSING_CHANGE_DATA] The changes cannot be read: {reason:.200}") from None
    added = [
        Column("_change_type", "STRING"),
        Column("_commit_version", "BIGINT"),
        Column("_commit_timestamp", "TIMESTAMP"),
    ]
    return stream_relation(stream, [*columns_of(table), *added], cursor)
