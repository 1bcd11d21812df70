"""What a request has said so far, and the words that it may use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lakemesh.errors import InvalidRequest

Columns = dict[str, str]

PERIODS = {
    "hourly": "HOUR",
    "daily": "DAY",
    "weekly": "WEEK",
    "monthly": "MONTH",
    "quarterly": "QUARTER",
    "yearly": "YEAR",
}
WORD = r"[a-z][a-z0-9_]*"
PLAIN = rf"(?!(?:by|per|is|are|of|in|with|and|or|no|below|above|under|over|less|more|greater|missing|negative)\b){WORD}"
NAMES = rf"{PLAIN}(?: {PLAIN}){{0,2}}"


@dataclass(slots=True)
class Entity:
    """A thing of the request (`orders`): its source, its columns and what is asked of it."""

    name: str
    source: dict[str, Any]
    columns: Columns
    known: bool
    rules: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, Any] | None = None
    where: str | None = None
    deduplicated_by: str | None = None
    delete_when: str | None = None


@dataclass(slots=True)
class Reading:
    """What has been understood so far."""

    catalog: str
    schema: str
    known: Mapping[str, Columns]
    entities: dict[str, Entity] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    schedule: dict[str, Any] | None = None
    assumptions: list[str] = field(default_factory=list)

    def assume(self, sentence: str) -> None:
        if sentence not in self.assumptions:
            self.assumptions.append(sentence)


def not_understood(clause: str) -> InvalidRequest:
    return InvalidRequest(
        f"{clause!r:.120} is not understood. Clauses are such as: orders from CSV files, every hour,"
        " drop rows without id,"
        " latest customer by update time, daily revenue by country; anything else goes in a definition."
    )


def owners(subject: str | None, column: str, reading: Reading) -> list[Entity]:
    """The entity the clause names; else those that have the column; else all."""
    if subject is not None:
        return [entity_named(subject, reading)]
    having = [entity for entity in reading.entities.values() if entity.known and column in entity.columns]
    return having or [entity for entity in reading.entities.values() if not entity.known] or no_column(column, reading)


def no_column(column: str, reading: Reading) -> NoReturn:
    raise InvalidRequest(f"None of {', '.join(reading.entities)} has a column {column!r}.")


def entity_named(word: str, reading: Reading) -> Entity:
    for name, entity in reading.entities.items():
        if word in (name, singular(name)) or f"{word}s" == name:
            return entity
    raise InvalidRequest(f"There is no {word!r} among {', '.join(reading.entities)}.")


def need(entity: Entity, column: str, kind: str, reading: Reading) -> None:
    """The entity has the column: known, or assumed where its columns are not known. Raises `InvalidRequest`."""
    if column in entity.columns and (entity.known or kind == "STRING" or entity.columns[column] != "STRING"):
        return
    reading.assumptions = [said for said in reading.assumptions if said != assumed(entity, column)]
    if entity.known:
        raise InvalidRequest(f"{entity.name} has no column {column!r}; it has {', '.join(entity.columns)}.")
    kind = "BIGINT" if column == "id" or column.endswith("_id") else kind
    entity.columns[column] = kind
    reading.assume(assumed(entity, column))


def assumed(entity: Entity, column: str) -> str:
    return f"{entity.name} have a column {column} of type {entity.columns.get(column)}."


def key_of(entity: Entity, reading: Reading) -> str:
    for column in ("id", f"{singular(entity.name)}_id"):
        if column in entity.columns:
            return column
    reading.assume(f"{entity.name} are told apart by id.")
    return "id"


def snake(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.strip().lower()).strip("_")


def singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    if name.endswith(("ches", "shes", "sses", "xes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
