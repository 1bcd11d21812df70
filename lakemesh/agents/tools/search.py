"""Tables that are there already, searched by meaning: through a vector index that follows them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import AgentContext, Tool
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.indexes import DeltaSource, IndexSpec
from lakemesh.schemas import AgentInput, AgentOutput

Value = str | int | float | bool


class IndexedTable(BaseModel):
    """The table a Delta Sync index is made over when it is not there."""

    model_config = ConfigDict(extra="forbid")

    table: str = Field(description="catalog.schema.table")
    key: str = Field(default="id", description="the column that names a row")
    text: str = Field(description="the column that is embedded")
    embedding_endpoint: str = Field(
        default="databricks-gte-large-en", description="the serving endpoint that embeds it"
    )
    pipeline: Literal["TRIGGERED", "CONTINUOUS"] = Field(
        default="TRIGGERED", description="taken up when a sync is asked for, or at once, for which the platform charges"
    )


class SearchOptions(BaseModel):
    """`columns` are shown and may be filtered by; `filters` always hold. `embedding_route` embeds the question for an
    index whose vectors were made elsewhere; without it the index embeds."""

    model_config = ConfigDict(extra="forbid")

    index: str = Field(description="catalog.schema.index")
    columns: list[str] = Field(min_length=1)
    filters: dict[str, Value | list[Value]] = {}
    embedding_route: str | None = None
    source: IndexedTable | None = Field(default=None, description="makes the index when it is not there")


class SearchQuery(BaseModel):
    query: str = Field(min_length=1, max_length=2_000, description="what is looked for, in words")
    top_k: int = Field(default=5, ge=1, le=50)
    filters: dict[str, Value | list[Value]] = Field(
        default={}, description="by column: a value, a list of which any, or `column >=` and the like, `column NOT`"
    )


class SearchTableTool(Tool[SearchQuery, dict[str, Any]]):
    """Searches a table by meaning and by words, and returns the rows that fit best."""

    input_model = SearchQuery
    options_model = SearchOptions

    async def start(self) -> None:
        """With the app's own rights; who asks needs to be able to read the index."""
        if (source := self.options.source) is not None:
            await self.services.workspace.indexes.create(spec_of(self.options, source))

    async def process(self, request: AgentInput[SearchQuery], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        asked, options = request.data, self.options
        check_filters(asked.filters, options.columns)
        vector = None
        if options.embedding_route is not None:
            embedded = await context.models.embed([asked.query], route=options.embedding_route)
            vector = embedded.vectors[0]
        found = await (await context.workspace()).indexes.query(
            options.index,
            vector,
            text=asked.query,
            top_k=asked.top_k,
            filters={**asked.filters, **options.filters} or None,
            columns=options.columns,
        )
        matches = [{"score": match.score, **to_jsonable_python(dict(match.row), fallback=str)} for match in found]
        return AgentOutput(agent_name=self.name, result={"matches": matches})


def spec_of(options: SearchOptions, source: IndexedTable) -> IndexSpec:
    """The index holds the columns that are shown or filtered by."""
    named = dict.fromkeys([source.key, source.text, *options.columns, *map(column_of, options.filters)])
    followed = DeltaSource(
        table=source.table,
        text_column=source.text,
        embedding_endpoint=source.embedding_endpoint,
        pipeline=source.pipeline,
    )
    return IndexSpec(name=options.index, primary_key=source.key, columns=dict.fromkeys(named, ""), source=followed)


def check_filters(filters: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raises `InvalidRequest` for a filter by what is not shown."""
    unknown = [key for key in filters if column_of(key) not in columns]
    if unknown:
        raise InvalidRequest(f"There is no filter {unknown[0]!r:.100}; filter by {', '.join(columns)}.")


def column_of(key: str) -> str:
    return key.partition(" ")[0]
