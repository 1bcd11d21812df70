"""Expressions that delta-rs' own engine, which checks a table's constraints, reads and writes down as Spark does.

It keeps a constraint as text in its own dialect: with quoted names and casts that Spark reads in another way, and
without the parentheses of `a - (b - c)`. What is allowed here was seen to come through unchanged.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlglot import exp

FAMILIES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), "integer"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "real"),
    "STRING": "text",
    "BOOLEAN": "condition",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}
"""Types whose values may stand in such an expression; those of two families are not compared with each other."""


def unsupported(what: str) -> InvalidRequest:
    return InvalidRequest(f"[UNSUPPORTED_FEATURE] The embedded warehouse does not have {what:.200}.")


PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def require_portable(text: str, kinds: Mapping[str, str], what: str) -> None:
    """Raises `InvalidRequest` unless the expression is made of columns with plain names in lower case, literals,
    comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, sums and products of whole numbers. `kinds` are the columns' types
    by their names."""
    from lakemesh.lakehouse.spark_dialect import parse_statement

    (item,) = parse_statement(f"SELECT {text}").expressions
    if family(item.unalias(), kinds) is None:
        raise unsupported(what)


def family(node: "exp.Expr", kinds: Mapping[str, str]) -> str | None:
    """What kind of value it has; None for what is not portable. Raises `InvalidRequest` for an unknown column."""
    from sqlglot import exp

    if isinstance(node, exp.Column) and len(node.parts) == 1:
        if node.name.lower() not in {name.lower() for name in kinds}:
            raise InvalidRequest(f"[UNRESOLVED_COLUMN] The table has no column {node.name!r:.60}.")
        return FAMILIES.get(kinds.get(node.name, "").upper()) if PLAIN_NAME.fullmatch(node.name) else None
    if isinstance(node, exp.Literal):
        if set(node.name) & {"'", "\\"}:
            return None
        return "text" if node.is_string else "integer" if node.name.isdecimal() else "real"
    if isinstance(node, exp.Boolean):
        return "condition"
    if isinstance(node, exp.Paren | exp.Neg | exp.Not):
        inner = family(node.this, kinds)
        wanted = {exp.Neg: ("integer", "real"), exp.Not: ("condition",)}.get(type(node), (inner,))
        return inner if inner in wanted else None
    if isinstance(node, exp.Is):
        return "condition" if isinstance(node.expression, exp.Null) and family(node.this, kinds) else None
    return compound(node, kinds)


def compound(node: "exp.Expr", kinds: Mapping[str, str]) -> str | None:
    from sqlglot import exp

    parts = [part for part in node.iter_expressions() if isinstance(part, exp.Expr)]
    families = {family(part, kinds) for part in parts}
    if isinstance(node, exp.And | exp.Or):
        return "condition" if families == {"condition"} else None
    if isinstance(node, exp.EQ | exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE | exp.Between):
        return "condition" if is_comparable(families) else None
    if isinstance(node, exp.In):
        return "condition" if node.expressions and is_comparable(families) else None
    if isinstance(node, exp.Add | exp.Mul) or (
        isinstance(node, exp.Sub) and not isinstance(node.expression, exp.Paren)
    ):
        return "integer" if families == {"integer"} else None
    return None


def is_comparable(families: set[str | None]) -> bool:
    if None in families or "condition" in families:
        return False
    return len(families) == 1 or families == {"integer", "real"}
