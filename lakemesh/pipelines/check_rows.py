"""Faults inside of a dataset: its columns, rules, changes, and what it does with personal data."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lakemesh.pipelines import expressions
from lakemesh.pipelines.definition import Dataset, PipelineDefinition
from lakemesh.pipelines.faults import Fault
from lakemesh.pipelines.schemas import Schemas, names_of
from lakemesh.suggestions import did_you_mean

FILE_COLUMNS = {"_metadata": "STRUCT"}
NUMERIC_AGGREGATES = frozenset({"sum", "avg", "mean", "stddev", "variance"})


@dataclass(frozen=True)
class RowCheck:
    definition: PipelineDefinition
    schemas: Schemas

    def faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        yield from self.column_faults(path, dataset)
        yield from self.rule_faults(path, dataset)
        yield from self.change_faults(path, dataset)
        yield from self.personal_faults(path, dataset)
        outgoing = self.schemas.columns_of(dataset.name)
        for field in ("keys", "cluster_by"):
            yield from self.unknown_columns(f"{path}.{field}", getattr(dataset, field), outgoing)
        if dataset.deduplicate and not dataset.keys:
            yield Fault(f"{path}.keys", "rows are deduplicated by keys; name them")
        if dataset.deduplicate and (dataset.group_by or dataset.joins or dataset.change_data or dataset.append):
            yield Fault(
                f"{path}.deduplicate", "deduplicate in a dataset of its own, without joins, groups, flows or changes"
            )

    def column_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        incoming = self.schemas.incoming(dataset)
        if (dataset.joins or dataset.group_by) and not dataset.columns:
            yield Fault(f"{path}.columns", "joined or grouped rows need their columns listed")
        seen: set[str] = set()
        for number, column in enumerate(dataset.columns):
            place = f"{path}.columns.{number}"
            if column.name.lower() in seen:
                yield Fault(f"{place}.name", f"{column.name!r} is named twice")
            seen.add(column.name.lower())
            yield from self.expression_faults(f"{place}.expression", column.sql, dataset, incoming)
            if not expressions.fault_of(column.sql):
                yield from self.aggregate_faults(place, column.name, column.sql, dataset, incoming)
        if dataset.where:
            yield from self.expression_faults(f"{path}.where", dataset.where, dataset, incoming, whole_rows=True)
        for number, join in enumerate(dataset.joins):
            yield from self.expression_faults(f"{path}.joins.{number}.on", join.on, dataset, incoming, whole_rows=True)
        yield from self.unknown_columns(
            f"{path}.group_by", dataset.group_by, {column.name.lower(): "" for column in dataset.columns}
        )

    def aggregate_faults(
        self, place: str, name: str, text: str, dataset: Dataset, incoming: dict[str, str] | None
    ) -> Iterator[Fault]:
        grouped = {key.lower() for key in dataset.group_by}
        aggregates = expressions.aggregates_in(text)
        if not grouped and aggregates:
            yield Fault(f"{place}.expression", f"{min(aggregates)}() needs group_by")
        if grouped and aggregates and name.lower() in grouped:
            yield Fault(f"{place}.expression", "rows are not grouped by an aggregate")
        if grouped and not aggregates and name.lower() not in grouped:
            yield Fault(f"{place}.expression", f"{name!r} is neither in group_by nor an aggregate")
        for function in aggregates & NUMERIC_AGGREGATES:
            for column in names_of(text):
                kind = (incoming or {}).get(column, "").upper()
                if text.lower().replace(" ", "") == f"{function}({column})" and kind in (
                    "STRING",
                    "DATE",
                    "TIMESTAMP",
                    "BOOLEAN",
                ):
                    yield Fault(f"{place}.expression", f"{function}() takes numbers; {column} is {kind}")

    def rule_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        outgoing = self.schemas.columns_of(dataset.name)
        seen: set[str] = set()
        for number, rule in enumerate(dataset.rules):
            place = f"{path}.rules.{number}"
            if rule.name.lower() in seen:
                yield Fault(f"{place}.name", f"{rule.name!r} is named twice")
            seen.add(rule.name.lower())
            faults = list(
                self.expression_faults(f"{place}.condition", rule.condition, dataset, outgoing, whole_rows=True)
            )
            yield from faults
            if not faults and expressions.never_holds(rule.condition):
                yield Fault(f"{place}.condition", "no row can meet it")
            simple = not (dataset.append or dataset.change_data)
            if rule.action == "quarantine" and not (simple and dataset.kind != "temporary_view"):
                yield Fault(f"{place}.action", "rows are quarantined from a table with one input that only grows")
            if dataset.change_data:
                yield Fault(
                    f"{place}", "rules go on the changes' input: the table they are applied to cannot drop rows"
                )

    def change_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        change = dataset.change_data
        if change is None:
            return
        path = f"{path}.change_data"
        if dataset.kind != "streaming_table":
            yield Fault(path, "changes are applied to a streaming_table")
        taken = [field for field in ("joins", "columns", "where", "group_by", "append") if getattr(dataset, field)]
        if taken:
            yield Fault(path, f"changes are applied as they are; move {', '.join(taken)} to the input's dataset")
        below = self.definition.dataset(dataset.input)
        if below is None or below.kind == "temporary_view":
            yield Fault(path, "the changes must be a table of the pipeline, so that they are kept")
        if change.from_snapshots and below is not None and below.kind != "materialized_view":
            yield Fault(f"{path}.from_snapshots", "snapshots are compared from a materialized_view")
        incoming = self.schemas.incoming(dataset)
        if change.sequence_by is None and not change.from_snapshots:
            yield Fault(f"{path}.sequence_by", "changes are ordered by a column; name it")
        if change.sequence_by is not None:
            yield from self.unknown_columns(f"{path}.sequence_by", (change.sequence_by,), incoming)
            kind = (incoming or {}).get(change.sequence_by.lower(), "").upper()
            if kind.startswith(("ARRAY", "MAP", "STRUCT", "BOOLEAN", "BINARY", "VARIANT")):
                yield Fault(f"{path}.sequence_by", f"{change.sequence_by} is {kind}, which has no order")
        yield from self.unknown_columns(f"{path}.keys", change.keys, incoming)
        yield from self.unknown_columns(f"{path}.except_columns", change.except_columns, incoming)
        if lost := {key.lower() for key in change.keys} & {name.lower() for name in change.except_columns}:
            yield Fault(f"{path}.except_columns", f"{min(lost)!r} is a key")
        if change.delete_when:
            yield from self.expression_faults(
                f"{path}.delete_when", change.delete_when, dataset, incoming, whole_rows=True
            )

    def personal_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        if dataset.layer == "bronze" or dataset.change_data:
            return
        incoming = self.schemas.personal_incoming(dataset)
        if incoming and not dataset.columns:
            yield Fault(
                f"{path}.columns",
                f"{', '.join(sorted(incoming))} hold personal data: list the columns, each with a pii rule",
            )
        for number, column in enumerate(dataset.columns):
            touched = names_of(column.sql) & incoming
            if touched and column.pii == "none" and not counts_only(column.sql):
                yield Fault(
                    f"{path}.columns.{number}.pii", f"{min(touched)} holds personal data: say hash, mask or keep"
                )

    def expression_faults(
        self, path: str, text: str, dataset: Dataset, known: dict[str, str] | None, *, whole_rows: bool = False
    ) -> Iterator[Fault]:
        if fault := expressions.fault_of(text):
            yield Fault(path, fault)
            return
        if whole_rows and (aggregates := expressions.aggregates_in(text)):
            yield Fault(path, f"{min(aggregates)}() is not known of one row")
        tables = {dataset.input, *(join.dataset for join in dataset.joins)}
        for qualifier, name in expressions.columns_in(text):
            if qualifier in tables and qualifier is not None:
                yield from self.unknown_columns(path, (name,), self.schemas.columns_of(qualifier), of=qualifier)
            else:
                yield from self.unknown_columns(path, (qualifier or name,), known)
        if not whole_rows and dataset.joins:
            yield from self.ambiguous(path, text, dataset)

    def ambiguous(self, path: str, text: str, dataset: Dataset) -> Iterator[Fault]:
        inputs = [dataset.input, *(join.dataset for join in dataset.joins)]
        for qualifier, name in expressions.columns_in(text):
            owners = [other for other in inputs if name.lower() in (self.schemas.columns_of(other) or {})]
            if qualifier is None and len(owners) > 1:
                yield Fault(path, f"{name!r} is in {' and '.join(owners)}; write {owners[0]}.{name}")

    def unknown_columns(
        self, path: str, names: Collection[str], known: dict[str, str] | None, of: str | None = None
    ) -> Iterator[Fault]:
        for name in names:
            if known is not None and name.lower() not in known and name.lower() not in FILE_COLUMNS:
                place = f" in {of}" if of else ""
                yield Fault(path, f"there is no column {name!r}{place}{did_you_mean(name, known)}")


def counts_only(text: str) -> bool:
    return bool(expressions.functions_in(text)) and expressions.functions_in(text) <= {"count", "approx_count_distinct"}
