"""`Checkpointer`: the state of a LangGraph graph after each of its steps."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.database import Database
from lakemesh.sessions.tables import session_tables

MOST_LISTED = 1_000
"""Checkpoints that one listing without a limit gives."""

OWNED = "owner = %(owner)s AND agent = %(agent)s"

PUT = """
INSERT INTO lakemesh.graph_checkpoints
    (owner, agent, thread_id, namespace, checkpoint_id, parent_id, kind, checkpoint, metadata)
VALUES (%(owner)s, %(agent)s, %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(parent_id)s, %(kind)s,
    %(checkpoint)s, %(metadata)s)
ON CONFLICT (owner, agent, thread_id, namespace, checkpoint_id) DO UPDATE SET
    kind = excluded.kind, checkpoint = excluded.checkpoint, metadata = excluded.metadata
"""
# What a task writes again is the same, but for what it writes at most once: there the last one counts.
PUT_WRITES = """
INSERT INTO lakemesh.graph_writes AS known
    (owner, agent, thread_id, namespace, checkpoint_id, task_path, task_id, place, channel, kind, value)
SELECT %(owner)s, %(agent)s, %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(task_path)s, %(task_id)s,
    place, channel, kind, value
FROM unnest(%(places)s::integer[], %(channels)s::text[], %(kinds)s::text[], %(values)s::bytea[])
    AS written(place, channel, kind, value)
ON CONFLICT (owner, agent, thread_id, namespace, checkpoint_id, task_id, place) DO UPDATE SET
    channel = excluded.channel, kind = excluded.kind, value = excluded.value
WHERE known.place < 0
"""
SELECT = (
    "SELECT thread_id, namespace, checkpoint_id, parent_id, kind, checkpoint, metadata FROM lakemesh.graph_checkpoints"
)
WRITES = f"""
SELECT thread_id, namespace, checkpoint_id, task_id, channel, kind, value FROM lakemesh.graph_writes
WHERE {OWNED} AND (thread_id, namespace, checkpoint_id) IN (
    SELECT * FROM unnest(%(threads)s::text[], %(namespaces)s::text[], %(checkpoints)s::text[]))
ORDER BY task_path, task_id, place
"""  # noqa: S608
DELETE_THREADS = f"""
WITH gone AS (DELETE FROM lakemesh.graph_writes WHERE {OWNED} AND thread_id = ANY(%(threads)s))
DELETE FROM lakemesh.graph_checkpoints WHERE {OWNED} AND thread_id = ANY(%(threads)s)
"""  # noqa: S608
DELETE_RUNS = f"""
WITH gone AS (
    DELETE FROM lakemesh.graph_checkpoints WHERE {OWNED} AND metadata ->> 'run_id' = ANY(%(runs)s)
    RETURNING thread_id, namespace, checkpoint_id
)
DELETE FROM lakemesh.graph_writes AS written USING gone
WHERE {OWNED} AND written.thread_id = gone.thread_id AND written.namespace = gone.namespace
    AND written.checkpoint_id = gone.checkpoint_id
"""  # noqa: S608
COPY_CHECKPOINTS = f"""
INSERT INTO lakemesh.graph_checkpoints
    (owner, agent, thread_id, namespace, checkpoint_id, parent_id, kind, checkpoint, metadata)
SELECT owner, agent, %(target)s, namespace, checkpoint_id, parent_id, kind, checkpoint, metadata
FROM lakemesh.graph_checkpoints WHERE {OWNED} AND thread_id = %(source)s ON CONFLICT DO NOTHING
"""  # noqa: S608
COPY_WRITES = f"""
INSERT INTO lakemesh.graph_writes
    (owner, agent, thread_id, namespace, checkpoint_id, task_path, task_id, place, channel, kind, value)
SELECT owner, agent, %(target)s, namespace, checkpoint_id, task_path, task_id, place, channel, kind, value
FROM lakemesh.graph_writes WHERE {OWNED} AND thread_id = %(source)s ON CONFLICT DO NOTHING
"""  # noqa: S608
# A channel of deltas is rebuilt from its whole chain of parents, and would come back empty without it.
DELTAS = f"""
SELECT DISTINCT thread_id FROM lakemesh.graph_checkpoints
WHERE {OWNED} AND thread_id = ANY(%(threads)s) AND metadata ? 'counters_since_delta_snapshot'
"""  # noqa: S608
PRUNE = f"""
WITH newest AS (
    SELECT DISTINCT ON (thread_id, namespace) thread_id, namespace, checkpoint_id FROM lakemesh.graph_checkpoints
    WHERE {OWNED} AND thread_id = ANY(%(threads)s) ORDER BY thread_id, namespace, checkpoint_id DESC
), gone AS (
    DELETE FROM lakemesh.graph_checkpoints AS old USING newest
    WHERE {OWNED} AND old.thread_id = newest.thread_id AND old.namespace = newest.namespace
        AND old.checkpoint_id < newest.checkpoint_id
)
DELETE FROM lakemesh.graph_writes AS old USING newest
WHERE {OWNED} AND old.thread_id = newest.thread_id AND old.namespace = newest.namespace
    AND old.checkpoint_id < newest.checkpoint_id
