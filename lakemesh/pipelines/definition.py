"""What a pipeline is, as data: the contract between whoever asks for one and every later step.

Written by hand as YAML or JSON, by the grammar of `requests`, or by a model. Names, identifiers and literals are
bounded here; what they mean together is `check`'s matter.
"""

import hashlib
import json
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from lakemesh.errors import ValidationFailed

MAX_TEXT = 250_000


def one_line(text: Any) -> Any:
    """White space as single blanks. Raises `ValueError` for characters that cannot be seen: they make a text read
    otherwise than it is."""
    if not isinstance(text, str):
        return text
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("it holds control or invisible characters")
    return line


Identifier: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}$")]
TableName: TypeAlias = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}\.[A-Za-z][A-Za-z0-9_]{0,127}\.[A-Za-z][A-Za-z0-9_]{0,127}$"
    ),
]
VolumePath: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^/Volumes(/[A-Za-z0-9_][A-Za-z0-9_=-]*(\.[A-Za-z0-9_-]+)*){3,20}/?$", max_length=1_024),
]
Expression: TypeAlias = Annotated[str, BeforeValidator(one_line), StringConstraints(min_length=1, max_length=4_000)]
Prose: TypeAlias = Annotated[str, BeforeValidator(one_line), StringConstraints(max_length=1_000)]
Broker: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}(,[A-Za-z0-9.-]+:[0-9]{1,5}){0,9}$")
]
Topic: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
TypeName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_<>:, ()]{0,999}$")]

Layer: TypeAlias = Literal["bronze", "silver", "gold"]
Kind: TypeAlias = Literal["streaming_table", "materialized_view", "temporary_view"]
FileFormat: TypeAlias = Literal["csv", "json", "parquet", "avro"]
PII: TypeAlias = Literal["none", "keep", "hash", "mask"]

LAYERS: tuple[Layer, ...] = ("bronze", "silver", "gold")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceColumn(Part):
    """A column that comes in. `pii`: it holds personal data, and every dataset says what it does with it."""

    name: Identifier
    type: TypeName = "STRING"
    comment: Prose = ""
    pii: bool = False


class Source(Part):
    """Where rows come from: files that arrive in a volume, a Kafka topic, or a table outside the pipeline.

    `streaming` reads what is new; a table that is not streaming is read whole. Kafka always streams. `snapshots`: every
    file is the whole of the source at one time."""

    name: Identifier
    format: Literal["csv", "json", "parquet", "avro", "kafka", "table"]
    path: VolumePath | None = None
    brokers: Broker | None = None
    topic: Topic | None = None
    table: TableName | None = None
    columns: tuple[SourceColumn, ...] = ()
    streaming: bool = True
    snapshots: bool = False
    schema_evolution: Literal["addNewColumns", "rescue", "failOnNewColumns", "none"] = "rescue"
    comment: Prose = ""


class Column(Part):
    """A column that goes out: `expression` over the columns that come in, its own name when left out."""

    name: Identifier
    expression: Expression | None = None
    comment: Prose = ""
    pii: PII = "none"

    @property
    def sql(self) -> str:
        return self.expression or f"`{self.name}`"


class Rule(Part):
    """A quality rule: what holds for a good row, and what becomes of the others. `quarantine` drops them here and
    keeps them in `<dataset>_quarantine`."""

    name: Identifier
    condition: Expression
    action: Literal["warn", "drop", "fail", "quarantine"] = "warn"
    reason: Prose = ""


class Join(Part):
    """Another dataset beside `from`, whose columns are named `<dataset>.<column>` in expressions."""

    dataset: Identifier
    on: Expression
    how: Literal["inner", "left"] = "left"


class ChangeData(Part):
    """Rows of the input are changes: the dataset holds the latest by `keys` (type 1) or every version (type 2).
    `from_snapshots`: the input holds the whole of the data at each update, and changes are found by comparing."""

    keys: tuple[Identifier, ...] = Field(min_length=1)
    sequence_by: Identifier | None = None
    scd_type: Literal[1, 2] = 1
    delete_when: Expression | None = None
    except_columns: tuple[Identifier, ...] = ()
    from_snapshots: bool = False


