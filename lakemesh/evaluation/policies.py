"""What a suite says of production: when an agent's prompt is taken back, and where labels are that come late."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lakemesh.errors import InvalidRequest
from lakemesh.evaluation.statistics import bootstrap_interval
from lakemesh.lakehouse.names import split_name


class OptimizePolicy(BaseModel):
    """What `lakemesh nightly` does to a `prompt`: at most `calls` executions to find a better text by the suite's
    scorers, which then serves `share` of sessions. `outcome` is what the experiment is decided by, as in
    `lakemesh prompts experiment`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    calls: int = Field(default=200, ge=10)
    route: str = "quality"
    share: float = Field(default=0.2, gt=0, lt=1)
    outcome: str = "feedback"


class FreezePolicy(BaseModel):
    """The `prompt` is frozen to its former version when the mean of `metric` over the executions that its champion
    served is below `at_least`: not by chance, which the upper end of the 95 % interval says, and over at least
    `min_executions`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    metric: str
    at_least: float = Field(allow_inf_nan=False)
    min_executions: int = Field(default=50, ge=10)

    def reason_against(self, values: Sequence[float]) -> str | None:
        """Why to freeze; None when there is no reason, or too little is known."""
        if len(values) < self.min_executions or bootstrap_interval(values).high >= self.at_least:
            return None
        mean = sum(values) / len(values)
        return f"{self.metric} is {mean:.3f} over {len(values)} executions, less than {self.at_least:g}"


class LateLabels(BaseModel):
    """`table` says by `key`, a field of the agent's input, what a case turned out to be (`label`, a truth value;
    the newest by `known_at` counts). `score` is the dotted path of the agent's score in its result. Precision is among
    the `top` scores of a day; with `unit`, an input field such as a card's number, each unit counts once, by its
    highest score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = "main.fraud.labels"
    key: str = "transaction_id"
    label: str = "is_fraud"
    known_at: str = "known_at"
    score: str = "score"
    unit: str | None = None
    top: int = Field(default=100, ge=1)

    def statement(self) -> str:
        """Raises `InvalidRequest` for names that are none."""
        names = [self.key, self.label, self.known_at]
        if not all(name.isidentifier() for name in names):
            raise InvalidRequest(f"{', '.join(names)}: a column's name has letters, digits and '_'.")
        table = ".".join(f"`{part}`" for part in split_name(self.table))
        return (
            f"SELECT {self.key}, max_by({self.label}, {self.known_at}) FROM {table}"  # noqa: S608 (checked above)
            f" WHERE {self.known_at} <= current_timestamp() GROUP BY {self.key}"
        )