"""  # noqa: S608


class Checkpointer(BaseCheckpointSaver[int]):  # type: ignore[misc]  # LangGraph is not there when types are checked
    """Give it to `graph.compile(checkpointer=...)` and run the graph with `ainvoke` and `astream`: it is asynchronous
    only. Threads of another user or agent do not exist for it. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, *, agent: str, user: str, serde: Any = None) -> None:
        super().__init__(serde=serde)
        self._tables = session_tables(database)
        self._owned = {"owner": user, "agent": agent}

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        place = self._place(config)
        kind, content = self.serde.dumps_typed(checkpoint)
        values = {
            **place,
            "checkpoint_id": checkpoint["id"],
            "parent_id": get_checkpoint_id(config),
            "kind": kind,
            "checkpoint": content,
            "metadata": json.dumps(get_serializable_checkpoint_metadata(config, metadata)),
        }
        await self._tables.execute(PUT, values)
        return config_of(place["thread_id"], place["namespace"], checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        typed = [self.serde.dumps_typed(value) for _, value in writes]
        values = {
            **self._place(config),
            "checkpoint_id": get_checkpoint_id(config),
            "task_id": task_id,
            "task_path": task_path,
            "places": [WRITES_IDX_MAP.get(channel, place) for place, (channel, _) in enumerate(writes)],
            "channels": [channel for channel, _ in writes],
            "kinds": [kind for kind, _ in typed],
            "values": [content for _, content in typed],
        }
        await self._tables.execute(PUT_WRITES, values)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        asked = {"checkpoint_ns": "", **config["configurable"]}
        async for found in self.alist({"configurable": asked}, limit=1):
            return found
        return None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The newest first."""
        asked = config["configurable"] if config is not None else {}
        conditions = {
            "thread_id = %(thread_id)s": ("thread_id", asked.get("thread_id")),
            "namespace = %(namespace)s": ("namespace", asked.get("checkpoint_ns")),
            "checkpoint_id = %(checkpoint_id)s": ("checkpoint_id", asked.get("checkpoint_id")),
            "checkpoint_id < %(before)s": ("before", get_checkpoint_id(before) if before is not None else None),
            "metadata @> %(filter)s::jsonb": ("filter", json.dumps(filter) if filter else None),
        }
        given = {condition: pair for condition, pair in conditions.items() if pair[1] is not None}
        where = " AND ".join([OWNED, *given])
        rows = await self._tables.fetch(
            f"{SELECT} WHERE {where} ORDER BY checkpoint_id DESC LIMIT %(limit)s",
            {**self._owned, **dict(given.values()), "limit": MOST_LISTED if limit is None else limit},
        )
        writes = await self._writes(rows) if rows else {}
        for row in rows:
            yield self._tuple(row, writes.get(row[:3], []))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._tables.execute(DELETE_THREADS, {**self._owned, "threads": [thread_id]})

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._tables.execute(DELETE_RUNS, {**self._owned, "runs": list(run_ids)})

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        values = {**self._owned, "source": source_thread_id, "target": target_thread_id}
        async with self._tables.transaction() as connection:
            await connection.execute(COPY_CHECKPOINTS.encode(), values)
            await connection.execute(COPY_WRITES.encode(), values)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`keep_latest` refuses threads whose channels keep deltas: they are rebuilt from every step."""
        values = {**self._owned, "threads": list(thread_ids)}
        if strategy == "delete":
            await self._tables.execute(DELETE_THREADS, values)
            return
        if strategy != "keep_latest":
            raise InvalidRequest("A strategy is 'keep_latest' or 'delete'.")
        if deltas := await self._tables.fetch(DELTAS, values):
            raise NotImplementedError(f"keep_latest cannot prune threads of delta channels: {deltas[0][0]}")
        await self._tables.execute(PRUNE, values)

    async def _writes(self, rows: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[tuple[str, str, Any]]]:
        """By thread, namespace and checkpoint: what its tasks wrote, in LangGraph's order."""
        threads, namespaces, checkpoints = ([row[place] for row in rows] for place in range(3))
        values = {**self._owned, "threads": threads, "namespaces": namespaces, "checkpoints": checkpoints}
        found: dict[tuple[Any, ...], list[tuple[str, str, Any]]] = {}
        for *place, task_id, channel, kind, content in await self._tables.fetch(WRITES, values):
            written = (task_id, channel, self.serde.loads_typed((kind, content)))
            found.setdefault(tuple(place), []).append(written)
        return found

    def _tuple(self, row: tuple[Any, ...], writes: list[tuple[str, str, Any]]) -> CheckpointTuple:
        thread_id, namespace, checkpoint_id, parent_id, kind, content, metadata = row
        return CheckpointTuple(
            config=config_of(thread_id, namespace, checkpoint_id),
            checkpoint=self.serde.loads_typed((kind, content)),
            metadata=metadata,
            parent_config=config_of(thread_id, namespace, parent_id) if parent_id else None,
            pending_writes=writes,
        )

    def _place(self, config: RunnableConfig) -> dict[str, str]:
        asked = config["configurable"]
        return {
            **self._owned,
            "thread_id": str(asked["thread_id"]),
            "namespace": asked.get("checkpoint_ns", ""),
        }


def config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
