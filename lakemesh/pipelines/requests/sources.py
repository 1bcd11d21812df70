"""Clauses that say where rows come from, and when the pipeline runs."""

import re
from typing import Any

from lakemesh.pipelines.requests.reading import WORD, Entity, Reading, not_understood

FORMATS = {"csv": "csv", "json": "json", "parquet": "parquet", "avro": "avro"}
UNITS = {"minute": "minutes", "hour": "hours", "day": "days", "week": "weeks"}
ADVERBS = {"hourly": "hours", "daily": "days", "nightly": "days", "weekly": "weeks"}


def take_schedule(clause: str, reading: Reading) -> str:
    """The clause without its schedule."""
    if found := re.search(rf"\b(?:run |refreshed |updated )?every (?:(\d+) )?({'|'.join(UNITS)})s?\b", clause):
        reading.schedule = {"every": int(found[1] or 1), "unit": UNITS[found[2]]}
    elif found := re.search(r"\b(?:run |refreshed |updated )?every month\b", clause):
        reading.schedule = {"every": 30, "unit": "days"}
        reading.assume("A month is 30 days.")
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
        rf"(?:load |ingest |read |take |get )?({WORD}(?:(?: and | & ){WORD})*) from (?:the |an? )?(.+)", clause
    )
    if not found:
        return False
    names = re.split(r" and | & ", found[1])
    for name in names:
        source = source_of(name, found[2], reading, alone=len(names) == 1)
        if source is None:
            raise not_understood(clause)
        known = reading.known.get(name)
        reading.entities[name] = Entity(name, source, dict(known or {}), known is not None)
    return True


def source_of(name: str, place: str, reading: Reading, *, alone: bool) -> dict[str, Any] | None:
    snapshots = bool(re.search(r"\bsnapshots?\b", place))
    if ".." in place:
        return None
    if found := re.fullmatch(
        r"(?:streaming |foreign |jdbc |mysql |postgres(?:ql)? )?table ([\w.]+)(?: as a stream)?", place
    ):
        if found[1].count(".") != 2:
            return None
        if place.split()[0] in ("jdbc", "mysql", "postgres", "postgresql"):
            reading.assume(f"{found[1]} is in a foreign catalog: Unity Catalog holds the connection and its password.")
        return {"name": f"{name}_table", "format": "table", "table": found[1], "streaming": "stream" in place}
    if found := re.fullmatch(
        r"kafka(?: cdc)?(?: topic| feed)?(?: (?!at |on )([\w.-]+))?(?: (?:at|on) ([\w.:,-]+))?", place
    ):
        if found[2] is None:
            reading.assume(f"The brokers of {name} are at kafka:9092.")
        return {
            "name": f"{name}_topic",
            "format": "kafka",
            "topic": found[1] or name,
            "brokers": found[2] or "kafka:9092",
        }
    kind = rf"({'|'.join(FORMATS)})(?: (?:files?|feed|snapshots?|cdc feed|cdc files|changes))*"
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
