"""What a page asks for, and whose work its caller may see."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from lakemesh.engine.validation import field_errors
from lakemesh.errors import ValidationFailed

MAX_HOURS = 24 * 366
POINTS = 48
PAGE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. Operators see everybody's work, everybody else their own."""

    user: str
    is_operator: bool

    @property
    def only(self) -> str | None:
        """The one user whose work may be seen, or None for all."""
        return None if self.is_operator else self.user


class ExecutionQuery(BaseModel):
    """Filters of executions. The time is the `hours` before `end` (Unix milliseconds, now unless given)."""

    model_config = ConfigDict(extra="forbid")

    hours: float = Field(default=24.0, gt=0, le=MAX_HOURS, allow_inf_nan=False)
    end: int | None = Field(default=None, ge=0, le=4_102_444_800_000)
    agent: str | None = Field(default=None, max_length=200)
    user: str | None = Field(default=None, max_length=500)
    session: str | None = Field(default=None, max_length=200)
    execution: str | None = Field(default=None, max_length=64)
    failed: bool = False
    degraded: bool = False
    nested: bool = False
    live: bool = Field(default=False, description="only what this server ran last, without asking the tables")

    def seen_by(self, viewer: Viewer) -> "ExecutionQuery":
        return self if viewer.is_operator else self.model_copy(update={"user": viewer.user})

    @property
    def until(self) -> datetime:
        """The end of the time, exclusive. Rows of this very moment belong to it."""
        return datetime.fromtimestamp(time.time() + 1 if self.end is None else self.end / 1_000, tz=UTC)

    @property
    def bucket_seconds(self) -> int:
        return max(60, int(self.hours * 3_600 / POINTS) // 60 * 60)

    def conditions(self) -> tuple[str, dict[str, Any]]:
        """The WHERE clause's text, which is made of constants alone, and its parameters."""
        until = self.until
        values: dict[str, Any] = {"start": until - timedelta(hours=self.hours), "end": until}
        clauses = ["timestamp >= CAST(:start AS TIMESTAMP)", "timestamp < CAST(:end AS TIMESTAMP)"]
        for name, column in COLUMNS.items():
            if (value := getattr(self, name)) is not None:
                clauses.append(f"{column} = :{name}")
                values[name] = value
        if self.failed:
            clauses.append("NOT success")
        if self.degraded:
            clauses.append("size(degraded) > 0")
        if not self.nested and self.execution is None:
            clauses.append("parent_execution_id IS NULL")
        return " AND ".join(clauses), values

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a live execution is one the clause would find."""
        until = self.until
        return (
            until - timedelta(hours=self.hours) <= row["timestamp"] < until
            and all(getattr(self, name) in (None, row[column]) for name, column in COLUMNS.items())
            and not (self.failed and row["success"])
            and not (self.degraded and not row["degraded"])
            and (self.nested or self.execution is not None or row["parent_execution_id"] is None)
        )


COLUMNS: Mapping[str, str] = {
    "agent": "agent_id",
    "user": "user_id",
    "session": "session_id",
    "execution": "execution_id",
}


def query_of(request: Request) -> ExecutionQuery:
    """Raises `ValidationFailed` with each parameter at fault."""
    try:
        return ExecutionQuery.model_validate({name: value for name, value in request.query_params.items() if value})
    except ValidationError as error:
        raise ValidationFailed("The query does not fit; see 'errors'.", field_errors(error)) from None
