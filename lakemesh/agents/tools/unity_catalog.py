"""Functions of Unity Catalog as tools."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import AgentContext, Tool
from lakemesh.agents.needs import Needs
from lakemesh.errors import Unavailable
from lakemesh.lakehouse.functions import FunctionInfo, Functions
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, AgentOutput

PYTHON_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("TINYINT", "BYTE", "SMALLINT", "SHORT", "INT", "INTEGER", "BIGINT", "LONG"), int),
    **dict.fromkeys(("FLOAT", "REAL", "DOUBLE", "DECIMAL", "NUMERIC"), float),
    **dict.fromkeys(("STRING", "DATE", "TIMESTAMP", "TIMESTAMP_NTZ"), str),
    "BOOLEAN": bool,
    "ARRAY": list,
    "MAP": dict,
    "STRUCT": dict,
}


class FunctionOptions(BaseModel):
    """`function` is `catalog.schema.function`; `max_rows` bounds what a table function answers."""

    model_config = ConfigDict(extra="forbid")

    function: str = Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")
    max_rows: int = Field(default=1_000, ge=1, le=10_000)


class UnityCatalogTool(Tool[BaseModel, Any]):
    """Calls a function of Unity Catalog with the request's data as its arguments. What it takes, and what it says of
    itself, is read from the catalog when the server starts."""

    options_model = FunctionOptions

    @classmethod
    def needs(cls, options: FunctionOptions) -> Needs:
        return Needs(warehouse=True, functions=frozenset({options.function}))

    async def start(self) -> None:
        info = await functions_of(self.services.workspace).describe(self.options.function)
        # Agents say what they take by class; this one has a class of arguments for each function.
        self.input_model = model_of(self.name, info)  # type: ignore[misc]
        self.description = info.comment or f"The function {info.name} of Unity Catalog."

    async def process(self, request: AgentInput[BaseModel], context: AgentContext) -> AgentOutput[Any]:
        functions = functions_of(await context.workspace())
        arguments = request.data.model_dump(exclude_unset=True)
        seconds = context.deadline.remaining_seconds()
        found = await functions.execute(self.options.function, arguments, timeout_seconds=seconds)
        if len(found.rows) == 1 and len(found.columns) == 1:
            result: Any = {"value": found.rows[0][0]}
        else:
            rows = found.rows[: self.options.max_rows]
            result = {"columns": found.columns, "rows": rows, "truncated": len(rows) < len(found.rows)}
        return AgentOutput(agent_name=self.name, result=to_jsonable_python(result, inf_nan_mode="null", fallback=str))


def functions_of(workspace: Workspace) -> Functions:
    if workspace.functions is None:
        raise Unavailable("This workspace has no functions; they are Unity Catalog's.")
    return workspace.functions


def model_of(name: str, info: FunctionInfo) -> type[BaseModel]:
    fields: dict[str, Any] = {
        parameter.name: (
            PYTHON_TYPES.get(re.split(r"[(<]", parameter.type)[0].upper(), Any),
            Field(None if parameter.has_default else ..., description=parameter.comment),
        )
        for parameter in info.parameters
    }
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
