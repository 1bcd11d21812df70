"""The lakehouse as tools: query tables, describe them, search memory, read prompts.

Each is an agent like any other: configuration names its class, says who may call it through which door, and whether it
reads with the caller's own rights (`on_behalf_of_user`).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import AgentContext, Tool
from lakemesh.agents.needs import Needs
from lakemesh.errors import PermissionDenied
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.sql_gate import require_allowed
from lakemesh.schemas import AgentInput, AgentOutput


class SchemaOptions(BaseModel):
    """`schemas` are the `catalog.schema` that may be read."""

    model_config = ConfigDict(extra="forbid")

    schemas: list[str] = Field(min_length=1)


class QueryOptions(SchemaOptions):
    row_limit: int = Field(default=1_000, ge=1, le=10_000)


class Query(BaseModel):
    statement: str = Field(
        min_length=1, max_length=20_000, description="one SELECT in Databricks SQL, tables named catalog.schema.table"
    )
    parameters: dict[str, str | int | float | bool | None] = Field(
        default={}, description="values of the statement's named parameters, :name"
    )


class QueryTool(Tool[Query, dict[str, Any]]):
    """Runs one read-only SQL query over the allowed schemas and returns its rows."""

    input_model = Query
    options_model = QueryOptions

    @classmethod
    def needs(cls, options: QueryOptions) -> Needs:
        return Needs(warehouse=True)

    async def process(self, request: AgentInput[Query], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        await asyncio.to_thread(require_allowed, request.data.statement, self.options.schemas)
        workspace = await context.workspace()
        found = await workspace.warehouse.query(
            request.data.statement,
            request.data.parameters,
            row_limit=self.options.row_limit,
            timeout_seconds=context.deadline.remaining_seconds(),
        )
        result = {"columns": found.columns, "types": found.types, "rows": found.rows, "truncated": found.truncated}
        return AgentOutput(agent_name=self.name, result=to_jsonable_python(result, inf_nan_mode="null", fallback=str))


class Described(BaseModel):
    table: str | None = Field(
        default=None, max_length=300, description="catalog.schema.table; without it, the tables there are"
    )


class DescribeTool(Tool[Described, dict[str, Any]]):
    """Lists the tables of the allowed schemas, or describes the columns of one."""

    input_model = Described
    options_model = SchemaOptions

    async def process(self, request: AgentInput[Described], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        tables = (await context.workspace()).tables
        if request.data.table is None:
            found = [name for schema in self.options.schemas for name in await tables.list_tables(schema)]
            return AgentOutput(agent_name=self.name, result={"tables": found})
        catalog, schema, _ = split_name(request.data.table)
        if f"{catalog}.{schema}" not in self.options.schemas:
            raise not_allowed(f"{catalog}.{schema}", self.options.schemas)
        info = await tables.describe(request.data.table)
        columns = [{"name": column.name, "type": column.type, "comment": column.comment} for column in info.columns]
        result = {"table": info.name, "comment": info.comment, "columns": columns}
        return AgentOutput(agent_name=self.name, result=result)


class MemoryOptions(BaseModel):
    """`own_only`: what agents learned from other users is not found. Without it, what `memory.shared_agents` learned
    from anybody is."""

    model_config = ConfigDict(extra="forbid")

    own_only: bool = True


class MemoryQuery(BaseModel):
    query: str = Field(min_length=1, max_length=2_000, description="what is looked for, in words")
    agent_id: str | None = Field(default=None, max_length=200, description="only what this agent remembers")
    top_k: int = Field(default=5, ge=1, le=50)


class SearchMemoryTool(Tool[MemoryQuery, dict[str, Any]]):
    """Searches what agents remember, by meaning."""

    input_model = MemoryQuery
    options_model = MemoryOptions

    @classmethod
    def needs(cls, options: BaseModel) -> Needs:
        return Needs(memory=True)

    async def process(self, request: AgentInput[MemoryQuery], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        asked = request.data
        found = await context.memory.retrieve(
            asked.query, agent_id=asked.agent_id, top_k=asked.top_k, shared=not self.options.own_only
        )
        matches = [
            {"memory_id": match.memory_id, "text": match.text, "score": match.score, "agent_id": match.agent_id}
            for match in found
        ]
        return AgentOutput(agent_name=self.name, result={"matches": matches})


class PromptQuery(BaseModel):
    name: str | None = Field(default=None, max_length=200, description="without it, the prompts there are")
    version: int | None = Field(default=None, ge=1, description="without it, the one that is served")


class PromptTool(Tool[PromptQuery, dict[str, Any]]):
    """Lists the prompts and their versions, or reads one."""

    input_model = PromptQuery

    async def process(self, request: AgentInput[PromptQuery], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        asked = request.data
        if asked.name is None:
            return AgentOutput(agent_name=self.name, result={"prompts": context.prompts.list_versions()})
        prompt = context.prompts.get(asked.name, asked.version)
        result: dict[str, Any] = {"name": asked.name, "version": prompt.version, "source": prompt.source}
        return AgentOutput(agent_name=self.name, result={**result, "variables": sorted(prompt.variables)})


def not_allowed(schema: str, allowed: Sequence[str]) -> PermissionDenied:
    return PermissionDenied(f"The schema {schema!r:.200} may not be read here; allowed are {', '.join(allowed)}.")
