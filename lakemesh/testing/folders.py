"""The folder of configuration that a test's server reads."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

AgentSpec: TypeAlias = str | type | Mapping[str, Any]
"""An agent: its class, the path or short name of one, or its section of the configuration."""

OFFLINE: Mapping[str, Any] = {
    "endpoints": {"offline": {"serving_endpoint": "offline"}},
    "routes": {name: {"endpoints": ["offline"]} for name in ("quality", "fast", "embeddings")},
}


def make_folder(
    target: Path,
    source: str | Path | Mapping[str, AgentSpec],
    *,
    environment: str,
    config: Mapping[str, Any],
    prompts: Mapping[str, str],
    model_url: str | None,
) -> Path:
    """A copy of the folder `source`, or one that has the agents named there; `config` is laid over it, and with
    `model_url` every endpoint is at that address."""
    base: dict[str, Any]
    if isinstance(source, Mapping):
        base = {"agents": {name: agent_section(spec) for name, spec in source.items()}, "models": OFFLINE}
        target.mkdir(parents=True)
        (target / "prompts").mkdir()
        (target / "lakemesh.yaml").write_text(yaml.safe_dump(base))
    else:
        shutil.copytree(source, target)
        (target / "prompts").mkdir(exist_ok=True)
        base = yaml.safe_load((target / "lakemesh.yaml").read_text())
    over = target / f"lakemesh.{environment}.yaml"
    own = (yaml.safe_load(over.read_text()) or {}) if over.exists() else {}
    merged = merged_over(own, config)
    if model_url is not None:
        merged = merged_over(merged, {"models": {"endpoints": moved(merged_over(base, merged), model_url)}})
    over.write_text(yaml.safe_dump(merged))
    for name, text in prompts.items():
        (target / "prompts" / name).write_text(text)
    return target


def agent_section(spec: AgentSpec) -> dict[str, Any]:
    if isinstance(spec, type):
        return {"class": f"{spec.__module__}:{spec.__qualname__}"}
    return {"class": spec} if isinstance(spec, str) else dict(spec)


def moved(config: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Every endpoint at `url`, under the name of the model it has."""
    endpoints = config.get("models", {}).get("endpoints", {})
    return {
        name: {
            "base_url": url,
            "model": one.get("model") or one.get("serving_endpoint"),
            "serving_endpoint": None,
            "api_key": None,
        }
        for name, one in endpoints.items()
    }


def merged_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings key by key, anything else replaced, as the loader does it with files."""
    found = dict(base)
    for key, value in over.items():
        known = found.get(key)
        found[key] = merged_over(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return found
