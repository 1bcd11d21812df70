"""Unity Catalog: what there is, and who may use it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter, Request

from lakemesh.emulator.cells import column
from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import Grants, body_of
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.lakehouse.embedded.index_log import table_columns
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.spark_dialect import parse_statement
from lakemesh.lakehouse.sql_gate import full_name
from lakemesh.lakehouse.tables import Column, TableInfo
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    from sqlglot import exp

CONTAINERS = ("catalog", "schema", "volume")
DETAILS = ("comment", "properties", "owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDefinition:
    """A SQL function of one expression."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    returns: str
    body: "exp.Expr"
    statement: str
    comment: str | None = None

    @classmethod
    def of(cls, statement: "exp.Create") -> "FunctionDefinition":
        from sqlglot import exp

        returns, comment = statement.find(exp.ReturnsProperty), statement.find(exp.SchemaCommentProperty)
        body = statement.expression.this if isinstance(statement.expression, exp.Return) else statement.expression
        if not isinstance(statement.this, exp.UserDefinedFunction) or returns is None or body is None:
            raise InvalidRequest("The emulator knows CREATE FUNCTION name(parameters) RETURNS type RETURN expression.")
        return cls(
            name=full_name(statement.this.this),
            parameters=tuple((item.name, item.args["kind"].sql("databricks")) for item in statement.this.expressions),
            returns=returns.this.sql("databricks"),
            body=body,
            statement=statement.sql("databricks"),
            comment=comment.this.name if comment else None,
        )

    def call(self, arguments: "list[exp.Expr]") -> "exp.Expr":
        """The body with arguments, by name (`a => 1`) or by place, for its parameters."""
        from sqlglot import exp

        names = [name for name, _ in self.parameters]
        given = {
            (argument.this.name if isinstance(argument, exp.Kwarg) else names[place]).lower(): (
                argument.expression if isinstance(argument, exp.Kwarg) else argument
            )
            for place, argument in enumerate(arguments)
        }
        missing = {name.lower() for name in names} - set(given)
        if missing:
            raise InvalidRequest(f"The function {self.name} needs a value for {sorted(missing)[0]!r}.")

        def substitute(node: "exp.Expr") -> "exp.Expr":
            if isinstance(node, exp.Column) and not node.table and node.name.lower() in given:
                return given[node.name.lower()].copy()
            if isinstance(node, exp.Column) and node.table.lower() in given and not node.args.get("db"):
                return exp.Dot(this=exp.Paren(this=given[node.table.lower()].copy()), expression=node.this.copy())
            return node

        return exp.Paren(this=self.body.copy().transform(substitute))


