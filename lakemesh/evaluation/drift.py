"""How executions differ from those before: distributions, rates, embeddings."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lakemesh.errors import LakemeshError
from lakemesh.evaluation.case_tables import load
from lakemesh.evaluation.evaluating import Bench
from lakemesh.evaluation.observation import text_of
from lakemesh.evaluation.production_tables import DRIFT_COLUMNS, drift_table
from lakemesh.evaluation.scorers import MAX_TEXT, REFUSALS
from lakemesh.evaluation.statistics import centroid_distance, population_stability_index, psi_of_counts
from lakemesh.lakehouse.arrow import rows_to_arrow

Row = Mapping[str, Any]

MAX_EMBEDDED = 200
MAX_CATEGORIES = 50
LEAST_FOR_DRIFT = 20
SHIFTED = 0.25
"""A PSI from here on is a shift (the usual rule of thumb)."""


def drift_of(before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
    """PSI of what executions are like, field by field of their inputs and outputs too, and by how much the rates of
    errors, of degraded answers and of refusals rose."""
    if min(len(before), len(after)) < LEAST_FOR_DRIFT:
        return {}
    measures: dict[str, Callable[[Row], float | None]] = {
        "latency_ms": lambda row: row["latency_ms"],
        "confidence": lambda row: row["confidence"],
        "input_characters": lambda row: None if row["input_data"] is None else len(row["input_data"]),
        "output_characters": lambda row: None if row["output_data"] is None else len(row["output_data"]),
    }
    found: dict[str, float] = {}
    for name, measure in measures.items():
        values = [[value for row in rows if (value := measure(row)) is not None] for rows in (before, after)]
        if min(map(len, values)) >= LEAST_FOR_DRIFT:
            found[f"{name} (PSI)"] = population_stability_index(*values)
    for part in ("input_data", "output_data"):
        found |= field_drift(part.removesuffix("_data"), *([row[part] for row in rows] for rows in (before, after)))
    rates: dict[str, Callable[[Row], bool]] = {
        "error rate": lambda row: not row["success"],
        "degraded rate": lambda row: bool(row["degraded"]),
        "refusal rate": lambda row: row["output_data"] is not None and refuses(row["output_data"]),
    }
    for name, holds in rates.items():
        old, new = (sum(map(holds, rows)) / len(rows) for rows in (before, after))
        found[f"{name} (rise)"] = new - old
    return found


def refuses(output: str) -> bool:
    return REFUSALS.search(text_of(load(output))[:MAX_TEXT].replace("’", "'")) is not None


def field_drift(part: str, before: Sequence[str | None], after: Sequence[str | None]) -> dict[str, float]:
    """PSI of every field that is a number, or a text or truth value of few different ones."""
    samples = [fields_of(texts) for texts in (before, after)]
    found = {}
    for name in sorted(samples[0].keys() & samples[1].keys()):
        old, new = samples[0][name], samples[1][name]
        if min(len(old), len(new)) < LEAST_FOR_DRIFT:
            continue
        if all(is_number(value) for value in (*old, *new)):
            found[f"{part}.{name} (PSI)"] = population_stability_index(old, new)
        elif len(kinds := sorted({*map(str, old), *map(str, new)})) <= MAX_CATEGORIES:
            place = {kind: number for number, kind in enumerate(kinds)}
            counts = (np.bincount([place[str(one)] for one in values], minlength=len(kinds)) for values in (old, new))
            found[f"{part}.{name} (PSI)"] = psi_of_counts(*counts)
    return found


def fields_of(texts: Sequence[str | None]) -> dict[str, list[Any]]:
    """The values of each field of JSON objects, nested ones by dotted path."""
    found: dict[str, list[Any]] = {}

    def note(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                note(f"{path}.{key}" if path else str(key), item)
        elif path and isinstance(value, str | bool | int | float):
            found.setdefault(path, []).append(value)

    for text in texts:
        note("", load(text))
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


async def embedding_drift(bench: Bench, before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
    """How far the mean embedding of inputs and of outputs moved; nothing where there is no model for it."""
    found: dict[str, float] = {}
    for name in ("input_data", "output_data"):
        texts = [[row[name] for row in rows if row[name]][:MAX_EMBEDDED] for rows in (before, after)]
        if min(map(len, texts)) < LEAST_FOR_DRIFT:
            continue
        try:
            vectors = [np.asarray((await bench.models.embed(some)).vectors, dtype=float) for some in texts]
        except LakemeshError:
            return found
        found[f"{name.removesuffix('_data')}s (embedding distance)"] = centroid_distance(*vectors)
    return found


async def keep_drift(bench: Bench, agent: str, hours: float, drift: Mapping[str, float]) -> None:
    """A row each, for the dashboard and its alerts."""
    spec = drift_table(bench.schema)
    await bench.workspace.tables.create(spec)
    shared = {"timestamp": datetime.now(UTC), "agent_id": agent, "hours": hours}
    rows = [{**shared, "name": name, "value": value} for name, value in drift.items() if np.isfinite(value)]
    if rows:
        await bench.workspace.tables.append(spec.name, rows_to_arrow(DRIFT_COLUMNS, rows))
