"""Rows of Python values as a relation."""

from collections.abc import Sequence
from typing import Any

from lakemesh.lakehouse.embedded.sql.scopes import Relation
from lakemesh.lakehouse.embedded.sql.types import quoted, text_literal, type_of
from lakemesh.lakehouse.tables import Column


def literal_relation(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Relation:
    """Texts, numbers and nulls; with no rows, the columns alone."""
    kinds = [(column.name, type_of(column.type)) for column in columns]
    names = [column.name for column in columns]
    if not rows:
        items = ", ".join(f"CAST(NULL AS {kind.duck}) AS {quoted(name)}" for name, kind in kinds)
        return Relation(f"SELECT {items} WHERE false", kinds, names)
    texts = (
        ", ".join(f"CAST({cell(value)} AS {kind.duck})" for value, (_, kind) in zip(row, kinds, strict=True))
        for row in rows
    )
    listed = ", ".join(quoted(name) for name in names)
    return Relation(f"SELECT * FROM (VALUES {', '.join(f'({text})' for text in texts)}) AS v_({listed})", kinds, names)


def cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return text_literal(value) if isinstance(value, str) else str(value)
