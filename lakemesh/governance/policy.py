"""What an identity may do."""

from lakemesh.config.agents import AgentConfig
from lakemesh.errors import PermissionDenied, Unavailable
from lakemesh.schemas import Identity


def may_call(identity: Identity, agent: AgentConfig) -> bool:
    """Whether `allowed_groups` of the agent, when it is set, names a group of the caller."""
    return agent.allowed_groups is None or not identity.groups.isdisjoint(agent.allowed_groups)


def require_may_call(identity: Identity, name: str, agent: AgentConfig) -> None:
    """Raises `PermissionDenied` unless `may_call`, and `Unavailable` while nobody knows."""
    if not may_call(identity, agent):
        if identity.groups_unknown:
            raise Unavailable("Your groups cannot be looked up now; try again.", retry_after_seconds=5.0)
        raise PermissionDenied(f"Your groups may not call the agent {name!r}; ask its owner for access.")
