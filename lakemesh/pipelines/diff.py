"""What changes between two definitions, a sentence each; what loses data, or needs all of it read again, is named."""

from collections.abc import Iterator
from dataclasses import dataclass

from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.graph import Graph, Node, graph_of
from lakemesh.pipelines.schemas import Schemas


@dataclass(frozen=True, slots=True)
class Change:
    """`destructive`: rows or columns are lost, or a table is read again from its beginning; it needs an approval."""

    what: str
    destructive: bool = False


def diff(before: PipelineDefinition, after: PipelineDefinition) -> list[Change]:
    """Changes in the order: settings, datasets that go, that come, that change."""
    return [*settings(before, after), *datasets(before, after)]


def settings(before: PipelineDefinition, after: PipelineDefinition) -> Iterator[Change]:
    if (before.catalog, before.schema_) != (after.catalog, after.schema_):
        moved = f"{before.catalog}.{before.schema_} to {after.catalog}.{after.schema_}"
        yield Change(f"Tables move from {moved}; those that exist stay behind.", destructive=True)
    if before.name != after.name:
        yield Change(
            f"The pipeline {before.name} becomes {after.name}: another pipeline owns the tables.", destructive=True
        )
    for name in ("schedule", "serverless", "tags"):
        if getattr(before, name) != getattr(after, name):
            yield Change(f"The setting {name} changes.")


def datasets(before: PipelineDefinition, after: PipelineDefinition) -> Iterator[Change]:
    old, new = graph_of(before), graph_of(after)
    for name in sorted(old.nodes.keys() - new.nodes.keys()):
        kept = old.nodes[name].kind in ("temporary_view", "sink")
        yield Change(f"{name} is dropped{'' if kept else ', with its rows'}.", destructive=not kept)
    for name in sorted(new.nodes.keys() - old.nodes.keys()):
        yield Change(f"{name} is added ({new.nodes[name].kind.replace('_', ' ')}).")
    for name in sorted(old.nodes.keys() & new.nodes.keys()):
        yield from node_changes(name, old, new)
        yield from column_changes(name, before, after)


def node_changes(name: str, before: Graph, after: Graph) -> Iterator[Change]:
    old, new = before.nodes[name], after.nodes[name]
    if old.kind != new.kind:
        change = f"{old.kind.replace('_', ' ')} to {new.kind.replace('_', ' ')}"
        yield Change(f"{name} goes from {change}, and is made anew.", destructive=True)
    for rule in sorted(old.rules - new.rules):
        yield Change(f"{name} no longer has the rule {rule[0]} ({rule[2]}): {rule[1]}.")
    for rule in sorted(new.rules - old.rules):
        yield Change(f"{name} gets the rule {rule[0]} ({rule[2]}): {rule[1]}.")
    if old.cluster_by != new.cluster_by:
        yield Change(f"{name} is clustered by {', '.join(new.cluster_by) or 'nothing'}.")
    if old.flows != new.flows:
        yield from flow_changes(name, old, new)


def flow_changes(name: str, old: Node, new: Node) -> Iterator[Change]:
    if old.reads != new.reads:
        gone, come = sorted(old.reads - new.reads), sorted(new.reads - old.reads)
        told = [f"no longer {', '.join(gone)}"] if gone else []
        told += [f"also {', '.join(come)}"] if come else []
        lost = bool(gone) and old.kind == "streaming_table"
        yield Change(
            f"{name} reads {' and '.join(told)}{'; it needs a full refresh' if lost else ''}.", destructive=lost
        )
    changes = [dict(flow.changes) for flow in (*old.flows, *new.flows) if flow.changes]
    if len(changes) == 2 and changes[0] != changes[1]:
        fields = ", ".join(
            sorted(key for key in changes[0].keys() | changes[1].keys() if changes[0].get(key) != changes[1].get(key))
        )
        yield Change(f"{name} applies changes otherwise ({fields}); it needs a full refresh.", destructive=True)
    elif old.reads == new.reads:
        again = (
            " Rows that are there already stay as they are without a full refresh."
            if new.kind == "streaming_table"
            else ""
        )
        yield Change(f"The query of {name} changes.{again}")


def column_changes(name: str, before: PipelineDefinition, after: PipelineDefinition) -> Iterator[Change]:
    old, new = Schemas(before).columns_of(name), Schemas(after).columns_of(name)
    if old is None or new is None:
        return
    for column in old:
        if column not in new:
            yield Change(f"{name} loses the column {column}.", destructive=True)
        elif old[column] != new[column] and "UNKNOWN" not in (old[column], new[column]):
            yield Change(f"{name}.{column} goes from {old[column]} to {new[column]}.", destructive=True)
    for column in new:
        if column not in old:
            yield Change(f"{name} gets the column {column}.")
