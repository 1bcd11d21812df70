"""A definition from what a request has said."""

from typing import Any

from lakemesh.pipelines.definition import PipelineDefinition, parse_definition
from lakemesh.pipelines.requests.reading import Entity, Reading, need, singular


def build(request: str, reading: Reading) -> PipelineDefinition:
    datasets: list[dict[str, Any]] = []
    sources = []
    for entity in reading.entities.values():
        if not entity.columns:
            need(entity, "id", "BIGINT", reading)
        columns = [{"name": name, "type": kind} for name, kind in entity.columns.items()]
        sources.append({**entity.source, "columns": columns})
        datasets += datasets_of(entity, reading)
    names = list(reading.entities)
    schema = reading.schema or names[0]
    if not reading.schema:
        reading.assume(f"The tables go into the schema {reading.catalog}.{schema}.")
    return parse_definition(
        {
            "name": f"{'_'.join(names[:3])}_pipeline", "catalog": reading.catalog, "schema": schema,
            "description": " ".join(request.split()), "sources": sources,
            "datasets": [*datasets, *reading.results],
            "schedule": reading.schedule, "assumptions": reading.assumptions,
        }
    )  # fmt: skip


def datasets_of(entity: Entity, reading: Reading) -> list[dict[str, Any]]:
    """Bronze as it came, silver cleaned, and the changes applied when that is asked."""
    kind = "streaming_table" if entity.source.get("streaming", True) else "materialized_view"
    bronze = {"name": f"bronze_{entity.name}", "layer": "bronze", "kind": kind, "input": entity.source["name"]}
    cleaned = f"{singular(entity.name)}_changes" if entity.changes else entity.name
    silver: dict[str, Any] = {
        "name": cleaned,
        "layer": "silver",
        "kind": kind,
        "input": bronze["name"],
        "rules": entity.rules,
    }
    silver["columns"] = [{"name": name} for name in entity.columns]
    if entity.where:
        silver["where"] = entity.where
    if entity.deduplicated_by:
        silver |= {"deduplicate": True, "keys": [entity.deduplicated_by]}
    if not entity.changes:
        return [bronze, silver]
    changes = dict(entity.changes) | ({"delete_when": entity.delete_when} if entity.delete_when else {})
    if kind == "materialized_view":
        changes["from_snapshots"] = True
        changes.pop("sequence_by")
        changes.pop("delete_when", None)
    applied = {
        "name": entity.name,
        "layer": "silver",
        "kind": "streaming_table",
        "input": cleaned,
        "change_data": changes,
    }
    return [bronze, silver, applied]
