"""Input rows for a proof: for every source a few good rows, and rows that are likely to break each rule."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from lakemesh.pipelines.definition import PipelineDefinition, Source, SourceColumn
from lakemesh.pipelines.expressions import parse_expression

Row: TypeAlias = dict[str, Any]

GOOD_ROWS = 6
START = datetime(2024, 1, 1, 10)


def sample_rows(definition: PipelineDefinition) -> dict[str, list[Row]]:
    """Rows by source, the same for the same definition. A source whose columns are not given has none."""
    literals = literals_of(definition)
    ordering = {d.change_data.sequence_by for d in definition.datasets if d.change_data} - {None}
    strict = {
        name
        for d in definition.datasets
        for rule in d.rules
        if rule.action == "fail"
        for name in columns_of(rule.condition)
    }
    fixed = {str(name).lower() for name in ordering} | strict
    return {source.name: rows_of(source, literals, fixed) for source in definition.sources}


def rows_of(source: Source, literals: Mapping[str, list[str]], fixed: set[str]) -> list[Row]:
    rows = [
        {column.name: value_of(column, number, literals) for column in source.columns}
        for number in range(1, GOOD_ROWS + 1)
    ]
    if not rows or not source.columns:
        return []
    later = {column.name: value_of(column, GOOD_ROWS + 1, literals) for column in source.columns}
    first = source.columns[0].name
    rows.append(later | {first: rows[0][first]})  # a second row of one key, later in time
    for number, column in enumerate(source.columns, GOOD_ROWS + 2):
        if column.name.lower() in fixed:
            continue
        row = {other.name: value_of(other, number, literals) for other in source.columns}
        rows.append(row | {column.name: None})
        if is_number(column.type) and column.name != first:
            rows.append(
                row | {first: value_of(source.columns[0], number + 100, literals), column.name: -row[column.name]}
            )
    return rows


def value_of(column: SourceColumn, number: int, literals: Mapping[str, list[str]]) -> Any:
    kind = column.type.upper()
    known = literals.get(column.name.lower())
    if kind.startswith(("BIGINT", "INT", "SMALLINT", "TINYINT", "LONG")):
        return number
    if kind.startswith("DECIMAL"):
        return Decimal(number)
    if kind.startswith(("DOUBLE", "FLOAT")):
        return number + 0.5
    if kind.startswith("TIMESTAMP"):
        return START + timedelta(hours=9 * number)
    if kind == "DATE":
        return date(2024, 1, 1) + timedelta(days=number)
    if kind == "BOOLEAN":
        return number % 2 == 0
    if kind.startswith(("STRING", "VARCHAR", "CHAR")):
        return known[number % len(known)] if known and number % 4 else f"{column.name}_{number % 3}"
    return None


def is_number(kind: str) -> bool:
    return kind.upper().startswith(("BIGINT", "INT", "SMALLINT", "TINYINT", "LONG", "DECIMAL", "DOUBLE", "FLOAT"))


def columns_of(condition: str) -> set[str]:
    from sqlglot import exp

    return {column.name.lower() for column in parse_expression(condition).find_all(exp.Column)}


def literals_of(definition: PipelineDefinition) -> dict[str, list[str]]:
    """The texts that expressions compare columns with, by the column's lower-case name. Not the empty one, which a CSV
    file cannot tell from none."""
    from sqlglot import exp

    found: dict[str, list[str]] = defaultdict(list)
    for dataset in definition.datasets:
        texts = [
            dataset.where,
            *(rule.condition for rule in dataset.rules),
            *(column.sql for column in dataset.columns),
        ]
        for text in filter(None, texts):
            for node in parse_expression(text).find_all(exp.EQ, exp.NEQ, exp.In):
                values = node.expressions if isinstance(node, exp.In) else [node.expression]
                if isinstance(node.this, exp.Column):
                    found[node.this.name.lower()] += [
                        v.name for v in values if isinstance(v, exp.Literal) and v.is_string and v.name
                    ]
    return {name: sorted(set(values)) for name, values in found.items() if values}
