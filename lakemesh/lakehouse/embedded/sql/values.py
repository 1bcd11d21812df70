"""A compiled expression, and the errors that compiling raises."""

from dataclasses import dataclass, replace
from typing import Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.types import DATE, STRING, TIMESTAMP, Type, text_literal

UNKNOWN = object()
"""The value of an expression that is no constant."""


@dataclass(frozen=True, slots=True)
class Typed:
    """DuckDB's text of an expression, its Spark type, and its value where it is a constant.

    `type` says what DuckDB's text gives as well: `Type.duck`. `volatile`: asked twice it may answer differently.
    `inside`: the document and DuckDB's path of a part of a VARIANT, or of that part as text."""

    sql: str
    type: Type
    value: Any = UNKNOWN
    volatile: bool = False
    aggregate: bool = False
    inside: tuple[str, str] | None = None

    @property
    def is_constant(self) -> bool:
        return self.value is not UNKNOWN

    def named(self, sql: str) -> "Typed":
        return replace(self, sql=sql)


def string(text: str) -> Typed:
    return Typed(text_literal(text), STRING, text)


def unsupported(what: str) -> InvalidRequest:
    """What Databricks has and the embedded build has not, by its name."""
    return InvalidRequest(f"[UNSUPPORTED_FEATURE] The embedded warehouse does not have {what:.300}.")


def mismatch(what: str, *types: Type) -> InvalidRequest:
    listed = " and ".join(kind.text for kind in types)
    return InvalidRequest(f"[DATATYPE_MISMATCH] {what:.200} does not take {listed:.300}.")


def error_call(condition: str, message: str) -> str:
    """What fails the statement when it is reached."""
    return f"error({text_literal(f'[{condition}] {message}')})"


def constant_text(value: Typed, what: str) -> str:
    if not isinstance(value.value, str):
        raise unsupported(f"{what} that is not a constant string")
    return value.value


def constant_integer(value: Typed, what: str) -> int:
    if isinstance(value.value, bool) or not isinstance(value.value, int):
        raise unsupported(f"{what} that is not a constant integer")
    return value.value


def is_moment(kind: Type) -> bool:
    return kind in (DATE, TIMESTAMP)
