"""`GraphStore`: what LangGraph's graphs keep across their runs, as items by namespace and key."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    get_text_at_path,
    tokenize_path,
)

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.database import Database
from lakemesh.sessions.tables import session_tables

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

MOST_SEARCHED = 10_000
"""Items of one user and agent that one search looks at, the ones written last."""

OWNED = "owner = %(owner)s AND agent = %(agent)s"
GET = f"""
SELECT namespace, key, value, created_at, updated_at FROM lakemesh.graph_items
WHERE {OWNED} AND namespace = %(namespace)s AND key = %(key)s
"""  # noqa: S608
PUT = """
INSERT INTO lakemesh.graph_items (owner, agent, namespace, key, value, vectors)
VALUES (%(owner)s, %(agent)s, %(namespace)s, %(key)s, %(value)s, %(vectors)s)
ON CONFLICT (owner, agent, namespace, key) DO UPDATE SET
    value = excluded.value, vectors = excluded.vectors, updated_at = clock_timestamp()
"""
DELETE = f"DELETE FROM lakemesh.graph_items WHERE {OWNED} AND namespace = %(namespace)s AND key = %(key)s"  # noqa: S608
SEARCH = f"""
SELECT namespace, key, value, created_at, updated_at, CASE WHEN %(with_vectors)s THEN vectors END
FROM lakemesh.graph_items
WHERE {OWNED} AND namespace[1:cardinality(%(prefix)s::text[])] = %(prefix)s::text[]
ORDER BY updated_at DESC, namespace, key LIMIT %(limit)s
"""  # noqa: S608
NAMESPACES = f"SELECT DISTINCT namespace FROM lakemesh.graph_items WHERE {OWNED} ORDER BY namespace"  # noqa: S608

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: bool(value == wanted),
    "$ne": lambda value, wanted: bool(value != wanted),
    "$gt": lambda value, wanted: float(value) > float(wanted),
    "$gte": lambda value, wanted: float(value) >= float(wanted),
    "$lt": lambda value, wanted: float(value) < float(wanted),
    "$lte": lambda value, wanted: float(value) <= float(wanted),
}


class GraphStore(BaseStore):  # type: ignore[misc]  # LangGraph is not there when types are checked
    """Give it to `graph.compile(store=...)`; asynchronous only. With `embed`, a search that has a query ranks by
    meaning: `fields` are the paths of a value that are compared, `$` the whole of it. Raises `DatabaseUnavailable`."""

    def __init__(
        self,
        database: Database,
        *,
        agent: str,
        user: str,
        embed: Embed | None = None,
        fields: Sequence[str] = ("$",),
    ) -> None:
        self._tables = session_tables(database)
        self._owned = {"owner": user, "agent": agent}
        self._embed = embed
        self._fields = list(fields)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        raise NotImplementedError("This store is asynchronous: use aget, aput, asearch and graph.ainvoke.")

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Reads see the state before the writes that are given with them; of two writes of one item the last counts."""
        listed = list(ops)
        results = [await self._read(op) for op in listed]
        writes = {(op.namespace, op.key): op for op in listed if isinstance(op, PutOp)}
        for op in writes.values():
            await self._write(op)
        return results

    async def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            rows = await self._tables.fetch(GET, {**self._owned, "namespace": list(op.namespace), "key": op.key})
            return item_of(rows[0]) if rows else None
        if isinstance(op, SearchOp):
            return await self._search(op)
        if isinstance(op, ListNamespacesOp):
            return await self._namespaces(op)
        return None

    async def _write(self, op: PutOp) -> None:
        place = {**self._owned, "namespace": list(op.namespace), "key": op.key}
        if op.value is None:
            await self._tables.execute(DELETE, place)
            return
        fields = self._fields if op.index is None else op.index or []
        texts = [text for field in fields for text in get_text_at_path(op.value, tokenized(field))]
        vectors = [list(map(float, one)) for one in await self._embed(texts)] if self._embed and texts else None
        values = {"value": json.dumps(op.value), "vectors": json.dumps(vectors) if vectors else None}
        await self._tables.execute(PUT, {**place, **values})

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        query = (await self._embed([op.query]))[0] if op.query and self._embed else None
        values = {"prefix": list(op.namespace_prefix), "with_vectors": query is not None, "limit": MOST_SEARCHED}
        rows = await self._tables.fetch(SEARCH, {**self._owned, **values})
        rows = [row for row in rows if passes(row[2], op.filter or {})]
        scored = [(row, score_of(row[5], query)) for row in rows]
        if query is not None:  # those without a vector come last
            scored.sort(key=lambda pair: -2.0 if pair[1] is None else pair[1], reverse=True)
        return [searched(row, score) for row, score in scored[op.offset : op.offset + op.limit]]

    async def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        rows = await self._tables.fetch(NAMESPACES, self._owned)
        found = [tuple(row[0]) for row in rows]
        for condition in op.match_conditions or ():
            found = [one for one in found if matches(one, condition.path, at_end=condition.match_type == "suffix")]
        if op.max_depth is not None:
            found = list(dict.fromkeys(one[: op.max_depth] for one in found))
        return found[op.offset : op.offset + op.limit]


def tokenized(field: str) -> Any:
    return field if field == "$" else tokenize_path(field)


def item_of(row: tuple[Any, ...]) -> Item:
    namespace, key, value, created_at, updated_at = row
    return Item(namespace=tuple(namespace), key=key, value=value, created_at=created_at, updated_at=updated_at)


def searched(row: tuple[Any, ...], score: float | None) -> SearchItem:
    namespace, key, value, created_at, updated_at, _ = row
    return SearchItem(tuple(namespace), key, value, created_at, updated_at, score=score)


def score_of(vectors: Sequence[Sequence[float]] | None, query: Sequence[float] | None) -> float | None:
    """The best cosine of an item's vectors."""
    if query is None or not vectors:
        return None
    matrix, wanted = np.asarray(vectors), np.asarray(query)
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)
    return float(np.max(matrix @ wanted / np.where(lengths == 0, 1.0, lengths)))


def passes(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(compares(value.get(key), one) for key, one in wanted.items())


def compares(value: Any, wanted: Any) -> bool:
    """LangGraph's comparisons: of numbers, but for `$eq` and `$ne`; inside of objects member by member. Raises
    `InvalidRequest` for an operator that there is not."""
    if isinstance(wanted, Mapping):
        if any(key.startswith("$") for key in wanted):
            return all(operator_of(key)(value, one) for key, one in wanted.items())
        return isinstance(value, Mapping) and all(compares(value.get(key), one) for key, one in wanted.items())
    if isinstance(wanted, list | tuple):
        same_length = isinstance(value, list | tuple) and len(value) == len(wanted)
        return same_length and all(compares(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def operator_of(name: str) -> Callable[[Any, Any], bool]:
    if name not in COMPARISONS:
        raise InvalidRequest(f"{name!r:.40} is no comparison; there are {', '.join(COMPARISONS)}.")
    return COMPARISONS[name]


def matches(namespace: tuple[str, ...], path: tuple[str, ...], *, at_end: bool) -> bool:
    """Whether it begins (or ends) with the path, in which `*` is any label."""
    if len(namespace) < len(path):
        return False
    part = namespace[-len(path) :] if at_end and path else namespace[: len(path)]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
