"""What a model carries: the configuration of one agent and of those that it asks, and the prompts.

The files are as they were written: variables and secrets are named in them, and filled in where the model runs. So no
model holds a secret.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakemesh.config.loader import VARIABLE, ConfigFile, merge, read_yaml
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.errors import ConfigurationInvalid, NotFound
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.model_serving.resources import Access

ARTIFACT = "lakemesh"
"""The package's name in the model."""

AGENT_FILE = "agent.txt"
CONFIG_FILE = "lakemesh.yaml"
PROMPTS = "/Volumes/main/agents/prompts"
"""Beside the configuration's own volume, as `local_mounts` lays folders there."""

KEPT_SECTIONS = ("models", "prompts", "memory", "limits")
SECRET = re.compile(r"secrets\.([\w-]+)\.([\w.-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """What the package's files leave open. `secrets` maps environment variables to `scope/key`."""

    needed: tuple[str, ...]
    secrets: Mapping[str, str]


def packaged_config(files: Sequence[ConfigFile], access: Access) -> dict[str, Any]:
    """The sections that an agent needs, of the merged files, with nothing filled in but what is fixed in a model: there
    are no doors, callers are the platform's business, and traces are MLflow's."""
    faults: list[str] = []
    merged: dict[str, Any] = {}
    for file in files:
        merged = merge(merged, read_yaml(file, faults))
    if faults:
        raise ConfigurationInvalid(faults)
    agents = {name: without_policy(merged["agents"][name]) for name in access.agents}
    kept = {name: merged[name] for name in KEPT_SECTIONS if name in merged}
    kept["prompts"] = {**kept.get("prompts", {}), "volume": PROMPTS}
    kept["limits"] = {name: value for name, value in kept.get("limits", {}).items() if name != "rate"}
    packaged: dict[str, Any] = renamed_secrets({"agents": agents, **kept, "telemetry": {"enabled": False}})
    return packaged


def without_policy(agent: Mapping[str, Any]) -> dict[str, Any]:
    """Who may use the endpoint is said there."""
    return {key: value for key, value in agent.items() if key not in ("allowed_groups", "expose")}


def renamed_secrets(value: Any) -> Any:
    """`${secrets.scope.key}` as an environment variable, which the endpoint fills from the secret."""
    if isinstance(value, Mapping):
        return {key: renamed_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed_secrets(item) for item in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda match: f"${{{variable_of(match[2])}}}" if is_secret(match[2]) else match[0], value)


def is_secret(name: str | None) -> bool:
    return name is not None and SECRET.fullmatch(name) is not None


def variable_of(secret: str) -> str:
    return "LAKEMESH_" + re.sub(r"\W", "_", secret).upper()


def variables_of(files: Sequence[ConfigFile], access: Access) -> Variables:
    """The variables without a default, and the secrets, that the package of these files leaves open."""
    text = yaml.safe_dump(packaged_config(files, access))
    found = {match[2]: match[3] for match in VARIABLE.finditer(text) if match[2]}
    secrets = {
        variable_of(name): "/".join(match.groups())
        for file in files
        for match in SECRET.finditer(file.content.decode())
        if variable_of(name := match[0]) in found
    }
    needed = (name for name, default in found.items() if default is None and name not in secrets)
    return Variables(needed=tuple(sorted(needed)), secrets=secrets)


def write_package(
    folder: Path, agent: str, files: Sequence[ConfigFile], access: Access, *, prompts: Mapping[str, bytes]
) -> None:
    """The folder that the model takes along."""
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / AGENT_FILE).write_text(agent)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(packaged_config(files, access), sort_keys=False))
    for name, content in prompts.items():
        (folder / "prompts" / name).write_bytes(content)


async def read_prompts(workspace: Workspace, config: Config) -> dict[str, bytes]:
    """Every file of the prompts' volume, by name; none where there is no volume."""
    try:
        entries = await workspace.volumes.list_directory(config.prompts.volume)
    except NotFound:
        return {}
    return {one.name: await workspace.volumes.read(one.path) for one in entries if not one.is_directory}


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables of the process that serves the model, beside those of its configuration."""
    named = {
        "LAKEMESH_WORKSPACE": "databricks",
        "LAKEMESH_WAREHOUSE_ID": settings.warehouse_id,
        "LAKEMESH_LAKEBASE_INSTANCE": settings.lakebase_instance,
        "LAKEMESH_VECTOR_SEARCH_ENDPOINT": settings.vector_search_endpoint,
    }
    if settings.lakebase_instance and settings.database is not None:
        named["LAKEMESH_DATABASE"] = "lakebase"
    return {name: value for name, value in named.items() if value}
