"""What columns each source and dataset of a definition has, and which of them hold personal data."""

from dataclasses import dataclass
from functools import cached_property

from lakemesh.errors import LakemeshError
from lakemesh.pipelines import expressions
from lakemesh.pipelines.definition import Dataset, PipelineDefinition

HISTORY_COLUMNS = {"__START_AT": "TIMESTAMP", "__END_AT": "TIMESTAMP"}


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
