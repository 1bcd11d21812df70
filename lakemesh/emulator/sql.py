"""SQL that the embedded warehouse does not know, carried out on its ports; the rest goes to it as it is."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakemesh.emulator.catalog import Catalog, FunctionDefinition
from lakemesh.emulator.copy_into import CopyInto, copy_into
from lakemesh.emulator.errors import ApiError
from lakemesh.emulator.identity import Grants
from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.lakehouse.statements import full_name, parse_statement, tables_of
from lakemesh.lakehouse.tables import TableSpec
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    from sqlglot import exp

NAME = r"(?P<name>[\w`.-]+)"
CREATE_CONTAINER = re.compile(
    rf"CREATE\s+(?P<kind>CATALOG|SCHEMA|VOLUME)\s+(IF\s+NOT\s+EXISTS\s+)?{NAME}.*", re.IGNORECASE | re.DOTALL
)
MAINTENANCE = re.compile(
    rf"(?P<kind>OPTIMIZE|VACUUM)\s+{NAME}(\s+RETAIN\s+(?P<hours>\d+)\s+HOURS)?(?P<dry>\s+DRY\s+RUN)?\s*;?",
    re.IGNORECASE,
)


class Sql:
    """One statement, as one user."""

    def __init__(self, workspace: Workspace, catalog: Catalog, grants: Grants) -> None:
        self._workspace = workspace
        self._catalog = catalog
        self._grants = grants

    async def run(
        self, text: str, parameters: Mapping[str, Any], *, user: str, row_limit: int, timeout_seconds: float
    ) -> QueryResult:
        """Raises the embedded build's errors, and `ApiError` 403 for what the user holds no grant for."""
        if match := CREATE_CONTAINER.fullmatch(text.strip()):
            return self._create_container(match["kind"].lower(), plain(match["name"]), user)
        if match := MAINTENANCE.fullmatch(text.strip()):
            return await self._maintain(match, user)
        if command := CopyInto.parse(text):
            self._grants.require(user, "MODIFY", command.table)
            return await copy_into(command, self._workspace)
        statement = parse_statement(text)
        self._require_grants(statement, user)
        self._catalog.expand_functions(statement, lambda name: self._grants.require(user, "EXECUTE", name))
        return await self._run_parsed(statement, parameters, row_limit, timeout_seconds)

    async def _run_parsed(
        self, statement: "exp.Expr", parameters: Mapping[str, Any], row_limit: int, timeout_seconds: float
    ) -> QueryResult:
        from sqlglot import exp

        if isinstance(statement, exp.Create) and statement.kind == "FUNCTION":
            self._catalog.add_function(FunctionDefinition.of(statement))
            return done()
        if isinstance(statement, exp.Create) and statement.kind == "TABLE" and isinstance(statement.this, exp.Schema):
            await self._create_table(statement)
            return done()
        if isinstance(statement, exp.Alter):
            await self._add_columns(statement)
            return done()
        if isinstance(statement, exp.Merge):
            statement = await self._insert_of_merge(statement)
        return await self._workspace.warehouse.query(
            statement.sql("databricks"),
            parameters,
            row_limit=row_limit,
            timeout_seconds=timeout_seconds,
            read_only=False,
        )

    async def _add_columns(self, statement: "exp.Alter") -> None:
        """ALTER TABLE ... ADD COLUMNS, top-level ones."""
        from sqlglot import exp

        from lakemesh.lakehouse.tables import Column

        added = [item for action in statement.args.get("actions") or () for item in action.expressions]
        if not added or not all(
            isinstance(item, exp.ColumnDef) and isinstance(item.this, exp.Identifier) for item in added
        ):
            raise InvalidRequest("The emulator knows ALTER TABLE ... ADD COLUMNS with columns of their own.")
        columns = [Column(item.name, item.args["kind"].sql("databricks")) for item in added]
        await self._workspace.tables.add_columns(full_name(statement.this), columns)

    async def _create_table(self, statement: "exp.Create") -> None:
        """With what the embedded warehouse would leave out: comment and properties."""
        from sqlglot import exp

        from lakemesh.lakehouse.tables import Column

        target = statement.find(exp.Table)
        assert target is not None, "a table definition names its table"
        properties = {
            item.name: item.args["value"].name
            for item in statement.find_all(exp.Property)
            if type(item) is exp.Property
        }
        comment = statement.find(exp.SchemaCommentProperty)
        columns = [
            Column(item.name, item.args["kind"].sql("databricks"))
            for item in statement.this.expressions
            if isinstance(item, exp.ColumnDef)
        ]
        name = full_name(target)
        if not statement.args.get("exists") and name in await self._workspace.tables.list_tables(
            name.rpartition(".")[0]
        ):
            raise InvalidRequest(f"[TABLE_OR_VIEW_ALREADY_EXISTS] The table {name!r} exists.")
        await self._workspace.tables.create(
            TableSpec(name=name, columns=columns, comment=comment.this.name if comment else None, properties=properties)
        )

    async def _insert_of_merge(self, merge: "exp.Merge") -> "exp.Expr":
        """`WHEN NOT MATCHED THEN INSERT *` alone, which makes an insert idempotent, as an INSERT of what is new."""
        from sqlglot import exp

        whens = merge.args["whens"].expressions
        insert = whens[0].args.get("then") if len(whens) == 1 and not whens[0].args.get("matched") else None
        if not isinstance(insert, exp.Insert) or not isinstance(insert.this, exp.Star):
            raise InvalidRequest("The emulator knows MERGE only with WHEN NOT MATCHED THEN INSERT *.")
        target, source = merge.this, merge.args["using"]
        name = full_name(target)
        columns = [column.name for column in (await self._workspace.tables.describe(name)).columns]
        alias = source.alias or source.name
        known = exp.select("1").from_(target.copy()).where(merge.args["on"].copy())
        rows = (
            exp.select(*[exp.column(column, table=alias) for column in columns])
            .from_(source.copy())
            .where(exp.Not(this=exp.Exists(this=known)))
        )
        return exp.insert(rows, exp.to_table(name), columns=[exp.to_identifier(column) for column in columns])

    def _create_container(self, kind: str, name: str, user: str) -> QueryResult:
        parent = name.rpartition(".")[0]
        self._grants.require(user, f"CREATE_{kind.upper()}", parent or name)
        self._catalog.add(kind, name)
        return done()

    async def _maintain(self, match: re.Match[str], user: str) -> QueryResult:
        name = plain(match["name"])
        self._grants.require(user, "MODIFY", name)
        if match["kind"].upper() == "OPTIMIZE":
            metrics = await self._workspace.tables.compact(name)
            return QueryResult(
                columns=["path", "metrics"], types=["STRING", "STRING"], rows=[(name, str(dict(metrics)))]
            )
        if match["dry"]:
            return QueryResult(columns=["path"], types=["STRING"], rows=[])
        await self._workspace.tables.vacuum(name, retention_hours=float(match["hours"] or 168))
        return QueryResult(columns=["path"], types=["STRING"], rows=[(name,)])

    def _require_grants(self, statement: "exp.Expr", user: str) -> None:
        from sqlglot import exp

        changed = None
        if not isinstance(statement, exp.Query | exp.Describe | exp.Command):
            target = statement.find(exp.Table)
            changed = target and target.db and full_name(target)
            if isinstance(statement, exp.Create) and changed:
                kind = "TABLE" if statement.kind in (None, "VIEW") else statement.kind
                self._grants.require(user, f"CREATE_{kind}", changed.rpartition(".")[0])
            elif changed:
                self._grants.require(user, "MODIFY", changed)
        for table in tables_of(statement):
            name = full_name(table) if table.db else ""
            if name and name != changed:
                self._grants.require(user, "SELECT", name)


def plain(name: str) -> str:
    return name.replace("`", "").lower()


def done() -> QueryResult:
    return QueryResult(columns=[], types=[], rows=[])


ERROR_CODES: Mapping[int, str] = {
    403: "BAD_REQUEST",
    404: "BAD_REQUEST",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
ERROR_CLASSES: Mapping[int, str] = {403: "[INSUFFICIENT_PERMISSIONS] ", 404: "[TABLE_OR_VIEW_NOT_FOUND] "}


def failure(error: LakemeshError | ApiError) -> dict[str, Any]:
    """The `status` of a statement that failed: SQL's own errors come with HTTP 200."""
    message = error.message if isinstance(error, ApiError) else error.detail
    code = ERROR_CODES.get(error.status, "BAD_REQUEST")
    return {
        "state": "FAILED",
        "error": {"error_code": code, "message": ERROR_CLASSES.get(error.status, "") + message},
    }
