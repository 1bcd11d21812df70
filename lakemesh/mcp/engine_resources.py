"""What the MCP door lets a client read: configuration, agents, prompts, executions and tables."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from lakemesh.config.store import ConfigStore
from lakemesh.engine.registry import AgentRegistry
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, PermissionDenied
from lakemesh.governance.guard import action_of
from lakemesh.governance.policies import Actor
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.messages import INVALID_PARAMS, ProtocolError
from lakemesh.mcp.provider import Described
from lakemesh.prompts import PromptStore
from lakemesh.schemas import Identity

SECRET = "redacted"  # noqa: S105
SECRET_WORDS = (
    "key", "secret", "password", "passphrase", "passwd", "pwd", "sha256", "header", "token", "credential", "dsn",
    "webhook", "authorization", "connection", "cookie", "signature", "operators",
)  # fmt: skip
LOADED_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@|[a-z][a-z0-9+.-]*://[^\s]*\?")
"""A URL that carries credentials, or a query, which may."""
ROOT = "lakemesh://"
CONFIG_URI = f"{ROOT}configuration"
JSON, TEXT = "application/json", "text/plain"
TEMPLATES = {
    "agent": ("agents/{name}", JSON),
    "prompt version": ("prompts/{name}/{version}", TEXT),
    "execution": ("executions/{execution_id}", JSON),
    "table": ("tables/{table}", JSON),
}
EXECUTION_ID = re.compile(r"[0-9a-f]{32}")


class EngineResources:
    """Reads at every call, so that what changes while the server runs is seen. A caller sees their own executions, the
    agents they may call, and the tables of the schemas that `mcp.schemas` allows."""

    def __init__(
        self, *, registry: AgentRegistry, prompts: PromptStore, config: ConfigStore, workspace: Workspace
    ) -> None:
        self._registry = registry
        self._prompts = prompts
        self._config = config
        self._workspace = workspace

    def listed(self, identity: Identity) -> Sequence[Described]:
        """What there are few of; the rest is found by the templates."""
        listed = [described("configuration", CONFIG_URI, JSON)]
        listed += [
            {**described(agent.name, f"{ROOT}agents/{agent.name}", JSON), "description": agent.description}
            for agent in self._registry.visible_to(identity, "mcp")
        ]
        for name, versions in self._prompts.list_versions().items():
            listed += [described(f"{name}_v{each}", f"{ROOT}prompts/{name}/{each}", TEXT) for each in versions]
        return listed

    def templates(self) -> Sequence[Described]:
        return [
            {"uriTemplate": ROOT + path, "name": name, "description": f"One {name}", "mimeType": media_type}
            for name, (path, media_type) in TEMPLATES.items()
        ]

    async def read(self, uri: str, identity: Identity) -> Described:
        """Raises `ProtocolError` for what is not there, or not for this caller."""
        kind, _, rest = uri.removeprefix(ROOT).partition("/")
        try:
            if uri == CONFIG_URI:
                return contents(uri, redacted(self._config.current))
            if uri.startswith(ROOT) and kind == "agents":
                return contents(uri, self._agent(rest, identity))
            if uri.startswith(ROOT) and kind == "prompts":
                return {"contents": [{"uri": uri, "mimeType": TEXT, "text": self._prompt(rest)}]}
            if uri.startswith(ROOT) and kind == "executions":
                return contents(uri, await self._execution(rest, identity))
            if uri.startswith(ROOT) and kind == "tables":
                return contents(uri, await self._table(rest, identity))
        except (InvalidRequest, NotFound, PermissionDenied, ValueError):
            pass
        raise ProtocolError(INVALID_PARAMS, f"There is no resource {uri!r:.200}.", uri=uri)

    async def complete(self, template: str, argument: str, start: str, identity: Identity) -> Sequence[str]:
        path = template.removeprefix(ROOT)
        values: Sequence[str] = []
        if path.startswith("agents/"):
            values = [agent.name for agent in self._registry.visible_to(identity, "mcp")]
        elif path.startswith("prompts/"):
            versions = self._prompts.list_versions()
            numbers = sorted({number for known in versions.values() for number in known})
            values = list(versions) if argument == "name" else [str(number) for number in numbers]
        elif path.startswith("tables/"):
            values = [name for name in await self._tables() if self._may_read(name, identity)]
        return [value for value in values if value.startswith(start)]

    def _agent(self, name: str, identity: Identity) -> Mapping[str, Any]:
        one = self._registry.get_for(name, identity, "mcp").description
        return {
            "name": one.name,
            "description": one.description,
            "input_schema": one.input_schema,
            "output_schema": one.output_schema,
            "expose": one.expose,
        }

    def _prompt(self, rest: str) -> str:
        name, _, version = rest.partition("/")
        return self._prompts.get(name, int(version)).source

    async def _execution(self, execution_id: str, identity: Identity) -> Mapping[str, Any]:
        if not EXECUTION_ID.fullmatch(execution_id):
            raise NotFound("No execution has that id.")
        table = self._config.current.telemetry.table("agent_executions")
        statement = f"SELECT * FROM {table} WHERE execution_id = :id AND user_id = :user"  # noqa: S608
        parameters = {"id": execution_id, "user": identity.user}
        found = (await self._workspace.warehouse.query(statement, parameters, row_limit=1)).to_dicts()
        if not found:
            raise NotFound("No execution has that id, or its row has not arrived yet.")
        return found[0]

    async def _table(self, name: str, identity: Identity) -> Mapping[str, Any]:
        if name.rpartition(".")[0] not in self._config.current.mcp.schemas or not self._may_read(name, identity):
            raise NotFound("The table is in no schema that may be read here.")
        info = await self._workspace.tables.describe(name)
        columns = [{"name": column.name, "type": column.type, "comment": column.comment} for column in info.columns]
        return {"name": info.name, "comment": info.comment, "columns": columns}

    def _may_read(self, table: str, identity: Identity) -> bool:
        """Whether the policies let the caller read it; what a person has to approve is not shown."""
        policies = self._registry.policies
        if not policies.governs("read") or policies.is_dry_run:
            return True
        return policies.decide(Actor(identity, "mcp"), action_of("read", (table,))).effect == "allow"

    async def _tables(self) -> list[str]:
        found: list[str] = []
        for schema in self._config.current.mcp.schemas:
            try:
                found += await self._workspace.tables.list_tables(schema)
            except LakemeshError:
                continue  # a schema that is not there completes nothing
        return found


def described(name: str, uri: str, media_type: str) -> Described:
    return {"uri": uri, "name": name, "description": name, "mimeType": media_type}


def contents(uri: str, value: Any) -> Described:
    text = to_json(value, indent=2, inf_nan_mode="null", fallback=str).decode()
    return {"contents": [{"uri": uri, "mimeType": JSON, "text": text}]}


def redacted(section: BaseModel) -> dict[str, Any]:
    """A section without what could open a door: what is kept out of its `repr`, and in free options what is named like
    a secret."""
    shown: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        if name == "auth":
            continue
        if name == "options":
            shown[name] = options_shown(getattr(section, name))
            continue
        value = getattr(section, name)
        shown[field.alias or name] = SECRET if not field.repr and value else cleaned(value)
    return shown


def cleaned(value: Any, name: str = "") -> Any:
    if isinstance(value, BaseModel):
        return redacted(value)
    if any(word in name.lower() for word in SECRET_WORDS) and value:
        return SECRET
    if isinstance(value, str) and LOADED_URL.search(value):
        return SECRET
    if isinstance(value, Mapping):
        return {key: cleaned(item, str(key)) for key, item in value.items()}
    return [cleaned(item, name) for item in value] if isinstance(value, list | tuple) else value


def options_shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """An author's own options: nobody here knows which are secrets, so only numbers and switches are shown."""
    return {name: value if isinstance(value, bool | int | float) else SECRET for name, value in options.items()}
