"""Whose memories a call may touch."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakemesh.errors import PermissionDenied
from lakemesh.scope import current_scope


@dataclass(frozen=True, slots=True)
class Reach:
    """The user and the agents a call is confined to; None where it is not."""

    user: str | None
    agent_ids: Sequence[str] | None


def reach_of(
    *, user: str | None, agent_id: str | None, shared: bool, shared_agents: Sequence[str], writes: bool = False
) -> Reach:
    """Inside an execution a call reaches the calling user's memories and nobody else's: a session id is the caller's
    to choose, so it is no boundary. With `shared` it reaches those of all users, of agents whose memory configuration
    declares shared; to forget them, of the calling agent alone. Outside of executions (the command line, jobs) it
    reaches what it asks for. Raises `PermissionDenied`."""
    scope = current_scope()
    agent_ids = [agent_id] if agent_id is not None else None
    if scope is None:
        return Reach(user, agent_ids)
    if not shared:
        if user not in (None, scope.identity.user):
            raise PermissionDenied("Memories of another user are not reached; ask for shared ones, if there are any.")
        return Reach(scope.identity.user, agent_ids)
    allowed = [scope.agent_name] if writes else list(shared_agents)
    if agent_id is None and scope.agent_name in shared_agents:
        agent_id = scope.agent_name
    wanted = [agent_id] if agent_id is not None else allowed
    refused = [name for name in wanted if name not in allowed or name not in shared_agents]
    if refused or not wanted:
        names = ", ".join(refused) or "no agent"
        raise PermissionDenied(f"Memory of {names} is not shared; `memory.shared_agents` lists the agents whose is.")
    return Reach(user, wanted)
