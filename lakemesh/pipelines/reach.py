"""Which catalogs, volumes and brokers code may name: a configured list, beside what Unity Catalog grants."""

import ast
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict

from lakemesh.errors import LakemeshError, PermissionDenied
from lakemesh.pipelines.expressions import parse_query
from lakemesh.pipelines.gate import is_literal, literal_of
from lakemesh.pipelines.gate_sql import Read, reads_of
from lakemesh.pipelines.gate_text import Refusal


class Reach(BaseModel):
    """Names of catalogs, paths of volumes (`/Volumes/main/raw`, and all below), and brokers (`host:port`). None allows
    every one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogs: frozenset[str] | None = None
    volumes: tuple[str, ...] | None = None
    brokers: frozenset[str] | None = None

    def fault_of_table(self, name: str) -> str | None:
        catalog = name.split(".")[0] if name.count(".") == 2 else None
        fine = self.catalogs is None or catalog is None or catalog in self.catalogs
        return None if fine else f"the catalog {catalog!r:.100} is not among those that may be read"

    def fault_of_path(self, path: str) -> str | None:
        roots = self.volumes or ()
        fine = self.volumes is None or any(f"{path.rstrip('/')}/".startswith(f"{root.rstrip('/')}/") for root in roots)
        return None if fine else f"the path {path!r:.200} is in no volume that may be read"

    def fault_of_brokers(self, brokers: str) -> str | None:
        others = [] if self.brokers is None else sorted(set(brokers.split(",")) - self.brokers)
        return f"the broker {others[0]!r:.100} is not among those that may be spoken to" if others else None


def require_within(code: Mapping[str, str], reach: Reach) -> None:
    """For files that the gate lets through. Raises `PermissionDenied` for the first that names what is outside."""
    for path, text in code.items():
        for refusal in outside_in_sql(text, reach) if path.endswith(".sql") else outside(text, reach):
            raise PermissionDenied(f"{path}, {refusal}")


def outside(code: str, reach: Reach) -> Iterator[Refusal]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            values = [literal_of(value) if is_literal(value) else None for value in given]
            if fault := fault_of_call(node.func.attr, values, reach):
                yield Refusal("reach", node.lineno, fault)


def outside_in_sql(text: str, reach: Reach) -> Iterator[Refusal]:
    for read in reads_of(text):
        if fault := fault_of_read(read, reach):
            yield Refusal("reach", read.line, fault)


def fault_of_read(read: Read, reach: Reach) -> str | None:
    if read.kind == "query":
        return fault_of_tables(read.text, reach)
    return reach.fault_of_path(read.text) if read.kind == "path" else reach.fault_of_brokers(read.text)


def fault_of_call(method: str, values: list[object], reach: Reach) -> str | None:
    first = values[0] if values else None
    if method == "create_sink":
        options = next((value for value in values if isinstance(value, dict)), {})
        return reach.fault_of_brokers(str(options.get("kafka.bootstrap.servers", "")))
    if not isinstance(first, str):
        return None
    if method == "table":
        return reach.fault_of_table(first)
    if method == "load":
        return reach.fault_of_path(first)
    if method == "option" and first == "kafka.bootstrap.servers":
        return reach.fault_of_brokers(str(values[1]))
    return fault_of_tables(first, reach) if method == "sql" else None


def fault_of_tables(query: str, reach: Reach) -> str | None:
    from sqlglot import exp

    try:
        tables = list(parse_query(query).find_all(exp.Table))
    except LakemeshError as error:
        return error.detail
    named = (".".join(part.name for part in table.parts) for table in tables)
    return next((fault for name in named if (fault := reach.fault_of_table(name))), None)
