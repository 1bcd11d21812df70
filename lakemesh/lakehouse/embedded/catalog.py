"""What the embedded warehouse knows: tables, and views as the text of their queries."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.tables import DeltaTables, columns_of, data_files
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


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One version of a table. Columns in `partition_by` are in the paths of `files`, not inside them."""

    files: Sequence[str]
    columns: Sequence[Column]
    partition_by: Sequence[str]


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

    def exists(self, name: str) -> bool:
        """Whether a table or a view has the name."""
        return self.tables.exists(name) or self._view_file(name).is_file()

    def write_view(self, name: str, query: "exp.Expr") -> None:
        file = self._view_file(name)
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

    def table(self, name: str) -> "StoredTable":
        """What the table's newest version is made of. Raises `NotFound`."""
        snapshot = self.tables.snapshot(name)
        return StoredTable(
            files=data_files(snapshot, self.tables.folder(name)),
            columns=columns_of(snapshot),
            partition_by=snapshot.metadata().partition_columns,
        )

    def show(self, what: str) -> QueryResult:
        """`SHOW TABLES IN c.s`, `SHOW SCHEMAS IN c` and `SHOW CATALOGS`."""
        match = SHOW.fullmatch(what.strip("'\""))
        if match is None:
            raise InvalidRequest("Ask SHOW TABLES IN catalog.schema, SHOW SCHEMAS IN catalog, or SHOW CATALOGS.")
        if match["schema"]:
            catalog, schema = split_name(match["schema"], levels=2)
            folders = (self.tables_root / catalog / schema).glob("*/")
            found = {folder.name for folder in folders if self.tables.exists(f"{catalog}.{schema}.{folder.name}")}
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
