"""What the embedded warehouse knows: tables, and views as the text of their queries."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.arrow import sql_type
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import Column
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    from sqlglot import exp

SHOW = re.compile(
    r"\s*(?:TABLES\s+(?:IN|FROM)\s+(?P<schema>[^\s;]+)|(?:SCHEMAS|DATABASES)\s+(?:IN|FROM)\s+(?P<catalog>[^\s;]+)"
    r"|(?P<catalogs>CATALOGS))\s*;?\s*",
    re.IGNORECASE,
)


class Catalog:
    """Folders of tables under `tables_root` and views as `.sql` files under `views_root`, both by catalog and
    schema. Its methods block and belong in a worker thread."""

    def __init__(self, tables: DeltaTables, tables_root: Path, views_root: Path) -> None:
        self.tables = tables
        self.tables_root = tables_root
        self._views_root = views_root

    def view(self, name: str) -> "exp.Expr | None":
        """The view's query, or None when there is no such view."""
        from sqlglot import parse_one

        file = self._view_file(name)
        return parse_one(file.read_text(), dialect="databricks") if file.is_file() else None

    def write_view(self, name: str, query: "exp.Expr", *, replace: bool) -> None:
        file = self._view_file(name)
        if self.tables.exists(name) or (file.exists() and not replace):
            raise InvalidRequest(f"{name!r:.100} exists; use CREATE OR REPLACE VIEW, or another name.")
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(query.sql(dialect="databricks"))
        temporary.replace(file)

    def drop_view(self, name: str) -> bool:
        """False when there is no such view."""
        file = self._view_file(name)
        existed = file.is_file()
        file.unlink(missing_ok=True)
        return existed

    def files_and_columns(self, name: str) -> tuple[list[str], list[Column]]:
        """The Parquet files of the table's newest version, and its columns. Raises `NotFound`."""
        import pyarrow as pa

        snapshot = self.tables.snapshot(name)
        schema = pa.schema(snapshot.schema().to_arrow())
        files = [uri.removeprefix("file://") for uri in snapshot.file_uris()]
        return files, [Column(field.name, sql_type(field.type)) for field in schema]

    def describe(self, name: str) -> QueryResult:
        """`DESCRIBE TABLE`: a row per column, as Databricks answers."""
        _, columns = self.files_and_columns(name)
        rows = [(column.name, column.type.lower(), None) for column in columns]
        return QueryResult(columns=["col_name", "data_type", "comment"], types=["STRING"] * 3, rows=rows)

    def show(self, what: str) -> QueryResult:
        """`SHOW TABLES IN c.s`, `SHOW SCHEMAS IN c` and `SHOW CATALOGS`."""
        match = SHOW.fullmatch(what.strip("'\""))
        if match is None:
            raise InvalidRequest("Ask SHOW TABLES IN catalog.schema, SHOW SCHEMAS IN catalog, or SHOW CATALOGS.")
        if match["schema"]:
            catalog, schema = split_name(match["schema"], levels=2)
            found = {log.parent.name for log in (self.tables_root / catalog / schema).glob("*/_delta_log")}
            found |= {file.stem for file in (self._views_root / catalog / schema).glob("*.sql")}
            rows = [(schema, name, False) for name in sorted(found)]
            return QueryResult(columns=["database", "tableName", "isTemporary"], types=["STRING"] * 3, rows=rows)
        below = split_name(match["catalog"], levels=1) if match["catalog"] else ()
        folders = (path for root in (self.tables_root, self._views_root) for path in root.joinpath(*below).glob("*/"))
        names = sorted({folder.name for folder in folders})
        column = "databaseName" if below else "catalog"
        return QueryResult(columns=[column], types=["STRING"], rows=[(name,) for name in names])

    def _view_file(self, name: str) -> Path:
        *folders, view = split_name(name)
        return self._views_root.joinpath(*folders, f"{view}.sql")
