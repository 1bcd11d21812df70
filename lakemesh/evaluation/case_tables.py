"""Golden cases in Delta, and golden cases made of executions that people judged."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.evaluation.cases import Case, Dataset, Expectations, as_json, make_dataset, parse_case, read_jsonl
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

TABLE_NAME = re.compile(r"\w+\.\w+\.\w+(?:@(?P<version>[0-9a-f]{4,16}))?")
COLUMNS = (
    Column("dataset_version", "STRING"),
    Column("added_at", "TIMESTAMP"),
    Column("case_id", "STRING"),
    Column("split", "STRING"),
    Column("case_json", "STRING"),
)
MAX_CASES = 10_000
GOOD = 0.5
"""Feedback from here on says that the answer was right."""

JUDGED = """
SELECT e.execution_id, e.input_data, e.output_data, f.value, f.comment, f.correction
FROM {schema}.agent_executions AS e
JOIN (
  SELECT *, row_number() OVER (PARTITION BY execution_id ORDER BY timestamp DESC, record_id DESC) AS place
  FROM {schema}.feedback
) AS f ON f.execution_id = e.execution_id AND f.place = 1
WHERE e.agent_id = :agent AND e.input_data IS NOT NULL AND e.success
ORDER BY e.timestamp DESC
"""


async def open_dataset(source: str, workspace: Workspace) -> Dataset:
    """Of a JSONL file, or of a table: `catalog.schema.table`, or with `@version` an earlier version of it."""
    match = TABLE_NAME.fullmatch(source)
    if match is None:
        return read_jsonl(Path(source))
    table = source.partition("@")[0]
    statement = f"SELECT * FROM {table} ORDER BY added_at DESC, dataset_version, case_id"  # noqa: S608 (matched above)
    result = await workspace.warehouse.query(statement, row_limit=10 * MAX_CASES)
    rows = result.to_dicts()
    wanted = match["version"] or (rows[0]["dataset_version"] if rows else "")
    texts = {row["case_id"]: row["case_json"] for row in rows if row["dataset_version"].startswith(wanted)}
    if not texts:
        raise NotFound(f"There are no cases in {source}.")
    return make_dataset(table, [parse_case(text, f"{table}, case {key}") for key, text in texts.items()])


async def save_dataset(workspace: Workspace, table: str, dataset: Dataset) -> None:
    """Add a version to the table; what is there already stays as it was."""
    if TABLE_NAME.fullmatch(table) is None or "@" in table:
        raise InvalidRequest(f"{table!r:.100} is no name of a table; give catalog.schema.table.")
    if len(dataset.cases) > MAX_CASES:
        raise InvalidRequest(f"{len(dataset.cases)} cases are more than the {MAX_CASES} of one dataset.")
    await workspace.tables.create(TableSpec(name=table, columns=COLUMNS, comment="Golden cases, version by version"))
    shared = {"dataset_version": dataset.version, "added_at": datetime.now(UTC)}
    rows = [{**shared, "case_id": case.key, "split": case.split, "case_json": as_json(case)} for case in dataset.cases]
    await workspace.tables.append(table, rows_to_arrow(COLUMNS, rows))


async def judged_cases(workspace: Workspace, schema: str, agent: str, *, limit: int = 1_000) -> tuple[list[Case], int]:
    """Cases of what people judged, the newest first, and how many executions say too little to make one: an answer
    somebody was content with is expected again, a correction is expected instead. A bare thumb down expects nothing
    that could be checked."""
    statement = JUDGED.format(schema=schema)
    result = await workspace.warehouse.query(statement, {"agent": agent}, row_limit=limit)
    found = [case_of(row) for row in result.to_dicts()]
    kept = {case.key: case for case in reversed(found) if case is not None}
    return list(kept.values()), found.count(None)


def case_of(row: Mapping[str, Any]) -> Case | None:
    inputs = load(row["input_data"])
    output = load(row["correction"])
    if output is None and row["value"] is not None and row["value"] >= GOOD:
        output = load(row["output_data"])
    if not isinstance(inputs, dict) or output is None:
        return None
    source = f"execution {row['execution_id']}"
    return Case(inputs=inputs, expectations=Expectations(output=output), tags=["feedback"], source=source)


def load(text: str | None) -> Any:
    """The JSON of a text; the text when it is none, such as a correction in plain words."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
