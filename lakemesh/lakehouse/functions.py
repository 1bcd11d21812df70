"""Unity Catalog functions, which agents use as tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lakemesh.lakehouse.warehouse import QueryResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`type` is a Databricks SQL type."""

    name: str
    type: str
    comment: str | None = None
    has_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionInfo:
    """`returns` is a Databricks SQL type, or TABLE."""

    name: str
    parameters: Sequence[Parameter]
    returns: str
    comment: str | None = None


class Functions(Protocol):
    """Three-level names. An unknown function raises `NotFound`."""

    async def list_functions(self, schema: str) -> list[FunctionInfo]:
        """The functions of `catalog.schema`, by name."""
        ...

    async def describe(self, name: str) -> FunctionInfo: ...

    async def execute(self, name: str, arguments: Mapping[str, Any], *, timeout_seconds: float = 60.0) -> QueryResult:
        """Call the function with arguments by name, bound and never spliced into SQL. A scalar function answers one
        row of one column. Raises what `Warehouse.query` raises, `InvalidRequest` for an argument it does not have."""
        ...
