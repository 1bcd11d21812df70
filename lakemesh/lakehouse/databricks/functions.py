"""Unity Catalog functions: described by the catalog, executed by the warehouse."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.databricks.cells import type_name
from lakemesh.lakehouse.databricks.tables import identifier, literal, quoted
from lakemesh.lakehouse.functions import FunctionInfo, Parameter
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.warehouse import QueryResult, Warehouse
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service import catalog

TIMEOUT_SECONDS = 30.0


class UnityFunctions:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls, *, warehouse: Warehouse) -> None:
        self._api = client.functions
        self._calls = calls
        self._warehouse = warehouse

    async def list_functions(self, schema: str) -> list[FunctionInfo]:
        catalog_name, schema_name = split_name(schema, levels=2)
        found = await self._calls.run(
            lambda: list(self._api.list(catalog_name, schema_name)),
            deadline=current_deadline(TIMEOUT_SECONDS),
            repeatable=True,
        )
        return sorted(map(info_of, found), key=lambda function: function.name)

    async def describe(self, name: str) -> FunctionInfo:
        full_name = ".".join(split_name(name))
        found = await self._calls.run(
            lambda: self._api.get(full_name), deadline=current_deadline(TIMEOUT_SECONDS), repeatable=True
        )
        return info_of(found)

    async def execute(self, name: str, arguments: Mapping[str, Any], *, timeout_seconds: float = 60.0) -> QueryResult:
        function = await self.describe(name)
        unknown = set(arguments) - {parameter.name for parameter in function.parameters}
        if unknown:
            raise InvalidRequest(f"The function {name!r:.100} has no parameter {sorted(unknown)[0]!r:.60}.")
        given = [parameter for parameter in function.parameters if parameter.name in arguments]
        values = ", ".join(f"{identifier(item.name)} => {argument(item)}" for item in given)
        call = f"{quoted(name)}({values})"
        statement = f"SELECT * FROM {call}" if function.returns == "TABLE" else f"SELECT {call} AS result"  # noqa: S608
        # The statement is ours, the function is the caller's to choose: what it may do is up to its grants.
        bound = {item.name: text_of(item, arguments[item.name]) for item in given}
        return await self._warehouse.query(statement, bound, timeout_seconds=timeout_seconds, read_only=False)


def argument(parameter: Parameter) -> str:
    """The bound value as the parameter's type. Values with parts travel as JSON text: statements are bound to scalars
    only (Statement Execution API, `StatementParameterListItem`)."""
    if parameter.type.startswith("VARIANT"):
        return f"parse_json(:{parameter.name})"
    if is_nested(parameter):
        return f"from_json(:{parameter.name}, {literal(parameter.type)})"
    return f"CAST(:{parameter.name} AS {parameter.type})"


def text_of(parameter: Parameter, value: Any) -> Any:
    if value is None or not is_nested(parameter):
        return value
    return json.dumps(value, default=str)


def is_nested(parameter: Parameter) -> bool:
    return parameter.type.startswith(("ARRAY", "MAP", "STRUCT", "VARIANT"))


def info_of(function: "catalog.FunctionInfo") -> FunctionInfo:
    parameters = (function.input_params.parameters if function.input_params else None) or []
    return FunctionInfo(
        name=function.full_name or "",
        parameters=[
            Parameter(
                name=parameter.name,
                type=type_name(parameter.type_text),
                comment=parameter.comment,
                has_default=parameter.parameter_default is not None,
            )
            for parameter in parameters
        ],
        returns="TABLE" if function.return_params else (function.full_data_type or "STRING").upper(),
        comment=function.comment,
    )
