"""What the gate says of literals: arguments of declarations, options, schemas, names of tables, paths and SQL."""

import re
from collections.abc import Callable, Mapping

from lakemesh.errors import LakemeshError
from lakemesh.pipelines import expressions
from lakemesh.pipelines.gate_lists import BROKERS, FORMATS, NAME, OPTIONS, PROPERTY, TABLE, VOLUME


def fault_of_conditions(conditions: Mapping[object, object]) -> tuple[str, str] | None:
    """Rule and reason why these are no expectations, a name and a condition each."""
    for name, condition in conditions.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(condition, str):
            return "expectation", "an expectation is a name and a condition, as text"
        if fault := expressions.fault_of(condition):
            return "sql", f"{name}: {fault}"
    return None


def fault_of_argument(key: str, value: object) -> str | None:
    """Why a declaration may not be given this."""
    if key in ("name", "target", "source"):
        return (
            None if isinstance(value, str) and NAME.fullmatch(value) else "is not the name of a dataset of the pipeline"
        )
    if key in ("keys", "cluster_by") or key.endswith("column_list"):
        fine = isinstance(value, list) and all(isinstance(item, str) and NAME.fullmatch(item) for item in value)
        return None if fine else "is not a list of columns"
    if key in ("sequence_by", "apply_as_deletes"):
        return expressions.fault_of(value) if isinstance(value, str) else "is not an expression as text"
    if key.startswith("expect_all"):
        found = fault_of_conditions(value if isinstance(value, dict) else {"": None})
        return found[1] if found else None
    if key == "table_properties":
        fine = isinstance(value, dict) and all(
            isinstance(item, str) and PROPERTY.fullmatch(str(name)) for name, item in value.items()
        )
        return None if fine else "holds a property that may not be set"
    if key == "options":
        return fault_of_options(value)
    allowed: dict[str, Callable[[object], bool]] = {
        "comment": lambda item: isinstance(item, str),
        "schema": lambda item: isinstance(item, str) and fault_of_schema([item]) is None,
        "stored_as_scd_type": lambda item: item in (1, 2, "1", "2"),
        "format": lambda item: item == "kafka",
    }
    return None if allowed[key](value) else "is not allowed to be that"


def fault_of_options(value: object) -> str | None:
    if not isinstance(value, dict):
        return "are not a dictionary"
    for key, item in value.items():
        if fault := fault_of_option([key, item]):
            return fault
    return None


def fault_of_option(values: list[object]) -> str | None:
    if len(values) != 2 or not isinstance(values[0], str) or not OPTIONS.fullmatch(values[0]):
        return f"the option {values[0] if values else None!r:.60} may not be set"
    if values[0] == "cloudFiles.format" and values[1] not in FORMATS - {"cloudFiles", "kafka", "delta"}:
        return f"the format {values[1]!r:.60} may not be read"
    if values[0] == "kafka.bootstrap.servers" and not BROKERS.fullmatch(str(values[1])):
        return "the brokers are not of the form host:port"
    return None if isinstance(values[1], str | int | bool) else "an option's value is a literal"


def fault_of_schema(values: list[object]) -> str | None:
    """Columns as `name TYPE, ...`; parsed by casting to a structure of them."""
    text = values[0] if len(values) == 1 else None
    if not isinstance(text, str) or re.search(r"[^A-Za-z0-9_<>:, ().`]", text):
        return "a schema is text of names and types"
    return None


def fault_of_columns(values: list[object]) -> str | None:
    for value in values:
        for text in value if isinstance(value, list | tuple) else [value]:
            if text is not None and not (
                isinstance(text, str) and (text == "*" or re.fullmatch(r"[\w.]+(\.\*)?", text))
            ):
                return f"{text!r:.60} is not a column"
    return None


def fault_of_sql(values: list[object]) -> str | None:
    if len(values) != 1 or not isinstance(values[0], str):
        return "a query is one text"
    try:
        expressions.parse_query(values[0])
    except LakemeshError as error:
        return error.detail
    return None


def fault_of_expressions(values: list[object]) -> str | None:
    for value in values:
        if value is None:
            continue  # an expression of functions, judged as such
        for text in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(text, str):
                return "an expression is text"
            if re.fullmatch(r"\*|[A-Za-z]\w*\.\*", text):
                continue
            if fault := expressions.fault_of_aliased(text):
                return fault
    return None


def fault_of_computed(values: list[object]) -> str | None:
    """`selectExpr` and `expr` take text and nothing else."""
    return "an expression is text" if None in values or not values else fault_of_expressions(values)


def matches(pattern: re.Pattern[str], what: str, *, optional: bool = False) -> Callable[[list[object]], str | None]:
    def rule(values: list[object]) -> str | None:
        if optional and not values:
            return None
        fine = len(values) == 1 and isinstance(values[0], str) and pattern.fullmatch(values[0]) is not None
        return None if fine and ".." not in str(values[0]) else f"{values[0] if values else None!r:.80} is not {what}"

    return rule


METHOD_RULES: dict[str, Callable[[list[object]], str | None]] = {
    "sql": fault_of_sql,
    "where": fault_of_expressions,
    "filter": fault_of_expressions,
    "selectExpr": fault_of_computed,
    "expr": fault_of_computed,
    "option": fault_of_option,
    "schema": fault_of_schema,
    "select": fault_of_columns,
    "table": matches(TABLE, "the name of a table"),
    "load": matches(VOLUME, "a path in a volume", optional=True),
    "format": matches(re.compile("|".join(sorted(FORMATS))), "a format that may be read"),
}
