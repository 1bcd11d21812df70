"""From YAML files to a `Config`, with every fault named by file and key.

`lakemesh.yaml` and `lakemesh.<environment>.yaml` are merged (mappings key by key, anything else replaces), then
`${VAR}`, `${VAR:-default}` and `${secrets.scope.key}` are filled in, then the strict schema decides.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from lakemesh.config.schema import Config
from lakemesh.errors import ConfigurationInvalid
from lakemesh.suggestions import did_you_mean

MAX_FILE_BYTES = 1024 * 1024
VARIABLE = re.compile(r"\$(?:(\$)|\{(?:([A-Za-z_][A-Za-z0-9_]*|secrets\.[\w-]+\.[\w.-]+)(?::-([^}]*))?\})?)")
SECRET = re.compile(r"(?<!\$)\$\{(secrets\.[\w-]+\.[\w.-]+)")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """`name` is what faults are reported under."""

    name: str
    content: bytes


def secret_names(files: Sequence[ConfigFile]) -> set[str]:
    """The secrets that files refer to, as `secrets.<scope>.<key>`."""
    return {name for file in files for name in SECRET.findall(file.content.decode(errors="replace"))}


def placeholders(files: Sequence[ConfigFile]) -> dict[str, str]:
    """Where secrets cannot be read, and the rest is to be looked at: each stands for itself."""
    return {name: name for name in secret_names(files)}


def parse_config(files: Sequence[ConfigFile], variables: Mapping[str, str]) -> Config:
    """The configuration that `files` make, the later over the earlier. Raises `ConfigurationInvalid` with all
    faults; values never appear in them, since a value may be a secret."""
    faults: list[str] = []
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file in files:
        content = read_yaml(file, faults)
        note_origins(content, file.name, "", origins)
        merged = merge(merged, content)
    filled = interpolate(merged, variables, "", origins, faults)
    if faults:
        raise ConfigurationInvalid(faults)
    try:
        return Config.model_validate(filled)
    except ValidationError as error:
        raise ConfigurationInvalid(
            [f"{located(key_path(fault['loc']), origins)}: {problem_of(fault)}" for fault in error.errors()]
        ) from None


def problem_of(fault: Mapping[str, Any]) -> str:
    """What is wrong, in words; of an unknown key, which one may have been meant."""
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"])
    return f"unknown key{did_you_mean(str(fault['loc'][-1]), known_keys(fault['loc'][:-1]))}"


def known_keys(loc: Sequence[int | str]) -> list[str]:
    """The keys that the schema has at this place."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    place = schema
    for step in loc:
        place = place.get("properties", {}).get(step) or place.get("additionalProperties") or place.get("items") or {}
        if not isinstance(place, dict):
            return []
        options = [place, *place.get("anyOf", ())]
        reference = next((one["$ref"] for one in options if "$ref" in one), None)
        if reference is not None:
            place = definitions[reference.rpartition("/")[2]]
    return list(place.get("properties", {}))


class _Loader(yaml.SafeLoader):
    """Safe YAML without the two things that surprise: a key given twice, and aliases, whose nesting can grow a
    small file into a large one."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int) or key in seen:
                problem = f"key {key!r:.40} is given twice" if isinstance(key, str | int) else "a key is not text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(file: ConfigFile, faults: list[str]) -> dict[str, Any]:
    """The file's mapping; empty, with a fault noted, when it is not one."""
    if len(file.content) > MAX_FILE_BYTES:
        faults.append(f"{file.name}: larger than {MAX_FILE_BYTES} bytes")
        return {}
    try:
        content = yaml.load(file.content, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        faults.append(f"{file.name}: {yaml_problem(error)}")
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        faults.append(f"{file.name}: the file must be a mapping of keys to values")
        return {}
    return content


def yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or 'not valid YAML'}"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `base`: mappings are merged key by key, everything else is replaced, null removes the key."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def interpolate(
    value: Any, variables: Mapping[str, str], path: str, origins: Mapping[str, str], faults: list[str]
) -> Any:
    """`value` with its variables filled in. Text that is nothing but one variable is read as a YAML scalar, so
    that numbers and booleans may come from the environment; `$$` stands for a dollar sign."""
    if isinstance(value, Mapping):
        return {key: interpolate(item, variables, join(path, key), origins, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, variables, join(path, place), origins, faults) for place, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def fill(match: re.Match[str]) -> str:
        dollar, name, default = match.groups()
        if dollar:
            return "$"
        if not name:
            faults.append(f"{located(path, origins)}: not ${{NAME}} or ${{NAME:-default}}; a dollar sign is written $$")
            return ""
        found = variables.get(name) or default
        if found is None:
            problem = "is empty" if name in variables else "is not set"
            faults.append(f"{located(path, origins)}: the {kind_of(name)} {name} {problem}")
        return found or ""

    filled = VARIABLE.sub(fill, value)
    whole = VARIABLE.fullmatch(value)
    return scalar(filled) if whole is not None and whole[2] and "." not in whole[2] else filled


def kind_of(name: str) -> str:
    return "secret" if "." in name else "environment variable"


def scalar(text: str) -> Any:
    """The YAML scalar that `text` is, or the text when it is none."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: what looks like a date and is none
        return text
    return value if isinstance(value, bool | int | float) else text


def note_origins(value: Any, file_name: str, path: str, origins: dict[str, str]) -> None:
    """Remember for every key path the file that said it last."""
    if path:
        origins[path] = file_name
    if isinstance(value, Mapping):
        for key, item in value.items():
            note_origins(item, file_name, join(path, key), origins)


def located(path: str, origins: Mapping[str, str]) -> str:
    """`file: key.path`, with the file of the nearest key that any file gave."""
    nearest = path
    while nearest and nearest not in origins:
        nearest = nearest.rpartition(".")[0]
    file_name = origins.get(nearest) or next(iter(origins.values()), "configuration")
    return f"{file_name}: {path or 'the file'}"


def join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def key_path(loc: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in loc)
