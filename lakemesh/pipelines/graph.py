"""A pipeline as a graph: what the definition says and what code says, in the same terms."""

from dataclasses import dataclass, field
from typing import TypeAlias

from lakemesh.pipelines.definition import Column, Dataset, Kind, PipelineDefinition, Source
from lakemesh.pipelines.expressions import canonical, quoted

RuleKey: TypeAlias = tuple[str, str, str]
"""Name, condition and action of an expectation."""


@dataclass(frozen=True, slots=True)
class Node:
    """A dataset or a sink. `flows` are the queries that fill it; `columns` maps the names of those that are listed to
    their expressions."""

    kind: Kind | str
    flows: tuple["Flow", ...] = ()
    rules: frozenset[RuleKey] = frozenset()
    cluster_by: tuple[str, ...] = ()

    @property
    def reads(self) -> frozenset[str]:
        return frozenset().union(*(flow.reads for flow in self.flows))


@dataclass(frozen=True, slots=True)
class Flow:
    """A query, or changes to apply. `reads` names tables of the pipeline, paths, topics and tables outside."""

    reads: frozenset[str]
    columns: tuple[tuple[str, str], ...] = ()
    filters: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    deduplicated_by: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def edges(self) -> list[tuple[str, str]]:
        return sorted((read, name) for name, node in self.nodes.items() for read in node.reads)


def graph_of(definition: PipelineDefinition) -> Graph:
    """What the definition says is made, with the tables of quarantined rows."""
    nodes: dict[str, Node] = {}
    for dataset in definition.datasets:
        nodes[dataset.name] = node_of(definition, dataset)
        if condition := quarantine_condition(dataset):
            [flow] = flows_of(definition, dataset)
            kept = Flow(flow.reads, flow.columns, (*flow.filters, condition), flow.group_by, flow.deduplicated_by)
            nodes[f"{dataset.name}_quarantine"] = Node(dataset.kind, (kept,))
    for sink in definition.sinks:
        columns = tuple((name, canonical(text)) for name, text in sink_columns(sink.key))
        nodes[sink.name] = Node("sink", (Flow(frozenset({sink.input}), columns),))
    return Graph(nodes)


def sink_columns(key: str | None) -> list[tuple[str, str]]:
    columns = [("value", "to_json(struct(*))")]
    return [("key", f"CAST({quoted(key)} AS STRING)"), *columns] if key else columns


def node_of(definition: PipelineDefinition, dataset: Dataset) -> Node:
    rules = frozenset(
        (rule.name, canonical(rule.condition), "drop" if rule.action == "quarantine" else rule.action)
        for rule in dataset.rules
    )
    return Node(dataset.kind, tuple(flows_of(definition, dataset)), rules, dataset.cluster_by)


def flows_of(definition: PipelineDefinition, dataset: Dataset) -> list[Flow]:
    if dataset.change_data is not None:
        change = dataset.change_data
        said = {"keys": ",".join(change.keys), "scd": str(change.scd_type), "except": ",".join(change.except_columns)}
        if not change.from_snapshots:
            said |= {"sequence_by": quoted(change.sequence_by or "")}
            said |= {"delete_when": canonical(change.delete_when) if change.delete_when else ""}
        else:
            said.pop("except")
        return [Flow(frozenset({dataset.input}), changes=tuple(sorted(said.items())))]
    columns = tuple((column.name, column_sql(column)) for column in dataset.columns)
    filters = (canonical(dataset.where),) if dataset.where else ()
    group_by = tuple(
        canonical(column.sql) for name in dataset.group_by for column in dataset.columns if column.name == name
    )
    keys = dataset.keys if dataset.deduplicate else ()
    joined = {join.dataset for join in dataset.joins}
    return [
        Flow(frozenset({read_name(definition, name)} | joined), columns, filters, group_by, keys)
        for name in (dataset.input, *dataset.append)
    ]


def read_name(definition: PipelineDefinition, name: str) -> str:
    source = definition.source(name)
    return name if source is None else place_of(source)


def place_of(source: Source) -> str:
    return source.path or source.table or f"kafka:{source.topic}"


def column_sql(column: Column) -> str:
    """The column's expression, with what becomes of personal data in it."""
    text = canonical(column.sql)
    if column.pii == "hash":
        return canonical(f"sha2(CAST({text} AS STRING), 256)")
    if column.pii == "mask":
        return canonical(f"mask(CAST({text} AS STRING))")
    return text


def quarantine_condition(dataset: Dataset) -> str | None:
    """What holds for the rows that are kept aside: some rule that quarantines is false or NULL for them."""
    conditions = [f"({canonical(rule.condition)})" for rule in dataset.rules if rule.action == "quarantine"]
    return canonical(f"NOT coalesce({' AND '.join(conditions)}, false)") if conditions else None
