"""What is wrong with a definition, before anything is made of it: every fault by its path."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.spark_dialect import parse_type
from lakemesh.pipelines import expressions
from lakemesh.pipelines.definition import LAYERS, Dataset, PipelineDefinition, Sink, Source
from lakemesh.suggestions import did_you_mean

MANY_ROWS_HINT = "A join without a streaming side reads both inputs whole at each update."
HISTORY_COLUMNS = {"__START_AT": "TIMESTAMP", "__END_AT": "TIMESTAMP"}
FILE_COLUMNS = {"_metadata": "STRUCT"}
NUMERIC_AGGREGATES = frozenset({"sum", "avg", "mean", "stddev", "variance"})


@dataclass(frozen=True, slots=True)
class Fault:
    """`hint` is worth a look; an `error` keeps the definition from being rendered."""

    path: str
    message: str
    level: Literal["error", "hint"] = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Schemas:
    """What columns each source and dataset has, by lower-case name: the type where it is known, and which hold personal
    data. None for a dataset whose input's columns are not known."""

    definition: PipelineDefinition

    @cached_property
    def _found(self) -> dict[str, dict[str, str] | None]:
        return {}

    @cached_property
    def _personal(self) -> dict[str, frozenset[str]]:
        return {}

    def columns_of(self, name: str, seen: tuple[str, ...] = ()) -> dict[str, str] | None:
        if name in self._found or name in seen:
            return self._found.get(name)
        self._found[name] = columns = self._columns(name, (*seen, name))
        return columns

    def _columns(self, name: str, seen: tuple[str, ...]) -> dict[str, str] | None:
        source = self.definition.source(name)
        if source is not None:
            columns = {column.name.lower(): column.type for column in source.columns}
            if columns and source.path and source.streaming and source.schema_evolution != "none":
                columns["_rescued_data"] = "STRING"
            return columns or None
        dataset = self.definition.dataset(name)
        if dataset is None:
            return None
        incoming = self.incoming(dataset, seen)
        if dataset.columns:
            known = incoming or {}
            return {column.name.lower(): safe_type(column.sql, known) for column in dataset.columns}
        if incoming is None:
            return None
        return without(incoming, dataset)

    def incoming(self, dataset: Dataset, seen: tuple[str, ...] = ()) -> dict[str, str] | None:
        """Every column an expression of the dataset may name without a qualifier."""
        columns: dict[str, str] = {}
        for name in (dataset.input, *(join.dataset for join in dataset.joins)):
            found = self.columns_of(name, seen)
            if found is None:
                return None
            columns |= found
        return columns

    def personal_of(self, name: str, seen: tuple[str, ...] = ()) -> frozenset[str]:
        """The columns that hold personal data, lower-case."""
        if name in seen:
            return frozenset()
        if name not in self._personal:
            self._personal[name] = self._personal_of(name, (*seen, name))
        return self._personal[name]

    def _personal_of(self, name: str, seen: tuple[str, ...]) -> frozenset[str]:
        source = self.definition.source(name)
        if source is not None:
            return frozenset(column.name.lower() for column in source.columns if column.pii)
        dataset = self.definition.dataset(name)
        if dataset is None:
            return frozenset()
        incoming = self.personal_incoming(dataset, seen)
        if not dataset.columns:
            return incoming
        return frozenset(
            column.name.lower()
            for column in dataset.columns
            if column.pii in ("none", "keep") and names_of(column.sql) & incoming
        )

    def personal_incoming(self, dataset: Dataset, seen: tuple[str, ...] = ()) -> frozenset[str]:
        inputs = (dataset.input, *dataset.append, *(join.dataset for join in dataset.joins))
        return frozenset().union(*(self.personal_of(name, seen) for name in inputs))


def without(incoming: dict[str, str], dataset: Dataset) -> dict[str, str]:
    change = dataset.change_data
    if change is None:
        return dict(incoming)
    left_out = {name.lower() for name in change.except_columns}
    columns = {name: kind for name, kind in incoming.items() if name not in left_out}
    if change.scd_type == 2:
        kind = incoming.get((change.sequence_by or "").lower(), "TIMESTAMP")
        columns |= {name.lower(): kind for name in HISTORY_COLUMNS}
    return columns


def safe_type(text: str, known: dict[str, str]) -> str:
    try:
        return expressions.type_of(text, known)
    except LakemeshError:
        return "UNKNOWN"


