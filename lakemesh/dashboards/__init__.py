"""The questions people ask the telemetry tables: one `.sql` file each, in the Databricks dialect.

The first comment of a file is its title, the second says what it shows. Every statement takes `:start` and `:end`
(timestamps); some take more. They run on both warehouses, in the console and in the AI/BI dashboard.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PARAMETERS = frozenset({"start", "end", "bucket_seconds"})
PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One question. `parameters` are the names its statement needs."""

    name: str
    title: str
    description: str
    statement: str
    parameters: frozenset[str]


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
        statement=body,
        parameters=frozenset(PARAMETER.findall(body)) & PARAMETERS,
    )
