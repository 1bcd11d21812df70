"""Values on their way to a warehouse and back: the Statement Execution API speaks in strings."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from databricks.sdk.service.sql import StatementParameterListItem
    from sqlglot import exp

Reader = Callable[[Any], Any]
MAX_PRECISION = 38
DAY_TIME = re.compile(r"([-+]?)(\d+) (\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?)")


def parameters_of(values: Mapping[str, Any] | None) -> "list[StatementParameterListItem] | None":
    """Named parameters with their types. Raises `InvalidRequest` for a value SQL has no scalar type for."""
    from databricks.sdk.service.sql import StatementParameterListItem

    return [
        StatementParameterListItem(name=name, type=kind, value=text)
        for name, value in (values or {}).items()
        for kind, text in [typed(name, value)]
    ] or None


def typed(name: str, value: Any) -> tuple[str | None, str | None]:
    """The SQL type and the text of one value; a null has neither."""
    match value:
        case None:
            return None, None
        case bool():
            return "BOOLEAN", str(value).lower()
        case int():
            return ("INT" if abs(value) < 2**31 else "BIGINT"), str(value)
        case float():
            return "DOUBLE", repr(value)
        case Decimal():
            return decimal_parameter(name, value)
        case datetime():
            return ("TIMESTAMP" if value.tzinfo else "TIMESTAMP_NTZ"), value.isoformat()
        case date():
            return "DATE", value.isoformat()
        case str():
            return "STRING", value
    raise InvalidRequest(f"The parameter :{name} is a {type(value).__name__}, which SQL has no type for.")


def decimal_parameter(name: str, value: Decimal) -> tuple[str, str]:
    """`Decimal('1E+3')` has four digits before the point, however it was written."""
    if not value.is_finite():
        raise InvalidRequest(f"The parameter :{name} is {value}, which a DECIMAL cannot be.")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    precision = max(len(digits) + max(0, int(exponent)), scale + 1)
    if precision > MAX_PRECISION:
        raise InvalidRequest(f"The parameter :{name} has more than {MAX_PRECISION} digits.")
    return f"DECIMAL({precision},{scale})", format(value, "f")


def type_name(type_text: str | None) -> str:
    """A type as Databricks SQL writes it, out of what the catalog and the statements API say (`struct<a:int>`): key
    words are upper-case, names inside it stay as they are."""
    from sqlglot import exp

    text = type_text or "STRING"
    if "<" in text and "interval" in text.lower():  # the parser has no intervals inside of other types
        return text.upper()
    return text.upper() if "<" not in text else exp.DataType.build(text, dialect="databricks").sql("databricks")


def reader_of(sql_type: str) -> Reader:
    """A function that makes a Python value of a cell of this type."""
    from sqlglot import exp

    if "INTERVAL" in sql_type.upper():
        return _nullable(_interval if sql_type.upper().startswith("INTERVAL") else _same)
    simple = SCALARS.get(sql_type.partition("(")[0])
    return _nullable(simple or _reader(exp.DataType.build(sql_type, dialect="databricks")))


def _reader(kind: "exp.DataType") -> Reader:
    name = kind.this.value
    if name == "ARRAY":
        item = _nullable(_reader(kind.expressions[0]) if kind.expressions else _same)
        return lambda cell: [item(element) for element in _parsed(cell)]
    if name == "MAP":
        value = _nullable(_reader(kind.expressions[1]) if kind.expressions else _same)
        return lambda cell: {key: value(element) for key, element in _parsed(cell).items()}
    if name == "STRUCT":
        members = {item.name: _nullable(_reader(item.args["kind"])) for item in kind.expressions}
        return lambda cell: {key: members.get(key, _same)(element) for key, element in _parsed(cell).items()}
    return SCALARS.get(name, _same)


def _nullable(read: Reader) -> Reader:
    return lambda cell: None if cell is None else read(cell)


def _same(cell: Any) -> Any:
    return cell


def _parsed(cell: Any) -> Any:
    return json.loads(cell) if isinstance(cell, str) else cell


def _boolean(cell: Any) -> bool:
    return str(cell).lower() == "true"


def _timestamp(cell: Any) -> datetime | str:
    try:
        moment = datetime.fromisoformat(str(cell))
    except ValueError:  # before the year 1, or after 9999
        return str(cell)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(cell: Any) -> date | str:
    """A day; one that Python has no date for (before the year 1, after 9999) stays text."""
    try:
        return date.fromisoformat(str(cell))
    except ValueError:
        return str(cell)


def _interval(cell: Any) -> timedelta | str:
    """`INTERVAL '1 02:03:04.5' DAY TO SECOND`, with or without its key words, as a duration; years and months stay
    text, since their length is not fixed."""
    text = str(cell)
    found = DAY_TIME.fullmatch(re.sub(r"^INTERVAL '|'.*$", "", text.strip()))
    if found is None:
        return text
    sign, days, hours, minutes, seconds = found.groups()
    length = timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return -length if sign == "-" else length


def arrow_reader(sql_type: str) -> Reader | None:
    """What Arrow's Python value of this type still needs, or None."""
    name = sql_type.upper().partition("(")[0].partition("<")[0]
    if name == "TIMESTAMP":
        return lambda value: value.astimezone(UTC)
    if name == "MAP":
        return dict
    if name in ("ARRAY", "STRUCT") and "MAP<" in sql_type.upper():
        return _with_dicts
    return None


def _with_dicts(value: Any) -> Any:
    """Maps inside of arrays and structs: Arrow gives them as lists of pairs."""
    if isinstance(value, dict):
        return {key: _with_dicts(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return {key: _with_dicts(item) for key, item in value}
        return [_with_dicts(item) for item in value]
    return value


def _decimal(cell: Any) -> Decimal:
    return Decimal(str(cell))


SCALARS: dict[str, Reader] = {
    "TINYINT": int,
    "SMALLINT": int,
    "INT": int,
    "BIGINT": int,
    "FLOAT": float,
    "DOUBLE": float,
    "DECIMAL": _decimal,
    "BOOLEAN": _boolean,
    "DATE": _date,
    "TIMESTAMP": _timestamp,
    "TIMESTAMPTZ": _timestamp,
    "TIMESTAMPLTZ": _timestamp,
    "TIMESTAMPNTZ": datetime.fromisoformat,
    "TIMESTAMP_NTZ": datetime.fromisoformat,
    "STRING": _same,
    "BINARY": lambda cell: base64.b64decode(str(cell)),
}


def read_rows(types: Sequence[str], cells: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    readers = [reader_of(kind) for kind in types]
    return [tuple(read(cell) for read, cell in zip(readers, row, strict=True)) for row in cells]
