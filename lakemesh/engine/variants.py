"""The versions that rollouts bring beside the agents that serve: kept ready, given to whom a rollout says, judged."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from lakemesh.config.agents import AgentConfig
from lakemesh.config.change import Change
from lakemesh.config.rollouts import RolloutConfig
from lakemesh.config.schema import Config
from lakemesh.engine.registry import AgentRegistry, RegisteredAgent, is_ready
from lakemesh.errors import ConfigurationInvalid, LakemeshError
from lakemesh.rollout.criteria import Outcome, is_failure
from lakemesh.rollout.rollouts import Rollouts
from lakemesh.schemas import SERVER_SEPARATOR
from lakemesh.scope import ExecutionScope
from lakemesh.suggestions import did_you_mean


class EndedRun(Protocol):
    """What is judged of a run."""

    scope: ExecutionScope
    failure: LakemeshError | None

    def elapsed_ms(self) -> float: ...


class Variants:
    """`candidates` holds an instance for each plan that needs one, by the name of the agent in whose place it
    answers."""

    def __init__(self, rollouts: Rollouts, *, registry: AgentRegistry, candidates: AgentRegistry) -> None:
        self.rollouts = rollouts
        self._registry = registry
        self._candidates = candidates

    async def prepare(self, config: Config, prompts: Mapping[str, Collection[int]]) -> Change:
        """Raises `ConfigurationInvalid` for plans that name what is not there, and for candidates that cannot be
        loaded."""
        if faults := plan_faults(config, prompts):
            raise ConfigurationInvalid(faults)
        agents = await self._candidates.prepare(candidate_configs(config))
        return VariantsChange(self, config, agents)

    def choose(self, registered: RegisteredAgent, scope: ExecutionScope) -> RegisteredAgent:
        """The version that answers this execution, which is noted in the scope. A candidate that is not ready answers
        nobody, and then nobody's calls are compared."""
        stage = self.rollouts.active.get(scope.agent_name)
        if stage is None or (scope.parent is not None and scope.is_shadow):
            return registered
        candidate = self._candidate(stage.plan, registered)
        variation = self.rollouts.choose(scope.agent_name, scope) if candidate is not None else None
        if candidate is None or variation is None:
            return registered
        scope.variation = variation
        return candidate if variation.arm == "candidate" else registered

    def shadow_of(self, agent: str) -> RegisteredAgent | None:
        """The candidate that answers beside it; None where there is none, or it is not ready."""
        stage = self.rollouts.active.get(agent)
        found = self._candidates.find(agent) if stage is not None and stage.plan.shadow > 0 else None
        return found if is_ready(found) else None

    def ended(self, run: EndedRun) -> None:
        """Have the rollout learn from a run."""
        variation = run.scope.variation
        if variation is not None and variation.arm != "shadow":
            self.rollouts.ended(variation, outcome_of(run), run.scope.execution_id)

    async def close(self) -> None:
        await self._candidates.close()

    def health(self) -> Mapping[str, Any]:
        """That of the rollouts, and which candidates do not serve."""
        found = dict(self.rollouts.health())
        starting = [f"the candidate of {name} {why}" for name, why in self._candidates.start_errors().items()]
        return {**found, "degraded": "; ".join([*filter(None, [found["degraded"]]), *starting]) or None}

    def _candidate(self, plan: RolloutConfig, registered: RegisteredAgent) -> RegisteredAgent | None:
        if needs_instance(plan):
            found = self._candidates.find(plan.agent)
            return found if is_ready(found) else None
        if plan.candidate.agent is None:
            return registered
        try:
            return self._registry.get(plan.candidate.agent)
        except LakemeshError:  # a peer that has not been reached
            return None


class VariantsChange:
    """New plans with their candidates, started."""

    def __init__(self, variants: Variants, config: Config, agents: Change) -> None:
        self._variants = variants
        self._config = config
        self._agents = agents

    def commit(self) -> None:
        self._agents.commit()
        self._variants.rollouts.configure(self._config.rollouts)

    async def discard(self) -> None:
        await self._agents.discard()


def outcome_of(run: EndedRun) -> Outcome:
    return Outcome(
        failed=is_failure(run.failure),
        degraded=bool(run.scope.degraded),
        latency_ms=run.elapsed_ms(),
        cost_usd=sum(use.cost_usd for use in run.scope.model_uses),
    )


def needs_instance(plan: RolloutConfig) -> bool:
    """What may run as a shadow is made with parts that hold its writes back."""
    return plan.candidate.changes_agent or plan.shadow > 0


def candidate_configs(config: Config) -> dict[str, AgentConfig]:
    plans = [plan for plan in config.rollouts.plans.values() if needs_instance(plan)]
    return {
        plan.agent: config.agents[plan.candidate.agent]
        if plan.candidate.agent is not None
        else plan.candidate.of(config.agents[plan.agent])
        for plan in plans
    }


def plan_faults(config: Config, prompts: Mapping[str, Collection[int]]) -> list[str]:
    faults = []
    for name, plan in config.rollouts.plans.items():
        key = f"rollouts.plans.{name}"
        if plan.agent not in config.agents:
            faults.append(f"{key}.agent: there is no agent {plan.agent!r}{did_you_mean(plan.agent, config.agents)}")
        other = plan.candidate.agent
        if other is not None and SERVER_SEPARATOR in other and plan.shadow:
            faults.append(f"{key}.shadow: what an agent of another server does cannot be held back")
        if other is not None and SERVER_SEPARATOR not in other and other not in config.agents:
            faults.append(f"{key}.candidate.agent: there is no agent {other!r}{did_you_mean(other, config.agents)}")
        routes = {**plan.candidate.routes, **dict.fromkeys(plan.candidate.routes.values())}
        unknown = [route for route in routes if route not in config.models.routes]
        faults += [f"{key}.candidate.routes: there is no route {route!r}" for route in unknown]
        for prompt, version in plan.candidate.prompts.items():
            if version not in prompts.get(prompt, ()):
                faults.append(f"{key}.candidate.prompts: there is no version {version} of the prompt {prompt!r}")
    return faults
