"""What remembers: sessions, facts and the consolidation of memories, as far as there is a database to keep them in.

A part of the composition root; the journal, the table and the index of memories are `lakemesh.memory.Memory`.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter

from lakemesh.config.memory import MemoryConfig
from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.memory.consolidation import Consolidation, FactKeeping
from lakemesh.memory.episodes import Episodes
from lakemesh.memory.lease import DatabaseLease, FileLease, Lease
from lakemesh.models import ModelClient
from lakemesh.models.summary import summarise
from lakemesh.sessions import InMemorySessions, Sessions
from lakemesh.sessions.summaries import Summaries

if TYPE_CHECKING:
    from lakemesh.memory.fact_store import FactStore
    from lakemesh.memory.fact_vectors import FactVectors
    from lakemesh.memory.knowledge import Knowledge

CONSOLIDATION = "memory.consolidation"


async def open_sessions(workspace: Workspace, folder: Path, closing: AsyncExitStack) -> Sessions:
    """In the database, where there is one; turns that it does not take wait in `folder`."""
    if workspace.database is None:
        return InMemorySessions()
    from lakemesh.sessions.postgres import PostgresSessions
    from lakemesh.sessions.queued import QueuedSessions

    sessions = QueuedSessions(PostgresSessions(workspace.database), folder)
    await sessions.start()
    closing.push_async_callback(sessions.close)
    return sessions


def open_summaries(sessions: Sessions, models: ModelClient, route: str) -> Summaries:
    async def shortened(texts: Sequence[str], max_tokens: int) -> str:
        return await summarise(models, texts, route=route, max_tokens=max_tokens)

    return Summaries(sessions, shortened)


async def open_knowledge(
    config: MemoryConfig, *, workspace: Workspace, models: ModelClient, closing: AsyncExitStack
) -> "Knowledge | None":
    """Facts about users, where there is a database to keep them in."""
    if workspace.database is None:
        return None
    knowledge = knowledge_in(workspace.database, config, workspace=workspace, models=models)
    await knowledge.start()
    closing.push_async_callback(knowledge.close)
    return knowledge


def knowledge_in(database: Database, config: MemoryConfig, *, workspace: Workspace, models: ModelClient) -> "Knowledge":
    """Not started: it learns nothing by itself."""
    from lakemesh.memory.knowledge import Knowledge

    store, vectors = facts_of(database, config, workspace)
    return Knowledge(config.facts, store=store, vectors=vectors, models=models, embedding_route=config.embedding_route)


def open_consolidation(
    config: MemoryConfig, *, workspace: Workspace, models: ModelClient, memory: Memory, meter: Meter, folder: Path
) -> Consolidation:
    """Begun by whoever runs a server."""
    embed = partial(models.embed, route=config.embedding_route)
    lease: Lease = FileLease(folder / "consolidation.lock")
    facts = None
    if workspace.database is not None:
        store, vectors = facts_of(workspace.database, config, workspace)
        lease = DatabaseLease(store.tables, CONSOLIDATION)
        facts = FactKeeping(
            config,
            store=store,
            vectors=vectors,
            embed=embed,
            model=partial(models.embedding_model, config.embedding_route),
        )

    async def shortened(texts: Sequence[str], max_tokens: int) -> str:
        return await summarise(models, texts, route=config.consolidation.route, max_tokens=max_tokens)

    episodes = Episodes(
        config.consolidation, workspace=workspace, memory=memory, table=config.table, summarise=shortened
    )
    return Consolidation(config, lease=lease, facts=facts, episodes=episodes, reconcile=memory.mend_index, meter=meter)


def facts_of(database: Database, config: MemoryConfig, workspace: Workspace) -> "tuple[FactStore, FactVectors]":
    from lakemesh.memory.fact_store import FactStore
    from lakemesh.memory.fact_vectors import IndexVectors, PostgresVectors

    store = FactStore(database)
    if config.facts.search == "index":
        return store, IndexVectors(workspace, name=config.facts.index)
    return store, PostgresVectors(database, store.tables)
