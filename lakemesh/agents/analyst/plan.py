"""What a question asks for, before it is SQL."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Grain = Literal["day", "week", "month", "quarter", "year"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeRange(Part):
    """From `start` to before `end`, as the question put it."""

    start: date
    end: date
    label: str = Field(max_length=100)
    grain: Grain


class ValueFilter(Part):
    dimension: str
    values: tuple[str, ...] = Field(min_length=1, max_length=100)
    excluded: bool = False


class MetricFilter(Part):
    """Only groups whose metric compares to a number so."""

    metric: str
    operator: Literal[">", ">=", "<", "<="]
    number: float


class Plan(Part):
    """Metrics, by dimensions and `grain`, of the rows that pass the filters; `limit` the first so many groups by the
    first metric. With several `ranges` they are compared. `verified` is the place of a verified query, and then
    there is nothing else."""

    metrics: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    grain: Grain | None = None
    filters: tuple[ValueFilter, ...] = ()
    having: tuple[MetricFilter, ...] = ()
    ranges: tuple[TimeRange, ...] = ()
    limit: int | None = Field(default=None, ge=1, le=1000)
    ascending: bool = False
    verified: int | None = Field(default=None, ge=0)


class CannotAnswer(Exception):
    """The question asks for what the model does not have. `unknown` are the words that were not understood, `choices`
    what an ambiguous word may mean."""

    def __init__(self, reason: str, *, unknown: tuple[str, ...] = (), choices: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason, self.unknown, self.choices = reason, unknown, choices
