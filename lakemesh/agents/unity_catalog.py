"""Functions of Unity Catalog as tools."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import AgentContext, Tool
from lakemesh.errors import Unavailable
from lakemesh.schemas import AgentInput, AgentOutput


class FunctionOptions(BaseModel):
    """`function` is `catalog.schema.function`; `max_rows` bounds what a table function answers."""

    model_config = ConfigDict(extra="forbid")

    function: str = Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")
    max_rows: int = Field(default=1_000, ge=1, le=10_000)


class UnityCatalogTool(Tool[dict[str, Any], Any]):
    """Calls a function of Unity Catalog with the request's data as its arguments."""

    options_model = FunctionOptions

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[Any]:
        functions = (await context.workspace()).functions
        if functions is None:
            raise Unavailable("This workspace has no functions; they are Unity Catalog's.")
        seconds = context.deadline.remaining_seconds()
        found = await functions.execute(self.options.function, request.data, timeout_seconds=seconds)
        if len(found.rows) == 1 and len(found.columns) == 1:
            result: Any = {"value": found.rows[0][0]}
        else:
            rows = found.rows[: self.options.max_rows]
            result = {"columns": found.columns, "rows": rows, "truncated": len(rows) < len(found.rows)}
        return AgentOutput(agent_name=self.name, result=to_jsonable_python(result, inf_nan_mode="null", fallback=str))
