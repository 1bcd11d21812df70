"""The figures of the first page: what the tables say, and on top what this server ran since they were written."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from lakemesh.services.console.history import Rows
from lakemesh.services.console.live import started_at
from lakemesh.services.console.queries import ExecutionQuery

Group = dict[str, Any]

COUNTS = ("executions", "failures", "refused", "degraded", "input_tokens", "output_tokens", "cost_usd")


def overview(query: ExecutionQuery, written: tuple[Rows, Rows, Rows], unwritten: Rows) -> dict[str, Any]:
    """`total`, `over_time` (every bucket, also the empty ones) and `agents` (those with most requests first)."""
    size = query.bucket_seconds

    def bucket_of(row: Group) -> int:
        return int(started_at(row).timestamp()) // size * size

    total, by_time, by_agent = (by_key(rows) for rows in written)
    add(total, unwritten, lambda row: "all")
    add(by_time, unwritten, bucket_of)
    add(by_agent, unwritten, lambda row: row["agent_id"])
    end = query.until.timestamp()
    first, last = int(end - query.hours * 3_600) // size * size, int(end) // size * size
    points = [{"at": at, **by_time.get(at, empty())} for at in range(first, last + 1, size)]
    agents = [{"agent": name, **group} for name, group in by_agent.items()]
    return {
        "bucket_seconds": size,
        "total": total.get("all", empty()),
        "over_time": points,
        "agents": sorted(agents, key=lambda group: (-group["executions"], str(group["agent"]))),
    }


def by_key(rows: Rows) -> dict[Any, Group]:
    """A group as the pages get it: no nulls in counts, latencies rounded."""
    groups: dict[Any, Group] = {}
    for row in rows:
        key = row["key"]
        group = {name: row[name] or 0 for name in COUNTS}
        latencies = {name: rounded(row[name]) for name in ("p50_ms", "p95_ms")}
        groups[int(key) if isinstance(key, float) else key] = group | latencies
    return groups


def empty() -> Group:
    return dict.fromkeys(COUNTS, 0) | {"p50_ms": None, "p95_ms": None}


def add(groups: dict[Any, Group], rows: Rows, key_of: Callable[[Group], Any]) -> None:
    """Count `rows` in. Percentiles cannot be added: a group that the tables know keeps theirs for these seconds."""
    latencies: dict[Any, list[float]] = {}
    for row in rows:
        key = key_of(row)
        group = groups.setdefault(key, empty())
        group["refused"] += row["refused"]
        if not row["refused"]:
            group["executions"] += 1
            group["failures"] += not row["success"]
            if group["p50_ms"] is None:
                latencies.setdefault(key, []).append(row["latency_ms"])
        group["degraded"] += bool(row["degraded"])
        for name in ("input_tokens", "output_tokens", "cost_usd"):
            group[name] += row[name]
    for key, values in latencies.items():
        groups[key] |= {"p50_ms": percentile(values, 0.5), "p95_ms": percentile(values, 0.95)}


def percentile(values: Iterable[float], share: float) -> float | None:
    """Linear interpolation between the closest ranks, as SQL's `percentile` has it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return rounded(low + (high - low) * (place - math.floor(place)))


def rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 2)
