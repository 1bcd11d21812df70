"""What is wrong with a definition, before anything is made of it: every fault by its path."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.spark_dialect import parse_type
from lakemesh.pipelines.check_rows import RowCheck
from lakemesh.pipelines.definition import LAYERS, Dataset, PipelineDefinition, Sink, Source
from lakemesh.pipelines.faults import Fault
from lakemesh.pipelines.schemas import Schemas
from lakemesh.suggestions import did_you_mean

__all__ = ["Fault", "check"]

MANY_ROWS_HINT = "A join without a streaming side reads both inputs whole at each update."


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
        yield from RowCheck(self.definition, self.schemas).faults(path, dataset)

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
