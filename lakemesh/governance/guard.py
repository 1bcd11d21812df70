"""What holds one execution, and all it calls, to the policies."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from opentelemetry import trace

from lakemesh.config.agents import AgentConfig
from lakemesh.config.policies import ActionKind, PolicyRule
from lakemesh.errors import ApprovalRequired
from lakemesh.governance.access import decisions, denied
from lakemesh.governance.content import Direction, Screen, screened
from lakemesh.governance.patterns import normalized
from lakemesh.governance.policies import FREE, Action, Actor, Decision, Policies
from lakemesh.schemas import Approval, Approvers, Proposal
from lakemesh.scope import ExecutionScope


class Approvals(Protocol):
    """Where persons are asked."""

    async def obtain(self, scope: ExecutionScope, proposal: Proposal) -> Approval:
        """Return when a person has approved. Raises `ApprovalRequired` and `ApprovalRefused`."""
        ...


class NobodyApproves:
    """Approvals on a server that has nobody to ask."""

    async def obtain(self, scope: ExecutionScope, proposal: Proposal) -> Approval:
        wanted_by = f"The rule {proposal.rule!r}" if proposal.rule is not None else f"The agent {scope.agent_name!r}"
        raise ApprovalRequired(
            f"{wanted_by} wants a person to approve {proposal.action!r:.200}. Only a durable run can wait for one: "
            "call the agent by POST /api/invocations, as an A2A task or an MCP task, of a server with a database.",
            rule=proposal.rule,
        )


Observer = Callable[[ExecutionScope, Action, Decision], None]


class ScopeGuard:
    """A `lakemesh.scope.Guard`: asks the policies in the name of the scope's caller and of the agents on the way."""

    __slots__ = ("_approvals", "_observe", "_policies", "_scope")

    def __init__(self, policies: Policies, scope: ExecutionScope, *, approvals: Approvals, observe: Observer) -> None:
        self._policies = policies
        self._scope = scope
        self._approvals = approvals
        self._observe = observe

    @property
    def actor(self) -> Actor:
        return actor_of(self._scope)

    @property
    def governs_anything(self) -> bool:
        """Whether there are policies at all; without them it only notes what an audit trail is to tell."""
        return self._policies.governs_anything

    def allows(self, kind: ActionKind, *names: str) -> bool:
        if not self._policies.governs(kind):
            return True
        return self._decide(self.actor, action_of(kind, names)).effect == "allow" or self._policies.is_dry_run

    async def require(self, kind: ActionKind, *names: str) -> None:
        if self._policies.governs(kind):
            action = action_of(kind, names)
            await self._enforce(action, self._decide(self.actor, action))

    async def require_call(self, name: str, config: AgentConfig) -> None:
        """For the call of an agent, configured so, by this execution's."""
        await self._require_call(self.actor, name)

    async def admit(self) -> None:
        """For the call that a door made, whose execution this is."""
        await self._require_call(Actor(self._scope.identity, self._scope.door), self._scope.agent_name)

    def screens(self, direction: Direction) -> Sequence[Screen]:
        """The rules about what the agent takes in or gives out."""
        return () if self._policies.is_dry_run else self._policies.content.about(self._scope.agent_name, direction)

    def screened(self, direction: Direction, value: Any) -> Any:
        """JSON-ready `value` without what is to be masked. What was found and let pass is noted in the scope. Raises
        `ContentRefused`."""
        result = screened(self.screens(direction), value)
        self._scope.findings += result.findings
        return result.value

    async def _require_call(self, actor: Actor, name: str) -> None:
        for action, decision in decisions(self._policies, actor, name):
            self._observe(self._scope, action, decision)
            await self._enforce(action, decision)

    def _decide(self, actor: Actor, action: Action) -> Decision:
        decision = self._policies.decide(actor, action)
        self._observe(self._scope, action, decision)
        return decision

    async def _enforce(self, action: Action, decision: Decision) -> None:
        if decision.effect == "allow" or self._policies.is_dry_run:
            return
        if decision.effect == "deny":
            raise denied(action, decision)
        rule = self._policies.config.all_rules().get(decision.rule or "")
        await self._approvals.obtain(self._scope, proposal_of(action, decision, rule))


def proposal_of(action: Action, decision: Decision, rule: PolicyRule | None) -> Proposal:
    """What a rule wants a person to approve."""
    named = rule.approvers if rule is not None else None
    approvers = Approvers(users=tuple(named.users), groups=tuple(named.groups)) if named is not None else None
    return Proposal(action=str(action), rule=decision.rule, approvers=approvers)


def note_decision(scope: ExecutionScope, action: Action, decision: Decision) -> None:
    """In the scope, and in the trace as an event of the span that is open: the rule, what it said, of what."""
    if decision is FREE:
        return
    scope.decisions.append((decision.action, decision.effect, decision.rule or ""))
    trace.get_current_span().add_event("lakemesh.policy.decision", decision.attributes)


def action_of(kind: ActionKind, names: tuple[str, ...]) -> Action:
    """Raises `InvalidRequest` for the name of a table or a path that has no one form."""
    return Action(kind, tuple(map(normalized, names)) if kind in ("read", "write") else names)


def actor_of(scope: ExecutionScope) -> Actor:
    return Actor(scope.identity, scope.door, tuple(agents_of(scope)), frozenset(scope.origins))


def agents_of(scope: ExecutionScope) -> Iterator[str]:
    """The agent that acts, then who called it, up to the one that a door called."""
    at: Any = scope
    while at is not None:
        yield at.agent_name
        at = at.parent
