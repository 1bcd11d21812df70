"""Values as the Statement Execution API writes and reads them: strings."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from lakemesh.emulator.errors import ApiError

TYPE_NAMES: Mapping[str, str] = {
    "BIGINT": "LONG",
    "INTEGER": "INT",
    "TINYINT": "BYTE",
    "SMALLINT": "SHORT",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "VOID": "NULL",
}
"""`type_name` of the types whose text differs from it."""

PARAMETER_READERS: Mapping[str, Callable[[str], Any]] = {
    "STRING": str,
    "BOOLEAN": lambda text: text.lower() == "true",
    "DATE": date.fromisoformat,
    "TIMESTAMP": datetime.fromisoformat,
    "TIMESTAMP_NTZ": datetime.fromisoformat,
    "DECIMAL": Decimal,
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), int),
    **dict.fromkeys(("FLOAT", "DOUBLE"), float),
}


def parameters_of(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Named parameters as Python values. Raises `ApiError` 400 for a value that is not of its type."""
    values: dict[str, Any] = {}
    for item in items:
        kind, text = str(item.get("type") or "STRING").upper(), item.get("value")
        read = PARAMETER_READERS.get(kind.partition("(")[0])
        if read is None:
            raise ApiError(400, f"The parameter {item.get('name')!r} has an unknown type {kind!r}.")
        try:
            values[item["name"]] = None if text is None else read(text)
        except (ValueError, ArithmeticError):
            raise ApiError(400, f"The parameter {item.get('name')!r} is not a {kind}.") from None
    return values


def cell(value: Any) -> str | None:
    """One cell of `data_array`."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case datetime() if value.tzinfo:
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case datetime() | date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple() | dict():
            return json.dumps(nested(value))
        case float():
            return repr(value)
        case Decimal():
            return format(value, "f")
    return str(value)


def nested(value: Any) -> Any:
    """Inside arrays, maps and structs the leaves are strings too."""
    if isinstance(value, Mapping):
        return {str(key): nested(item) for key, item in value.items()}
    return [nested(item) for item in value] if isinstance(value, list | tuple) else cell(value)


def column(name: str, sql_type: str, position: int) -> dict[str, Any]:
    head = sql_type.upper().partition("(")[0].partition("<")[0]
    described = {"name": name, "position": position, "type_name": TYPE_NAMES.get(head, head), "type_text": sql_type}
    if head == "DECIMAL":
        sizes = sql_type.partition("(")[2].rstrip(")").split(",")
        described |= {"type_precision": int(sizes[0] or 10), "type_scale": int(sizes[1]) if len(sizes) > 1 else 0}
    return described
