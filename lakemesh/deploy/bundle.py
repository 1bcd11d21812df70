"""The app's asset bundle, read as the Databricks CLI reads it: one target, its variables filled in.

Known are `bundle`, `include`, `variables`, `workspace.root_path`, `sync.exclude`, `resources`, and the same inside
`targets`; presets and development mode, which rename things, are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakemesh.config.loader import merge
from lakemesh.errors import ConfigurationInvalid

FILE = "databricks.yml"
REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[A-Za-z0-9_-]+)+)\}")
PATH_KEYS = ("path", "file_path", "python_file", "notebook_path", "source_code_path")

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`resources` are by kind and key, as the file says, references among resources still in them."""

    folder: Path
    name: str
    target: str
    root_path: str
    resources: Mapping[str, Mapping[str, Mapping[str, Any]]]
    exclude: Sequence[str] = ()

    def each(self, kind: str) -> Iterator[tuple[str, Tree]]:
        yield from self.resources.get(kind, {}).items()

    @property
    def app(self) -> Tree:
        """The one app. Raises `ConfigurationInvalid` when there is another number of them."""
        apps = list(self.resources.get("apps", {}).values())
        if len(apps) != 1:
            raise ConfigurationInvalid([f"resources.apps: a bundle has exactly one app, not {len(apps)}"])
        return apps[0]


def load_bundle(folder: Path, target: str | None, *, variables: Mapping[str, str], user: str) -> Bundle:
    """`target` None is the default one. `variables` win over the file's values; `user` is who deploys. Raises
    `ConfigurationInvalid` with every fault."""
    content = read_tree(folder)
    targets: Tree = content.get("targets") or {}
    name = target or next((key for key, value in targets.items() if (value or {}).get("default")), None)
    if name is None or name not in targets:
        known = ", ".join(targets) or "none"
        raise ConfigurationInvalid([f"{FILE}: there is no target {name!r}; it has {known}"])
    chosen: Tree = targets[name] or {}
    refuse_renaming(name, chosen)
    faults: list[str] = []
    facts = {"bundle.name": str(content.get("bundle", {}).get("name", folder.name)), "bundle.target": name}
    facts |= {"workspace.current_user.userName": user, "workspace.current_user.short_name": user.partition("@")[0]}
    values = variable_values(content.get("variables") or {}, chosen.get("variables") or {}, variables, facts, faults)
    root = {**(content.get("workspace") or {}), **(chosen.get("workspace") or {})}.get(
        "root_path", "/Workspace/Users/${workspace.current_user.userName}/.bundle/${bundle.name}/${bundle.target}"
    )
    facts |= {f"var.{key}": value for key, value in values.items()}
    facts["workspace.root_path"] = fill(root, facts)
    resources = merge(content.get("resources") or {}, chosen.get("resources") or {})
    filled = fill(resources, facts)
    faults += [f"{FILE}: ${{{name}}} is not known" for name in unknown_references(filled)]
    if faults:
        raise ConfigurationInvalid(sorted(set(faults)))
    return Bundle(
        folder=folder,
        name=facts["bundle.name"],
        target=name,
        root_path=str(facts["workspace.root_path"]),
        exclude=[*(content.get("sync") or {}).get("exclude", ()), *(chosen.get("sync") or {}).get("exclude", ())],
        resources={kind: dict(items or {}) for kind, items in filled.items()},
    )


def read_tree(folder: Path) -> dict[str, Any]:
    """`databricks.yml` with what it includes. Raises `ConfigurationInvalid`."""
    file = folder / FILE
    if not file.is_file():
        raise ConfigurationInvalid([f"{file}: there is no bundle here; `lakemesh init NAME` makes one"])
    content = read_file(file, folder)
    for pattern in content.get("include") or ():
        for included in sorted(folder.glob(pattern)):
            content = merge(content, read_file(included, folder))
    return content


def read_file(file: Path, root: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid([f"{file.name}: {first_line(error)}"]) from None
    if not isinstance(content, dict):
        raise ConfigurationInvalid([f"{file.name}: the file must be a mapping of keys to values"])
    anchored: dict[str, Any] = anchor(content, file.parent.relative_to(root))
    return anchored


def anchor(value: Any, folder: Path, key: str = "") -> Any:
    """Paths are written relative to their file; from here on they are relative to the bundle."""
    if isinstance(value, dict):
        return {name: anchor(item, folder, name) for name, item in value.items()}
    if isinstance(value, list):
        return [anchor(item, folder) for item in value]
    if key in PATH_KEYS and isinstance(value, str) and value.split("/")[0] in (".", ".."):
        parts: list[str] = []
        for part in (*folder.parts, *value.split("/")):
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        return "./" + "/".join(parts)
    return value


def refuse_renaming(target: str, chosen: Tree) -> None:
    if chosen.get("presets") or chosen.get("mode") == "development":
        problem = "presets and mode: development rename resources; tell targets apart by variables instead"
        raise ConfigurationInvalid([f"{FILE}: targets.{target}: {problem}"])


def variable_values(
    declared: Tree, overrides: Tree, given: Mapping[str, str], facts: Mapping[str, Any], faults: list[str]
) -> dict[str, Any]:
    faults += [f"--var {name}: {FILE} declares no such variable" for name in given if name not in declared]
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        if name in given:
            values[name] = given[name]
            continue
        override = overrides.get(name, declaration)
        value = override.get("default") if isinstance(override, dict) else override
        if value is None:
            faults.append(f"the variable {name!r} has no value: give --var {name}=VALUE or set BUNDLE_VAR_{name}")
        else:
            values[name] = fill(value, {**facts, **{f"var.{key}": item for key, item in values.items()}})
    return values


def fill(value: Any, facts: Mapping[str, Any]) -> Any:
    """`value` with the `${...}` whose names are among `facts`; text that is nothing but one of them takes its type."""
    if isinstance(value, Mapping):
        return {key: fill(item, facts) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, facts) for item in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole and whole[1] in facts:
        return facts[whole[1]]
    return REFERENCE.sub(lambda match: str(facts.get(match[1], match[0])), value)


def unknown_references(value: Any) -> Iterator[str]:
    """Names that are neither filled in nor wait for a resource or for the uploaded source."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from unknown_references(item)
    elif isinstance(value, str):
        for match in REFERENCE.finditer(value):
            if not match[1].startswith("resources.") and match[1] != "workspace.file_path":
                yield match[1]


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
