"""Common requests in English as a definition, without a model.

A request is a list of clauses, parted by commas and semicolons: where rows come from, when the pipeline runs, what is
done with bad rows, which rows are kept as the latest or as history, and what is summed up. What is not said is assumed,
and every assumption is listed in the definition.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lakemesh.errors import InvalidRequest
from lakemesh.pipelines.definition import PipelineDefinition, parse_definition

Columns = dict[str, str]

FORMATS = {"csv": "csv", "json": "json", "parquet": "parquet", "avro": "avro"}
UNITS = {"minute": "minutes", "hour": "hours", "day": "days", "week": "weeks"}
ADVERBS = {"hourly": "hours", "daily": "days", "nightly": "days", "weekly": "weeks"}
PERIODS = {
    "hourly": "HOUR",
    "daily": "DAY",
    "weekly": "WEEK",
    "monthly": "MONTH",
    "quarterly": "QUARTER",
    "yearly": "YEAR",
}
ACTIONS = {"drop": "drop", "discard": "drop", "reject": "drop", "fail": "fail", "stop": "fail", "warn": "warn",
           "flag": "warn", "quarantine": "quarantine"}  # fmt: skip
FUNCTIONS = {"total": "sum", "sum of": "sum", "average": "avg", "mean": "avg", "highest": "max", "maximum": "max",
             "lowest": "min", "minimum": "min"}  # fmt: skip
MONEY = {"revenue", "sales", "turnover", "spend", "spending"}
TIMES = ("time", "date", "timestamp", "_at", "_on")
NUMBERS = ("BIGINT", "INT", "DECIMAL", "DOUBLE", "FLOAT", "LONG", "SMALLINT")
WORD = r"[a-z][a-z0-9_]*"
PLAIN = rf"(?!(?:by|per|is|are|of|in|with|and|or|no|below|above|under|over|less|more|greater|missing|negative)\b){WORD}"
NAMES = rf"{PLAIN}(?: {PLAIN}){{0,2}}"
REFUSED = re.compile(
    r"\b(delete|truncate|erase|wipe|drop (?:the )?(?:table|schema|catalog|database)|grant|revoke|disable|password"
    r"|credential|secret|token|shell|python code|email .* to|send .* to http)\b"
)


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
    deduplicated: bool = False


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


def definition_of(
    request: str,
    *,
    catalog: str = "main",
    schema: str | None = None,
    known: Mapping[str, Columns] | None = None,
) -> PipelineDefinition:
    """The definition a request asks for. `known` has the columns (name to type) of what it names, such as `orders`.
    Raises `InvalidRequest` for what is not understood, naming the clause, and for what a pipeline must not do."""
    text = " ".join(request.lower().replace(".csv", " csv").split()).rstrip(".")
    if not text.isascii() or len(text) > 2_000:
        raise InvalidRequest(
            "A request is at most 2,000 characters of plain English; write the others as a definition."
        )
    if found := REFUSED.search(text):
        raise InvalidRequest(f"A pipeline only adds tables; {found[0]!r} is not for it.")
    clauses = [
        clause.strip().removeprefix("and ").removeprefix("then ") for clause in re.split(r"[,;]| and then ", text)
    ]
    reading = Reading(catalog, schema or "", {name.lower(): columns for name, columns in (known or {}).items()})
    clauses = [rest for clause in clauses if (rest := take_schedule(clause, reading))]
    waiting = [clause for clause in clauses if not read_sources(clause, reading)]
    if not reading.entities:
        raise InvalidRequest("Say where rows come from, such as 'orders and customers from CSV files'.")
    for clause in waiting:
        if not any(
            read(clause, reading) for read in (read_rule, read_changes, read_duplicates, read_filter, read_result)
        ):
            not_understood(clause)
    return build(request, reading)


def not_understood(clause: str) -> NoReturn:
    raise InvalidRequest(
        f"{clause!r:.120} is not understood. Clauses are such as: orders from CSV files, every hour,"
        " drop rows without id,"
        " latest customer by update time, daily revenue by country; anything else goes in a definition."
    )


def take_schedule(clause: str, reading: Reading) -> str:
    """The clause without its schedule."""
    if found := re.search(rf"\b(?:run |refreshed |updated )?every (?:(\d+) )?({'|'.join(UNITS)})s?\b", clause):
        reading.schedule = {"every": int(found[1] or 1), "unit": UNITS[found[2]]}
    elif found := re.search(
        rf"\b(?:run |refreshed |updated )({'|'.join(ADVERBS)})\b|(?:^|(?<=s ))({'|'.join(ADVERBS)})$", clause
    ):
        reading.schedule = {"every": 1, "unit": ADVERBS[found[1] or found[2]]}
    elif found := re.search(r"\b(?:run )?(?:continuously|in real time)\b", clause):
        reading.schedule = {"continuous": True}
    if not found:
        return clause
    return f"{clause[: found.start()]} {clause[found.end() :]}".strip()


def read_sources(clause: str, reading: Reading) -> bool:
    """`orders and customers from CSV files in /Volumes/...`, `clicks from kafka topic clicks at host:9092`,
    `accounts from table main.raw.accounts`."""
    found = re.fullmatch(
        rf"(?:load |ingest |read |take |get )?({WORD}(?:(?: and | & ){WORD})*) from (?:the |a )?(.+)", clause
    )
    if not found:
        return False
    names = re.split(r" and | & ", found[1])
    for name in names:
        source = source_of(name, found[2], reading, alone=len(names) == 1)
        if source is None:
            not_understood(clause)
        known = reading.known.get(name)
        reading.entities[name] = Entity(name, source, dict(known or {}), known is not None)
    return True


def source_of(name: str, place: str, reading: Reading, *, alone: bool) -> dict[str, Any] | None:
    snapshots = bool(re.search(r"\bsnapshots?\b", place))
    if found := re.fullmatch(r"(?:streaming )?table ([\w.]+)(?: as a stream)?", place):
        if found[1].count(".") != 2:
            return None
        return {"name": f"{name}_table", "format": "table", "table": found[1], "streaming": "stream" in place}
    if found := re.fullmatch(r"kafka(?: topic)?(?: ([\w.-]+))?(?: (?:at|on) ([\w.:,-]+))?", place):
        if found[2] is None:
            reading.assume(f"The brokers of {name} are at kafka:9092.")
        return {
            "name": f"{name}_topic",
            "format": "kafka",
            "topic": found[1] or name,
            "brokers": found[2] or "kafka:9092",
        }
    kind = rf"({'|'.join(FORMATS)})(?: (?:files?|feed|snapshots?|cdc feed|changes))*"
    found = re.fullmatch(rf"{kind}(?: (?:in|under|at) (/volumes/[\w./-]+))?", place)
    if not found:
        return None
    path = found[2] and f"/Volumes{found[2][len('/volumes') :]}"
    if path is None:
        path = f"/Volumes/{reading.catalog}/raw/landing/{name}"
        reading.assume(f"Files of {name} arrive in {path}.")
    elif not alone:
        path = f"{path.rstrip('/')}/{name}"
    shape = {"streaming": False, "snapshots": True} if snapshots else {}
    return {"name": f"{name}_files", "format": FORMATS[found[1]], "path": path, **shape}


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
        rf"({NAMES}?) (?:is )?(below|under|less than|above|over|more than|greater than) (\d+(?:\.\d+)?)", words
    ):
        column, below = snake(found[1]), found[2] in ("below", "under", "less than")
        return (
            f"{column}_{'at_least' if below else 'at_most'}",
            f"{column} {'>=' if below else '<='} {found[3]}",
            column,
            "DECIMAL(18,2)",
        )
    not_understood(text)


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
    need(entity, column, "TIMESTAMP", reading)
    return column


def key_of(entity: Entity, reading: Reading) -> str:
    for column in ("id", f"{singular(entity.name)}_id"):
        if column in entity.columns:
            return column
    reading.assume(f"{entity.name} are told apart by id.")
    return "id"


def read_duplicates(clause: str, reading: Reading) -> bool:
    found = re.fullmatch(
        rf"(?:deduplicate|dedupe|remove duplicates? (?:of|from)|drop duplicate) ({WORD})(?: by ({NAMES}))?", clause
    )
    if not found:
        return False
    entity = entity_named(found[1], reading)
    key = snake(found[2]) if found[2] else key_of(entity, reading)
    need(entity, key, "BIGINT", reading)
    entity.deduplicated = True
    return True


def read_filter(clause: str, reading: Reading) -> bool:
    found = re.fullmatch(rf"(?:keep )?only ({WORD}) (?:with|where) ({NAMES}?) (?:is |= |equals )?([a-z0-9_]+)", clause)
    if not found:
        return False
    entity, column = entity_named(found[1], reading), snake(found[2])
    need(entity, column, "STRING", reading)
    entity.where = f"{column} = '{found[3]}'"
    return True


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


def build(request: str, reading: Reading) -> PipelineDefinition:
    datasets: list[dict[str, Any]] = []
    sources = []
    for entity in reading.entities.values():
        if not entity.columns:
            need(entity, "id", "BIGINT", reading)
        columns = [{"name": name, "type": kind} for name, kind in entity.columns.items()]
        sources.append({**entity.source, "columns": columns})
        datasets += datasets_of(entity, reading)
    names = list(reading.entities)
    schema = reading.schema or names[0]
    if not reading.schema:
        reading.assume(f"The tables go into the schema {reading.catalog}.{schema}.")
    return parse_definition(
        {
            "name": f"{'_'.join(names[:3])}_pipeline", "catalog": reading.catalog, "schema": schema,
            "description": " ".join(request.split())[:1_000], "sources": sources,
            "datasets": [*datasets, *reading.results],
            "schedule": reading.schedule, "assumptions": reading.assumptions,
        }
    )  # fmt: skip


def datasets_of(entity: Entity, reading: Reading) -> list[dict[str, Any]]:
    """Bronze as it came, silver cleaned, and the changes applied when that is asked."""
    kind = "streaming_table" if entity.source.get("streaming", True) else "materialized_view"
    bronze = {"name": f"bronze_{entity.name}", "layer": "bronze", "kind": kind, "input": entity.source["name"]}
    cleaned = f"{singular(entity.name)}_changes" if entity.changes else entity.name
    silver: dict[str, Any] = {
        "name": cleaned,
        "layer": "silver",
        "kind": kind,
        "input": bronze["name"],
        "rules": entity.rules,
    }
    silver["columns"] = [{"name": name} for name in entity.columns]
    if entity.where:
        silver["where"] = entity.where
    if entity.deduplicated:
        silver |= {"deduplicate": True, "keys": [key_of(entity, reading)]}
    if not entity.changes:
        return [bronze, silver]
    changes = dict(entity.changes)
    if kind == "materialized_view":
        changes["from_snapshots"] = True
        changes.pop("sequence_by")
    applied = {
        "name": entity.name,
        "layer": "silver",
        "kind": "streaming_table",
        "input": cleaned,
        "change_data": changes,
    }
    return [bronze, silver, applied]


def snake(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.strip().lower()).strip("_")


def singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
