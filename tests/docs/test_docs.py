"""The documentation says what the code does."""

import re
import subprocess
import sys
from pathlib import Path

from pydantic import AliasChoices

from lakemesh.config.live import NEEDS_RESTART
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.errors import LakemeshError

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def error_classes(root: type[LakemeshError]) -> set[type[LakemeshError]]:
    return {root}.union(
        *(error_classes(child) for child in root.__subclasses__() if child.__module__ == root.__module__)
    )


def test_every_error_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \| (\d+) \| (-\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE))
    assert documented == {
        (error.code, str(error.status), str(error.jsonrpc_code)) for error in error_classes(LakemeshError)
    }


def test_every_error_has_a_way_out() -> None:
    codes, _, ways = (DOCS / "errors.md").read_text().partition("## What to do")
    row = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    assert set(row.findall(ways)) == set(row.findall(codes))


def keys_of(schema: dict, definitions: dict, path: str) -> set[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    found: set[str] = set().union(*(keys_of(choice, definitions, path) for choice in schema.get("anyOf", ())))
    for name, member in schema.get("properties", {}).items():
        inner = keys_of(member, definitions, f"{path}{name}.")
        found |= inner or {f"{path}{name}"}
    for key, mark in (("additionalProperties", "*."), ("items", "[].")):
        if isinstance(schema.get(key), dict) and (below := keys_of(schema[key], definitions, path + mark)):
            found |= below
    return found


def test_every_key_of_the_configuration_is_documented_and_no_other() -> None:
    schema = Config.model_json_schema()
    behaviour = (DOCS / "configuration.md").read_text().partition("## The behaviour")[2]
    documented = re.findall(r"^\| `([\w.*\[\]]+)` \|", behaviour, re.MULTILINE)
    assert sorted(documented) == sorted(keys_of(schema, schema["$defs"], ""))


def test_every_variable_of_the_environment_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    aliases = {name: field.validation_alias for name, field in Settings.model_fields.items()}
    first = {name: alias.choices[0] if isinstance(alias, AliasChoices) else alias for name, alias in aliases.items()}
    named = {alias or f"LAKEMESH_{name.upper()}" for name, alias in first.items()}
    assert not {name for name in named if f"`{name}`" not in text}


def test_keys_that_need_a_restart_are_documented_as_the_code_has_them() -> None:
    text = (DOCS / "configuration.md").read_text()
    listed = text.partition("wait for a restart")[2].partition("):")[2].partition(".\n")[0].partition(". `telemetry")[0]
    assert tuple(re.findall(r"`([\w.*]+)`", listed)) == NEEDS_RESTART


def test_links_lead_somewhere() -> None:
    for page in (REPOSITORY / "README.md", *DOCS.glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_readme_agent_is_an_agent() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["Oracle"].input_model is names["Question"]


def test_importing_lakemesh_imports_no_sdk() -> None:
    program = "import sys, lakemesh; print(len([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]]))"
    heavy = ["pydantic", "fastapi", "deltalake", "duckdb", "numpy", "openai", "opentelemetry", "pyarrow", "sqlglot"]
    assert subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True).stdout == "0\n"