class Dataset(Part):
    """A table or view of the pipeline. `input` names a source or a dataset; `append` names others whose rows go into
    the same streaming table, each by a flow of its own. Without `columns` every column goes through."""

    name: Identifier
    layer: Layer
    kind: Kind
    input: Identifier
    append: tuple[Identifier, ...] = ()
    joins: tuple[Join, ...] = ()
    columns: tuple[Column, ...] = ()
    where: Expression | None = None
    group_by: tuple[Identifier, ...] = ()
    keys: tuple[Identifier, ...] = ()
    deduplicate: bool = False
    rules: tuple[Rule, ...] = ()
    change_data: ChangeData | None = None
    cluster_by: tuple[Identifier, ...] = Field(default=(), max_length=4)
    comment: Prose = ""


class Sink(Part):
    """Where rows of a streaming table are sent beside the tables: a Kafka topic, as JSON."""

    name: Identifier
    input: Identifier
    brokers: Broker
    topic: Topic
    key: Identifier | None = None


class Schedule(Part):
    """Every so many units, or without end."""

    every: int = Field(default=1, ge=1, le=1_000)
    unit: Literal["minutes", "hours", "days", "weeks"] = "days"
    continuous: bool = False


class PipelineDefinition(Part):
    """One pipeline. `assumptions` lists what was not said and taken for granted."""

    name: Identifier
    catalog: Identifier = "main"
    schema_: Identifier = Field(default="default", alias="schema")
    description: Annotated[str, BeforeValidator(one_line), StringConstraints(max_length=2_000)] = ""
    sources: tuple[Source, ...] = Field(default=(), max_length=200)
    datasets: tuple[Dataset, ...] = Field(default=(), max_length=500)
    sinks: tuple[Sink, ...] = Field(default=(), max_length=50)
    schedule: Schedule | None = None
    serverless: bool = True
    language: Literal["python", "sql"] = "python"
    tags: dict[Identifier, Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 _.@:/+-]{0,256}$")]] = Field(
        default={}, max_length=25
    )
    assumptions: tuple[Prose, ...] = ()

    def source(self, name: str) -> Source | None:
        return next((source for source in self.sources if source.name == name), None)

    def dataset(self, name: str) -> Dataset | None:
        return next((dataset for dataset in self.datasets if dataset.name == name), None)

    def layer(self, layer: Layer) -> list[Dataset]:
        return [dataset for dataset in self.datasets if dataset.layer == layer]

    @property
    def digest(self) -> str:
        """Names this definition in the headers of its files and in the history."""
        content = json.dumps(to_plain(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def to_plain(definition: PipelineDefinition) -> dict[str, Any]:
    """JSON-ready, without what has its default."""
    return definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def read_definition(text: str) -> PipelineDefinition:
    """The definition in YAML or JSON. Raises `ValidationFailed`, with every fault by its path."""
    if len(text) > MAX_TEXT:
        raise ValidationFailed(f"A definition has at most {MAX_TEXT:,} characters.")
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader without aliases
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise ValidationFailed(f"The definition is no YAML{place}.") from None
    return parse_definition(content)


def parse_definition(content: Any) -> PipelineDefinition:
    """The definition in plain data. Raises `ValidationFailed`, with every fault by its path."""
    try:
        return PipelineDefinition.model_validate(content)
    except ValidationError as error:
        faults = [
            {"path": ".".join(str(part) for part in fault["loc"]), "message": fault["msg"]} for fault in error.errors()
        ]
        named = "; ".join(f"{fault['path']}: {fault['message']}" for fault in faults[:5])
        raise ValidationFailed(f"The definition has {len(faults)} faults: {named}", faults) from None


def write_definition(definition: PipelineDefinition) -> str:
    """YAML that `read_definition` reads again."""
    return yaml.safe_dump(to_plain(definition), sort_keys=False, allow_unicode=True, width=110)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Aliases are refused: nested ones make a small text as large as memory."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
"""Only `true` and `false` are truth values: a join's `on`, and a column `no` or `y`, are words."""
