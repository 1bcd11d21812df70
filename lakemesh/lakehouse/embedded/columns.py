"""Columns of an index in memory, laid out so that a filter is a comparison of whole arrays."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
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
    """Numbers, booleans and timestamps (as seconds) as doubles; a missing value is NaN and matches nothing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._numbers = np.full(1_024, np.nan)

    def set(self, row: int, value: Any) -> None:
        self._numbers = grown(self._numbers, row + 1, np.nan)
        self._numbers[row] = np.nan if value is None else number(value)

    def get(self, row: int) -> Any:
        value = float(self._numbers[row])
        if np.isnan(value):
            return None
        return {"long": int, "boolean": bool}.get(self._kind, float)(value)

    def equal_any(self, values: Sequence[Any], size: int) -> Mask:
        return np.isin(self._numbers[:size], [number(value) for value in values])

    def compare(self, operator: str, value: Any, size: int) -> Mask:
        mask: Mask = COMPARISONS[operator](self._numbers[:size], number(value))
        return mask


def number(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"{value!r:.60} is not a number, and its column holds numbers.") from None


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
