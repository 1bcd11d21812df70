"""Pages that are generated from what they describe: the configuration's schema, the command line, and the errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
import typer

BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "over {}", "maximum": "at most {}", "exclusiveMaximum": "under {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "pattern": "`{}`",
}  # fmt: skip


def configuration() -> str:
    """Every key of `lakemesh.yaml`, by section."""
    from lakemesh.config.schema import Config

    schema = Config.model_json_schema()
    lines = [
        "# Configuration, key by key",
        "",
        "Generated from the schema that `lakemesh.yaml` is checked by. What the keys are for is told in",
        "[configuration](configuration.md); `*` stands for a name of yours.",
    ]
    section = None
    for path, member in keys(schema, schema["$defs"], ""):
        if (begin := path.partition(".")[0]) != section:
            section = begin
            lines += ["", f"## `{section}`", "", "| key | type | default | |", "|---|---|---|---|"]
        lines.append(f"| `{path}` | {cell(kind_of(member))} | {cell(default_of(member))} | {cell(notes_of(member))} |")
    return "\n".join([*lines, ""])


def keys(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each key that has a value of its own, with its schema."""
    resolved = schema
    if "$ref" in schema:
        resolved = definitions[schema["$ref"].rpartition("/")[2]]
    choices = [one for one in resolved.get("anyOf", ()) if one.get("type") != "null"]
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for name, member in resolved.get("properties", {}).items():
        below = list(keys(member, definitions, f"{path}{name}."))
        inner += below or [(f"{path}{name}", member)]
    for choice in choices:
        inner += keys(choice, definitions, path)
    for key, mark in (("additionalProperties", "*."), ("items", "[].")):
        if isinstance(resolved.get(key), dict):
            inner += keys(resolved[key], definitions, path + mark)
    seen: dict[str, Mapping[str, Any]] = {}
    for name, member in inner:
        seen.setdefault(name, member)
    yield from seen.items()


def kind_of(member: Mapping[str, Any]) -> str:
    if "enum" in member or "const" in member:
        return " or ".join(f"`{one}`" for one in member.get("enum", [member.get("const")]))
    if "anyOf" in member:
        return " or ".join(dict.fromkeys(kind_of(one) for one in member["anyOf"] if one.get("type") != "null"))
    if member.get("type") == "array":
        return f"list of {kind_of(member.get('items', {}))}"
    if member.get("type") == "object" and isinstance(member.get("additionalProperties"), dict):
        return f"{kind_of(member['additionalProperties'])} by name"
    return str(member.get("type", member.get("$ref", "any").rpartition("/")[2]))


def default_of(member: Mapping[str, Any]) -> str:
    if "default" not in member:
        return "required"
    return "none" if member["default"] is None else f"`{json.dumps(member['default'])}`"


def notes_of(member: Mapping[str, Any]) -> str:
    found = [member["description"]] if "description" in member else []
    for choice in (member, *member.get("anyOf", ())):
        found += [words.format(choice[bound]) for bound, words in BOUNDS.items() if bound in choice]
    return "; ".join(found)


def cell(words: str) -> str:
    return " ".join(words.replace("|", "\\|").split())


def commands() -> str:
    """Every command with its options, as `--help` tells them."""
    from lakemesh.cli.main import app

    lines = [
        "# Commands",
        "",
        "Generated from the command line itself; `--help` says the same. Exit codes: 0 done, 1 a designed",
        "error, 2 wrong usage.",
    ]
    for path, command in walk("lakemesh", typer.main.get_command(app)):
        lines += ["", f"## `{path}`", "", " ".join((command.help or "").split()), ""]
        named = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
        if named:
            lines += ["| | | |", "|---|---|---|"]
        for one in named:
            shown = (
                f"`{one.name}`"
                if isinstance(one, click.Argument) or one.param_type_name == "argument"
                else names_of(one)
            )
            lines.append(f"| {shown} | {cell(default_of_option(one))} | {cell(getattr(one, 'help', None) or '')} |")
    return "\n".join([*lines, ""])


def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, one in below.items():
        if not one.hidden:
            yield from walk(f"{path} {name}", one)


def names_of(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def default_of_option(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    plain = value is None or callable(value) or value in ([], (), False, "") or type(value).__name__ == "Sentinel"
    return "" if plain else f"`{value}`"


PAGES = {"configuration-reference.md": configuration, "commands.md": commands}
