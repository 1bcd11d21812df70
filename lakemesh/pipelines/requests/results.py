"""Clauses that say what is summed up."""

import re
from collections.abc import Sequence
from typing import Any

from lakemesh.pipelines.requests.reading import (
    NAMES,
    PERIODS,
    WORD,
    Entity,
    Reading,
    entity_named,
    need,
    owners,
    singular,
    snake,
)

FUNCTIONS = {"total": "sum", "sum of": "sum", "average": "avg", "mean": "avg", "highest": "max", "maximum": "max",
             "lowest": "min", "minimum": "min"}  # fmt: skip
MONEY = {"revenue", "sales", "turnover", "spend", "spending"}


def read_result(clause: str, reading: Reading) -> bool:
    """`daily revenue by country`, `number of orders by status`, `average amount per customer`."""
    functions = "|".join(FUNCTIONS)
    found = re.fullmatch(
        rf"(?:show |compute |and )?(?:the )?(?:({'|'.join(PERIODS)}) )?"
        rf"(?:(number|count) of ({WORD})|({WORD}) count|({functions}) ({NAMES})|({'|'.join(MONEY)}))"
        rf"(?: of ({WORD}))?(?: (?:by|per) ({WORD}(?: and {WORD})*))?",
        clause,
    )
    if not found:
        return False
    period, counted = found[1], found[3] or found[4]
    if not (period or found[9]):
        return False
    keys = found[9].split(" and ") if found[9] else []
    if counted:
        entity, measure = entity_named(counted, reading), (f"{singular(counted)}_count", "count(*)")
    elif found[7]:
        entity = entity_named(found[8], reading) if found[8] else with_money(reading)
        column = money_column(entity, reading)
        measure = (found[7], f"sum({column})")
    else:
        column = snake(found[6])
        entity = entity_named(found[8], reading) if found[8] else owners(None, column, reading)[0]
        need(entity, column, "DECIMAL(18,2)", reading)
        measure = (f"{FUNCTIONS[found[5]]}_{column}".replace("sum_", "total_"), f"{FUNCTIONS[found[5]]}({column})")
    reading.results.append(result_of(entity, period, keys, measure, reading))
    return True


def with_money(reading: Reading) -> Entity:
    entities = list(reading.entities.values())
    return next((entity for entity in entities if entity.known and money_of(entity)), entities[0])


def money_of(entity: Entity) -> str | None:
    named = [column for column in ("amount", "total", "price", "revenue", "total_amount") if column in entity.columns]
    return named[0] if named else None


def money_column(entity: Entity, reading: Reading) -> str:
    column = money_of(entity) or "amount"
    need(entity, column, "DECIMAL(18,2)", reading)
    return column


def result_of(
    entity: Entity, period: str | None, keys: Sequence[str], measure: tuple[str, str], reading: Reading
) -> dict[str, Any]:
    columns: list[dict[str, str]] = []
    joins: list[dict[str, str]] = []
    if period:
        time = next((name for name, kind in entity.columns.items() if kind in ("TIMESTAMP", "DATE")), None)
        if time is None:
            time = f"{singular(entity.name)}_time"
            need(entity, time, "TIMESTAMP", reading)
        unit = PERIODS[period].lower()
        columns.append(
            {
                "name": unit,
                "expression": f"date({{}}{time})" if unit == "day" else f"date_trunc('{unit.upper()}', {{}}{time})",
            }
        )
    for key in keys:
        other = None if key in entity.columns else joined_with(entity, key, reading)
        column = key if key in entity.columns or other else dimension(entity, key, reading)
        if other is not None and not any(join["dataset"] == other.name for join in joins):
            joins.append({"dataset": other.name, "on": f"{entity.name}.{singular(other.name)}_id = {other.name}.id"})
        columns.append({"name": column, "expression": f"{other.name}.{key}" if other else f"{{}}{column}"})
    prefix = f"{entity.name}." if joins else ""
    group_by = [column["name"] for column in columns]
    expression = measure[1] if measure[1] == "count(*)" else re.sub(r"\((\w+)\)", rf"({prefix}\1)", measure[1])
    listed = [{**column, "expression": column["expression"].format(prefix)} for column in columns]
    name = "_".join(filter(None, [period, measure[0], *(["by", *keys] if keys else [])]))
    return {"name": name, "layer": "gold", "kind": "materialized_view", "input": entity.name, "joins": joins,
            "columns": [*listed, {"name": measure[0], "expression": expression}], "group_by": group_by}  # fmt: skip


def joined_with(entity: Entity, key: str, reading: Reading) -> Entity | None:
    """Another entity that is known to have the column, and that this one points at."""
    for other in reading.entities.values():
        if (
            other.known
            and key in other.columns
            and f"{singular(other.name)}_id" in entity.columns
            and "id" in other.columns
        ):
            return other
    return None


def dimension(entity: Entity, key: str, reading: Reading) -> str:
    """`by customer` is by `customer_id` where there is one, or where the request names customers."""
    pointed = f"{key}_id"
    if pointed in entity.columns or (not entity.known and f"{key}s" in reading.entities):
        need(entity, pointed, "BIGINT", reading)
        return pointed
    need(entity, key, "STRING", reading)
    return key