def names_of(text: str) -> set[str]:
    """The columns an expression names, lower-case, without qualifiers; none when it is no expression."""
    try:
        return {name.lower() for _, name in expressions.columns_in(text)}
    except LakemeshError:
        return set()


def check(definition: PipelineDefinition) -> list[Fault]:
    """Every fault, in the definition's order; those of level `error` must be mended before anything is rendered."""
    return list(Check(definition).faults())


@dataclass(frozen=True)
class Check:
    definition: PipelineDefinition

    @cached_property
    def schemas(self) -> Schemas:
        return Schemas(self.definition)

    @cached_property
    def names(self) -> list[str]:
        return [*(part.name for part in self.definition.sources), *(part.name for part in self.definition.datasets)]

    def faults(self) -> Iterator[Fault]:
        if not self.definition.datasets:
            yield Fault("datasets", "there is none; a pipeline has at least one dataset")
        yield from self.duplicates()
        for number, source in enumerate(self.definition.sources):
            yield from self.source_faults(f"sources.{number}", source)
        cyclic = set(self.cycles())
        for number, dataset in enumerate(self.definition.datasets):
            path = f"datasets.{number}"
            if dataset.name in cyclic:
                yield Fault(
                    f"{path}.input", f"{dataset.name} reads itself through {' -> '.join(self.path_of(dataset.name))}"
                )
                continue
            yield from self.dataset_faults(path, dataset)
        for number, sink in enumerate(self.definition.sinks):
            target = self.definition.dataset(sink.input)
            if target is None or target.kind != "streaming_table" or target.change_data:
                yield Fault(f"sinks.{number}.input", "a sink sends the rows of a streaming table that only grows")

    def duplicates(self) -> Iterator[Fault]:
        seen: set[str] = set()
        named: dict[str, tuple[Source | Dataset | Sink, ...]] = {
            "sources": self.definition.sources,
            "datasets": self.definition.datasets,
            "sinks": self.definition.sinks,
        }
        for group, parts in named.items():
            for number, part in enumerate(parts):
                made = [part.name.lower()]
                if isinstance(part, Dataset) and any(rule.action == "quarantine" for rule in part.rules):
                    made.append(f"{part.name.lower()}_quarantine")
                for name in made:
                    if name in seen:
                        yield Fault(f"{group}.{number}.name", f"{name!r} is named twice")
                    seen.add(name)

    def source_faults(self, path: str, source: Source) -> Iterator[Fault]:
        needed = {"kafka": ("brokers", "topic"), "table": ("table",)}.get(source.format, ("path",))
        for field in ("path", "brokers", "topic", "table"):
            given = getattr(source, field) is not None
            if given != (field in needed):
                yield Fault(
                    f"{path}.{field}", f"a source of {source.format} {'has no' if given else 'needs a'} {field}"
                )
        if source.format == "kafka" and not source.columns:
            yield Fault(f"{path}.columns", "the columns of a topic's JSON must be given")
        if source.format == "kafka" and not source.streaming:
            yield Fault(f"{path}.streaming", "a topic is always read as a stream")
        if source.path is not None and ".." in source.path:
            yield Fault(f"{path}.path", "a path does not step upwards")
        names = [column.name.lower() for column in source.columns]
        for number, column in enumerate(source.columns):
            if names.index(column.name.lower()) != number:
                yield Fault(f"{path}.columns.{number}.name", f"{column.name!r} is named twice")
            if fault := type_fault(column.type):
                yield Fault(f"{path}.columns.{number}.type", fault)

    def cycles(self) -> Iterator[str]:
        for dataset in self.definition.datasets:
            if dataset.name in self.upstream(dataset.name):
                yield dataset.name

    def inputs_of(self, name: str) -> tuple[str, ...]:
        dataset = self.definition.dataset(name)
        if dataset is None:
            return ()
        return (dataset.input, *dataset.append, *(join.dataset for join in dataset.joins))

    def upstream(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self.inputs_of(name))
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting += self.inputs_of(current)
        return found

    def path_of(self, name: str) -> list[str]:
        path, current = [name], name
        while True:
            current = next(other for other in self.inputs_of(current) if name in self.upstream(other) or other == name)
            path.append(current)
            if current == name or len(path) > len(self.names) + 1:
                return path

    def dataset_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        yield from self.input_faults(path, dataset)
        yield from self.kind_faults(path, dataset)
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

    def input_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        places = [("input", dataset.input)]
        places += [(f"append.{number}", name) for number, name in enumerate(dataset.append)]
        places += [(f"joins.{number}.dataset", join.dataset) for number, join in enumerate(dataset.joins)]
        for place, name in places:
            if name not in self.names:
                yield Fault(
                    f"{path}.{place}", f"there is no source or dataset {name!r}{did_you_mean(name, self.names)}"
                )
                continue
            other = self.definition.dataset(name)
            if other is not None and LAYERS.index(other.layer) > LAYERS.index(dataset.layer):
                yield Fault(
                    f"{path}.{place}", f"a {dataset.layer} dataset reads from {other.layer}; layers go upwards only"
                )
            if other is None and (dataset.joins or dataset.group_by):
                yield Fault(
                    f"{path}.{place}", f"read the source {name!r} into a bronze dataset before joining or grouping"
                )
            if other is None and dataset.layer == "gold":
                yield Fault(f"{path}.{place}", f"gold does not read the source {name!r}; go through bronze")

    def is_streaming(self, name: str, seen: tuple[str, ...] = ()) -> bool:
        """Whether what has this name can be read as a stream of rows that are only added."""
        source, dataset = self.definition.source(name), self.definition.dataset(name)
        if source is not None:
            return source.streaming
        if dataset is None or name in seen:
            return False
        if dataset.kind == "temporary_view":
            return self.is_view_of_stream(dataset, (*seen, name))
        return dataset.kind == "streaming_table" and dataset.change_data is None

    def is_view_of_stream(self, dataset: Dataset, seen: tuple[str, ...] = ()) -> bool:
        """A view is a stream when it stands on a streaming source, or on such a view; over a table it is read whole."""
        below = self.definition.dataset(dataset.input)
        if below is not None and below.kind != "temporary_view":
            return False
        return self.is_streaming(dataset.input, seen)

    def kind_faults(self, path: str, dataset: Dataset) -> Iterator[Fault]:
        inputs = [name for name in (dataset.input, *dataset.append) if name in self.names]
        if dataset.kind == "streaming_table":
            snapshots = dataset.change_data is not None and dataset.change_data.from_snapshots
            for name in inputs:
                if not self.is_streaming(name) and not snapshots:
                    yield Fault(f"{path}.kind", f"{name!r} is no stream; make this a materialized_view")
            if dataset.group_by and not dataset.change_data:
                yield Fault(f"{path}.group_by", "groups of an endless stream never end; make this a materialized_view")
        elif dataset.append:
            yield Fault(f"{path}.append", "only a streaming_table takes rows of several flows")
        if dataset.kind == "materialized_view":
            for name in inputs:
                view = self.definition.dataset(name)
                stream = self.definition.source(name) is not None or (
                    view is not None and view.kind == "temporary_view"
                )
                if stream and self.is_streaming(name):
                    yield Fault(f"{path}.kind", f"{name!r} is a stream; make this a streaming_table")
        for number, join in enumerate(dataset.joins):
            other = self.definition.dataset(join.dataset)
            if other is not None and other.kind == "temporary_view" and self.is_view_of_stream(other):
                yield Fault(f"{path}.joins.{number}.dataset", "a stream can only be the first input of a join")
        if dataset.joins and dataset.kind == "materialized_view":
            yield Fault(f"{path}.joins", MANY_ROWS_HINT, "hint")
        if dataset.append and (dataset.joins or dataset.group_by):
            yield Fault(
                f"{path}.append", "rows of several flows are not joined or grouped; do that in the next dataset"
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


def type_fault(name: str) -> str | None:
    from sqlglot import exp

    try:
        kind = parse_type(name)
    except LakemeshError as error:
        return f"{error.detail}{did_you_mean(name.upper(), TYPES)}"
    if kind.this in (exp.DataType.Type.USERDEFINED, exp.DataType.Type.UNKNOWN):
        return f"{name!r} is not a type{did_you_mean(name.upper(), TYPES)}"
    return None


TYPES = (
    "STRING", "BIGINT", "INT", "SMALLINT", "TINYINT", "DOUBLE", "FLOAT", "DECIMAL", "BOOLEAN", "DATE", "TIMESTAMP",
    "TIMESTAMP_NTZ", "BINARY", "ARRAY", "MAP", "STRUCT", "VARIANT",
)  # fmt: skip
