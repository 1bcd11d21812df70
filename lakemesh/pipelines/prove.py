"""Proof on open-source Spark: the rendered code dry-runs, runs, and gives the rows that the definition says.

The process has no secrets in its environment, a folder of its own and a deadline. Nothing runs that the gate has not
judged.
"""

import asyncio
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.pipelines.definition import PipelineDefinition, Source
from lakemesh.pipelines.gate import code_of, require_judged
from lakemesh.pipelines.graph import graph_of, place_of
from lakemesh.pipelines.queries import expected_query
from lakemesh.pipelines.render import render
from lakemesh.pipelines.samples import Row, sample_rows
from lakemesh.pipelines.sources import ddl_of
from lakemesh.pipelines.spark.process import Spark

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class TableProof:
    """Rows that Spark gave and that the definition says; `differing` counts those that only one of them has."""

    rows: int
    expected: int
    differing: int


@dataclass(frozen=True, slots=True)
class Proof:
    """`error` is Spark's class of the failure, None when the pipeline ran. `expectations` counts the rows that met
    each, and that did not."""

    tables: Mapping[str, TableProof] = field(default_factory=dict)
    input_rows: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    message: str | None = None
    expectations: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.error is None and not any(table.differing for table in self.tables.values())


async def prove(
    definition: PipelineDefinition,
    files: Mapping[str, str],
    *,
    spark: Spark,
    warehouse: Warehouse,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Proof:
    """Run the pipeline with generated rows on `spark`, and have `warehouse` say what comes out. One in SQL is run
    as the Python of the same definition: open-source Spark lacks its `read_files`, constraints and AUTO CDC. Raises
    `PermissionDenied` for code that the gate refuses, `InvalidRequest` for a source without columns, and `Unavailable`
    when Spark is not installed or does not answer."""
    python = definition.model_copy(update={"language": "python"})
    code = code_of(files if definition.language == "python" else render(python))
    require_judged(code)
    rows = sample_rows(definition)
    for source in definition.sources:
        if not rows[source.name]:
            raise InvalidRequest(
                f"The columns of the source {source.name!r} are not known, so no rows can be made for it."
            )
    tables = [name for name, node in graph_of(definition).nodes.items() if node.kind not in ("temporary_view", "sink")]
    with tempfile.TemporaryDirectory(prefix="lakemesh-proof-") as folder:
        job = await asyncio.to_thread(lay_out, Path(folder), definition, code, rows, tables)
        answer = await spark.run(Path(folder), job, timeout_seconds=timeout_seconds)
    counts = {name: len(found) for name, found in rows.items()}
    if "error" in answer:
        return Proof(input_rows=counts, error=answer["error"], message=answer["message"])
    compared = {}
    for name in tables:
        expected = await warehouse.query(expected_query(definition, name, rows), row_limit=10_000)
        compared[name] = compare(answer["tables"][name], expected, without=clocked(definition, name))
    seconds = answer["dry_run"] + answer["run"]
    return Proof(compared, counts, expectations=answer["expectations"], seconds=seconds)


def lay_out(
    folder: Path,
    definition: PipelineDefinition,
    code: Mapping[str, str],
    rows: Mapping[str, list[Row]],
    tables: list[str],
) -> dict[str, Any]:
    for path, text in code.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    places = {place_of(source): write_rows(folder, source, rows[source.name]) for source in definition.sources}
    return {"steps": ["dry_run", "run"], "modules": sorted(code), "tables": tables, "places": places, "output": "rows"}


def write_rows(folder: Path, source: Source, rows: Sequence[Row]) -> dict[str, str]:
    """CSV as CSV; other formats as JSON lines, which Spark reads without a library of its own for each."""
    inside = folder / "rows" / source.name
    inside.mkdir(parents=True)
    plain_rows = [{name: plain(value) for name, value in row.items()} for row in rows]
    if source.format == "csv":
        with (inside / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [column.name for column in source.columns])
            writer.writeheader()
            writer.writerows(plain_rows)
        kind = "csv"
    else:
        (inside / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in plain_rows))
        kind = "text" if source.format == "kafka" else "json"
    return {"folder": str(inside), "format": kind, "ddl": ddl_of(source)}


def plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime | date) else value


def clocked(definition: PipelineDefinition, name: str) -> frozenset[str]:
    """Columns that tell the time of the run: versions of snapshots begin when they are seen."""
    dataset = definition.dataset(name)
    seen = dataset is not None and dataset.change_data is not None and dataset.change_data.from_snapshots
    return frozenset({"__start_at"}) if seen else frozenset()


def compare(found: Mapping[str, Any], expected: Any, *, without: frozenset[str] = frozenset()) -> TableProof:
    """By columns in the order of their names: two engines need not agree on the order of what `*` gives."""
    left = Counter(comparable(found["columns"], row, without) for row in found["rows"])
    right = Counter(comparable(expected.columns, row, without) for row in expected.rows)
    differing = ((left - right) + (right - left)).total()
    return TableProof(left.total(), right.total(), differing)


def comparable(columns: Sequence[str], row: Sequence[Any], without: frozenset[str]) -> tuple[tuple[str, str], ...]:
    cells = ((name.lower(), text_of(value)) for name, value in zip(columns, row, strict=True))
    return tuple(sorted((name, text) for name, text in cells if name not in without))


def text_of(value: Any) -> str:
    """Numbers by value, whatever their type; times without their zone, which is UTC here."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    try:
        return format(round(Decimal(str(value)), 6).normalize(), "f")
    except ArithmeticError:
        return str(value)
