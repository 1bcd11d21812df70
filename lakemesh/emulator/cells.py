"""Values as the Statement Execution API writes and reads them: strings."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
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
        require_precision(item.get("name"), kind, text)
        read = PARAMETER_READERS.get(kind.partition("(")[0])
        if read is None:
            raise ApiError(400, f"The parameter {item.get('name')!r} has an unknown type {kind!r}.")
        try:
            values[item["name"]] = None if text is None else read(text)
        except (ValueError, ArithmeticError):
            raise ApiError(400, f"The parameter {item.get('name')!r} is not a {kind}.") from None
    return values


def require_precision(name: Any, kind: str, text: Any) -> None:
    """A DECIMAL that does not hold its value is refused (Spark: NUMERIC_VALUE_OUT_OF_RANGE under ANSI casts)."""
    found = re.fullmatch(r"DECIMAL\((\d+)(?:,\s*(\d+))?\)", kind)
    if found is None or text is None:
        return
    precision, scale = int(found[1]), int(found[2] or 0)
    try:
        whole = len(str(abs(int(Decimal(text))))) if abs(Decimal(text)) >= 1 else 0
    except (ArithmeticError, ValueError):
        return
    if precision > 38 or whole > precision - scale:
        raise ApiError(400, f"[NUMERIC_VALUE_OUT_OF_RANGE] The parameter {name!r} does not fit {kind}.")


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
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value))
        case timedelta():
            return day_time_text(value)
        case Decimal():
            return format(value, "f")
    return str(value)


def day_time_text(value: timedelta) -> str:
    """`INTERVAL DAY TO SECOND` as Spark writes its cells."""
    sign, micros = ("-" if value < timedelta() else ""), abs(value) // timedelta(microseconds=1)
    seconds, fraction = divmod(micros, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    text = f"{sign}{days} {seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0").rstrip(".") if fraction else f"{text}.000000000"


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
