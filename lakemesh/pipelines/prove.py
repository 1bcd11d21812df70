"""Proof on open-source Spark: the rendered code dry-runs, runs, and gives the rows that the definition says.

The process has no secrets in its environment, a folder of its own and a deadline. Nothing runs that the gate has not
judged.
"""

import asyncio
import contextlib
import csv
import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from lakemesh.errors import InvalidRequest, PermissionDenied, Unavailable
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.pipelines.definition import PipelineDefinition, Source
from lakemesh.pipelines.gate import judge
from lakemesh.pipelines.graph import graph_of, place_of
from lakemesh.pipelines.queries import expected_query
from lakemesh.pipelines.render import ddl_of
from lakemesh.pipelines.samples import Row, sample_rows

TIMEOUT_SECONDS = 300.0
MAX_ANSWER_BYTES = 20_000_000
RUNNER = Path(__file__).parent / "spark" / "runner.py"


@dataclass(frozen=True, slots=True)
class TableProof:
    """Rows that Spark gave and that the definition says; `differing` counts those that only one of them has."""

    rows: int
    expected: int
    differing: int


@dataclass(frozen=True, slots=True)
class Proof:
    """`error` is Spark's class of the failure, None when the pipeline ran."""

    tables: Mapping[str, TableProof] = field(default_factory=dict)
    input_rows: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    message: str | None = None

    @property
    def holds(self) -> bool:
        return self.error is None and not any(table.differing for table in self.tables.values())


async def prove(
    definition: PipelineDefinition,
    files: Mapping[str, str],
    *,
    spark: Path,
    warehouse: Warehouse,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Proof:
    """Run the pipeline with generated rows in the environment `spark` (`make spark`), and have `warehouse` say what
    comes out of them. Raises `PermissionDenied` for code that the gate refuses, `InvalidRequest` for a source without
    columns and for what local Spark cannot show, and `Unavailable` when Spark is not installed or does not answer."""
    require_judged(files)
    require_provable(definition)
    rows = sample_rows(definition)
    for source in definition.sources:
        if not rows[source.name]:
            raise InvalidRequest(
                f"The columns of the source {source.name!r} are not known, so no rows can be made for it."
            )
    tables = [name for name, node in graph_of(definition).nodes.items() if node.kind not in ("temporary_view", "sink")]
    with tempfile.TemporaryDirectory(prefix="lakemesh-proof-") as folder:
        await asyncio.to_thread(lay_out, Path(folder), definition, files, rows, tables)
        answer = await run(spark, Path(folder), timeout_seconds)
    counts = {name: len(found) for name, found in rows.items()}
    if "error" in answer:
        return Proof(input_rows=counts, error=answer["error"], message=answer["message"])
    compared = {
        name: compare(
            answer["tables"][name], await warehouse.query(expected_query(definition, name, rows), row_limit=10_000)
        )
        for name in tables
    }
    return Proof(compared, counts)


def require_provable(definition: PipelineDefinition) -> None:
    """Raises `InvalidRequest` for what open-source Spark cannot show here: its files keep the rows of one flow a table,
    and topics have not been stood in for well enough to be a proof."""
    for source in definition.sources:
        if source.format == "kafka":
            raise InvalidRequest(f"A pipeline that reads a topic ({source.name}) cannot be proved on local Spark.")
    for dataset in definition.datasets:
        if dataset.append:
            raise InvalidRequest(f"A table of several flows ({dataset.name}) cannot be proved on local Spark.")


def require_judged(files: Mapping[str, str]) -> None:
    for path, code in files.items():
        if path.endswith(".py") and (refusals := judge(code)):
            raise PermissionDenied(f"{path}, {refusals[0]}")


def lay_out(
    folder: Path,
    definition: PipelineDefinition,
    files: Mapping[str, str],
    rows: Mapping[str, list[Row]],
    tables: list[str],
) -> None:
    modules = [path for path in sorted(files) if path.startswith("transformations/") and path.endswith(".py")]
    for path in modules:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(files[path])
    places = {place_of(source): write_rows(folder, source, rows[source.name]) for source in definition.sources}
    proof = {"schema": definition.schema_, "modules": modules, "tables": tables, "places": places}
    (folder / "proof.json").write_text(json.dumps(proof))


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


async def run(spark: Path, folder: Path, timeout_seconds: float) -> dict[str, Any]:
    """The runner's answer. The process gets nothing of this one's environment but where programs are."""
    python = spark / "bin" / "python"
    if not python.exists():
        raise Unavailable(f"Spark is not installed in {spark}; run `make spark` (about 1.2 GB).")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        python, "-I", RUNNER, folder, env=environment, cwd=folder, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"Spark did not answer within {timeout_seconds:.0f} s.") from None
    finally:
        end(process)
    if not output or len(output) > MAX_ANSWER_BYTES:
        raise Unavailable("Spark ended without an answer.")
    answer: dict[str, Any] = json.loads(output)
    return answer


def end(process: "asyncio.subprocess.Process") -> None:
    """The process and the JVM that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def compare(found: Mapping[str, Any], expected: Any) -> TableProof:
    """By columns in the order of their names: two engines need not agree on the order of what `*` gives."""
    left = Counter(comparable(found["columns"], row) for row in found["rows"])
    right = Counter(comparable(expected.columns, row) for row in expected.rows)
    differing = ((left - right) + (right - left)).total()
    return TableProof(left.total(), right.total(), differing)


def comparable(columns: Sequence[str], row: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.lower(), text_of(value)) for name, value in zip(columns, row, strict=True)))


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
