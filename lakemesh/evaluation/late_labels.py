"""Labels that come late, such as which transactions were frauds, joined back to what an agent said of each case: its
precision by day, as far as it is known."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.evaluation.case_tables import load
from lakemesh.evaluation.drift import Row
from lakemesh.evaluation.evaluating import Bench
from lakemesh.evaluation.observation import MISSING, at_path
from lakemesh.evaluation.policies import LateLabels
from lakemesh.evaluation.production_tables import PRECISION_COLUMNS, precision_table
from lakemesh.lakehouse.arrow import rows_to_arrow

MAX_LABELS = 5_000_000


async def precision_by_day(source: LateLabels, bench: Bench, agent: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each day of the executions, newest last; kept in `label_precision` too, again whenever more is known.
    Raises `NotFound` when the labels' table is not there."""
    try:
        found = await bench.workspace.warehouse.query(source.statement(), row_limit=MAX_LABELS)
    except (NotFound, InvalidRequest) as error:
        raise NotFound(f"Labels cannot be read: {error.detail}") from None
    labels = {str(key): bool(label) for key, label in found.rows if label is not None}
    by_day: dict[Any, list[tuple[str, float, bool | None]]] = {}
    for row in rows:
        inputs, score = load(row["input_data"]), at_path(load(row["output_data"]), source.score)
        if not isinstance(inputs, Mapping) or source.key not in inputs or score is MISSING or score is None:
            continue
        unit = str(inputs.get(source.unit or source.key))
        key = str(inputs[source.key])
        by_day.setdefault(row["timestamp"].date(), []).append((unit, float(score), labels.get(key)))
    computed = [
        {"day": day, "agent_id": agent, "computed_at": datetime.now(UTC), **figures(scored, source.top)}
        for day, scored in sorted(by_day.items())
    ]
    if computed:
        spec = precision_table(bench.schema)
        await bench.workspace.tables.create(spec)
        await bench.workspace.tables.append(spec.name, rows_to_arrow(PRECISION_COLUMNS, computed))
    return computed


def figures(scored: Sequence[tuple[str, float, bool | None]], top: int) -> dict[str, Any]:
    """Of one day's units, scores and labels. A unit's label is whether any of its cases was one; it is known when all
    of them are, or one was."""
    highest: dict[str, float] = {}
    outcome: dict[str, bool | None] = {}
    for unit, score, label in scored:
        highest[unit] = max(score, highest.get(unit, score))
        known = outcome.get(unit, False)
        outcome[unit] = True if label or known else None if label is None or known is None else False
    ranked = sorted(highest, key=lambda unit: -highest[unit])[:top]
    labels = [outcome[unit] for unit in ranked]
    known_rows = [(score, label) for _, score, label in scored if label is not None]
    return {
        "executions": len(scored),
        "labelled": len(known_rows),
        "positives": sum(label for _, label in known_rows),
        "top": len(ranked),
        "precision_at_top": None if None in labels or not labels else sum(map(bool, labels)) / len(labels),
        "auc_roc": auc(known_rows),
    }


def auc(scored: Sequence[tuple[float, bool]]) -> float | None:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney, 1947). None without both."""
    scores = np.array([score for score, _ in scored])
    positive = np.array([label for _, label in scored], dtype=bool)
    count = int(positive.sum())
    if not 0 < count < len(scores):
        return None
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))
