"""Columns of an index in memory, laid out so that a filter is a comparison of whole arrays."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lakemesh.errors import InvalidRequest

Mask = NDArray[np.bool_]

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
NO_VALUE = -1
MAX_LONG = 2**63 - 1
MISSING_LONG = -(2**63)


class TextColumn:
    """Strings as codes into a dictionary, so that equality compares integers."""

    def __init__(self) -> None:
        self._codes = np.full(1_024, NO_VALUE, dtype=np.int32)
        self._code_of: dict[str, int] = {}
        self._values: list[str] = []

    def set(self, row: int, value: Any) -> None:
        self._codes = grown(self._codes, row + 1, NO_VALUE)
        if value is None:
            self._codes[row] = NO_VALUE
            return
        text = str(value)
        code = self._code_of.setdefault(text, len(self._values))
        if code == len(self._values):
            self._values.append(text)
        self._codes[row] = code

    def get(self, row: int) -> str | None:
        code = int(self._codes[row])
        return None if code == NO_VALUE else self._values[code]

    def equal_any(self, values: Sequence[Any], size: int) -> Mask:
        codes = [self._code_of[str(value)] for value in values if str(value) in self._code_of]
        column = self._codes[:size]
        return column == codes[0] if len(codes) == 1 else np.isin(column, codes)

    def compare(self, operator: str, value: Any, size: int) -> Mask:
        """Text compares by code point, once per distinct value."""
        wanted = np.array([COMPARISONS[operator](known, str(value)) for known in self._values] + [False], dtype=bool)
        return wanted[self._codes[:size]]


class NumberColumn:
    """Booleans and timestamps (as seconds) as doubles, and longs as they are, since a double would round them. A
    missing value matches nothing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._missing = MISSING_LONG if kind == "long" else np.nan
        self._numbers = np.full(1_024, self._missing, dtype=np.int64 if kind == "long" else np.float64)

    def set(self, row: int, value: Any) -> None:
        self._numbers = grown(self._numbers, row + 1, self._missing)
        self._numbers[row] = self._missing if value is None else number(value)

    def get(self, row: int) -> Any:
        value = self._numbers[row]
        if np.isnan(value) or value == MISSING_LONG:
            return None
        return {"long": int, "boolean": bool}.get(self._kind, float)(value)

    def equal_any(self, values: Sequence[Any], size: int) -> Mask:
        column = self._numbers[:size]
        mask = np.zeros(size, dtype=bool)
        for value in values:
            mask |= column == number(value)
        return mask

    def compare(self, operator: str, value: Any, size: int) -> Mask:
        column = self._numbers[:size]
        mask: Mask = COMPARISONS[operator](column, number(value)) & (column != MISSING_LONG)
        return mask


def number(value: Any) -> float | int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return moment(value).timestamp()
    except (TypeError, ValueError):
        raise InvalidRequest(f"{value!r:.60} is not a number, and its column holds numbers.") from None


def moment(value: Any) -> datetime:
    """A point in time, from itself or from ISO 8601 text; without a zone it is UTC."""
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def typed(value: Any, kind: str, name: str) -> Any:
    """The value as its column keeps it. Raises `InvalidRequest` when it is of another type."""
    if value is None:
        return None
    try:
        if kind == "timestamp":
            return moment(value)
        if kind == "long":
            whole = int(value)
            if whole == value and abs(whole) <= MAX_LONG:
                return whole
        elif kind == "double":
            return float(value)
        elif isinstance(value, bool if kind == "boolean" else str):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{value!r:.60} is not a {kind}, which the index' column {name!r:.60} holds.")


def make_column(kind: str) -> TextColumn | NumberColumn:
    return TextColumn() if kind == "string" else NumberColumn(kind)


def grown(array: Any, size: int, fill: Any) -> Any:
    """`array`, or a copy of twice the length when `size` does not fit."""
    if size <= len(array):
        return array
    larger = np.full((max(size, 2 * len(array)), *array.shape[1:]), fill, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def filter_mask(columns: Mapping[str, TextColumn | NumberColumn], filters: Mapping[str, Any], size: int) -> Mask:
    """The rows that pass every filter, in Databricks' dictionary form. Raises `InvalidRequest` for a column that
    does not exist or an operator that does not."""
    mask = np.ones(size, dtype=bool)
    for key, value in filters.items():
        name, _, operator = key.partition(" ")
        column = columns.get(name)
        if column is None:
            raise InvalidRequest(f"The index has no column {name!r:.60} to filter by; it has {', '.join(columns)}.")
        if operator in ("", "NOT"):
            matches = column.equal_any(list(value) if isinstance(value, list | tuple | set) else [value], size)
            mask &= ~matches if operator else matches
        elif operator in COMPARISONS:
            mask &= column.compare(operator, value, size)
        else:
            raise InvalidRequest(f"{operator!r:.20} is not a filter operator; use NOT, <, <=, > or >=.")
    return mask
