"""What may be used up: by whom, of what, in what time. Ids let an environment's file change one of them."""

from collections.abc import Mapping
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakemesh.config.base import Section
from lakemesh.config.policies import RULE_ID

Unit = Literal["usd", "tokens", "calls", "steps", "tool_calls", "run_seconds"]
"""US dollars of models; their tokens, in and out; executions of agents and tools; requests to models; executions that
agents asked for; the seconds of runs that doors asked for."""
UNITS: tuple[Unit, ...] = ("usd", "tokens", "calls", "steps", "tool_calls", "run_seconds")

Per = Literal["run", "session", "user", "agent", "group", "all"]
Period = Literal["minute", "hour", "day", "month"]


class BudgetConfig(Section):
    """What each `per` (each run, each user, ...) may use in each period. The period begins with the clock's or the
    calendar's; without one, what was used stays used. Names may hold `*`; a list that is empty means everybody."""

    description: str = ""
    per: Per
    period: Period | None = None
    users: list[str] = []
    groups: list[str] = Field(default=[], description="per group: those that are counted; else whose members are meant")
    agents: list[str] = Field(default=[], description="what these use, and what they have others use")
    usd: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=1, description="of models, in and out")
    calls: int | None = Field(default=None, ge=1, description="executions of agents and tools, by doors and by agents")
    steps: int | None = Field(default=None, ge=1, description="requests to models")
    tool_calls: int | None = Field(default=None, ge=1, description="executions that agents asked for")
    run_seconds: float | None = Field(default=None, gt=0, description="of runs that doors asked for")

    @property
    def limits(self) -> Mapping[Unit, float]:
        """What is limited, and to how much."""
        found = {unit: getattr(self, unit) for unit in UNITS}
        return {unit: limit for unit, limit in found.items() if limit is not None}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.limits:
            raise ValueError(f"a budget limits something: {', '.join(UNITS)}")
        if self.per == "run" and self.period is not None:
            raise ValueError("a run has no period")
        return self


class BudgetsConfig(Section):
    """Several budgets that are about the same run all hold."""

    limits: dict[str, BudgetConfig] = {}
    warn_at: float = Field(default=0.8, gt=0, le=1, description="the part of a limit from which callers are warned")
    timezone: str = Field(default="UTC", description="of days and months")
    output_tokens: int = Field(
        default=1_024, ge=1, description="reserved for an answer where the call does not say max_tokens"
    )

    @field_validator("limits")
    @classmethod
    def _ids_are_plain(cls, named: dict[str, BudgetConfig]) -> dict[str, BudgetConfig]:
        if faults := [name for name in named if not RULE_ID.fullmatch(name)]:
            raise ValueError(f"ids of budgets are letters, digits, '.', '-' and '_': {', '.join(map(repr, faults))}")
        return named

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r:.60}") from None
        return name

    @property
    def names_groups(self) -> bool:
        return any(one.per == "group" or one.groups for one in self.limits.values())

    @property
    def counts_money(self) -> bool:
        return any(one.usd is not None for one in self.limits.values())
