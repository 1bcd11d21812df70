"""Unity Catalog functions: described by the catalog, executed by the warehouse."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.databricks.tables import identifier, quoted
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
        values = ", ".join(f"{identifier(item.name)} => CAST(:{item.name} AS {item.type})" for item in given)
        call = f"{quoted(name)}({values})"
        statement = f"SELECT * FROM {call}" if function.returns == "TABLE" else f"SELECT {call} AS result"  # noqa: S608
        # The statement is ours, the function is the caller's to choose: what it may do is up to its grants.
        return await self._warehouse.query(statement, dict(arguments), timeout_seconds=timeout_seconds, read_only=False)


def info_of(function: "catalog.FunctionInfo") -> FunctionInfo:
    parameters = (function.input_params.parameters if function.input_params else None) or []
    return FunctionInfo(
        name=function.full_name or "",
        parameters=[
            Parameter(
                name=parameter.name,
                type=parameter.type_text.upper(),
                comment=parameter.comment,
                has_default=parameter.parameter_default is not None,
            )
            for parameter in parameters
        ],
        returns="TABLE" if function.return_params else (function.full_data_type or "STRING").upper(),
        comment=function.comment,
    )
