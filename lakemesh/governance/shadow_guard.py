"""What holds a shadow run: it may read and think, and do nothing that anybody would notice."""

from lakemesh.config.agents import AgentConfig
from lakemesh.config.policies import ActionKind
from lakemesh.errors import PolicyDenied
from lakemesh.governance.guard import ScopeGuard

RULE = "shadow"
DENIED: frozenset[ActionKind] = frozenset({"write", "send", "call"})


class ShadowGuard(ScopeGuard):
    """On top of the policies: no writes, nothing sent, no jobs, pipelines or functions, and of agents and tools only
    those that are configured as `tool.read_only`."""

    __slots__ = ()

    def allows(self, kind: ActionKind, *names: str) -> bool:
        return kind not in DENIED and super().allows(kind, *names)

    async def require(self, kind: ActionKind, *names: str) -> None:
        if kind in DENIED:
            raise denied(f"{kind} {names[0]!r:.200}")
        await super().require(kind, *names)

    async def require_call(self, name: str, config: AgentConfig) -> None:
        if not config.tool.read_only:
            raise denied(f"call {name!r:.200}, which is not configured as tool.read_only")
        await super().require_call(name, config)


def denied(what: str) -> PolicyDenied:
    return PolicyDenied(f"A shadow answers for nobody and may not {what}.", rule=RULE)
