"""Which agents an identity may call."""

from functools import lru_cache

from lakemesh.config.agents import AgentConfig
from lakemesh.errors import PermissionDenied, PolicyDenied, Unavailable
from lakemesh.governance.policies import Action, Actor, Decision, Policies
from lakemesh.schemas import SERVER_SEPARATOR, Identity

KEPT_NAMES = 4_096


def may_call(policies: Policies, actor: Actor, name: str, agent: AgentConfig) -> bool:
    """Whether `allowed_groups` of the agent, when it is set, names a group of the caller, and no policy is against it.
    What a person has to approve may be called: the run waits for them."""
    if agent.allowed_groups is not None and actor.identity.groups.isdisjoint(agent.allowed_groups):
        return False
    return all(decision.effect != "deny" for _, decision in decisions(policies, actor, name)) or policies.is_dry_run


def require_may_call(policies: Policies, identity: Identity, door: str, name: str, agent: AgentConfig) -> None:
    """Raises `PermissionDenied` unless `may_call`, through a door, and `Unavailable` while nobody knows."""
    require_group(identity, name, agent)
    if not policies.governs_anything:
        return
    for action, decision in decisions(policies, Actor(identity, door), name):
        if decision.effect == "deny" and not policies.is_dry_run:
            raise denied(action, decision)


def require_group(identity: Identity, name: str, agent: AgentConfig) -> None:
    """Raises `PermissionDenied` where the agent is for groups that the caller is in none of, and `Unavailable` while
    nobody knows."""
    if agent.allowed_groups is None or not identity.groups.isdisjoint(agent.allowed_groups):
        return
    if identity.groups_unknown:
        raise groups_unknown()
    raise PermissionDenied(f"Your groups may not call the agent {name!r}; ask its owner for access.")


def decisions(policies: Policies, actor: Actor, name: str) -> list[tuple[Action, Decision]]:
    """What the policies say to a call: of the agent itself, and of the server that it is at, which gets the data."""
    if not policies.governs_anything:
        return []
    return [(action, policies.decide(actor, action)) for action in actions_of(name)]


@lru_cache(maxsize=KEPT_NAMES)
def actions_of(name: str) -> tuple[Action, ...]:
    server, separator, _ = name.partition(SERVER_SEPARATOR)
    call = Action("call", (name,))
    return (call, Action("send", (server,))) if separator else (call,)


def denied(action: Action, decision: Decision) -> PolicyDenied | Unavailable:
    if decision.unknown_groups:
        return groups_unknown()
    verb = {"call": "call", "model": "ask the model", "read": "read", "write": "write", "send": "send data to"}
    return PolicyDenied(
        f"You may not {verb[action.kind]} {action.names[0]!r:.200} here: {decision.reason}; ask those who keep the "
        "policies.",
        rule=decision.rule,
    )


def groups_unknown() -> Unavailable:
    return Unavailable("Your groups cannot be looked up now; try again.", retry_after_seconds=5.0)
