"""SQL over the lakehouse, in the Databricks dialect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """`types` are Databricks type names, one per column. `truncated` says that `row_limit` cut the rows."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    truncated: bool = False

    def to_dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Warehouse(Protocol):
    """Statements are Databricks SQL with named parameters (`:name`), bound and never spliced into the text."""

    async def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = 10_000,
        timeout_seconds: float = 60.0,
        read_only: bool = True,
        catalog: str | None = None,
        schema: str | None = None,
    ) -> QueryResult:
        """Run one statement. Names of fewer than three levels stand in `catalog` and `schema`.

        Raises `InvalidRequest` for text that does not parse or names what does not exist, `PermissionDenied`
        for one that writes while `read_only`, `DeadlineExceeded` past the time limit (the statement is
        cancelled), `WorkspaceUnavailable` when the warehouse does not answer.
        """
        ...
