"""What the words of a domain mean in its tables: metrics, dimensions, joins and verified queries."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}\.[A-Za-z_][A-Za-z0-9_]{0,127}$")]
FullName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*\.[A-Za-z_]\w*\.[A-Za-z_]\w*$")]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Scalar = str | int | float | bool


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(Part):
    """`time_column` is when a row of it happened: what time ranges and months are told from."""

    name: FullName
    time_column: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*$")


class Join(Part):
    """`many` refers to `one`, each as table.column. Metrics reach along joins only from many to one, so that a join
    never counts a row twice."""

    many: ColumnName
    one: ColumnName


class Metric(Part):
    """An aggregate of a column (`table.column`), a count of the rows of a table, or a metric divided by another of the
    same table. `where` keeps only the rows with these values."""

    description: str = Field(default="", max_length=500)
    synonyms: list[Phrase] = []
    aggregate: Literal["sum", "avg", "min", "max", "count", "count_distinct"] | None = None
    column: ColumnName | None = None
    table: Name | None = None
    numerator: Name | None = None
    denominator: Name | None = None
    where: dict[ColumnName, Scalar] = {}
    unit: str | None = Field(default=None, max_length=20)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        ratio = self.numerator is not None and self.denominator is not None
        rows = self.aggregate == "count" and self.table is not None and self.column is None
        of_column = self.aggregate is not None and self.column is not None and self.table is None
        if [ratio, rows, of_column].count(True) != 1 or (ratio and (self.aggregate or self.where)):
            raise ValueError(
                "a metric is an 'aggregate' of a 'column', a 'count' of a 'table', or a 'numerator' and a 'denominator'"
            )
        return self


class Dimension(Part):
    """A column to group and filter by. `values` are what it may hold, each with other words for it."""

    column: ColumnName
    description: str = Field(default="", max_length=500)
    synonyms: list[Phrase] = []
    values: dict[str, list[Phrase]] = {}


class VerifiedQuery(Part):
    """A question whose SQL somebody has checked; asked in these words, it is run as it is."""

    question: str = Field(min_length=3, max_length=500)
    sql: str = Field(min_length=8, max_length=20_000)


class SemanticModel(Part):
    """The tables of one domain, and what is said about them. `plain_words` say nothing more here: verbs mostly, such as
    `sell` of what is sold. Any other word that is not known makes a question one that cannot be answered."""

    tables: dict[Name, Table] = Field(min_length=1, max_length=50)
    joins: list[Join] = []
    metrics: dict[Name, Metric] = Field(min_length=1, max_length=200)
    dimensions: dict[Name, Dimension] = {}
    verified_queries: list[VerifiedQuery] = []
    plain_words: list[Phrase] = []

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        faults = [
            f"there is no table {table_of(column)!r} for {what}"
            for what, column in self._columns()
            if table_of(column) not in self.tables
        ]
        for name, metric in self.metrics.items():
            faults += [
                f"metric {name!r}: {part!r} is no metric of an aggregate"
                for part in (metric.numerator, metric.denominator)
                if part is not None and (part not in self.metrics or self.metrics[part].aggregate is None)
            ]
        if not faults:
            faults = [
                f"metric {name!r} divides metrics of different tables"
                for name, metric in self.metrics.items()
                if metric.numerator and metric.denominator and len({self.table_of_metric(one) for one in
                (metric.numerator, metric.denominator)}) > 1
            ]  # fmt: skip
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def schemas(self) -> frozenset[str]:
        """`catalog.schema` of its tables: how far its SQL may reach."""
        return frozenset(table.name.rpartition(".")[0] for table in self.tables.values())

    def table_of_metric(self, name: str) -> str:
        metric = self.metrics[name]
        if metric.numerator is not None:
            return self.table_of_metric(metric.numerator)
        return metric.table or table_of(metric.column or "")

    def path(self, start: str, end: str) -> Sequence[Join] | None:
        """The joins from many to one that lead from a table to another; None when there are none."""
        paths: dict[str, list[Join]] = {start: []}
        pending = [start]
        while pending:
            table = pending.pop(0)
            for join in self.joins:
                if table_of(join.many) == table and (other := table_of(join.one)) not in paths:
                    paths[other] = [*paths[table], join]
                    pending.append(other)
        return paths.get(end)

    def words(self) -> str:
        """All that is said in it, for routing."""
        told: list[str] = [*self.tables]
        parts: dict[str, Metric | Dimension] = {**self.dimensions, **self.metrics}
        for name, part in parts.items():
            told += [name.replace("_", " "), part.description, *part.synonyms]
        for dimension in self.dimensions.values():
            told += [word for value, others in dimension.values.items() for word in (value, *others)]
        return " ; ".join([*told, *(query.question for query in self.verified_queries)])

    def _columns(self) -> list[tuple[str, str]]:
        found = [(f"join of {join.many}", end) for join in self.joins for end in (join.many, join.one)]
        found += [(f"dimension {name!r}", dimension.column) for name, dimension in self.dimensions.items()]
        for name, metric in self.metrics.items():
            named = [metric.column or "", f"{metric.table}." if metric.table else "", *metric.where]
            found += [(f"metric {name!r}", column) for column in named if column]
        return found


def table_of(column: str) -> str:
    return column.partition(".")[0]


def phrases_of(parts: Mapping[str, Metric | Dimension]) -> list[tuple[str, str]]:
    """Each phrase that names a part, with the part's name."""
    return [(phrase, name) for name, part in parts.items() for phrase in (name.replace("_", " "), *part.synonyms)]
