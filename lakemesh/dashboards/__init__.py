"""The questions people ask the telemetry tables: one `.sql` file each, in the Databricks dialect.

The first comment of a file is its title, the second says what it shows. Every statement takes `:start` and `:end`
(timestamps); some take more. `{schema}` stands for the catalog and the schema of the telemetry tables. They run on both
warehouses, in the console and in the AI/BI dashboard.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

DEFAULT_SCHEMA = "main.agents"
PARAMETERS = frozenset({"start", "end", "bucket_seconds"})
PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One question. `parameters` are the names its statement needs, `template` is the statement for any schema."""

    name: str
    title: str
    description: str
    template: str
    parameters: frozenset[str]

    def statement_in(self, catalog: str, schema: str) -> str:
        """The statement over the telemetry tables of a schema."""
        return self.template.replace("{schema}", f"{quoted(catalog)}.{quoted(schema)}")

    @property
    def statement(self) -> str:
        """The statement over the default schema."""
        return self.template.replace("{schema}", DEFAULT_SCHEMA)


@cache
def dashboards() -> dict[str, Dashboard]:
    """Every dashboard by the name of its file."""
    found = (file for file in files(__name__).iterdir() if file.name.endswith(".sql"))
    parsed = (parse(file.name.removesuffix(".sql"), file.read_text()) for file in found)
    return {dashboard.name: dashboard for dashboard in sorted(parsed, key=lambda dashboard: dashboard.name)}


def parse(name: str, text: str) -> Dashboard:
    title, description, *statement = text.splitlines()
    body = "\n".join(statement)
    return Dashboard(
        name=name,
        title=title.removeprefix("-- "),
        description=description.removeprefix("-- "),
        template=body,
        parameters=frozenset(PARAMETER.findall(body)) & PARAMETERS,
    )


def quoted(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"
