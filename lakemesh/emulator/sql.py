"""SQL that the embedded warehouse does not know, carried out on its ports; the rest goes to it as it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakemesh.emulator.catalog import Catalog, FunctionDefinition
from lakemesh.emulator.copy_into import CopyInto, copy_into
from lakemesh.emulator.errors import ApiError
from lakemesh.emulator.identity import Grants
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.descriptions import parse_description
from lakemesh.lakehouse.embedded.catalog import Session
from lakemesh.lakehouse.spark_dialect import parse_statement, render
from lakemesh.lakehouse.sql_gate import resolve_identifiers, tables_of
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    from sqlglot import exp

NAME = r"(?P<name>[\w`.-]+)"
CREATE_CONTAINER = re.compile(
    rf"CREATE\s+(?P<kind>CATALOG|SCHEMA|VOLUME)\s+(IF\s+NOT\s+EXISTS\s+)?{NAME}.*", re.IGNORECASE | re.DOTALL
)

MAINTENANCE = re.compile(rf"(?:OPTIMIZE|VACUUM|TRUNCATE\s+TABLE|RESTORE(?:\s+TABLE)?)\s+{NAME}", re.IGNORECASE)
USER_FUNCTIONS = ("current_user", "session_user", "user")
NO_SESSION = Session()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a statement may take, and where its shorter names stand."""

    row_limit: int
    timeout_seconds: float
    session: Session


class Sql:
    """One statement, as one user."""

    def __init__(self, workspace: Workspace, catalog: Catalog, grants: Grants) -> None:
        self._workspace = workspace
        self._catalog = catalog
        self._grants = grants

    async def run(
        self,
        text: str,
        parameters: Mapping[str, Any],
        *,
        user: str,
        row_limit: int,
        timeout_seconds: float,
        session: Session = NO_SESSION,
    ) -> QueryResult:
        """Raises the embedded build's errors, and `ApiError` 403 for what the user holds no grant for."""
        if match := CREATE_CONTAINER.fullmatch(text.strip()):
            return self._create_container(match["kind"].lower(), plain(match["name"]), user)
        limits = Limits(row_limit, timeout_seconds, session)
        if description := parse_description(text):
            return await self._ask(description.render(), {}, limits)
        if command := CopyInto.parse(text):
            self._grants.require(user, "MODIFY", command.table)
            return await copy_into(command, self._workspace)
        if command_of_table := MAINTENANCE.match(text.strip()):
            name = session.full_name(plain(command_of_table["name"]).split("."))
            self._grants.require(user, "MODIFY", name)
            return await self._ask(text, {}, limits)
        statement = resolve_identifiers(parse_statement(text), parameters)
        self._require_grants(statement, user, session)
        self._catalog.expand_functions(statement, lambda name: self._grants.require(user, "EXECUTE", name))
        name_user(statement, user)
        return await self._run_parsed(statement, parameters, limits)

    async def _run_parsed(self, statement: "exp.Expr", parameters: Mapping[str, Any], limits: "Limits") -> QueryResult:
        from sqlglot import exp

        if isinstance(statement, exp.Create) and statement.kind == "FUNCTION":
            self._catalog.add_function(FunctionDefinition.of(statement))
            return done()
        return await self._ask(render(statement), parameters, limits)

    async def _ask(self, text: str, parameters: Mapping[str, Any], limits: "Limits") -> QueryResult:
        return await self._workspace.warehouse.query(
            text,
            parameters,
            row_limit=limits.row_limit,
            timeout_seconds=limits.timeout_seconds,
            read_only=False,
            catalog=limits.session.catalog,
            schema=limits.session.schema,
        )

    def _create_container(self, kind: str, name: str, user: str) -> QueryResult:
        parent = name.rpartition(".")[0]
        self._grants.require(user, f"CREATE_{kind.upper()}", parent or name)
        self._catalog.add(kind, name)
        return done()

    def _require_grants(self, statement: "exp.Expr", user: str, session: Session) -> None:
        from sqlglot import exp

        changed = None
        if not isinstance(statement, exp.Query):
            target = next((table for table in statement.find_all(exp.Table) if table.name), None)
            changed = session.full_name([part.name for part in target.parts]) if target is not None else None
            if isinstance(statement, exp.Create) and changed:
                kind = "TABLE" if statement.kind in (None, "VIEW") else statement.kind
                self._grants.require(user, f"CREATE_{kind}", changed.rpartition(".")[0])
            elif changed:
                self._grants.require(user, "MODIFY", changed)
        for table in tables_of(statement):
            name = session.full_name([part.name for part in table.parts]) if table.name else ""
            if name and name != changed:
                self._grants.require(user, "SELECT", name)


def name_user(statement: "exp.Expr", user: str) -> None:
    """`current_user()` and its like, which only a warehouse that knows its callers can answer."""
    from sqlglot import exp

    for node in list(statement.find_all(exp.CurrentUser, exp.Anonymous)):
        if isinstance(node, exp.CurrentUser) or (node.name.lower() in USER_FUNCTIONS and not node.expressions):
            node.replace(exp.Literal.string(user))


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
