"""Flags for agents, and rollouts: a new version beside the one that serves, for a share of users or sessions."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lakemesh.config.agents import CLASS, IMPORT_PATH, AgentConfig
from lakemesh.config.base import Section

Criterion = Literal["errors", "latency", "cost", "quality"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class FlagsConfig(Section):
    """OpenFeature flags, as `context.flags` gives them to agents."""

    provider: str = Field(
        default="lakemesh",
        description="who evaluates: lakemesh, from `definitions`, or an entry point of lakemesh.flag_providers",
    )
    options: dict[str, Any] = Field(default={}, description="given to another provider as keyword arguments")
    definitions: dict[str, dict[str, Any]] = Field(
        default={}, description="by key: state, variants, defaultVariant and targeting, in flagd's form"
    )
    evaluators: dict[str, Any] = Field(default={}, description="parts of targeting that flags refer to as $ref")


class CandidateConfig(Section):
    """What is new. `agent` is another agent, of ours or of a peer (`peer__skill`), that answers in the place of the one
    that serves; else what is given here of its configuration differs from it. `prompts` pins versions and `routes`
    renames model routes for everything that runs for it."""

    agent: str | None = None
    class_path: str | None = Field(default=None, alias="class", pattern=CLASS)
    function: str | None = Field(default=None, pattern=IMPORT_PATH)
    options: dict[str, Any] = Field(default={}, description="merged over the agent's, key by key")
    execution: Literal["inline", "thread", "process_pool"] | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=3600)
    prompts: dict[str, Annotated[int, Field(ge=1)]] = {}
    routes: dict[str, str] = Field(default={}, description="route → the route that is asked instead")

    @property
    def changes_agent(self) -> bool:
        """Whether an instance of its own has to be made."""
        given = self.class_path or self.function or self.options or self.execution or self.timeout_seconds
        return self.agent is None and bool(given)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.agent is not None and (self.class_path or self.function or self.options or self.execution):
            raise ValueError("give either another agent, or what differs of the one that serves")
        if not (self.agent or self.changes_agent or self.prompts or self.routes):
            raise ValueError("a candidate differs in something: agent, class, function, options, prompts, routes, ...")
        return self

    def of(self, base: AgentConfig) -> AgentConfig:
        """The agent's configuration with what differs."""
        given = self.model_dump(
            by_alias=True, include={"class_path", "function", "execution", "timeout_seconds"}, exclude_none=True
        )
        whole = base.model_dump(by_alias=True, exclude_defaults=True)
        if self.class_path or self.function:
            whole = {key: value for key, value in whole.items() if key not in ("class", "function")}
        return AgentConfig.model_validate({**whole, **given, "options": {**base.options, **self.options}})


class AbortConfig(Section):
    """When the candidate is taken back by itself. `alpha` is how likely that is at most, for each criterion and
    however long it is looked at, for a candidate that is no worse."""

    criteria: list[Criterion] = ["errors", "latency"]
    alpha: float = Field(default=0.0003, gt=0, le=0.1)
    slower_by: float = Field(
        default=1.5, ge=1, description="slow is what takes longer than so many times the p95 of what serves"
    )
    costlier_by: float = Field(default=1.5, ge=1, description="the same for the cost of a call")


class RolloutConfig(Section):
    """One candidate for one agent."""

    agent: str
    candidate: CandidateConfig
    share: Share = Field(default=0.0, description="of users or sessions, until operators move it")
    shadow: Share = Field(default=0.0, description="of requests that the candidate answers beside, for comparison")
    by: Literal["session", "user"] = "session"
    abort: AbortConfig = AbortConfig()


class RolloutsConfig(Section):
    """All rollouts, at most one for each agent."""

    refresh_seconds: float = Field(default=15.0, gt=0, description="how often operators' moves are read")
    status: str | None = Field(
        default=None,
        pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+",
        description="a folder that all replicas may write, where aborts are told when there is no database",
    )
    shadow_concurrency: int = Field(default=4, ge=1, description="shadow runs at once; more are left out and counted")
    shadow_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    plans: dict[str, RolloutConfig] = {}

    @model_validator(mode="after")
    def _one_for_each_agent(self) -> Self:
        agents = [plan.agent for plan in self.plans.values()]
        if twice := sorted({agent for agent in agents if agents.count(agent) > 1}):
            raise ValueError(f"an agent has one rollout at a time: {', '.join(twice)}")
        return self