class Catalog:
    """Catalogs, schemas and volumes with what was said about them, and functions by their statements, all in `kept`;
    tables are those of the workspace."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self._containers: dict[str, dict[str, Any]] = {kind: kept.setdefault(kind, {}) for kind in CONTAINERS}
        self._statements: dict[str, str] = kept.setdefault("function", {})
        self._functions: dict[str, FunctionDefinition] = {}

    def add(self, kind: str, name: str, details: Mapping[str, Any] | None = None) -> bool:
        """False when it is there."""
        known = self._containers[kind]
        if name.lower() in known:
            return False
        known[name.lower()] = {key: value for key, value in (details or {}).items() if key in DETAILS}
        return True

    def change(self, kind: str, name: str, details: Mapping[str, Any]) -> None:
        self.details(kind, name).update({key: value for key, value in details.items() if key in DETAILS})

    def details(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self._containers.get(kind, {}).get(name.lower())
        if found is None:
            raise not_found(f"{kind.capitalize()} {name!r}")
        return found

    def remove(self, kind: str, name: str) -> None:
        self.details(kind, name)
        for containers in self._containers.values():
            for known in [known for known in containers if f"{known}.".startswith(f"{name.lower()}.")]:
                del containers[known]

    def names(self, kind: str, parent: str = "") -> list[str]:
        prefix = f"{parent.lower()}." if parent else ""
        return sorted(name for name in self._containers[kind] if name.startswith(prefix))

    def has(self, kind: str, name: str) -> bool:
        return name.lower() in self._containers[kind]

    def add_function(self, definition: FunctionDefinition) -> None:
        self._functions[definition.name] = definition
        self._statements[definition.name] = definition.statement

    def function(self, name: str) -> FunctionDefinition:
        name = name.lower()
        if name not in self._statements:
            raise not_found(f"Function {name!r}")
        if name not in self._functions:
            self._functions[name] = FunctionDefinition.of(cast("exp.Create", parse_statement(self._statements[name])))
        return self._functions[name]

    def functions(self, schema: str) -> list[FunctionDefinition]:
        return [self.function(name) for name in sorted(self._statements) if name.rpartition(".")[0] == schema.lower()]

    def expand_functions(self, statement: "exp.Expr", allow: Callable[[str], None]) -> None:
        """Put the bodies of our functions where the statement calls them."""
        from sqlglot import exp

        for node in list(statement.find_all(exp.Dot)):
            if not isinstance(node.expression, exp.Anonymous):
                continue
            name = f"{node.this.sql('databricks')}.{node.expression.name}".replace("`", "").lower()
            allow(name)
            node.replace(self.function(name).call(node.expression.expressions))


def routes(workspace: Workspace, catalog: Catalog, grants: Grants) -> APIRouter:
    router = APIRouter(prefix="/api/2.1/unity-catalog")

    @router.post("/catalogs")
    async def create_catalog(request: Request) -> dict[str, Any]:
        return create("catalog", body_of(await request.body()))

    @router.post("/schemas")
    async def create_schema(request: Request) -> dict[str, Any]:
        return create("schema", body_of(await request.body()))

    @router.post("/volumes")
    async def create_volume(request: Request) -> dict[str, Any]:
        return create("volume", body_of(await request.body()))

    def create(kind: str, body: dict[str, Any]) -> dict[str, Any]:
        name = ".".join(filter(None, (body.get("catalog_name"), body.get("schema_name"), body.get("name"))))
        parent = name.rpartition(".")[0]
        if kind != "catalog" and not catalog.has(CONTAINERS[CONTAINERS.index(kind) - 1], parent):
            raise not_found(f"The parent {parent!r}")
        if not catalog.add(kind, name, body):
            raise ApiError(
                409, f"{kind.capitalize()} {name!r} already exists.", error_code=f"{kind.upper()}_ALREADY_EXISTS"
            )
        return described(catalog, kind, name)

    def listed(kind: str, parent: str) -> dict[str, Any]:
        return {f"{kind}s": [described(catalog, kind, name) for name in catalog.names(kind, parent)]}

    @router.get("/catalogs")
    async def list_catalogs() -> dict[str, Any]:
        return listed("catalog", "")

    @router.get("/schemas")
    async def list_schemas(catalog_name: str) -> dict[str, Any]:
        return listed("schema", catalog_name)

    @router.get("/volumes")
    async def list_volumes(catalog_name: str, schema_name: str) -> dict[str, Any]:
        return listed("volume", f"{catalog_name}.{schema_name}")

    @router.get("/tables")
    async def list_tables(catalog_name: str, schema_name: str, request: Request) -> dict[str, Any]:
        names = await workspace.tables.list_tables(f"{catalog_name}.{schema_name}")
        visible = [name for name in names if grants.allows(request.state.user, "SELECT", name)]
        start, size = int(request.query_params.get("page_token") or 0), page_size(request)
        page = visible[start : start + size]
        body: dict[str, Any] = {"tables": [table(await found_table(workspace, name)) for name in page]}
        if start + size < len(visible):
            body["next_page_token"] = str(start + size)
        return body

    @router.get("/tables/{name}/exists")
    async def table_exists(name: str) -> dict[str, bool]:
        return {"table_exists": name.lower() in await workspace.tables.list_tables(name.rpartition(".")[0])}

    @router.get("/functions")
    async def list_functions(catalog_name: str, schema_name: str, request: Request) -> dict[str, Any]:
        found = catalog.functions(f"{catalog_name}.{schema_name}")
        visible = [item for item in found if grants.allows(request.state.user, "EXECUTE", item.name)]
        return {"functions": [function(item) for item in visible]}

    router.include_router(securable_routes(workspace, catalog, grants))
    return router


def securable_routes(workspace: Workspace, catalog: Catalog, grants: Grants) -> APIRouter:
    """One securable at a time, by its full name."""
    router = APIRouter()

    @router.get("/{kinds}/{name}")
    async def get_securable(kinds: str, name: str, request: Request) -> dict[str, Any]:
        kind, user = kinds.removesuffix("s"), request.state.user
        if kind == "table":
            grants.require(user, "SELECT", name)
            return table(await found_table(workspace, name)) | await view_definition(workspace, name)
        if kind == "function":
            grants.require(user, "EXECUTE", name)
            return function(catalog.function(name))
        return described(catalog, kind, name)

    @router.patch("/{kinds}/{name}")
    async def change_securable(kinds: str, name: str, request: Request) -> dict[str, Any]:
        kind = kinds.removesuffix("s")
        grants.require(request.state.user, "MANAGE", name)
        catalog.change(kind, name, body_of(await request.body()))
        return described(catalog, kind, name)

    @router.delete("/{kinds}/{name}")
    async def delete_securable(kinds: str, name: str, request: Request) -> dict[str, Any]:
        kind = kinds.removesuffix("s")
        grants.require(request.state.user, "MANAGE", name)
        if kind == "table":
            await workspace.tables.drop(name)
        elif kind in CONTAINERS:
            await remove_container(kind, name, force=request.query_params.get("force", "").lower() == "true")
        else:
            raise not_found(f"{kind.capitalize()} {name!r}")
        grants.forget(name)
        return {}

    async def remove_container(kind: str, name: str, *, force: bool) -> None:
        catalog.details(kind, name)
        schemas = {"catalog": catalog.names("schema", name), "schema": [name]}.get(kind, [])
        tables = [table for schema in schemas for table in await workspace.tables.list_tables(schema)]
        inside = [*tables, *(below for level in CONTAINERS for below in catalog.names(level, name))]
        if inside and not force:
            raise ApiError(400, f"{kind.capitalize()} {name!r} is not empty.", error_code="INVALID_STATE")
        for table in tables:
            await workspace.tables.drop(table)
        for volume in [name] if kind == "volume" else catalog.names("volume", name):
            await empty(f"/Volumes/{volume.replace('.', '/')}")
        catalog.remove(kind, name)

    async def empty(folder: str) -> None:
        """A managed volume's files go with it."""
        with suppress(LakemeshError):
            for entry in await workspace.volumes.list_directory(folder):
                if entry.is_directory:
                    await empty(entry.path)
                else:
                    await workspace.volumes.delete(entry.path)

    return router


