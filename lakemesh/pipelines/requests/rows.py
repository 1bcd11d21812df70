"""Clauses that say which rows are good, which are kept, and which of several versions."""

import re

from lakemesh.pipelines.requests.reading import (
    NAMES,
    WORD,
    Entity,
    Reading,
    entity_named,
    key_of,
    need,
    not_understood,
    owners,
    snake,
)

ACTIONS = {"drop": "drop", "discard": "drop", "reject": "drop", "fail": "fail", "stop": "fail", "warn": "warn",
           "flag": "warn", "quarantine": "quarantine"}  # fmt: skip
NUMBERED = ("number", "seq", "sequence", "version", "offset", "lsn")


def read_rule(clause: str, reading: Reading) -> bool:
    """`drop rows without id`, `quarantine orders with negative amount`, `fail if amount is missing`."""
    found = re.fullmatch(
        rf"({'|'.join(ACTIONS)})(?: on)?(?: (?:all |any )?({WORD}))?? (?:if |when |where |with |without )(.+)", clause
    )
    if not found:
        return False
    without = re.search(r" without .+$", clause) is not None
    subject = None if found[2] in (None, "rows", "records", "it", "the", "any") else found[2]
    for condition in re.split(r" and | or ", found[3]):
        name, check, column, kind = condition_of(f"no {condition}" if without else condition)
        for entity in owners(subject, column, reading):
            need(entity, column, kind, reading)
            entity.rules.append({"name": name, "condition": check, "action": ACTIONS[found[1]]})
    return True


def condition_of(text: str) -> tuple[str, str, str, str]:
    """What a good row meets, from what a bad one is: a name, the condition, the column and the type it must have."""
    words = text.removeprefix("the ").removeprefix("a ").removeprefix("an ")
    if found := re.fullmatch(
        rf"(?:no|missing|null|empty) (?:a |an )?({NAMES})|({NAMES}) (?:is |are )?(?:missing|null|empty)", words
    ):
        column = snake(found[1] or found[2])
        return f"{column}_present", f"{column} IS NOT NULL", column, "STRING"
    if found := re.fullmatch(
        rf"negative ({NAMES})|({NAMES}) (?:is )?negative|({NAMES}) (?:is )?(?:below|under|less than) (?:0|zero)", words
    ):
        column = snake(found[1] or found[2] or found[3])
        return f"{column}_not_negative", f"{column} >= 0", column, "DECIMAL(18,2)"
    if found := re.fullmatch(
        rf"({NAMES}?) (?:is )?(below|under|less than|above|over|more than|greater than) (-?\d+(?:\.\d+)?)", words
    ):
        column, below = snake(found[1]), found[2] in ("below", "under", "less than")
        return (
            f"{column}_{'at_least' if below else 'at_most'}",
            f"{column} {'>=' if below else '<='} {found[3]}",
            column,
            "DECIMAL(18,2)",
        )
    raise not_understood(text)


def read_changes(clause: str, reading: Reading) -> bool:
    """`latest customer by update time`, `history of customers by updated_at`."""
    latest = re.fullmatch(
        rf"(?:keep )?(?:the )?(?:latest|newest|current|last) ({WORD})(?: (?:per|for each) ({WORD}))? by ({NAMES})",
        clause,
    )
    history = re.fullmatch(
        rf"(?:keep )?(?:the )?(?:full )?(?:history|scd type 2|scd2) (?:of|for) ({WORD})"
        rf"(?: (?:per|for each) ({WORD}))? by ({NAMES})",
        clause,
    )
    if not (found := latest or history):
        return False
    entity = entity_named(found[1], reading)
    order = time_column(found[3], entity, reading)
    key = found[2] or key_of(entity, reading)
    need(entity, key, "BIGINT", reading)
    entity.changes = {"keys": [key], "sequence_by": order, "scd_type": 1 if latest else 2}
    return True


def time_column(words: str, entity: Entity, reading: Reading) -> str:
    named = snake(words)
    if entity.known:
        stem = named.split("_")[0].rstrip("e").removesuffix("d").removesuffix("e")
        close = [column for column in entity.columns if column == named] or [
            column for column in entity.columns if column.startswith(stem)
        ]
        if close:
            return close[0]
    column = {"update_time": "updated_at", "updated": "updated_at", "change_time": "changed_at"}.get(named, named)
    need(entity, column, "BIGINT" if column.endswith(NUMBERED) else "TIMESTAMP", reading)
    return column


def read_deletes(clause: str, reading: Reading) -> bool:
    """`apply deletes when operation is delete`: for the entities that hold the latest, or history."""
    found = re.fullmatch(rf"apply deletes(?: of ({WORD}))? when ({NAMES}) (?:is |= )'?([a-z0-9_]+)'?", clause)
    if not found:
        return False
    column = snake(found[2])
    changing = [entity for entity in reading.entities.values() if entity.changes]
    entities = [entity_named(found[1], reading)] if found[1] else changing or list(reading.entities.values())
    for entity in entities:
        need(entity, column, "STRING", reading)
        entity.delete_when = f"lower({column}) = '{found[3]}'"
    return True


def read_duplicates(clause: str, reading: Reading) -> bool:
    found = re.fullmatch(
        rf"(?:deduplicate|dedupe|remove duplicates? (?:of|from)|drop duplicate) ({WORD})(?: by ({NAMES}))?", clause
    )
    if not found:
        return False
    entity = entity_named(found[1], reading)
    key = snake(found[2]) if found[2] else key_of(entity, reading)
    need(entity, key, "BIGINT", reading)
    entity.deduplicated_by = key
    return True


def read_filter(clause: str, reading: Reading) -> bool:
    found = re.fullmatch(rf"(?:keep )?only ({WORD}) (?:with|where) ({NAMES}?) (?:is |= |equals )?([a-z0-9_]+)", clause)
    if not found:
        return False
    entity, column = entity_named(found[1], reading), snake(found[2])
    need(entity, column, "STRING", reading)
    entity.where = f"{column} = '{found[3]}'"
    return True
