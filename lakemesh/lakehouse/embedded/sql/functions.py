"""Spark's scalar functions: whatever the modules named here hold, each registered by its names."""

from collections.abc import Sequence
from types import ModuleType

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql import (
    arrays,
    conditionals,
    conversions,
    json_functions,
    maps,
    moments,
    numbers,
    patterns,
    texts,
)
from lakemesh.lakehouse.embedded.sql.registry import BUILT, fill
from lakemesh.lakehouse.embedded.sql.scalars import SCALARS
from lakemesh.lakehouse.embedded.sql.values import Typed

MODULES: tuple[ModuleType, ...] = (
    arrays, conditionals, conversions, json_functions, maps, moments, numbers, patterns, texts,
)  # fmt: skip
"""Their import registers them."""


def call_scalar(name: str, values: Sequence[Typed]) -> Typed | None:
    """The call of a scalar function, or None when there is none of that name here."""
    if build := BUILT.get(name):
        try:
            found = build(values)
        except (IndexError, ValueError) as error:
            raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() does not take {len(values)} arguments.") from error
    elif name in SCALARS:
        found = fill(name, [form for form in SCALARS[name] if len(form.parameters) == len(values)], values)
    else:
        return None
    volatile = found.volatile or any(value.volatile for value in values)
    aggregate = found.aggregate or any(value.aggregate for value in values)
    return Typed(found.sql, found.type, found.value, volatile, aggregate)