async def found_table(workspace: Workspace, name: str) -> TableInfo:
    """A view is a table to Unity Catalog, too, and so is an index."""
    try:
        try:
            return await workspace.tables.describe(name)
        except NotFound:
            with suppress(NotFound):
                spec = await workspace.indexes.describe(name)
                return TableInfo(name=name, columns=table_columns(spec)[: len(spec.columns) + 1])
            parts = ".".join(f"`{part}`" for part in split_name(name))
            rows = (await workspace.warehouse.query(f"DESCRIBE TABLE {parts}")).rows
            return TableInfo(name=name, columns=[Column(column, kind) for column, kind, _ in rows])

    except NotFound:
        raise ApiError(404, f"Table {name!r} does not exist.") from None
    except LakemeshError as error:
        raise ApiError(error.status, f"Table {name!r} cannot be read: {error.detail}") from None


async def view_definition(workspace: Workspace, name: str) -> dict[str, str]:
    """The query of a view, as the catalog tells it."""
    catalog, schema, view = split_name(name)
    statement = (
        "SELECT view_definition FROM information_schema.views WHERE table_schema = :schema AND table_name = :view"
    )
    found = await workspace.warehouse.query(statement, {"schema": schema, "view": view}, catalog=catalog)
    return {"view_definition": found.rows[0][0]} if found.rows else {}


def page_size(request: Request) -> int:
    return int(request.query_params.get("max_results") or 0) or 50


def described(catalog: Catalog, kind: str, name: str) -> dict[str, Any]:
    return catalog.details(kind, name) | container(kind, name)


def container(kind: str, name: str) -> dict[str, Any]:
    parts = name.split(".")
    body: dict[str, Any] = {"name": parts[-1], "full_name": name}
    if kind == "volume":
        body |= {"volume_type": "MANAGED", "volume_id": name, "storage_location": f"/Volumes/{'/'.join(parts)}"}
    return body | dict(zip(("catalog_name", "schema_name"), parts[:-1], strict=False))


def table(info: TableInfo) -> dict[str, Any]:
    catalog_name, schema_name, name = info.name.split(".")
    return {
        "name": name,
        "catalog_name": catalog_name,
        "schema_name": schema_name,
        "full_name": info.name,
        "table_type": "VIEW" if info.version is None else "MANAGED",
        "data_source_format": "DELTA",
        "comment": info.comment,
        "columns": [column(item.name, catalog_type(item.type), place) for place, item in enumerate(info.columns)],
    }


def catalog_type(sql_type: str) -> str:
    """The catalog writes types in lower case, all but the names inside them."""
    return sql_type if "<" in sql_type else sql_type.lower()


def function(definition: FunctionDefinition) -> dict[str, Any]:
    catalog_name, schema_name, name = definition.name.split(".")
    parameters = [column(name, catalog_type(kind), place) for place, (name, kind) in enumerate(definition.parameters)]
    return {
        "name": name,
        "catalog_name": catalog_name,
        "schema_name": schema_name,
        "full_name": definition.name,
        "input_params": {"parameters": parameters},
        "full_data_type": definition.returns,
        "data_type": definition.returns,
        "routine_body": "SQL",
        "comment": definition.comment,
    }
