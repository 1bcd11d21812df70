"""What agents write beside their answer (memories, turns, facts), left out while they run as a shadow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lakemesh.agents.base import AgentServices
from lakemesh.scope import current_scope

MEMORY_WRITES: Mapping[str, Any] = {"remember": "", "forget": 0}
SESSION_WRITES: Mapping[str, Any] = {"append": 0, "keep": True, "summarise": False, "forget": 0}
KNOWLEDGE_WRITES: Mapping[str, Any] = {"state": (), "forget": 0}
BEGUN = ("learn", "begin")
"""Methods that return at once and have nothing to say."""


class HeldBack:
    """A part whose writes do nothing in a shadow run, and return what they would at best."""

    __slots__ = ("_part", "_writes")

    def __init__(self, part: object, writes: Mapping[str, Any]) -> None:
        self._part = part
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if not ((name in self._writes or name in BEGUN) and in_shadow()):
            return method
        if name in BEGUN:
            return lambda *_, **__: None

        async def left_out(*_: Any, **__: Any) -> Any:
            return self._writes[name]

        return left_out


def in_shadow() -> bool:
    scope = current_scope()
    return scope is not None and scope.is_shadow


def held_back(services: AgentServices) -> AgentServices:
    """The services for agents that may run as shadows."""
    parts: dict[str, Any] = {
        "memory": HeldBack(services.memory, MEMORY_WRITES),
        "sessions": HeldBack(services.sessions, SESSION_WRITES),
    }
    if services.summaries is not None:
        parts["summaries"] = HeldBack(services.summaries, {})
    if services.knowledge is not None:
        parts["knowledge"] = HeldBack(services.knowledge, KNOWLEDGE_WRITES)
    return replace(services, **parts)
