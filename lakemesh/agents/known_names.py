"""The names a configuration defines, for checking those that agents' options use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """`servers` are MCP servers and peers, whose tools (`server__tool`) are only known once they have
    been reached. `prompts` maps prompts to their variables; None when they are not known yet."""

    agents: Collection[str]
    servers: Collection[str]
    routes: Collection[str]
    prompts: Mapping[str, Collection[str]] | None

    def missing_agents(self, key: str, names: Sequence[str]) -> list[str]:
        """A fault for each name that is no agent, no tool of a server and no skill of a peer."""
        missing = [name for name in names if name not in self.agents and server_of(name) not in self.servers]
        known = listed(self.agents)
        return [f"{key}: there is no agent {name!r}; there are: {known}" for name in missing]

    def missing_routes(self, key: str, *names: str) -> list[str]:
        known = listed(self.routes)
        return [
            f"{key}: there is no model route {name!r}; there are: {known}" for name in names if name not in self.routes
        ]

    def missing_prompt(self, key: str, name: str, *, variables: Collection[str]) -> list[str]:
        """A fault when the prompt is not there, or needs variables that it is not given."""
        if self.prompts is None:
            return []
        if name not in self.prompts:
            return [f"{key}: there is no prompt {name!r}; there are: {listed(self.prompts)}"]
        unknown = sorted(set(self.prompts[name]) - set(variables))
        given = listed(variables)
        return [f"{key}: {name!r} needs {', '.join(unknown)}; what it may use is: {given}"] if unknown else []


def server_of(name: str) -> str:
    server, separator, _ = name.partition("__")
    return server if separator else ""


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"
